//! Retention: what goes, what stays, and what groups and keys make of it.

use crate::common::{START_MS, Says as _, TestBroker, group, one_partition, topic};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::queue::{
    AckRequest, DiscardRequest, NackRequest, ReceiveRequest, RedriveLimit, RedriveRequest, SettleStatus, StartPosition,
};
use sagamq_api::record::Payload;
use sagamq_api::topic::{ReadQuery, TopicConfig, TopicConfigChange};
use sagamq_api::{Offset, PartitionId, TopicName};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::log::ReadError;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Family, Storage as _};
use sagamq_broker::{NewRecord, ProduceError, ReadRequestError, UpdateTopicError};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: u64 = 3_600_000;
const MIB: usize = 1024 * 1024;

pub(crate) fn for_an_hour() -> TopicConfig {
    TopicConfig { retention_ms: HOUR_MS, ..one_partition() }
}

/// How many rows a family has.
pub(crate) fn rows(storage: &MemoryStorage, family: Family) -> usize {
    let mut rows = 0;
    let all = &mut |_: &[u8], _: &[u8]| {
        rows += 1;
        ControlFlow::Continue(())
    };
    storage.scan(family, &[][..]..&[u8::MAX; 64][..], Direction::Forward, all).expect("scans");
    rows
}

impl TestBroker {
    pub(crate) async fn retain(&self) -> u64 {
        self.broker.apply_retention().await.expect("applied")
    }

    pub(crate) fn log_start(&self, name: &str) -> u64 {
        self.broker.describe_topic(&topic(name)).expect("there").partitions[0].log_start_offset.0
    }

    /// From the start of the log on.
    async fn left(&self, name: &str) -> Vec<String> {
        let answer = self.broker.read(&topic(name), PartitionId(0), &ReadQuery::default()).await.expect("read");
        answer.records.iter().map(|record| record.text().expect("text")).collect()
    }

    async fn change(&self, name: &str, change: TopicConfigChange) {
        self.broker.update_topic(&topic(name), change).await.expect("changed");
    }

    async fn trimmed_unsettled(&self, name: &str, of: &str) -> u64 {
        self.broker.describe_group(&topic(name), &group(of)).await.expect("described").trimmed_unsettled
    }
}

#[tokio::test]
async fn records_go_when_their_time_is_over_and_offsets_go_on_over_a_restart() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", for_an_hour()).await;
    for (text, minutes) in [("a", 20), ("b", 20), ("c", 0)] {
        test.produce_texts("t", [text]).await;
        test.clock.advance(Duration::from_secs(minutes * 60));
    }
    assert_eq!((test.retain().await, test.log_start("t")), (0, 0), "nothing is an hour old");
    test.clock.advance(Duration::from_secs(21 * 60));
    assert_eq!((test.retain().await, test.log_start("t")), (1, 1));
    assert_eq!(test.left("t").await, ["b", "c"], "who names no offset reads from the start");
    let below = test.broker.read(&topic("t"), PartitionId(0), &ReadQuery { offset: Some(Offset(0)), ..ReadQuery::default() }).await;
    let out_of_range = ReadError::OutOfRange { offset: Offset(0), log_start: Offset(1), high_watermark: Offset(3) };
    assert_eq!(below.expect_err("refused").to_string(), ReadRequestError::from(out_of_range).to_string());
    let old = ReadQuery { timestamp_ms: Some(START_MS.cast_signed()), ..ReadQuery::default() };
    assert_eq!(test.broker.read(&topic("t"), PartitionId(0), &old).await.expect("read").records[0].offset, Offset(1), "by time as well");
    test.clock.advance(HOUR);
    assert_eq!((test.retain().await, test.log_start("t")), (2, 3), "all of it, the newest too");
    assert_eq!((rows(&storage, Family::Log), rows(&storage, Family::TimeIndex)), (0, 0));
    assert_eq!(test.retain().await, 0);
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage.clone(), ManualClock::at(test.clock.now_ms())).expect("opens");
    assert_eq!((test.log_start("t"), test.left("t").await), (3, vec![]));
    let placed = test.produce_texts("t", ["d"]).await;
    assert_eq!(placed[0].offset, Some(Offset(3)), "no offset is given twice");
    assert_eq!((test.left("t").await, rows(&storage, Family::TimeIndex)), (vec!["d".to_owned()], 1));
    test.clock.advance(2 * HOUR);
    assert_eq!((test.retain().await, test.log_start("t")), (1, 4));
}

#[tokio::test]
async fn a_partition_keeps_its_newest_bytes_and_its_newest_batch_whatever_it_has() {
    let storage = MemoryStorage::new();
    let config = TopicConfig { retention_ms: 0, retention_bytes: 4 * MIB as u64, record_bytes_max: 8 * MIB as u32, ..one_partition() };
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    // All of one time: nothing but their bytes tells them apart.
    for _ in 0..40 {
        test.produce("t", vec![NewRecord::of(vec![7; MIB / 4])], None).await;
    }
    let bytes = || test.broker.describe_topic(&topic("t")).expect("there").partitions[0].bytes;
    assert!(bytes() > 10 * MIB as u64);
    assert!(test.retain().await >= 20);
    let kept = bytes();
    assert!((5 * MIB as u64 / 2..=4 * MIB as u64).contains(&kept), "{kept}");
    assert_eq!(test.retain().await, 0);
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    assert_eq!(test.broker.describe_topic(&topic("t")).expect("there").partitions[0].bytes, kept, "as it was counted");
    test.produce("t", vec![NewRecord::of(vec![7; 6 * MIB])], None).await;
    test.retain().await;
    test.produce("t", vec![NewRecord::of(vec![7; 5 * MIB])], None).await;
    test.retain().await;
    let described = test.broker.describe_topic(&topic("t")).expect("there");
    let (start, end) = (described.partitions[0].log_start_offset, described.partitions[0].high_watermark);
    assert_eq!(end.0 - start.0, 1, "more than the bound by itself, and it stays");
    test.clock.advance(1_000 * HOUR);
    assert_eq!(test.retain().await, 0, "for ever");
}

#[tokio::test]
async fn what_a_group_has_not_settled_is_counted_and_its_leases_end() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { delivery_limit: 1, ..for_an_hour() }).await;
    test.broker.ensure_group(&topic("t"), &group("idle"), StartPosition::Earliest).await.expect("made");
    test.produce_texts("t", (0..10).map(|n| n.to_string())).await;
    let some = ReceiveRequest { max_records: Some(3), lease_ms: Some(12 * HOUR_MS), ..ReceiveRequest::default() };
    let settled = test.receive_with("t", "g", &some).await;
    test.ack("t", "g", &settled).await;
    let leased = test.receive_with("t", "g", &some).await;
    test.broker.ensure_group(&topic("t"), &group("late"), StartPosition::Latest).await.expect("made");
    test.clock.advance(2 * HOUR);
    test.produce_texts("t", ["young"]).await;
    assert_eq!(test.retain().await, 10);
    for (of, count) in [("g", 7), ("idle", 10), ("late", 0)] {
        assert_eq!(test.trimmed_unsettled("t", of).await, count, "{of}");
        let described = test.broker.describe_group(&topic("t"), &group(of)).await.expect("described");
        assert_eq!((described.lag_records, described.in_flight, described.delayed, described.dead_letters), (1, 0, 0, 0), "{of}");
    }
    // What was leased is settled for the group: nothing of it becomes a dead letter, now or when the lease would have ended.
    let receipts: Vec<String> = leased.iter().map(|delivery| delivery.receipt.clone()).collect();
    let nack = NackRequest { receipts: receipts[..1].to_vec(), delay_ms: None, reason: None, not_begun: false };
    let nacked = test.broker.nack(&topic("t"), &group("g"), &nack).await.expect("answered");
    assert_eq!(nacked.results[0].status, SettleStatus::AlreadySettled);
    let acked = test.broker.ack(&topic("t"), &group("g"), &AckRequest { receipts: receipts[1..].to_vec() }).await.expect("answered");
    assert!(acked.results.iter().all(|result| result.status == SettleStatus::AlreadySettled), "{acked:?}");
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, ManualClock::at(test.clock.now_ms())).expect("opens");
    test.clock.advance(13 * HOUR);
    assert_eq!(test.trimmed_unsettled("t", "g").await, 7, "over a restart");
    for of in ["g", "idle", "late"] {
        let delivered: Vec<_> = test.receive("t", of).await.iter().map(|delivery| delivery.record.offset.0).collect();
        assert_eq!(delivered, [10], "{of} goes on at the start of the log");
        assert_eq!(test.broker.describe_group(&topic("t"), &group(of)).await.expect("described").dead_letters, 0, "{of}");
    }
}

#[tokio::test]
async fn a_key_answers_for_its_window_though_its_record_is_gone() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", for_an_hour()).await;
    let record = || vec![NewRecord::of("once").with_idempotency_key("own")];
    let own = test.produce("t", record(), None).await[0];
    let whole = test.produce("t", vec![NewRecord::of("together")], Some("request")).await[0];
    test.clock.advance(2 * HOUR);
    assert_eq!(test.retain().await, 2);
    let again = [test.produce("t", record(), None).await[0], test.produce("t", vec![NewRecord::of("together")], Some("request")).await[0]];
    assert!(again.iter().all(|placed| placed.duplicate));
    assert_eq!([again[0].offset, again[1].offset], [own.offset, whole.offset]);
    assert_eq!(test.log_start("t"), 2, "nothing was stored again");
}

#[tokio::test]
async fn dead_letters_stay_until_they_are_done_with_and_a_record_that_is_gone_is_not_redriven() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { delivery_limit: 1, ..for_an_hour() }).await;
    test.produce_texts("t", ["a", "b"]).await;
    let leased = test.receive("t", "g").await;
    let receipts = leased.iter().map(|delivery| delivery.receipt.clone()).collect();
    let nack = NackRequest { receipts, delay_ms: None, reason: None, not_begun: false };
    test.broker.nack(&topic("t"), &group("g"), &nack).await.expect("given up");
    let letters = "t.g.dlq";
    test.change(letters, TopicConfigChange { retention_ms: Some(HOUR_MS), ..TopicConfigChange::default() }).await;
    test.clock.advance(5 * HOUR);
    assert_eq!(test.retain().await, 2, "the records, and no dead letter");
    assert_eq!((test.log_start("t"), test.log_start(letters)), (2, 0));
    let redriven = test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("answered");
    assert_eq!((redriven.redriven, redriven.remaining, redriven.limit), (0, 2, Some(RedriveLimit::RecordTrimmed)));
    assert_eq!(test.trimmed_unsettled("t", "g").await, 0, "they were settled as dead letters");
    let first = DiscardRequest { partition: Some(PartitionId(0)), offsets: vec![Offset(0)], ..DiscardRequest::default() };
    assert_eq!(test.broker.discard(&topic("t"), &group("g"), &first).await.expect("discarded").discarded, 1);
    assert_eq!((test.retain().await, test.log_start(letters)), (0, 0), "both lie in one second, and one of them waits");
    let rest = DiscardRequest { all: true, ..DiscardRequest::default() };
    test.broker.discard(&topic("t"), &group("g"), &rest).await.expect("discarded");
    assert_eq!((test.retain().await, test.log_start(letters)), (2, 2));
}

#[tokio::test]
async fn what_the_embedder_needs_stays_whatever_its_age() {
    let test = TestBroker::open(MemoryStorage::new());
    let lane = TopicConfig { partitions: 4, ..for_an_hour() };
    for name in ["commands", "replies"] {
        test.broker.create_topic(&topic(name), lane.clone()).await.expect("made");
        test.broker.own_topic(&topic(name)).await.expect("there");
    }
    let (commands, replies, workers): (TopicName, TopicName, _) = (topic("commands"), topic("replies"), group("workers"));
    test.broker.ensure_group(&commands, &workers, StartPosition::Earliest).await.expect("made");
    test.broker.own_group(&commands, &workers).await.expect("there");
    test.broker.ensure_group(&commands, &group("watchers"), StartPosition::Earliest).await.expect("made");
    let embedder = test.broker.embedder(0);
    for n in 0..3_u8 {
        let mut commit = embedder.begin();
        let payload = || Payload { value: Some(vec![n].into()), ..Payload::default() };
        commit.append(&commands, payload()).expect("a lane topic");
        commit.append(&replies, payload()).expect("a lane topic");
        embedder.submit(commit).await.expect("taken").durable().await.expect("durable");
        test.clock.advance(Duration::from_secs(2));
    }
    test.clock.advance(2 * HOUR);
    assert_eq!(test.retain().await, 0, "no command is settled, and nothing is released");
    let mut commit = embedder.begin();
    for offset in [0, 2] {
        commit.settle(&commands, &workers, Offset(offset)).expect("there");
    }
    embedder.submit(commit).await.expect("taken").durable().await.expect("durable");
    embedder.release(&replies, Offset(2)).expect("there");
    assert_eq!(test.retain().await, 1 + 2);
    assert_eq!((test.log_start("commands"), test.log_start("replies")), (1, 2), "command 1 is open");
    assert_eq!(test.trimmed_unsettled("commands", "watchers").await, 1, "others have no such right");
    let mut commit = embedder.begin();
    commit.settle(&commands, &workers, Offset(1)).expect("there");
    embedder.submit(commit).await.expect("taken").durable().await.expect("durable");
    embedder.release(&replies, Offset(u64::MAX)).expect("there");
    assert_eq!(test.retain().await, 2 + 1);
    assert_eq!(test.trimmed_unsettled("commands", "workers").await, 0);
    let changed = test.broker.update_topic(&commands, TopicConfigChange { delivery_limit: Some(1), ..TopicConfigChange::default() }).await;
    assert!(matches!(changed, Err(UpdateTopicError::Owned(_))), "{changed:?}");
    test.change("commands", TopicConfigChange { retention_ms: Some(5_000), ..TopicConfigChange::default() }).await;
}

#[tokio::test]
async fn a_configuration_changes_while_it_is_in_use_and_stays_changed() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", for_an_hour()).await;
    test.produce_texts("t", ["a"]).await;
    test.clock.advance(2 * HOUR);
    let longer = TopicConfigChange { retention_ms: Some(24 * HOUR_MS), ..TopicConfigChange::default() };
    test.change("t", longer.clone()).await;
    assert_eq!(test.retain().await, 0, "what is there is kept longer");
    let leased = test.receive("t", "g").await;
    let change = TopicConfigChange { delivery_limit: Some(1), record_bytes_max: Some(3), ..TopicConfigChange::default() };
    test.change("t", change).await;
    let refused = test.broker.produce(&topic("t"), vec![NewRecord::of("four")], None).await;
    assert!(matches!(refused, Err(ProduceError::RecordTooLarge { max: 3, .. })), "{refused:?}");
    let receipts = leased.iter().map(|delivery| delivery.receipt.clone()).collect();
    let nack = NackRequest { receipts, delay_ms: None, reason: None, not_begun: false };
    let nacked = test.broker.nack(&topic("t"), &group("g"), &nack).await.expect("answered");
    assert_eq!(nacked.results[0].status, SettleStatus::DeadLettered, "the limit of now");
    let window = TopicConfigChange { dedup_window_ms: Some(60_000), backoff_initial_ms: Some(0), backoff_max_ms: Some(0), ..longer };
    test.change("t", window).await;
    test.produce("t", vec![NewRecord::of("b")], Some("key")).await;
    test.clock.advance(Duration::from_secs(61));
    assert!(!test.produce("t", vec![NewRecord::of("b")], Some("key")).await[0].duplicate, "the window of now");
    let bad = TopicConfigChange { retention_ms: Some(1), ..TopicConfigChange::default() };
    assert!(matches!(test.broker.update_topic(&topic("t"), bad).await, Err(UpdateTopicError::Config(faults)) if faults.len() == 1));
    assert!(matches!(test.broker.update_topic(&topic("u"), TopicConfigChange::default()).await, Err(UpdateTopicError::Topic(_))));
    let before = test.broker.describe_topic(&topic("t")).expect("there").config;
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    let after = test.broker.describe_topic(&topic("t")).expect("there").config;
    assert_eq!(after, before);
    let wanted = TopicConfig {
        delivery_limit: 1,
        record_bytes_max: 3,
        dedup_window_ms: 60_000,
        backoff_initial_ms: 0,
        backoff_max_ms: 0,
        retention_ms: 24 * HOUR_MS,
        ..for_an_hour()
    };
    assert_eq!(after, wanted);
}

#[tokio::test]
async fn times_of_producers_count_and_one_far_ahead_is_refused() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", for_an_hour()).await;
    let at = |ms: u64| NewRecord { timestamp_ms: Some(ms.cast_signed()), ..NewRecord::of("x") };
    let ahead = test.broker.produce(&topic("t"), vec![at(START_MS), at(START_MS + HOUR_MS + 1)], None).await;
    assert!(matches!(ahead, Err(ProduceError::TimeAhead { index: 1, .. })), "{ahead:?}");
    // Old ones behind a young one stay as long as it does; old ones before it go at once.
    for ms in [START_MS - 3 * HOUR_MS, START_MS + HOUR_MS, START_MS - 3 * HOUR_MS] {
        test.produce("t", vec![at(ms)], None).await;
    }
    assert_eq!((test.retain().await, test.log_start("t")), (1, 1));
    test.clock.advance(2 * HOUR - Duration::from_secs(1));
    assert_eq!(test.retain().await, 0);
    test.clock.advance(Duration::from_secs(2));
    assert_eq!((test.retain().await, test.log_start("t")), (2, 3));
}
