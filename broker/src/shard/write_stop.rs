//! Which shards write no more, and why.

use crate::ids::ShardId;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// Why each shard's writes are stopped, if they are; set once and never cleared in the life of a process. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct WriteStops(Arc<[OnceLock<String>]>);

impl WriteStops {
    /// No shard of so many is stopped.
    pub(crate) fn new(shards: u16) -> Self {
        Self((0..shards).map(|_| OnceLock::new()).collect())
    }

    /// Why this shard writes no more.
    pub(crate) fn reason(&self, shard: ShardId) -> Option<&str> {
        self.0[usize::from(shard.0)].get().map(String::as_str)
    }

    /// The shards that write no more, each with the reason.
    pub(crate) fn all(&self) -> impl Iterator<Item = (ShardId, &str)> {
        let numbered = (0..=u16::MAX).map(ShardId).zip(self.0.iter());
        numbered.filter_map(|(shard, reason)| Some((shard, reason.get()?.as_str())))
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> u16 {
        u16::try_from(self.0.len()).expect("a data directory has at most 256 shards")
    }

    /// Only the committer stops shards.
    pub(super) fn stop(&self, shards: &BTreeSet<u16>, reason: &str) {
        // Only the first reason counts.
        let stopped: Vec<u16> = shards.iter().copied().filter(|&shard| self.0[usize::from(shard)].set(reason.to_owned()).is_ok()).collect();
        if !stopped.is_empty() {
            tracing::error!(shards = ?stopped, reason, "a durable write failed: these shards write no more until a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_stopped_alone_and_for_its_first_reason() {
        let stops = WriteStops::new(3);
        let clone = stops.clone();
        stops.stop(&BTreeSet::from([1]), "first");
        stops.stop(&BTreeSet::from([1, 2]), "second");
        assert_eq!([0, 1, 2].map(|shard| clone.reason(ShardId(shard))), [None, Some("first"), Some("second")]);
        assert_eq!(clone.all().collect::<Vec<_>>(), [(ShardId(1), "first"), (ShardId(2), "second")]);
    }
}
