//! [`Roll`]: the log of members as one node reads it and writes to it.

use super::entry::{Identity, MemberEntry, MemberEntryError, Process, Says};
use super::view::Members;
use crate::log::{AppendError, CommitLog, LogName, Pos, ReadError};
use crate::node::clock::Uptime;
use core::time::Duration;
use sagamq_broker::env::Clock;
use std::sync::Arc;

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// The log is trimmed when so many entries can go.
const TRIM_ENTRIES: u64 = 256;

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
    trimmed: Pos,
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
        let mut roll = Self { log, clock, wall, members: Members::behind(trimmed), trimmed };
        roll.catch_up().await?;
        Ok(roll)
    }

    /// What the log says, as far as it was read.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
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

    /// Forgets what nobody needs any more, now and then.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn trim(&mut self) -> Result<(), ReadError> {
        let upto = self.members.trimmable();
        if upto.0 >= self.trimmed.0 + TRIM_ENTRIES {
            self.log.trim(LogName::Members, upto).await?;
            self.trimmed = upto;
        }
        Ok(())
    }
}
