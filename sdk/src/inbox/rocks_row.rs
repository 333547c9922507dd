//! The rows of the inbox in RocksDB.
//!
//! # What lies on disk
//!
//! ```text
//! key    prefix ‖ 0x01 ‖ group ‖ 0x00 ‖ topic ‖ 0x00 ‖ partition (4 bytes) ‖ offset (8 bytes) ‖ record's time (8 bytes)
//! value  version (1 byte, 0x01) ‖ handled at (8 bytes)
//!
//! key    prefix ‖ 0x02 ‖ group ‖ 0x00 ‖ topic ‖ 0x00 ‖ partition (4 bytes)
//! value  version (1 byte, 0x01) ‖ offset (8 bytes) ‖ record's time (8 bytes) ‖ cleared offset (8 bytes), any number of times
//! ```
//!
//! The second row says: rows of records up to this offset and this time may have been swept, but not those of the cleared ones. All numbers are
//! big-endian, times are milliseconds since 1970. Names of groups and topics hold no zero byte. Prefix: `\0inbox/`, unless told otherwise. The
//! record's time is a part of the key because a topic that was made anew, or a restored backup of the broker, gives an offset again.

use super::rocks::RocksInboxError;
use sagamq_api::ids::{Offset, PartitionId};
use sagamq_api::record::ConsumedRecord;
use std::collections::BTreeSet;

const VERSION: u8 = 1;
const RECORD: u8 = 1;
const MARK: u8 = 2;

/// Where the rows of one group and topic lie.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Vec<u8>,
    /// `group ‖ 0x00 ‖ topic ‖ 0x00`.
    names: Vec<u8>,
}

impl Keys {
    pub(super) fn new(prefix: &[u8], group: &str, topic: &str) -> Self {
        Self { prefix: prefix.to_vec(), names: [group.as_bytes(), &[0], topic.as_bytes(), &[0]].concat() }
    }

    /// What the row of every record begins with.
    pub(super) fn records(&self) -> Vec<u8> {
        self.of(RECORD, &[])
    }

    pub(super) fn record(&self, record: &ConsumedRecord) -> Vec<u8> {
        self.of(RECORD, &[&record.partition.0.to_be_bytes(), &record.offset.0.to_be_bytes(), &record.timestamp_ms.to_be_bytes()])
    }

    pub(super) fn mark(&self, partition: PartitionId) -> Vec<u8> {
        self.of(MARK, &[&partition.0.to_be_bytes()])
    }

    /// Partition, offset and time in the key of a record's row.
    pub(super) fn read(&self, key: &[u8]) -> Option<(PartitionId, u64, i64)> {
        let (partition, rest) = key.strip_prefix(self.records().as_slice())?.split_first_chunk::<4>()?;
        let (offset, record_ms) = rest.split_first_chunk::<8>()?;
        Some((PartitionId(u32::from_be_bytes(*partition)), u64::from_be_bytes(*offset), i64::from_be_bytes(record_ms.try_into().ok()?)))
    }

    fn of(&self, kind: u8, rest: &[&[u8]]) -> Vec<u8> {
        [self.prefix.as_slice(), &[kind], &self.names, &rest.concat()].concat()
    }
}

pub(super) fn encode_handled(at_ms: i64) -> Vec<u8> {
    [&[VERSION], at_ms.to_be_bytes().as_slice()].concat()
}

/// When the record was handled.
pub(super) fn decode_handled(value: &[u8]) -> Result<i64, RocksInboxError> {
    match value.split_first() {
        Some((&VERSION, at_ms)) if at_ms.len() == 8 => Ok(i64::from_be_bytes(at_ms.try_into().expect("8 bytes, as was just looked at"))),
        _ => Err(RocksInboxError::Row { value: value.to_vec() }),
    }
}

/// Up to where the rows of a partition were swept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: Offset,
    pub(super) record_ms: i64,
    /// Offsets of records that were not handled: somebody has looked.
    pub(super) cleared: BTreeSet<u64>,
}

impl Default for Mark {
    fn default() -> Self {
        Self { offset: Offset(0), record_ms: i64::MIN, cleared: BTreeSet::new() }
    }
}

impl Mark {
    pub(super) fn raise(&mut self, offset: u64, record_ms: i64) {
        self.offset = self.offset.max(Offset(offset));
        self.record_ms = self.record_ms.max(record_ms);
        // What was cleared and then handled is known to be handled no more.
        self.cleared.remove(&offset);
    }

    /// Whether the row of this record may be missing because it was swept.
    pub(super) fn covers(&self, record: &ConsumedRecord) -> bool {
        record.offset <= self.offset && record.timestamp_ms <= self.record_ms && !self.cleared.contains(&record.offset.0)
    }
}

pub(super) fn encode_mark(mark: &Mark) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend_from_slice(&mark.offset.0.to_be_bytes());
    value.extend_from_slice(&mark.record_ms.to_be_bytes());
    for offset in &mark.cleared {
        value.extend_from_slice(&offset.to_be_bytes());
    }
    value
}

pub(super) fn decode_mark(value: &[u8]) -> Result<Mark, RocksInboxError> {
    let read = || {
        let (&VERSION, rest) = value.split_first()? else { return None };
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (record_ms, rest) = rest.split_first_chunk::<8>()?;
        let (cleared, []) = rest.as_chunks::<8>() else { return None };
        let cleared = cleared.iter().map(|offset| u64::from_be_bytes(*offset)).collect();
        Some(Mark { offset: Offset(u64::from_be_bytes(*offset)), record_ms: i64::from_be_bytes(*record_ms), cleared })
    };
    read().ok_or_else(|| RocksInboxError::Row { value: value.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sagamq_api::record::{Headers, Payload};

    fn record(partition: u32, offset: u64, record_ms: i64) -> ConsumedRecord {
        let payload = Payload { key: None, value: None, headers: Headers::default() };
        ConsumedRecord::new(PartitionId(partition), Offset(offset), record_ms, payload)
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        let keys = Keys::new(b"p/", "g", "t");
        assert_eq!(keys.record(&record(1, 258, 3)), b"p/\x01g\0t\0\0\0\0\x01\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x03");
        assert_eq!(keys.mark(PartitionId(1)), b"p/\x02g\0t\0\0\0\0\x01");
        assert_eq!(keys.read(&keys.record(&record(1, 258, 3))), Some((PartitionId(1), 258, 3)));
        assert_eq!(keys.read(&keys.mark(PartitionId(1))), None);
        assert_eq!(encode_handled(258), b"\x01\0\0\0\0\0\0\x01\x02");
    }

    #[test]
    fn a_mark_covers_what_was_there_when_it_was_made() {
        let mut mark = Mark::default();
        assert!(!mark.covers(&record(0, 0, 0)), "nothing was swept");
        mark.raise(5, 100);
        assert!(mark.covers(&record(0, 5, 100)) && mark.covers(&record(0, 0, 0)));
        assert!(!mark.covers(&record(0, 6, 100)), "it came later");
        assert!(!mark.covers(&record(0, 3, 101)), "the topic was made anew");
        mark.cleared.insert(3);
        assert!(!mark.covers(&record(0, 3, 100)), "somebody has looked");
        mark.raise(3, 100);
        assert!(mark.covers(&record(0, 3, 100)), "and then it was handled and swept");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_other_bytes_are_refused(
            offset: u64, at_ms: i64, cleared in proptest::collection::btree_set(any::<u64>(), 0..4),
            other in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mark = Mark { offset: Offset(offset), record_ms: at_ms, cleared };
            prop_assert_eq!(decode_mark(&encode_mark(&mark)).expect("readable"), mark);
            prop_assert_eq!(decode_handled(&encode_handled(at_ms)).expect("readable"), at_ms);
            let _ = (decode_mark(&other), decode_handled(&other));
        }
    }
}
