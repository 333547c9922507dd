//! The log seam: entries in order, appended behind a known place.
//!
//! It is narrow so that object storage with put-if-absent and a replicated log without conditional appends (the Kafka protocol) both
//! fit: who may write is not asked of the log. It is decided from the content of the entries, alike by everybody who reads them.

pub mod contract;
pub mod memory;
pub mod object;

use bytes::Bytes;
use core::fmt;
use futures_util::future::BoxFuture;

/// Which log of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogName {
    /// Who is a member, and lives.
    Members,
    /// The commits of one shard.
    Shard(u16),
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Members => f.write_str("members"),
            Self::Shard(shard) => write!(f, "shard-{shard:05}"),
        }
    }
}

/// A place in one log. The first entry of a log has place 1 or higher; later entries have higher ones, not always the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pos(pub u64);

impl Pos {
    /// Before every entry.
    pub const START: Self = Self(0);
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub pos: Pos,
    /// As it was appended.
    pub bytes: Bytes,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Everything up to and with this place is trimmed.
    pub trimmed: Pos,
    /// The last entry, or `trimmed` where there is none behind it.
    pub last: Pos,
}

/// Why an entry was not appended, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another entry stands behind the place that was named. Nothing was stored.
    #[error("another entry stands there already")]
    Conflict,
    /// Nothing was stored, and nothing will be.
    #[error("the log did not take the entry: {0}")]
    NotStored(String),
    /// It may be stored, or may be stored later: only reading past its place tells.
    #[error("it is unknown whether the log took the entry: {0}")]
    Unknown(String),
}

/// Why a log could not be read or trimmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What was asked for is trimmed up to and with this place.
    #[error("the log is trimmed up to {}", .0.0)]
    Trimmed(Pos),
    /// The log does not answer.
    #[error("the log does not answer: {0}")]
    Unavailable(String),
    /// The log answers with what cannot be.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
}

/// Logs of entries that outlive every machine.
///
/// What an append acknowledged stays, at its place, until it is trimmed. An append that ended as [`AppendError::Unknown`] may come to
/// stand at any later time; where the log has conditional appends, only at the place for which it was meant. A place that was trimmed is
/// never given again, also not to who slept meanwhile and still takes it to be the next: what is acknowledged there nobody would read.
/// [`contract::check`] holds an adapter to all of this.
pub trait CommitLog: fmt::Debug + Send + Sync + 'static {
    /// The largest entry it takes, in bytes.
    fn entry_bytes_max(&self) -> usize;

    /// Appends an entry behind `after`, which the caller takes to be the last. Gives its place.
    ///
    /// Durable on return. A log without conditional appends never says [`AppendError::Conflict`]: it gives a place that is not the next one
    /// the caller expected, and the caller reads what came between.
    ///
    /// # Errors
    /// [`AppendError`] says whether it may be stored.
    fn append(&self, log: LogName, after: Pos, bytes: Bytes) -> BoxFuture<'_, Result<Pos, AppendError>>;

    /// The entries behind `after` in order, up to about `bytes_max` and at least one if there is one. Sees every append that was
    /// acknowledged before the call.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] if an entry behind `after` is trimmed.
    fn read(&self, log: LogName, after: Pos, bytes_max: usize) -> BoxFuture<'_, Result<Vec<Entry>, ReadError>>;

    /// Where the log begins and ends.
    ///
    /// # Errors
    /// When the log does not answer.
    fn bounds(&self, log: LogName) -> BoxFuture<'_, Result<Bounds, ReadError>>;

    /// Forgets everything up to and with `upto`. May be repeated; what is trimmed stays trimmed.
    ///
    /// # Errors
    /// When the log does not answer; a part may be gone.
    fn trim(&self, log: LogName, upto: Pos) -> BoxFuture<'_, Result<(), ReadError>>;
}
