//! Compaction by key: what goes, what stays, and what readers, groups and sizes make of it.

mod crash;
mod groups;
mod random;
mod sizes;

use crate::common::{START_MS, Says as _, TestBroker, group, one_partition, topic};
use bytes::BytesMut;
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::limits::TIMESTAMP_MS_MIN;
use sagamq_api::queue::StartPosition;
use sagamq_api::topic::{CleanupPolicy, ReadQuery, TopicConfig, TopicConfigChange};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::log::batch::{Batch, NewBatch, ReceivedBatch, Record, StoredRecord};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Family, Storage};
use sagamq_broker::{NewRecord, ProduceError, SentBatch, TopicError, UpdateTopicError};
use std::collections::BTreeMap;

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn compacted() -> TopicConfig {
    TopicConfig { cleanup_policy: CleanupPolicy::Compact, delete_retention_ms: 3_600_000, record_bytes_max: 4 << 20, ..one_partition() }
}

fn keyed(key: &str, value: &str) -> NewRecord {
    NewRecord::of(value.to_owned()).with_key(key.to_owned())
}

/// Says that the key is gone.
fn gone(key: &str) -> NewRecord {
    let mut record = keyed(key, "");
    record.payload.value = None;
    record
}

fn key_of(record: &StoredRecord) -> String {
    String::from_utf8(record.payload.key.as_deref().expect("every record has a key").to_vec()).expect("text")
}

/// The last record of each key, with its offset.
type Table = BTreeMap<String, (u64, Option<String>)>;

impl TestBroker {
    /// Every record from an offset on.
    async fn records_from(&self, from: u64) -> Vec<StoredRecord> {
        let (mut records, mut from) = (Vec::new(), Offset(from));
        loop {
            let query = ReadQuery { offset: Some(from), max_records: Some(1_000), ..ReadQuery::default() };
            let answer = self.broker.read(&topic("t"), PartitionId(0), &query).await.expect("read");
            if answer.records.is_empty() {
                assert_eq!(from, answer.high_watermark, "whoever reads comes to the end");
                return records;
            }
            from = answer.next_offset;
            records.extend(answer.records);
        }
    }

    async fn kept(&self) -> Vec<(u64, String)> {
        let all = self.records_from(self.log_start("t")).await;
        all.iter().map(|record| (record.offset.0, record.text().unwrap_or_else(|| "-".to_owned()))).collect()
    }

    async fn compacts(&self) -> u64 {
        self.broker.compact().await.expect("compacted")
    }

    fn bytes(&self) -> u64 {
        self.broker.describe_topic(&topic("t")).expect("there").partitions[0].bytes
    }
}

fn table(records: &[StoredRecord]) -> Table {
    records.iter().map(|record| (key_of(record), (record.offset.0, record.text()))).collect()
}

/// What lies on the disk fits: batches take every offset once, and the index counts their bytes.
pub(crate) fn check_disk(storage: &impl Storage, test: &TestBroker) {
    let (mut batches, mut entries) = (Vec::new(), Vec::new());
    let all = |family, visit: &mut dyn FnMut(&[u8], &[u8])| {
        let visit = &mut |key: &[u8], value: &[u8]| {
            visit(key, value);
            ControlFlow::Continue(())
        };
        storage.scan(family, &[][..]..&[u8::MAX; 64][..], Direction::Forward, visit).expect("scans");
    };
    all(Family::Log, &mut |_, value| batches.push(Batch::parse(bytes::Bytes::copy_from_slice(value)).expect("sound")));
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight bytes"));
    all(Family::TimeIndex, &mut |key, value| entries.push((number(&key[18..26]), number(value))));
    let described = test.broker.describe_topic(&topic("t")).expect("there");
    let (start, end) = (described.partitions[0].log_start_offset, described.partitions[0].high_watermark);
    let mut at = start;
    for batch in &batches {
        assert_eq!(batch.base_offset(), at, "no part of the log is missing: {batches:?}");
        at = batch.next_offset();
    }
    assert_eq!(at, end);
    assert_eq!(batches.iter().map(|batch| batch.len() as u64).sum::<u64>(), test.bytes(), "bytes are what they are");
    for pair in entries.windows(2) {
        let ((base, bytes), (next_base, next_bytes)) = (pair[0], pair[1]);
        let between = batches.iter().filter(|batch| (base..next_base).contains(&batch.base_offset().0)).map(|batch| batch.len() as u64);
        assert_eq!(next_bytes - bytes, between.sum::<u64>(), "bytes between {base} and {next_base}: {entries:?}");
    }
    assert!(batches.is_empty() || entries.first().is_some_and(|(base, _)| *base == start.0), "a log begins with an entry");
}

#[tokio::test]
async fn the_newest_of_each_key_stays_at_its_offset_and_the_others_go() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    for round in 0..3 {
        test.produce("t", ["a", "b", "c"].map(|key| keyed(key, &format!("{key}{round}"))).into(), None).await;
        test.clock.advance(Duration::from_secs(5));
    }
    test.produce("t", vec![keyed("b", "b3")], None).await;
    let before = test.bytes();
    assert_eq!(test.compacts().await, 7);
    let left = [(6, "a2"), (8, "c2"), (9, "b3")].map(|(offset, text)| (offset, text.to_owned()));
    assert!(test.bytes() < before, "{} of {before}", test.bytes());
    check_disk(&storage, &test);
    assert_eq!(test.compacts().await, 0);
    test.broker.shutdown().await;
    // What was in memory is read from the disk now.
    let test = TestBroker::open(storage.clone());
    assert_eq!(test.kept().await, left);
    for from in 0..10 {
        let first = test.records_from(from).await[0].offset.0;
        assert_eq!(first, left.iter().map(|(offset, _)| *offset).find(|offset| *offset >= from).expect("one"), "from {from}");
    }
    assert_eq!(test.produce("t", vec![keyed("a", "a4")], None).await[0].offset.expect("stored"), Offset(10), "offsets go on");
    let at = ReadQuery { timestamp_ms: Some((START_MS + 1).cast_signed()), ..ReadQuery::default() };
    assert_eq!(test.broker.read(&topic("t"), PartitionId(0), &at).await.expect("read").records[0].offset, Offset(6), "by time as well");
    check_disk(&storage, &test);
}

#[tokio::test]
async fn a_key_that_is_gone_says_so_for_its_time_and_goes_then() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    test.produce("t", vec![keyed("a", "a0"), keyed("b", "b0")], None).await;
    test.produce("t", vec![gone("a"), keyed("c", "c0")], None).await;
    test.clock.advance(HOUR * 48);
    assert_eq!(test.compacts().await, 1, "what it replaces goes at once, and it stays whatever its own time");
    test.clock.advance(HOUR / 2);
    assert_eq!(test.compacts().await, 0);
    test.clock.advance(HOUR / 2);
    assert_eq!(test.compacts().await, 1, "an hour after its key was compacted");
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage.clone(), ManualClock::at(test.clock.now_ms())).expect("opens");
    assert_eq!(test.kept().await, [(1, "b0".to_owned()), (3, "c0".to_owned())]);
    // The last record of all stays, so that there is something to read where the log ends.
    test.produce("t", vec![gone("b")], None).await;
    for _ in 0..6 {
        test.compacts().await;
        test.clock.advance(HOUR);
    }
    assert_eq!(test.records_from(0).await.last().map(|record| record.offset), Some(Offset(4)));
    assert_eq!(test.records_from(0).await.len(), 2, "c0 and that b is gone");
    test.produce("t", vec![keyed("d", "d0")], None).await;
    for _ in 0..3 {
        test.compacts().await;
        test.clock.advance(HOUR);
    }
    check_disk(&storage, &test);
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, ManualClock::at(test.clock.now_ms())).expect("opens");
    assert_eq!(test.kept().await, [(3, "c0".to_owned()), (5, "d0".to_owned())]);
}

#[tokio::test]
async fn no_time_of_a_record_keeps_a_log_from_being_compacted() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    let at = |timestamp_ms: i64| NewRecord { timestamp_ms: Some(timestamp_ms), ..keyed("a", "old") };
    for earlier in [i64::MIN, TIMESTAMP_MS_MIN - 1] {
        let refused = test.broker.produce(&topic("t"), vec![at(earlier)], None).await;
        assert!(matches!(refused, Err(ProduceError::TimeBehind { index: 0, .. })), "{refused:?}");
        // The header of a batch has a time of its own.
        let payload = keyed("a", "old").payload;
        let records = [Record { timestamp_ms: earlier, payload: payload.clone() }, Record { timestamp_ms: -2, payload }];
        let bytes = BytesMut::from(NewBatch::encode(&records).expect("encodes").bytes());
        let batch = SentBatch { partition: Some(PartitionId(0)), batch: ReceivedBatch::parse(bytes).expect("sound") };
        let refused = test.broker.produce_batches(None, &topic("t"), vec![batch], None).await;
        assert!(matches!(refused, Err(ProduceError::TimeBehind { index: 0, .. })), "{refused:?}");
    }
    test.produce("t", vec![at(TIMESTAMP_MS_MIN)], None).await;
    test.produce("t", vec![at((START_MS + 3_600_000).cast_signed())], None).await;
    test.produce("t", vec![keyed("a", "new"), keyed("b", "new")], None).await;
    assert_eq!(test.compacts().await, 2);
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    assert_eq!(test.kept().await, [(2, "new".to_owned()), (3, "new".to_owned())]);
}

#[tokio::test]
async fn what_is_younger_than_the_lag_stays() {
    let config = TopicConfig { min_compaction_lag_ms: 3_600_000, ..compacted() };
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    for minute in 0..10 {
        test.produce("t", vec![keyed("a", &format!("a{minute}"))], None).await;
        test.clock.advance(Duration::from_secs(600));
    }
    assert_eq!(test.compacts().await, 3, "of four that are older than an hour the newest stays");
    let change = TopicConfigChange { min_compaction_lag_ms: Some(0), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change).await.expect("changed");
    assert_eq!(test.compacts().await, 6);
    check_disk(&storage, &test);
}

#[tokio::test]
async fn the_policy_is_changed_while_it_is_in_use_and_records_without_a_key_are_refused() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["no key"]).await;
    for n in 0..3 {
        test.produce("t", vec![keyed("a", &n.to_string())], None).await;
    }
    assert_eq!(test.compacts().await, 0, "nobody asked for it");
    let to = |policy| TopicConfigChange { cleanup_policy: Some(policy), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), to(CleanupPolicy::Compact)).await.expect("changed");
    let refused = test.broker.produce(&topic("t"), vec![keyed("a", "x"), NewRecord::of("no key")], None).await;
    assert!(matches!(&refused, Err(ProduceError::WithoutKey { index: 1, .. })), "{refused:?}");
    let refused = test.broker.produce(&topic("t"), vec![NewRecord::of("x").with_idempotency_key("id".to_owned())], None).await;
    assert!(matches!(refused, Err(ProduceError::WithoutKey { index: 0, .. })), "an idempotency key is none");
    for (record, is_stored) in [(keyed("a", "3"), true), (NewRecord::of("no key"), false)] {
        let records = [Record { timestamp_ms: START_MS.cast_signed(), payload: record.payload }];
        let bytes = BytesMut::from(NewBatch::encode(&records).expect("encodes").bytes());
        let batch = SentBatch { partition: Some(PartitionId(0)), batch: ReceivedBatch::parse(bytes).expect("sound") };
        let sent = test.broker.produce_batches(None, &topic("t"), vec![batch], None).await;
        assert!(is_stored == sent.is_ok() && (is_stored || matches!(sent, Err(ProduceError::BatchWithoutKeys { .. }))), "{sent:?}");
    }
    assert_eq!(test.compacts().await, 3);
    test.clock.advance(HOUR * 24 * 365);
    assert_eq!(test.broker.apply_retention().await.expect("applied"), 0, "the newest of each key stays for ever");
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, ManualClock::at(test.clock.now_ms())).expect("opens");
    assert_eq!(test.kept().await, [(0, "no key".to_owned()), (4, "3".to_owned())], "what came without a key before stays");
    test.broker.update_topic(&topic("t"), to(CleanupPolicy::DeleteAndCompact)).await.expect("changed");
    assert_eq!(test.broker.apply_retention().await.expect("applied"), 5, "a year old");
    test.broker.update_topic(&topic("t"), to(CleanupPolicy::Delete)).await.expect("changed");
    test.produce_texts("t", ["no key"]).await;
}

#[tokio::test]
async fn what_every_record_is_needed_of_is_not_compacted() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", compacted()).await;
    let owned = test.broker.own_topic(&topic("t")).await;
    assert!(matches!(owned, Err(TopicError::Compacted(_))), "{owned:?}");
    test.broker.create_topic(&topic("lane"), one_partition()).await.expect("made");
    test.broker.own_topic(&topic("lane")).await.expect("there");
    let to_compact = TopicConfigChange { cleanup_policy: Some(CleanupPolicy::Compact), ..TopicConfigChange::default() };
    let refused = test.broker.update_topic(&topic("lane"), to_compact.clone()).await;
    assert!(matches!(refused, Err(UpdateTopicError::Owned(_))), "{refused:?}");
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    let refused = test.broker.update_topic(&topic("t.g.dlq"), to_compact).await;
    assert!(matches!(refused, Err(UpdateTopicError::Config(_))), "{refused:?}");
}
