//! Producing: order, partitions, idempotency, refusals that store nothing.

use crate::common::{START_MS, TestBroker, one_partition, topic};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Family, Storage as _};
use sagamq_broker::{AppendError, NewRecord, ProduceError};

#[tokio::test]
async fn records_get_offsets_in_order_and_come_back() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let first = test.produce_texts("t", ["a", "b"]).await;
    let second = test.produce_texts("t", ["c"]).await;
    assert_eq!(first.iter().chain(&second).map(|r| r.offset.expect("stored").0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(test.values("t", 0).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_key_decides_the_partition() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 8, ..TopicConfig::default() }).await;
    let records = |n: usize| (0..n).map(|i| NewRecord::of(i.to_string()).with_key(format!("k{}", i % 5))).collect::<Vec<_>>();
    let first = test.produce("t", records(50), None).await;
    let second = test.produce("t", records(50), None).await;
    assert!(first.iter().zip(&second).all(|(a, b)| a.partition == b.partition), "the same key, the same partition");
    let partitions: std::collections::HashSet<_> = first.iter().map(|r| r.partition).collect();
    assert!(partitions.len() > 1, "keys spread");
}

#[tokio::test]
async fn a_duplicate_gets_the_first_answer_even_after_a_restart_and_expires_with_its_window() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { partitions: 4, ..TopicConfig::default() }).await;
    let records = || vec![NewRecord::of("a"), NewRecord::of("b").with_key("x"), NewRecord::of("c")];
    let first = test.produce("t", records(), Some("request-1")).await;
    assert!(first.iter().all(|r| !r.duplicate));
    let again = test.produce("t", records(), Some("request-1")).await;
    assert!(again.iter().all(|r| r.duplicate));
    assert_eq!(
        first.iter().map(|r| (r.partition, r.offset, r.timestamp_ms)).collect::<Vec<_>>(),
        again.iter().map(|r| (r.partition, r.offset, r.timestamp_ms)).collect::<Vec<_>>()
    );
    test.broker.shutdown().await;

    let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
    test.clock.advance(Duration::from_secs(23 * 3600));
    let after = test.produce("t", records(), Some("request-1")).await;
    assert!(after.iter().all(|r| r.duplicate), "23 hours later, after a restart: {after:?}");
    test.clock.advance(Duration::from_secs(2 * 3600));
    let expired = test.produce("t", records(), Some("request-1")).await;
    assert!(expired.iter().all(|r| !r.duplicate), "the window of 24 h is not refreshed by a duplicate");
}

#[tokio::test]
async fn a_key_with_another_payload_refuses_the_whole_request() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 4, ..TopicConfig::default() }).await;
    let keyed = |value: &'static str, key: &str| NewRecord::of(value).with_idempotency_key(key.to_owned());
    test.produce("t", vec![keyed("a", "k1")], None).await;
    let before = test.broker.describe_topic(&topic("t")).expect("there");
    let mut records: Vec<_> = (0..20).map(|i| keyed("new", &format!("n{i}"))).collect();
    records.push(keyed("other", "k1"));
    let refused = test.broker.produce(&topic("t"), records, None).await;
    assert!(matches!(refused, Err(ProduceError::KeyReused { index: 20, .. })), "{refused:?}");
    assert_eq!(test.broker.describe_topic(&topic("t")).expect("there"), before, "nothing was stored");

    test.produce("t", vec![NewRecord::of("a")], Some("r")).await;
    let refused = test.broker.produce(&topic("t"), vec![NewRecord::of("b")], Some("r")).await;
    assert!(matches!(refused, Err(ProduceError::Append(AppendError::RequestKeyReused { .. }))), "{refused:?}");
}

#[tokio::test]
async fn duplicates_inside_a_request_and_beside_fresh_records_are_found() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let keyed = |value: &'static str, key: &str| NewRecord::of(value).with_idempotency_key(key.to_owned());
    test.produce("t", vec![keyed("a", "a")], None).await;
    let mixed = vec![keyed("b", "b"), keyed("a", "a"), keyed("b", "b"), NewRecord::of("c")];
    let answer = test.produce("t", mixed, None).await;
    let summary: Vec<_> = answer.iter().map(|r| (r.offset.expect("stored").0, r.duplicate)).collect();
    assert_eq!(summary, [(1, false), (0, true), (1, true), (2, false)]);
    assert_eq!(test.values("t", 0).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_store_once() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let produce = || test.produce("t", vec![NewRecord::of("a")], Some("k"));
    let answers = futures_util::future::join_all((0..20).map(|_| produce())).await;
    assert!(answers.iter().all(|answer| answer[0].offset == Some(Offset(0))));
    assert_eq!(answers.iter().filter(|answer| !answer[0].duplicate).count(), 1);
    assert_eq!(test.values("t", 0).await, ["a"]);
}

#[tokio::test]
async fn what_is_not_valid_is_refused_and_stores_nothing() {
    let config = TopicConfig { partitions: 2, record_bytes_max: 10, ..TopicConfig::default() };
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config).await;
    let refuse =
        async |records: Vec<NewRecord>, key: Option<&str>| test.broker.produce(&topic("t"), records, key).await.expect_err("refused");
    let good = || NewRecord::of("good");
    assert!(matches!(refuse(vec![], None).await, ProduceError::RecordsCount(0)));
    assert!(matches!(refuse(vec![good(); 10_001], None).await, ProduceError::RecordsCount(10_001)));
    assert!(matches!(
        refuse(vec![good(), NewRecord::of("x".repeat(11))], None).await,
        ProduceError::RecordTooLarge { index: 1, bytes: 11, .. }
    ));
    assert!(matches!(
        refuse(vec![good(), good().with_partition(PartitionId(2))], None).await,
        ProduceError::PartitionNotFound { index: 1, .. }
    ));
    assert!(matches!(refuse(vec![good().with_idempotency_key("")], None).await, ProduceError::IdempotencyKey(0)));
    assert!(matches!(refuse(vec![good().with_idempotency_key("a")], Some("b")).await, ProduceError::TwoIdempotencyKeys(0)));
    let missing = test.broker.produce(&topic("missing"), vec![good()], None).await;
    assert!(matches!(missing, Err(ProduceError::Topic(_))), "{missing:?}");
    assert_eq!(test.values("t", 0).await.len() + test.values("t", 1).await.len(), 0);
}

#[tokio::test]
async fn a_record_is_found_by_its_time() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    for minute in 0..30 {
        test.produce_texts("t", [minute.to_string()]).await;
        test.clock.advance(Duration::from_secs(60));
    }
    let at = |ms: u64| ReadQuery { timestamp_ms: Some(i64::try_from(ms).expect("in range")), max_records: Some(1), ..ReadQuery::default() };
    for minute in [0_u64, 1, 17, 29] {
        let answer = test.broker.read(&topic("t"), PartitionId(0), &at(START_MS + minute * 60_000)).await.expect("read");
        assert_eq!(answer.records[0].offset, Offset(minute));
        let answer =
            test.broker.read(&topic("t"), PartitionId(0), &at((START_MS + minute * 60_000).saturating_sub(30_000))).await.expect("read");
        assert_eq!(answer.records[0].offset, Offset(minute), "the first one that is not older");
    }
    let none = test.broker.read(&topic("t"), PartitionId(0), &at(START_MS + 40 * 60_000)).await.expect("read");
    assert_eq!((none.records.len(), none.next_offset), (0, Offset(30)));
}

#[tokio::test]
async fn a_long_poll_hears_of_a_record_and_reads_beyond_the_end_are_refused() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let query = ReadQuery { offset: Some(Offset(0)), wait_ms: Some(20_000), ..ReadQuery::default() };
    let name = topic("t");
    let (answer, _) = tokio::join!(test.broker.read(&name, PartitionId(0), &query), test.produce_texts("t", ["a"]));
    assert_eq!(answer.expect("read").records.len(), 1);
    let beyond = ReadQuery { offset: Some(Offset(2)), ..ReadQuery::default() };
    assert!(test.broker.read(&name, PartitionId(0), &beyond).await.is_err());
}

#[tokio::test]
async fn large_requests_are_cut_into_batches_and_read_from_storage_after_a_restart() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", (0..1000).map(|i| format!("{i}-{}", "x".repeat(3000)))).await;
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    let values = test.values("t", 0).await;
    assert_eq!(values.len(), 1000);
    assert!(values.iter().enumerate().all(|(i, v)| v.starts_with(&format!("{i}-"))));
    let query = ReadQuery { offset: Some(Offset(777)), max_records: Some(2), ..ReadQuery::default() };
    let answer = test.broker.read(&topic("t"), PartitionId(0), &query).await.expect("read");
    assert_eq!(answer.records.iter().map(|r| r.offset.0).collect::<Vec<_>>(), [777, 778]);
}

#[tokio::test]
async fn a_record_is_found_by_its_time_after_a_restart_behind_older_ones() {
    let storage = MemoryStorage::new();
    let mut test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    let times = [1_000, 10_000, 10_500, 2_000, 3_000, 11_000, 400, 20_000];
    for (index, timestamp_ms) in times.into_iter().enumerate() {
        let record = NewRecord { timestamp_ms: Some(timestamp_ms), ..NewRecord::of(index.to_string()) };
        test.produce("t", vec![record], None).await;
        test.broker.shutdown().await;
        test = TestBroker::open(storage.clone());
        for asked in (0..=21_000).step_by(250) {
            let query = ReadQuery { timestamp_ms: Some(asked), max_records: Some(1), ..ReadQuery::default() };
            let answer = test.broker.read(&topic("t"), PartitionId(0), &query).await.expect("read");
            let expected = times[..=index].iter().position(|&time| time >= asked).map(|offset| Offset(offset as u64));
            assert_eq!(answer.records.first().map(|record| record.offset), expected, "time {asked} after {} records", index + 1);
        }
    }
}

#[tokio::test]
async fn what_a_duplicate_leaves_is_cut_into_batches_as_any_request() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    let record = |n: usize| NewRecord::of("x".repeat(400_000)).with_idempotency_key(n.to_string());
    test.produce("t", vec![record(0)], None).await;
    let answer = test.produce("t", (0..20).map(record).collect(), None).await;
    assert_eq!(answer.iter().filter(|record| record.duplicate).count(), 1);
    let end = [u8::MAX; 64];
    let mut batches = 0;
    storage
        .scan(Family::Log, &[][..]..&end[..], Direction::Forward, &mut |_, batch| {
            batches += 1;
            assert!(batch.len() < 1_100_000, "a batch of {} bytes", batch.len());
            ControlFlow::Continue(())
        })
        .expect("scans");
    assert_eq!(batches, 1 + 10, "two records a batch");
}
