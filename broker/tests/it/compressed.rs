//! Compressed batches through the broker's door: whoever looks into what is stored sees the same records, from memory, from the disk, and after
//! a compaction.

use crate::common::{START_MS, Says as _, TestBroker, group, one_partition, topic};
use crate::compaction::{check_disk, compacted};
use crate::ordering::by_key;
use bytes::{Bytes, BytesMut};
use core::time::Duration;
use sagamq_api::queue::{NackRequest, ReceiveRequest, RedriveRequest, TerminateRequest};
use sagamq_api::topic::ReadQuery;
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::ManualClock;
use sagamq_broker::log::batch::{Batch, Compression, NewBatch, ReceivedBatch, Record, Unpacked, take};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{BrokerConfig, Delivered, NewRecord, SentBatch};

const CODECS: [Compression; 2] = [Compression::Lz4, Compression::Zstd];

const RECORDS: u64 = 200;

/// A text that compresses well and is another for each number.
fn text(number: u64) -> String {
    format!("{number:04} {}", "it says the same again and again; ".repeat(8))
}

fn keyed(key: &str, value: String) -> NewRecord {
    NewRecord::of(value).with_key(key.to_owned())
}

impl TestBroker {
    /// One batch of these records, compressed, whatever that gives.
    async fn produce_compressed(&self, compression: Compression, records: Vec<NewRecord>, first_ms: i64) {
        let records: Vec<Record> =
            (first_ms..).zip(records).map(|(timestamp_ms, record)| Record { timestamp_ms, payload: record.payload }).collect();
        let batch = NewBatch::encode(&records).expect("encodes").compressed(compression);
        assert!(batch.is_compressed() || compression == Compression::None);
        let batch = ReceivedBatch::parse(BytesMut::from(batch.bytes())).expect("sound");
        self.broker
            .produce_batches(None, &topic("t"), vec![SentBatch { partition: Some(PartitionId(0)), batch }], None)
            .await
            .expect("produced");
    }

    /// All batches as they lie.
    async fn stored(&self) -> Vec<Batch> {
        let held = self.broker.read_batches(&topic("t"), PartitionId(0), &ReadQuery::default()).await.expect("read");
        let mut bytes = Bytes::from(held.into_value().bytes);
        let mut batches = Vec::new();
        while let Some(batch) = take(&mut bytes).expect("whole") {
            batches.push(Batch::parse(batch).expect("sound"));
        }
        batches
    }
}

fn texts(deliveries: &[Delivered]) -> Vec<String> {
    deliveries.iter().map(|delivered| delivered.record.text().expect("text")).collect()
}

/// A broker that keeps nothing in memory, with what another has stored.
fn without_memory(storage: MemoryStorage) -> TestBroker {
    let config = BrokerConfig { shards: 4, tail_bytes_max: 0, ..BrokerConfig::default() };
    TestBroker::try_open_with(storage, ManualClock::at(START_MS + 10_000), config).expect("opens")
}

async fn filled(storage: MemoryStorage, compression: Compression) -> TestBroker {
    let test = TestBroker::with_topic(storage, "t", one_partition()).await;
    test.produce_compressed(compression, (0..RECORDS / 2).map(|n| NewRecord::of(text(n))).collect(), START_MS.cast_signed()).await;
    test.produce_texts("t", ["between"]).await;
    let rest = (RECORDS / 2..RECORDS).map(|n| NewRecord::of(text(n))).collect();
    test.produce_compressed(compression, rest, START_MS.cast_signed() + 5_000).await;
    test
}

fn expected() -> Vec<String> {
    let (first, second) = ((0..RECORDS / 2).map(text), (RECORDS / 2..RECORDS).map(text));
    first.chain(["between".to_owned()]).chain(second).collect()
}

/// What a reader, a group and a redrive see of what `filled` has stored.
async fn looks_right(test: &TestBroker) {
    let expected = expected();
    assert_eq!(test.values("t", 0).await, expected);
    for offset in [0, 7, 99, 100, 101, 150, 200] {
        let query = ReadQuery { offset: Some(Offset(offset)), max_records: Some(3), ..ReadQuery::default() };
        let read = test.broker.read(&topic("t"), PartitionId(0), &query).await.expect("read");
        let found: Vec<String> = read.records.iter().map(|record| record.text().expect("text")).collect();
        let from = usize::try_from(offset).expect("small");
        assert_eq!(found, expected[from..expected.len().min(from + 3)]);
    }
    let at_time = ReadQuery { timestamp_ms: Some(START_MS.cast_signed() + 5_042), max_records: Some(1), ..ReadQuery::default() };
    let read = test.broker.read(&topic("t"), PartitionId(0), &at_time).await.expect("read");
    assert_eq!(read.records[0].text(), Some(text(RECORDS / 2 + 42)), "by its time, within a batch");
    let all = ReceiveRequest { max_records: Some(1_000), ..ReceiveRequest::default() };
    let (mut deliveries, mut missing) = (Vec::new(), expected.len());
    while missing > 0 {
        let some = test.receive_with("t", "g", &all).await;
        assert!(!some.is_empty(), "{missing} are missing");
        missing -= some.len();
        deliveries.extend(some);
    }
    assert_eq!(texts(&deliveries), expected);
    // One record of a large batch, delivered again alone; one as a dead letter, and back from there.
    let receipt = |place: usize| vec![deliveries[place].receipt.clone()];
    let nack = NackRequest { receipts: receipt(42), delay_ms: Some(0), reason: None, not_begun: false };
    test.broker.nack(&topic("t"), &group("g"), &nack).await.expect("given back");
    assert_eq!(texts(&test.receive("t", "g").await), [text(42)]);
    let terminate = TerminateRequest { receipts: receipt(170), reason: "no".to_owned() };
    test.broker.terminate(&topic("t"), &group("g"), &terminate).await.expect("given up");
    assert_eq!(test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect("redriven").redriven, 1);
    assert_eq!(texts(&test.receive("t", "g").await), [text(169)]);
}

#[tokio::test]
async fn compressed_records_are_the_same_to_whoever_reads_from_memory_or_from_the_disk() {
    for codec in CODECS {
        let storage = MemoryStorage::new();
        let test = filled(storage.clone(), codec).await;
        let stored = test.stored().await;
        let is_compressed: Vec<bool> = stored.iter().map(Batch::is_compressed).collect();
        assert_eq!(is_compressed, [true, false, true], "they lie as they came");
        assert!(stored[0].len() < 4_000, "{} bytes", stored[0].len());
        looks_right(&test).await;
        test.broker.shutdown().await;
        let plain = filled(MemoryStorage::new(), Compression::None).await;
        assert_eq!(plain.values("t", 0).await, expected());
        let storage = MemoryStorage::new();
        filled(storage.clone(), codec).await.broker.shutdown().await;
        looks_right(&without_memory(storage)).await;
    }
}

#[tokio::test]
async fn keys_of_compressed_records_keep_their_order() {
    for codec in CODECS {
        let storage = MemoryStorage::new();
        let test = TestBroker::with_topic(storage.clone(), "t", by_key()).await;
        let records = (0..30).map(|n| keyed(&format!("k{}", n % 3), text(n))).collect();
        test.produce_compressed(codec, records, START_MS.cast_signed()).await;
        let first = test.receive("t", "g").await;
        assert_eq!(texts(&first), [0, 1, 2].map(text), "{codec}");
        test.ack("t", "g", &first[1..2]).await;
        test.broker.shutdown().await;
        let test = without_memory(storage);
        let next = test.receive("t", "g").await;
        assert_eq!(texts(&next), [text(4)], "the others are held back by their keys");
    }
}

#[tokio::test]
async fn a_compacted_batch_is_compressed_again() {
    for codec in CODECS {
        let storage = MemoryStorage::new();
        let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
        for round in 0..4 {
            let records = (0..50).map(|n| keyed(&format!("k{n}"), text(100 * round + n))).collect();
            test.produce_compressed(codec, records, START_MS.cast_signed() + round.cast_signed()).await;
            test.clock.advance(Duration::from_secs(5));
        }
        let before: usize = test.stored().await.iter().map(Batch::len).sum();
        assert_eq!(test.broker.compact().await.expect("compacted"), 150);
        check_disk(&storage, &test);
        test.broker.shutdown().await;
        let test = without_memory(storage);
        let stored = test.stored().await;
        assert!(stored.iter().any(|batch| batch.is_compressed() && batch.records_count() == 50), "{stored:?}");
        assert!(stored.iter().map(Batch::len).sum::<usize>() <= before);
        assert_eq!(test.values("t", 0).await, (300..350).map(text).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_compresses_very_well_is_compacted_within_bounds_of_memory() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", compacted()).await;
    // Fifty times nearly 1 MiB in a few kilobytes, and one entry of the index for about each of them.
    let large = "x".repeat(1_000_000);
    for n in 0..50 {
        test.produce_compressed(Compression::Zstd, vec![keyed(&format!("k{}", n % 2), large.clone())], START_MS.cast_signed()).await;
    }
    assert!(test.broker.describe_topic(&topic("t")).expect("there").partitions[0].bytes < 50_000);
    assert_eq!(test.broker.compact().await.expect("compacted"), 48);
    check_disk(&storage, &test);
    test.broker.shutdown().await;
    let test = without_memory(storage);
    let stored = test.stored().await;
    let left: usize = stored.iter().map(|batch| Unpacked::read(batch.bytes()).expect("sound").records().count()).sum();
    assert_eq!(left, 2);
    // Who would hold all of the log in memory at once writes it as one.
    assert!(stored.len() >= 3, "several pieces: {}", stored.len());
}
