//! [`Roll`]: the log of members as one node reads it and writes to it.

mod recent;
#[cfg(test)]
mod tests;

use super::entry::{Identity, MemberEntry, MemberEntryError, Process, Says};
use super::view::Members;
use crate::log::{AppendError, CommitLog, LogName, Pos, ReadError};
use crate::node::clock::Uptime;
use core::time::Duration;
use recent::Recent;
use sagamq_broker::env::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// The log is trimmed when so many entries can go.
const TRIM_ENTRIES: u64 = 256;

/// What was said within so many heartbeats stays: whoever reads less often than in each one, or begins to read now, finds everybody who lives, and who is to end.
const KEPT_HEARTBEATS: u32 = 60;

/// Why the log of members could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// The log does not answer, or is damaged.
    #[error("the log of members cannot be read: {0}")]
    Log(#[from] ReadError),
    /// An entry cannot be read.
    #[error("the log of members, at {}: {error}", at.0)]
    Entry {
        /// Where it stands.
        at: Pos,
        /// What is wrong.
        error: MemberEntryError,
    },
}

/// Why nothing could be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SayError {
    /// Others have said something that was not read before. Nothing was said.
    #[error("others were faster")]
    Raced,
    /// It may be said, or not.
    #[error("the log of members does not take an entry: {0}")]
    NotTaken(String),
    /// It was said, and does not count: another process has the term.
    #[error("another process has the term")]
    Void,
    /// What others have said cannot be read.
    #[error(transparent)]
    Roll(#[from] RollError),
}

/// The log of members, as one process reads and writes it. A clone has read what this one has.
#[derive(Clone)]
pub struct Roll {
    log: Arc<dyn CommitLog>,
    clock: Arc<dyn Uptime>,
    /// For people who read what is said.
    wall: Arc<dyn Clock>,
    members: Members,
    recent: Recent,
    age: LogAge,
    trimmed: Pos,
}

/// How long ago a node has read the log of members to its end. Clones are the same one.
#[derive(Clone, Debug)]
pub struct LogAge {
    clock: Arc<dyn Uptime>,
    /// When, by the clock, in nanoseconds.
    read: Arc<AtomicU64>,
}

impl LogAge {
    /// It is read now.
    #[must_use]
    pub fn new(clock: Arc<dyn Uptime>) -> Self {
        let age = Self { clock, read: Arc::default() };
        age.read_now();
        age
    }

    fn read_now(&self) {
        self.read.store(u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago.
    #[must_use]
    pub fn get(&self) -> Duration {
        self.clock.now().saturating_sub(Duration::from_nanos(self.read.load(Ordering::Relaxed)))
    }
}

impl core::fmt::Debug for Roll {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Roll").field("members", &self.members).finish_non_exhaustive()
    }
}

impl RollError {
    /// Whether it may be better the next time.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Log(ReadError::Unavailable(_)))
    }
}

impl Roll {
    /// Reads the whole log.
    ///
    /// # Errors
    /// [`RollError`].
    pub async fn read(log: Arc<dyn CommitLog>, clock: Arc<dyn Uptime>, wall: Arc<dyn Clock>) -> Result<Self, RollError> {
        let trimmed = log.bounds(LogName::Members).await?.trimmed;
        let (members, recent, age) = (Members::behind(trimmed), Recent::default(), LogAge::new(Arc::clone(&clock)));
        let mut roll = Self { log, clock, wall, members, recent, age, trimmed };
        roll.catch_up().await?;
        Ok(roll)
    }

    /// What the log says, as far as it was read.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// How long ago the log was read, kept up to date.
    #[must_use]
    pub fn age(&self) -> LogAge {
        self.age.clone()
    }

    /// The reader's clock.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Reads what was said since.
    ///
    /// # Errors
    /// [`RollError`].
    pub async fn catch_up(&mut self) -> Result<(), RollError> {
        loop {
            let entries = match self.log.read(LogName::Members, self.members.last(), READ_BYTES).await {
                Ok(entries) => entries,
                Err(ReadError::Trimmed(upto)) if upto > self.members.last() => {
                    // What is left says it again.
                    (self.members, self.trimmed) = (Members::behind(upto), upto);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if entries.is_empty() {
                self.recent.note(self.clock.now(), self.members.last());
                self.age.read_now();
                return Ok(());
            }
            // Later than any of them was sent.
            let heard = self.clock.now();
            for entry in entries {
                self.take(entry.pos, &entry.bytes, heard)?;
            }
        }
    }

    fn take(&mut self, at: Pos, bytes: &[u8], heard: Duration) -> Result<bool, RollError> {
        let entry = MemberEntry::decode(bytes).map_err(|error| RollError::Entry { at, error })?;
        Ok(self.members.apply(at, entry, heard))
    }

    /// Says something behind all that was read. When it was sent, by the clock.
    ///
    /// # Errors
    /// [`SayError`]. After [`SayError::NotTaken`] it may be said all the same, and is then read later.
    pub async fn say(&mut self, of: Identity, by: &Process, says: Says) -> Result<Duration, SayError> {
        let (by, version, time_ms) = (by.clone(), env!("CARGO_PKG_VERSION").to_owned(), self.wall.now_ms());
        let entry = MemberEntry { of, by, version, time_ms, says };
        let after = self.members.last();
        let sent = self.clock.now();
        let at = match self.log.append(LogName::Members, after, entry.encode()).await {
            Ok(at) => at,
            Err(AppendError::Conflict) => return Err(SayError::Raced),
            Err(error @ (AppendError::NotStored(_) | AppendError::Unknown(_))) => return Err(SayError::NotTaken(error.to_string())),
        };
        if at == Pos(after.0 + 1) {
            return if self.members.apply(at, entry, self.clock.now()) { Ok(sent) } else { Err(SayError::Void) };
        }
        // A log that takes every append gives a later place: what came between decides.
        let counts = 'read: loop {
            let entries = self.log.read(LogName::Members, self.members.last(), READ_BYTES).await.map_err(RollError::from)?;
            let heard = self.clock.now();
            for entry in entries {
                let taken = self.take(entry.pos, &entry.bytes, heard)?;
                if entry.pos >= at {
                    break 'read taken;
                }
            }
        };
        if counts { Ok(sent) } else { Err(SayError::Void) }
    }

    /// Forgets what nobody needs any more, where nodes say something once in `interval`: up to where, and the work, which may take its time. `None`:
    /// it is not worth it yet. [`Roll::is_trimmed`] when it is done.
    pub(crate) fn trim(&mut self, interval: Duration) -> Option<(Pos, impl Future<Output = Result<(), ReadError>> + Send + use<>)> {
        let old = self.recent.read_before(self.clock.now().saturating_sub(interval.saturating_mul(KEPT_HEARTBEATS)));
        let upto = self.members.trimmable().min(old);
        let log = Arc::clone(&self.log);
        (upto.0 >= self.trimmed.0 + TRIM_ENTRIES).then_some((upto, async move { log.trim(LogName::Members, upto).await }))
    }

    /// The log is trimmed up to there.
    pub(crate) fn is_trimmed(&mut self, upto: Pos) {
        self.trimmed = self.trimmed.max(upto);
    }
}
