//! Lines of stdin, read by a thread of their own: a read that blocks holds up neither the answers of the server nor the end of the
//! process.

use sagamq_api::limits::BODY_BYTES_MAX;
use std::io::{self, BufRead, Read as _};
use tokio::sync::mpsc;

/// Lines read ahead.
const AHEAD: usize = 1_024;

/// Longest line, in bytes: more would not fit a request.
const LINE_BYTES_MAX: usize = BODY_BYTES_MAX;

/// One line.
#[derive(Debug, PartialEq, Eq)]
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
    receiver: mpsc::Receiver<io::Result<Line>>,
}

impl Lines {
    pub(super) fn of_stdin() -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        std::thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            let mut number = 0;
            while let Some(line) = read_line(&mut stdin, number + 1, LINE_BYTES_MAX).transpose() {
                number += 1;
                let is_error = line.is_err();
                // A command that ended takes no more lines.
                if sender.blocking_send(line).is_err() || is_error {
                    return;
                }
            }
        });
        Self { receiver }
    }

    /// The next line; `None` at the end. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<io::Result<Line>> {
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

    #[test]
    fn a_line_without_end_is_not_read_into_memory() {
        assert!(read(b"0123456789\n", 10).is_ok());
        let error = read(b"01234567890123", 10).expect_err("too long");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
