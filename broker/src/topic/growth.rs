//! What a topic was before partitions were added to it: what was produced then lies where that number of partitions has put it.

use sagamq_api::partitioner::partition_of;
use sagamq_api::{Offset, PartitionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// That partitions were added, as the catalogue stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Growth {
    /// Where each of the partitions ended that there were: of records that a key has dealt, those below were dealt by that number.
    pub(crate) ends: Vec<Offset>,
    /// Where partitions end that got records since which were dealt by that number all the same: the rest of a request that had begun then. Only where
    /// these follow the others: with a record between them that was dealt by another number, gates could wait for each other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) late: BTreeMap<u32, Offset>,
    /// Until when idempotency keys are asked of the partitions that they had by that number, in milliseconds since 1970.
    pub(crate) keys_until_ms: u64,
    /// Whether records waited for their time then: they are appended behind the ends, to partitions that their keys may not have any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) has_waited: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(is: &bool) -> bool {
    !is
}

impl Growth {
    /// How many partitions there were.
    pub(crate) fn partitions(&self) -> u32 {
        u32::try_from(self.ends.len()).expect("a topic's number of partitions is a u32")
    }

    /// Below which offset of a partition records are that were dealt by that number; none if there was no such partition.
    pub(crate) fn end(&self, partition: usize) -> Option<Offset> {
        let end = *self.ends.get(partition)?;
        let late = u32::try_from(partition).ok().and_then(|partition| self.late.get(&partition));
        Some(late.map_or(end, |&late| end.max(late)))
    }

    /// A record was stored that was dealt by that number. `false`: it lies where that is known already, or where nothing will wait for it.
    pub(crate) fn note_late(&mut self, partition: PartitionId, offset: Offset) -> bool {
        let is_late = self.end(partition.0 as usize) == Some(offset);
        if is_late {
            self.late.insert(partition.0, offset.next());
        }
        is_late
    }

    /// Whether a record may lie in the log that waited for its time then. `fired_below`: no such record was appended to a partition from there on.
    pub(crate) fn holds_what_waited(&self, log_start: impl Fn(usize) -> Offset, fired_below: impl Fn(usize) -> Offset) -> bool {
        let holds = |(index, &end): (usize, &Offset)| log_start(index).max(end) < fired_below(index);
        self.has_waited && self.ends.iter().enumerate().any(holds)
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
        Growth { ends: vec![Offset(0); partitions], late: BTreeMap::new(), keys_until_ms, has_waited: false }
    }

    #[test]
    fn what_comes_late_is_before_the_end_from_then_on_if_it_follows_what_is() {
        let mut growth = growth(2, 0);
        assert_eq!([0, 1, 2].map(|partition| growth.end(partition)), [Some(Offset(0)), Some(Offset(0)), None]);
        assert!(!growth.note_late(PartitionId(1), Offset(1)), "another record lies between");
        assert!(growth.note_late(PartitionId(1), Offset(0)) && growth.note_late(PartitionId(1), Offset(1)));
        assert!(!growth.note_late(PartitionId(1), Offset(1)) && !growth.note_late(PartitionId(2), Offset(0)), "known, and none of them");
        assert_eq!(growth.end(1), Some(Offset(2)));
        let stored = serde_json::to_string(&growth).expect("written");
        assert_eq!(stored, r#"{"ends":[0,0],"late":{"1":2},"keys_until_ms":0}"#);
        assert_eq!(serde_json::from_str::<Growth>(&stored).expect("read"), growth);
    }

    #[test]
    fn what_waited_is_there_between_the_end_of_then_and_where_the_last_of_it_was_appended() {
        let growth = Growth { ends: vec![Offset(5), Offset(3)], has_waited: true, ..growth(2, 0) };
        let holds = |log_start, fired| growth.holds_what_waited(|_| Offset(log_start), |_| Offset(fired));
        assert_eq!(
            [(0, 3), (0, 4), (4, 4), (3, 4), (6, 7), (7, 7)].map(|(start, fired)| holds(start, fired)),
            [false, true, false, true, true, false]
        );
        assert!(!Growth { has_waited: false, ..growth.clone() }.holds_what_waited(|_| Offset(0), |_| Offset(9)));
        let stored = serde_json::to_string(&growth).expect("written");
        assert_eq!(serde_json::from_str::<Growth>(&stored).expect("read"), growth);
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
