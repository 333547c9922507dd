//! Compaction by key: what goes, what stays, and what readers, groups and sizes make of it.

use crate::common::{START_MS, Says as _, TestBroker, group, one_partition, topic};
use bytes::BytesMut;
use core::ops::ControlFlow;
use core::time::Duration;
use proptest::prelude::*;
use sagamq_api::limits::TIMESTAMP_MS_MIN;
use sagamq_api::queue::{LetterEdit, ReceiveRequest, RedriveRequest, StartPosition, TerminateRequest};
use sagamq_api::topic::{CleanupPolicy, ReadQuery, TopicConfig, TopicConfigChange};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::log::batch::{Batch, NewBatch, ReceivedBatch, Record, StoredRecord};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Family, Storage};
use sagamq_broker::{Delivered, NewRecord, ProduceError, SentBatch, TopicError, UpdateTopicError};
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

#[tokio::test]
async fn a_group_passes_over_what_went_before_it_came_there() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    for n in 0..500 {
        test.produce("t", vec![keyed(if n % 100 == 7 { "rare" } else { "a" }, &n.to_string())], None).await;
    }
    assert_eq!(test.compacts().await, 498);
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    let mut seen = Vec::new();
    for _ in 0..20 {
        let got = test.receive_with("t", "g", &ReceiveRequest { max_records: Some(40), ..ReceiveRequest::default() }).await;
        if !got.is_empty() {
            test.ack("t", "g", &got).await;
        }
        seen.extend(got.iter().map(|delivery| delivery.record.offset.0));
    }
    let described = test.broker.describe_group(&topic("t"), &group("g")).await.expect("described");
    assert_eq!((seen, described.lag_records, described.dead_letters, described.trimmed_unsettled), (vec![407, 499], 0, 0, 0));
}

/// However long a gap is, it costs one look.
#[tokio::test]
async fn one_receive_passes_over_a_long_gap() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    for batch in 0..20 {
        let records = (0..1_000).map(|n| keyed("a", &(batch * 1_000 + n).to_string())).collect();
        test.produce("t", records, None).await;
    }
    assert_eq!(test.compacts().await, 19_999);
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    // Once without waiting, and in small portions: a look each 500 ms would not get there.
    let got = test.receive_with("t", "g", &ReceiveRequest { max_records: Some(1), ..ReceiveRequest::default() }).await;
    assert_eq!(got.iter().map(|delivery| delivery.record.offset.0).collect::<Vec<_>>(), [19_999]);
    test.ack("t", "g", &got).await;
    let described = test.broker.describe_group(&topic("t"), &group("g")).await.expect("described");
    assert_eq!((described.lag_records, described.dead_letters), (0, 0));
}

/// The copy in the dead-letter topic is all that is left of it.
#[tokio::test]
async fn a_dead_letter_is_delivered_again_when_compaction_has_taken_its_record() {
    for edit in [None, Some(LetterEdit { value: Some(serde_json::json!("mended").into()), ..LetterEdit::default() })] {
        let storage = MemoryStorage::new();
        let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
        test.produce("t", vec![keyed("k", "1")], None).await;
        let got = test.receive("t", "g").await;
        let terminate = TerminateRequest { receipts: vec![got[0].receipt.clone()], reason: "no".to_owned() };
        test.broker.terminate(&topic("t"), &group("g"), &terminate).await.expect("terminated");
        test.clock.advance(Duration::from_secs(5));
        test.produce("t", vec![keyed("k", "2")], None).await;
        assert_eq!(test.compacts().await, 1);
        test.broker.shutdown().await;
        let test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
        let expected = if edit.is_some() { "mended" } else { "1" };
        let request = RedriveRequest { partition: Some(PartitionId(0)), offsets: vec![Offset(0)], edit, ..RedriveRequest::default() };
        assert_eq!(test.broker.redrive(&topic("t"), &group("g"), &request).await.expect("redriven").redriven, 1);
        // It is kept over a restart as well.
        test.broker.shutdown().await;
        let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
        let mut got = test.receive("t", "g").await;
        got.extend(test.receive("t", "g").await);
        let of = |delivery: &Delivered| (delivery.record.offset.0, key_of(&delivery.record), delivery.record.text().expect("text"));
        let mut seen: Vec<_> = got.iter().map(of).collect();
        seen.sort();
        assert_eq!(seen, [(0, "k".to_owned(), expected.to_owned()), (1, "k".to_owned(), "2".to_owned())]);
        let first = got.iter().find(|delivery| delivery.record.offset == Offset(0)).expect("there");
        assert_eq!(first.record.timestamp_ms, START_MS.cast_signed(), "with its own time");
        test.ack("t", "g", &got).await;
        assert_eq!(test.broker.describe_group(&topic("t"), &group("g")).await.expect("described").lag_records, 0);
    }
}

/// A newer record of its key is there, and nobody waits for this one.
#[tokio::test]
async fn what_compaction_took_while_it_was_leased_is_no_dead_letter_without_content() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    test.produce("t", vec![keyed("k", "1")], None).await;
    let got = test.receive("t", "g").await;
    test.clock.advance(Duration::from_secs(5));
    test.produce("t", vec![keyed("k", "2")], None).await;
    assert_eq!(test.compacts().await, 1);
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
    let terminate = TerminateRequest { receipts: vec![got[0].receipt.clone()], reason: "no".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &terminate).await.expect("terminated");
    let described = test.broker.describe_group(&topic("t"), &group("g")).await.expect("described");
    assert_eq!((described.dead_letters, described.lag_records), (0, 1));
}

#[tokio::test]
async fn retention_by_bytes_counts_what_is_left() {
    let storage = MemoryStorage::new();
    let config = TopicConfig { cleanup_policy: CleanupPolicy::DeleteAndCompact, retention_ms: 0, retention_bytes: 3 << 20, ..compacted() };
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    let large = "x".repeat(300 << 10);
    // Of 12 MiB little more than 2 MiB are left, which lie in the newest and in the oldest part.
    for n in 0..40 {
        let key = if n < 4 { format!("old {n}") } else { format!("k{}", n % 4) };
        test.produce("t", vec![keyed(&key, &large)], None).await;
        test.clock.advance(Duration::from_secs(2));
    }
    assert_eq!(test.compacts().await, 32);
    check_disk(&storage, &test);
    assert_eq!(test.broker.apply_retention().await.expect("applied"), 0, "{} bytes are left", test.bytes());
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage.clone(), ManualClock::at(test.clock.now_ms())).expect("opens");
    for n in 0..4 {
        test.produce("t", vec![keyed(&format!("new {n}"), &large)], None).await;
        test.clock.advance(Duration::from_secs(2));
    }
    assert!(test.broker.apply_retention().await.expect("applied") > 0);
    assert!(((2 << 20)..=(3 << 20)).contains(&test.bytes()), "{}", test.bytes());
    check_disk(&storage, &test);
}

/// Large enough that there are several pieces; compacts in between, until a write fails. What was acknowledged, by offset.
async fn run(storage: CrashStorage) -> (Vec<(u64, String, Option<String>)>, u64) {
    let (mut stored, clock) = (Vec::new(), ManualClock::at(START_MS));
    let Ok(test) = TestBroker::try_open(storage, clock.clone()) else { return (stored, START_MS) };
    let _ = test.broker.create_topic(&topic("t"), compacted()).await;
    let padding = "x".repeat(200 << 10);
    for n in 0..9_u64 {
        let (key, value) = (format!("k{}", n % 4), (n != 5).then(|| format!("{n} {padding}")));
        let record = value.as_deref().map_or_else(|| gone(&key), |value| keyed(&key, value));
        if let Ok(placed) = test.broker.produce(&topic("t"), vec![record], None).await {
            stored.push((placed[0].offset.expect("stored").0, key, value));
        }
        clock.advance(HOUR);
        if n % 3 == 2 {
            // A failure shows in what comes next.
            let _ = test.broker.compact().await;
        }
    }
    test.broker.shutdown().await;
    (stored, clock.now_ms())
}

#[tokio::test]
async fn a_crash_at_any_write_loses_no_key() {
    let whole = CrashStorage::new();
    let (stored, _) = run(whole.clone()).await;
    assert_eq!(stored.len(), 9);
    let writes = whole.writes();
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let (stored, now_ms) = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} of {writes} left {leaves:?}");
                let test = TestBroker::try_open(image.clone(), ManualClock::at(now_ms)).unwrap_or_else(|error| panic!("{case}: {error}"));
                test.broker.create_topic(&topic("t"), compacted()).await.expect("made, or there");
                for compacts in [false, true] {
                    if compacts {
                        test.compacts().await;
                    }
                    let now = table(&test.records_from(0).await);
                    let last: Table = stored.iter().map(|(offset, key, value)| (key.clone(), (*offset, value.clone()))).collect();
                    for (key, (offset, value)) in &last {
                        match now.get(key) {
                            // A write that failed may have left a record that nobody was told of.
                            Some((found, text)) => {
                                assert!(found > offset || (found, text) == (offset, value), "{case}: {key} is at {found}")
                            }
                            None => assert!(value.is_none(), "{case}: {key} is lost, and was at {offset}"),
                        }
                    }
                }
                check_disk(&image, &test);
                test.broker.shutdown().await;
            }
        }
    }
}

/// What a user does, and what time does.
#[derive(Clone, Debug)]
enum Step {
    Produce { keys: Vec<(u8, bool)>, is_large: bool },
    Pass { minutes: u64 },
    Compact,
    Retain,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = proptest::collection::vec((0..6_u8, prop::bool::weighted(0.2)), 1..8);
    prop_oneof![
        5 => (keys, prop::bool::weighted(0.2)).prop_map(|(keys, is_large)| Step::Produce { keys, is_large }),
        2 => (0..50_u64).prop_map(|minutes| Step::Pass { minutes }),
        3 => Just(Step::Compact),
        1 => Just(Step::Retain),
        1 => Just(Step::Restart),
    ]
}

async fn play(steps: Vec<Step>, deletes: bool) {
    let storage = MemoryStorage::new();
    let policy = if deletes { CleanupPolicy::DeleteAndCompact } else { CleanupPolicy::Compact };
    let config = TopicConfig { cleanup_policy: policy, retention_ms: 4 * 3_600_000, retention_bytes: 2 << 20, ..compacted() };
    let mut test = TestBroker::with_topic(storage.clone(), "t", config).await;
    let mut produced: Vec<(String, Option<String>)> = Vec::new();
    for step in steps {
        match step {
            Step::Produce { keys, is_large } => {
                let padding = if is_large { "x".repeat(200 << 10) } else { String::new() };
                let records: Vec<NewRecord> = keys
                    .iter()
                    .map(|(key, is_gone)| {
                        let (key, value) = (format!("k{key}"), (!is_gone).then(|| format!("{} {padding}", produced.len())));
                        let record = value.as_deref().map_or_else(|| gone(&key), |value| keyed(&key, value));
                        produced.push((key, value));
                        record
                    })
                    .collect();
                let placed = test.produce("t", records, None).await;
                assert_eq!(placed[0].offset.expect("stored").0 as usize, produced.len() - keys.len());
            }
            Step::Pass { minutes } => test.clock.advance(Duration::from_secs(minutes * 60)),
            Step::Compact => drop(test.compacts().await),
            Step::Retain => drop(test.broker.apply_retention().await.expect("applied")),
            Step::Restart => {
                test.broker.shutdown().await;
                test = TestBroker::try_open(storage.clone(), ManualClock::at(test.clock.now_ms())).expect("opens");
            }
        }
        let start = test.log_start("t");
        let all = test.records_from(start).await;
        for record in &all {
            let (key, value) = &produced[usize::try_from(record.offset.0).expect("small")];
            assert_eq!((&key_of(record), &record.text()), (key, value), "what is there is what was produced, at its offset");
        }
        let now = table(&all);
        let mut expected = Table::new();
        for (offset, (key, value)) in (0..).zip(&produced).filter(|(offset, _)| *offset >= start) {
            expected.insert(key.clone(), (offset, value.clone()));
        }
        for (key, last) in &expected {
            match now.get(key) {
                Some(found) => assert_eq!(found, last, "the newest record of {key}"),
                None => assert!(last.1.is_none(), "{key} is there, or is said to be gone"),
            }
        }
        assert!(now.keys().all(|key| expected.contains_key(key)), "nothing comes back");
        // Whoever begins anywhere comes to the same: a key is as it was, or was last told of before.
        for from in [1, 2].map(|third| start + third * (produced.len() as u64 - start) / 3) {
            // What lies in memory may say of a key that it is gone when the disk says nothing of it any more.
            let values = |table: &Table| -> Table {
                let living = table.iter().filter(|(_, (offset, value))| *offset >= from && value.is_some());
                living.map(|(key, last)| (key.clone(), last.clone())).collect()
            };
            assert_eq!(values(&table(&test.records_from(from).await)), values(&now), "from {from}");
        }
        check_disk(&storage, &test);
    }
    test.broker.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_last_value_of_each_key_is_the_same_whatever_is_compacted(steps in proptest::collection::vec(step(), 1..30), deletes: bool) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(play(steps, deletes));
    }
}

#[tokio::test]
async fn rows_and_bytes_are_flat_while_a_few_keys_change_for_days() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    let mut after_a_day = (0, 0);
    for minute in 0..3 * 24 * 60_u64 {
        test.produce("t", vec![keyed(&format!("k{}", minute % 10), &minute.to_string())], None).await;
        test.clock.advance(Duration::from_secs(60));
        if minute % 30 == 0 {
            test.compacts().await;
            let rows = crate::retention::rows(&storage, Family::Log) + crate::retention::rows(&storage, Family::TimeIndex);
            if minute == 24 * 60 {
                after_a_day = (rows, test.bytes());
            }
            assert!(
                minute <= 24 * 60 || (rows <= after_a_day.0 + 8 && test.bytes() <= after_a_day.1 + 600),
                "{minute}: {rows}, {after_a_day:?}"
            );
        }
    }
    check_disk(&storage, &test);
}
