//! What a group's state costs the disk: a commit writes what it changes, not all that is in flight.

use crate::common::{TestBroker, group, topic};
use bytes::Bytes;
use core::ops::Range;
use sagamq_api::queue::{AckRequest, NackRequest, ReceiveRequest};
use sagamq_api::topic::TopicConfig;
use sagamq_broker::Delivered;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Storage that counts what is written of groups.
#[derive(Clone, Default)]
struct CountingStorage {
    below: MemoryStorage,
    bytes: Arc<AtomicU64>,
}

impl Storage for CountingStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let of_groups = mutations.iter().filter(|mutation| matches!(mutation, Mutation::Put { family: Family::Group, .. }));
        self.bytes.fetch_add(of_groups.map(|mutation| mutation.len() as u64).sum(), Ordering::SeqCst);
        self.below.write(mutations, durability)
    }
}

async fn produced(partitions: u32, records: usize) -> (TestBroker, CountingStorage) {
    let storage = CountingStorage::default();
    let test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { partitions, ..TopicConfig::default() }).await;
    for _ in 0..records / 500 {
        test.produce_texts("t", (0..500).map(|n| n.to_string())).await;
    }
    (test, storage)
}

async fn receive(test: &TestBroker, max: u32) -> Vec<Delivered> {
    test.receive_with("t", "g", &ReceiveRequest { max_records: Some(max), ..ReceiveRequest::default() }).await
}

/// Bytes for each record that was received and acknowledged.
fn per_record(storage: &CountingStorage, records: u64) -> f64 {
    storage.bytes.swap(0, Ordering::SeqCst) as f64 / records as f64
}

#[tokio::test]
async fn a_receive_and_its_acknowledgement_write_a_few_bytes_a_record_whatever_is_in_flight() {
    // One consumer that takes 500 at a time.
    let (test, storage) = produced(16, 20_000).await;
    for _ in 0..20 {
        let deliveries = receive(&test, 500).await;
        assert_eq!(deliveries.len(), 500);
        test.ack("t", "g", &deliveries).await;
    }
    let one = per_record(&storage, 20 * 500);
    // 64 consumers with 9,600 records in flight, who acknowledge in tens, in no order.
    let mut held: Vec<Vec<Delivered>> = Vec::new();
    for _ in 0..64 {
        held.push(receive(&test, 150).await);
    }
    let mut acknowledged = 0;
    for round in 0..640 {
        let consumer = (round * 37) % 64;
        let mut some = Vec::new();
        for at in 0..10 {
            let count = held[consumer].len();
            some.extend((count > 0).then(|| held[consumer].swap_remove((at * 53 + round) % count)));
        }
        acknowledged += some.len() as u64;
        test.ack("t", "g", &some).await;
        if held[consumer].is_empty() {
            held[consumer] = receive(&test, 150).await;
        }
    }
    let many = per_record(&storage, acknowledged);
    test.broker.shutdown().await;
    // 9,000 records of one partition wait for a redelivery, while others are delivered.
    let (test, storage) = produced(1, 12_000).await;
    for _ in 0..18 {
        let receipts = receive(&test, 500).await.into_iter().map(|delivery| delivery.receipt).collect();
        let later = NackRequest { receipts, delay_ms: Some(3_600_000), reason: None, not_begun: false };
        test.broker.nack(&topic("t"), &group("g"), &later).await.expect("given back");
    }
    storage.bytes.store(0, Ordering::SeqCst);
    for _ in 0..50 {
        let deliveries = receive(&test, 10).await;
        assert_eq!(deliveries.len(), 10);
        let request = AckRequest { receipts: deliveries.into_iter().map(|delivery| delivery.receipt).collect() };
        test.broker.ack(&topic("t"), &group("g"), &request).await.expect("acknowledged");
    }
    let waiting = per_record(&storage, 50 * 10);
    println!("bytes a record: one consumer of 500 {one:.2}, 64 consumers with 9,600 in flight {many:.1}, 9,000 waiting {waiting:.1}");
    assert!(one < 2.0 && many < 30.0 && waiting < 30.0, "{one}, {many}, {waiting}");
    test.broker.shutdown().await;
}
