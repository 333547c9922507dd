//! Where printed records go, and whether whoever reads them has taken them.
//!
//! A pipe takes some 64 KiB that nobody may ever read: `sagamq consume … | head -1` would have written a hundred records before `head`
//! ends. What must be known to be read is therefore waited for until the pipe is empty again.

use crate::error::CliError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, ioctl_fionread};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::mpsc;
use tokio::sync::oneshot;

/// Looks at the pipe so often without sleeping: a reader that keeps up empties it within microseconds.
const LOOKS_WITHOUT_SLEEP: u32 = 100;

/// Longest sleep between two looks.
const SLEEP_MS_MAX: u32 = 5;

/// Stdout, written by a thread of its own: a reader that does not read holds up neither signals nor the end of the process.
#[derive(Debug)]
pub(super) struct Sink {
    jobs: mpsc::Sender<Job>,
    is_pipe: bool,
}

#[derive(Debug)]
struct Job {
    text: Vec<u8>,
    until_read: bool,
    done: oneshot::Sender<io::Result<()>>,
}

impl Sink {
    pub(super) fn stdout() -> Self {
        let is_pipe = fstat(io::stdout()).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Fifo);
        let (jobs, received) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for job in received {
                // Who asked may have been interrupted.
                drop(job.done.send(write(&job.text, job.until_read)));
            }
        });
        Self { jobs, is_pipe }
    }

    /// Whether [`Self::write`] can tell that what was written was read.
    pub(super) fn is_pipe(&self) -> bool {
        self.is_pipe
    }

    /// Writes the text. When this returns, it has left the process; and if stdout is a pipe and `until_read`, it was read.
    ///
    /// # Errors
    /// `ReaderGone` when nobody will read it.
    pub(super) async fn write(&self, text: Vec<u8>, until_read: bool) -> Result<(), CliError> {
        let (done, written) = oneshot::channel();
        let job = Job { text, until_read: until_read && self.is_pipe, done };
        self.jobs.send(job).map_err(|_| CliError::ReaderGone)?;
        written.await.map_err(|_| CliError::ReaderGone)?.map_err(CliError::stdout)
    }
}

fn write(text: &[u8], until_read: bool) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()?;
    if until_read { wait_until_read(&stdout) } else { Ok(()) }
}

/// Waits until the pipe is empty. An error when its reader has gone and left something in it.
fn wait_until_read(pipe: &impl AsFd) -> io::Result<()> {
    let mut looks = 0_u32;
    while ioctl_fionread(pipe)? > 0 {
        let sleep_ms = looks.saturating_sub(LOOKS_WITHOUT_SLEEP).min(SLEEP_MS_MAX);
        if has_no_reader(pipe, sleep_ms)? {
            // It may have read the rest just before it went.
            return if ioctl_fionread(pipe)? == 0 { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) };
        }
        if sleep_ms == 0 {
            std::thread::yield_now();
        }
        looks += 1;
    }
    Ok(())
}

/// Whether nobody has the pipe open for reading; waits for that as long as is said.
fn has_no_reader(pipe: &impl AsFd, wait_ms: u32) -> io::Result<bool> {
    let mut polled = [PollFd::new(pipe, PollFlags::empty())];
    let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait_ms) * 1_000_000 };
    match poll(&mut polled, Some(&wait)) {
        Ok(_) | Err(Errno::INTR) => Ok(polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)),
        Err(error) => Err(error.into()),
    }
}
