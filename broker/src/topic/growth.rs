//! What a topic was before partitions were added to it: what was produced then lies where that number of partitions has put it.

use sagamq_api::partitioner::partition_of;
use sagamq_api::{Offset, PartitionId};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, PoisonError, RwLock};

/// That partitions were added, as the catalogue stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Growth {
    /// Where each of the partitions ended that there were: of records that a key has dealt, those below were dealt by that number.
    pub(crate) ends: Vec<Offset>,
    /// Until when idempotency keys are asked of the partitions that they had by that number, in milliseconds since 1970.
    pub(crate) keys_until_ms: u64,
}

impl Growth {
    /// How many partitions there were.
    pub(crate) fn partitions(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("a topic's number of partitions is a u32")
    }

    /// The partitions that an idempotency key may have been stored in before these, each once: the newest first.
    pub(crate) fn homes(growths: &[Self], key: &[u8], now_ms: u64) -> Vec<PartitionId> {
        let mut homes = Vec::new();
        for growth in growths.iter().rev().filter(|growth| now_ms <= growth.keys_until_ms) {
            let home = partition_of(key, growth.partitions());
            if !homes.contains(&home) {
                homes.push(home);
            }
        }
        homes
    }
}

/// The growths of a topic, the oldest first, as they are at this moment; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growths(Arc<RwLock<Arc<[Growth]>>>);

impl Growths {
    pub(crate) fn new(growths: Vec<Growth>) -> Self {
        Self(Arc::new(RwLock::new(growths.into())))
    }

    pub(crate) fn get(&self) -> Arc<[Growth]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, growths: Vec<Growth>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = growths.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(partitions: usize, keys_until_ms: u64) -> Growth {
        Growth { ends: vec![Offset(0); partitions], keys_until_ms }
    }

    #[test]
    fn a_key_is_asked_of_each_partition_it_may_lie_in_until_its_time_is_over() {
        let growths = [growth(1, 10), growth(3, 20), growth(5, 30)];
        let homes = |now_ms| Growth::homes(&growths, b"order-1", now_ms);
        let [one, three, five] = [1, 3, 5].map(|partitions| partition_of(b"order-1", partitions));
        let mut all = vec![five, three, one];
        all.sort_unstable();
        all.dedup();
        let mut found = homes(10);
        found.sort_unstable();
        assert_eq!(found, all);
        assert!(homes(11).contains(&three) && homes(11)[0] == five);
        assert_eq!(homes(30), [five]);
        assert!(homes(31).is_empty() && Growth::homes(&[], b"order-1", 0).is_empty());
    }
}
