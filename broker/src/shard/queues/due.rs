//! When which group in which partition is due: what keeps a tick from looking at all of them.

use crate::ids::GroupKey;
use std::collections::{BTreeSet, HashMap};

/// Groups whose leases or delays end, by time.
#[derive(Debug, Default)]
pub(super) struct DueQueues {
    by_time: BTreeSet<(u64, GroupKey)>,
    times: HashMap<GroupKey, u64>,
}

impl DueQueues {
    /// Notes when the group is due next, or that it is not.
    pub(super) fn set(&mut self, key: GroupKey, due_ms: Option<u64>) {
        let before = match due_ms {
            Some(due_ms) => self.times.insert(key, due_ms),
            None => self.times.remove(&key),
        };
        if before == due_ms {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, key));
        }
        self.by_time.extend(due_ms.map(|due_ms| (due_ms, key)));
    }

    /// All that are due, the longest due first.
    pub(super) fn until(&self, now_ms: u64) -> Vec<GroupKey> {
        self.by_time.iter().take_while(|(due_ms, _)| *due_ms <= now_ms).map(|(_, key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, PartitionKey, ShardId, TopicId};
    use proptest::prelude::*;
    use sagamq_api::PartitionId;

    fn key(number: u32) -> GroupKey {
        let partition = PartitionKey { shard: ShardId(0), topic: TopicId(1), partition: PartitionId(number) };
        GroupKey { partition, group: GroupId(1) }
    }

    proptest! {
        /// Whatever is noted in whatever order, what is due is what was noted last.
        #[test]
        fn the_last_time_of_each_group_counts(notes in proptest::collection::vec((0..5_u32, proptest::option::of(0..10_u64)), 0..50), now_ms in 0..10_u64) {
            let (mut due, mut model) = (DueQueues::default(), HashMap::new());
            for (number, at_ms) in notes {
                due.set(key(number), at_ms);
                model.insert(number, at_ms);
            }
            let mut wanted: Vec<(u64, GroupKey)> =
                model.into_iter().filter_map(|(number, at_ms)| Some((at_ms.filter(|&at_ms| at_ms <= now_ms)?, key(number)))).collect();
            wanted.sort_unstable();
            prop_assert_eq!(due.until(now_ms), wanted.into_iter().map(|(_, key)| key).collect::<Vec<_>>());
        }
    }
}
