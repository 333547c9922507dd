//! Lines of stdin, read by a thread of their own: a read that blocks holds up neither the answers of the server nor the end of the
//! process. What is read ahead is bounded in bytes: a line counts from when it was read until the server has answered.

use sagamq_api::limits::BODY_BYTES_MAX;
use std::io::{self, BufRead, Read as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Lines read ahead.
const AHEAD: usize = 1_024;

/// Most bytes of lines that are read and not answered, besides the one that is being read.
const AHEAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a line costs besides its bytes.
const LINE_COST: usize = 512;

/// Longest line, in bytes: more would not fit a request.
const LINE_BYTES_MAX: usize = BODY_BYTES_MAX;

const _: () = assert!(LINE_BYTES_MAX + LINE_COST < AHEAD_BYTES_MAX, "the longest line fits");

/// What is left of a bound in bytes.
#[derive(Debug)]
struct Budget {
    left: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    /// Waits for room.
    fn take(self: &Arc<Self>, bytes: usize) -> Room {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self.freed.wait_while(left, |left| *left < bytes).unwrap_or_else(PoisonError::into_inner);
        *left -= bytes;
        Room { budget: Arc::clone(self), bytes }
    }
}

/// Room for a line in memory; dropping it makes room for others.
#[derive(Debug)]
pub(super) struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        *self.budget.left.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.freed.notify_one();
    }
}

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: u64,
    /// Without the line's end.
    pub(super) bytes: Vec<u8>,
    /// With the line's end, in bytes.
    pub(super) length: u64,
}

impl Line {
    /// The line as text, if it is UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// The lines of an input, as they come.
#[derive(Debug)]
pub(super) struct Lines {
    receiver: mpsc::Receiver<io::Result<(Line, Room)>>,
}

impl Lines {
    pub(super) fn of_stdin() -> Self {
        Self::of(|| io::stdin().lock(), AHEAD_BYTES_MAX)
    }

    fn of<I: BufRead>(open: impl FnOnce() -> I + Send + 'static, ahead: usize) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let budget = Arc::new(Budget { left: Mutex::new(ahead), freed: Condvar::new() });
        std::thread::spawn(move || {
            let mut input = open();
            let mut number = 0;
            while let Some(line) = read_line(&mut input, number + 1, LINE_BYTES_MAX).transpose() {
                number += 1;
                let is_error = line.is_err();
                let line = line.map(|line| {
                    let room = budget.take((line.bytes.len() + LINE_COST).min(ahead));
                    (line, room)
                });
                // A command that ended takes no more lines.
                if sender.blocking_send(line).is_err() || is_error {
                    return;
                }
            }
        });
        Self { receiver }
    }

    /// The next line; `None` at the end. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<io::Result<(Line, Room)>> {
        self.receiver.recv().await
    }
}

fn read_line(input: &mut impl BufRead, number: u64, bytes_max: usize) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let length = input.take(bytes_max as u64 + 1).read_until(b'\n', &mut bytes)?;
    if length == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    } else if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("line {number} is longer than {bytes_max} bytes")));
    }
    Ok(Some(Line { number, bytes, length: length as u64 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], bytes_max: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut input = input;
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input, lines.len() as u64 + 1, bytes_max)? {
            lines.push(line.bytes);
        }
        Ok(lines)
    }

    #[test]
    fn a_line_ends_with_the_line_and_the_last_one_with_the_input() {
        let lines = read(b"a\r\n\nb\xff\nlast", 10).expect("short lines");
        assert_eq!(lines, [b"a".to_vec(), b"".to_vec(), b"b\xff".to_vec(), b"last".to_vec()]);
    }

    #[tokio::test]
    async fn what_is_read_ahead_is_bounded_in_bytes() {
        let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        /// Lines of 1,000 bytes for ever; counts them.
        struct Endless(Arc<std::sync::atomic::AtomicUsize>);
        impl io::Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                buffer[..999].fill(b'x');
                buffer[999] = b'\n';
                Ok(1_000)
            }
        }
        let counter = Arc::clone(&read);
        let mut lines = Lines::of(move || io::BufReader::with_capacity(1_000, Endless(counter)), 10 * (999 + LINE_COST));
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(lines.next().await.expect("no end").expect("a line"));
        }
        assert!(lines.receiver.try_recv().is_err(), "ten lines fill the bound");
        assert!(read.load(std::sync::atomic::Ordering::SeqCst) <= 11, "one more is read at most, and waits");
        held.pop();
        assert_eq!(lines.next().await.expect("no end").expect("a line").0.number, 11);
    }

    #[test]
    fn a_line_without_end_is_not_read_into_memory() {
        assert!(read(b"0123456789\n", 10).is_ok());
        let error = read(b"01234567890123", 10).expect_err("too long");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
