//! [`Hindered`]: a log in memory that does not answer what a test says.

use crate::log::memory::MemoryLog;
use crate::log::{AppendError, Bounds, CommitLog, Entry, LogName, Pos, ReadError};
use bytes::Bytes;
use core::fmt;
use core::future::{pending, ready};
use futures_util::future::{BoxFuture, FutureExt as _};
use std::sync::{Arc, Mutex};

/// What is asked of a log.
pub(super) enum Call<'a> {
    Append(&'a Bytes),
    Read,
    Bounds,
    Trim,
}

impl Call<'_> {
    /// Whether it says this in the log of members.
    pub(super) fn says(&self, state: &str) -> bool {
        let wanted = format!("\"state\":\"{state}\"");
        matches!(self, Self::Append(bytes) if bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes()))
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Answers,
    Refuses,
    /// There is never an answer.
    Hangs,
}

impl From<bool> for Does {
    /// Whether it refuses.
    fn from(refuses: bool) -> Self {
        if refuses { Self::Refuses } else { Self::Answers }
    }
}

type Judge = dyn FnMut(LogName, Call<'_>) -> Does + Send;

/// A log that does not answer where a test says so. Clones are the same one.
#[derive(Clone)]
pub(super) struct Hindered {
    log: MemoryLog,
    judge: Arc<Mutex<Box<Judge>>>,
}

impl Hindered {
    /// Does with each call what this says. It is asked once for each, before it is done.
    pub(super) fn new<D: Into<Does>>(log: &MemoryLog, mut judge: impl FnMut(LogName, Call<'_>) -> D + Send + 'static) -> Self {
        let judge: Box<Judge> = Box::new(move |name: LogName, call: Call<'_>| judge(name, call).into());
        Self { log: log.clone(), judge: Arc::new(Mutex::new(judge)) }
    }

    /// What is done with a call, or an answer in the place of that.
    fn judged<T: Send + 'static, E: Send + 'static>(
        &self,
        log: LogName,
        call: Call<'_>,
        refusal: impl FnOnce() -> E,
    ) -> Option<BoxFuture<'static, Result<T, E>>> {
        match (self.judge.lock().expect("no panic"))(log, call) {
            Does::Answers => None,
            Does::Refuses => Some(ready(Err(refusal())).boxed()),
            Does::Hangs => Some(pending().boxed()),
        }
    }
}

impl fmt::Debug for Hindered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hindered").finish_non_exhaustive()
    }
}

fn unavailable() -> ReadError {
    ReadError::Unavailable("hindered".to_owned())
}

impl CommitLog for Hindered {
    fn entry_bytes_max(&self) -> usize {
        self.log.entry_bytes_max()
    }

    fn append(&self, log: LogName, after: Pos, bytes: Bytes) -> BoxFuture<'_, Result<Pos, AppendError>> {
        let judged = self.judged(log, Call::Append(&bytes), || AppendError::NotStored("hindered".to_owned()));
        judged.unwrap_or_else(|| self.log.append(log, after, bytes))
    }

    fn read(&self, log: LogName, after: Pos, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>, ReadError>> {
        self.judged(log, Call::Read, unavailable).unwrap_or_else(|| self.log.read(log, after, bytes_max))
    }

    fn bounds(&self, log: LogName) -> BoxFuture<'_, Result<Bounds, ReadError>> {
        self.judged(log, Call::Bounds, unavailable).unwrap_or_else(|| self.log.bounds(log))
    }

    fn trim(&self, log: LogName, upto: Pos) -> BoxFuture<'_, Result<(), ReadError>> {
        self.judged(log, Call::Trim, unavailable).unwrap_or_else(|| self.log.trim(log, upto))
    }
}
