//! What a shard's task stages for the committer: one commit of one shard, and what happens once it is durable.

use crate::ids::ShardId;
use crate::liveness::Liveness;
use crate::storage::keys::{MetaKey, successor};
use crate::storage::{Durability, Family, Mutation};
use sagamq_api::topic::TopicDurability;

/// Writes are stopped: a durable write failed, and what it left behind is unknown until the next open.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The write that carried this request failed. The request may have taken effect: retry with the same idempotency key.
    #[error("the write failed and writes are stopped until a restart; it may have taken effect: {0}")]
    Failed(String),
    /// An earlier write failed. Nothing of this request was stored.
    #[error("writes are stopped until a restart because an earlier one failed: {0}")]
    Stopped(String),
    /// The disk has too little room for what adds to the data. Nothing of this request was stored.
    #[error(
        "the disk has {available_bytes} bytes left and {reserve_bytes} are kept free (disk_reserve_bytes), so nothing was stored; new records, \
         topics, groups and sagas are taken again when {resume_bytes} are free: make room, or delete topics or shorten their retention"
    )]
    DiskLow {
        /// Bytes that are left.
        available_bytes: u64,
        /// Bytes that are kept free.
        reserve_bytes: u64,
        /// Bytes that must be free before more is taken.
        resume_bytes: u64,
    },
    /// The broker is shutting down. Nothing of this request was stored.
    #[error("the broker is shutting down")]
    ShuttingDown,
    /// The part of the server that had the request died, or ended before it answered. The request may have taken effect.
    #[error("the request was taken and its answer is lost; it may have taken effect: {0}")]
    Lost(String),
}

impl WriteError {
    /// For a request that was taken and whose answer will not come.
    pub(crate) fn lost(liveness: &Liveness) -> Self {
        Self::Lost(liveness.death().unwrap_or("the broker ended").to_owned())
    }
}

/// Runs on the committer's thread once the commit is durable, or is known not to become so. It must not block.
pub(crate) type Completion = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// Mutations and completions that a commit has room for before there are any.
const ROOM_MAX: usize = 256;

/// Changes of one shard that are written together, in the order they were made.
///
/// It is made by the task of a shard and carries that shard's number: there is no way to say that two shards change at once.
pub(crate) struct Commit {
    shard: ShardId,
    /// Set when it is complete, if it changes anything.
    number: Option<u64>,
    mutations: Vec<Mutation>,
    bytes: usize,
    durability: Durability,
    owed: Owed,
    completions: Vec<Completion>,
}

/// How soon a commit that is not synced must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owed {
    /// It need not.
    #[default]
    Nothing,
    /// At a shutdown.
    Shutdown,
    /// Within the interval.
    Interval,
}

/// What each commit of a shard says of itself, in one row: the last one's is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastCommit {
    /// Its number among the commits of the shard, from 1.
    pub(crate) number: u64,
    /// The ends of all logs of the shard, added up modulo 2^64: so that an open sees if a newest batch is gone.
    pub(crate) log_ends: u64,
}

impl LastCommit {
    fn encode(self) -> [u8; 16] {
        let mut row = [0; 16];
        row[..8].copy_from_slice(&self.number.to_be_bytes());
        row[8..].copy_from_slice(&self.log_ends.to_be_bytes());
        row
    }

    /// `None`: that is no such row.
    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let (number, log_ends) = row.split_first_chunk()?;
        Some(Self { number: u64::from_be_bytes(*number), log_ends: u64::from_be_bytes(log_ends.try_into().ok()?) })
    }
}

impl Commit {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            number: None,
            mutations: Vec::new(),
            bytes: 0,
            durability: Durability::Buffered,
            owed: Owed::Nothing,
            completions: Vec::new(),
        }
    }

    /// The next one of the shard, with room for as much as is in this one.
    pub(crate) fn next(&self) -> Self {
        let mut next = Self::new(self.shard);
        next.mutations.reserve(self.mutations.len().min(ROOM_MAX));
        next.completions.reserve(self.completions.len().min(ROOM_MAX));
        next
    }

    /// Completes the commit: it is the shard's next after number `last`, and says so in its own write, with where it leaves the logs. The
    /// number of the shard's last commit.
    pub(crate) fn complete(&mut self, last: u64, log_ends: u64) -> u64 {
        if self.mutations.is_empty() {
            return last;
        }
        let commit = LastCommit { number: last + 1, log_ends };
        let value = commit.encode().to_vec().into();
        self.push(Mutation::Put { family: Family::Meta, key: MetaKey::CommitNumber(self.shard).encode(), value });
        self.number = Some(commit.number);
        commit.number
    }

    pub(crate) fn push(&mut self, mutation: Mutation) {
        assert!(self.number.is_none(), "a commit with a number is complete");
        let prefix = self.shard.0.to_be_bytes();
        let is_own = match &mutation {
            Mutation::Put { key, .. } | Mutation::Delete { key, .. } => key.starts_with(&prefix),
            Mutation::DeleteRange { range, .. } => range.start.starts_with(&prefix) && range.end <= successor(&prefix),
        };
        assert!(is_own, "a commit of shard {} holds a key of another", self.shard.0);
        self.bytes += mutation.len();
        self.mutations.push(mutation);
    }

    /// Asks for a sync before the completions run.
    pub(crate) fn require_sync(&mut self) {
        self.durability = Durability::Synced;
    }

    /// Asks for what a topic promises of its records, before the completions run or later.
    pub(crate) fn require(&mut self, durability: TopicDurability) {
        match durability {
            TopicDurability::Sync => self.require_sync(),
            TopicDurability::Interval => self.owed = Owed::Interval,
            TopicDurability::Memory => self.owed = self.owed.max(Owed::Shutdown),
        }
    }

    /// How soon it must be synced if it is not now.
    pub(crate) fn owed(&self) -> Owed {
        self.owed
    }

    /// Runs `completion` when the commit is written, after those of all earlier commits of this shard.
    pub(crate) fn on_written(&mut self, completion: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.completions.push(Box::new(completion));
    }

    /// As [`Commit::on_written`], one after the other.
    pub(crate) fn on_written_all(&mut self, completions: impl Iterator<Item = Completion>) {
        self.completions.extend(completions);
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    /// Its number among the commits of its shard; none if it changes nothing.
    pub(crate) fn number(&self) -> Option<u64> {
        self.number
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mutations.is_empty() && self.completions.is_empty()
    }

    pub(crate) fn has_mutations(&self) -> bool {
        !self.mutations.is_empty()
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn into_parts(self) -> (Vec<Mutation>, Vec<Completion>) {
        (self.mutations, self.completions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{PartitionKey, TopicId};
    use sagamq_api::PartitionId;

    fn delete_range(range: core::ops::Range<Vec<u8>>) -> Mutation {
        Mutation::DeleteRange { family: Family::Log, range }
    }

    #[test]
    fn only_a_commit_that_changes_something_has_a_number_and_it_stands_in_it() {
        let mut empty = Commit::new(ShardId(7));
        assert_eq!((empty.complete(4, 9), empty.number()), (4, None));
        let mut commit = Commit::new(ShardId(7));
        commit.push(delete_range(ShardId(7).dedup_from(0)));
        assert_eq!((commit.complete(4, 9), commit.number()), (5, Some(5)));
        let value = b"\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09";
        let row = Mutation::Put { family: Family::Meta, key: b"\0\x07\x06".to_vec(), value: value.as_slice().into() };
        assert_eq!(LastCommit::decode(value), Some(LastCommit { number: 5, log_ends: 9 }));
        assert_eq!((LastCommit::decode(&value[1..]), LastCommit::decode(&[0; 17])), (None, None));
        assert_eq!(commit.into_parts().0.last(), Some(&row));
    }

    #[test]
    fn ranges_of_the_own_shard_are_taken() {
        let own = PartitionKey { shard: ShardId(7), topic: TopicId(1), partition: PartitionId(2) };
        let mut commit = Commit::new(ShardId(7));
        for range in [own.all(), ShardId(7).topic(TopicId(u32::MAX)), ShardId(7).dedup_before(9), ShardId(7).dedup_from(0)] {
            commit.push(delete_range(range));
        }
        let mut last = Commit::new(ShardId(u16::MAX));
        last.push(delete_range(ShardId(u16::MAX).topic(TopicId(u32::MAX))));
    }

    #[test]
    fn a_range_of_another_shard_or_beyond_the_own_is_a_panic() {
        let own = ShardId(7).dedup_from(0);
        for range in [ShardId(8).dedup_from(0), own.start.clone()..ShardId(8).dedup_from(1).start, ShardId(6).dedup_from(0).start..own.end]
        {
            let push = || Commit::new(ShardId(7)).push(delete_range(range.clone()));
            assert!(std::panic::catch_unwind(push).is_err(), "{range:?}");
        }
    }
}
