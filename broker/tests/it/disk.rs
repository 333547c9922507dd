//! The disk guard: what adds to the data is refused before the disk is full, all else goes on, and nothing needs a restart.

use crate::common::{START_MS, TestBroker, group, one_partition, topic, within};
use crate::compaction::compacted;
use bytes::Bytes;
use core::ops::Range;
use core::time::Duration;
use sagamq_api::audit::{AuditOutcome, AuditQuery};
use sagamq_api::queue::{AckRequest, ReceiveRequest, StartPosition};
use sagamq_api::stream::StreamHeartbeat;
use sagamq_api::topic::{TopicConfig, TopicConfigChange};
use sagamq_broker::audit::{Act, Note};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, FreeSpace, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{AppendError, BrokerConfig, CreateTopicError, DiskLimits, NewRecord, ProduceError, ReceiveError, Room, WriteError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const RESERVE: u64 = 400;
const RESUME: u64 = 500;

/// Storage on a disk of which the test says how much is free.
#[derive(Clone)]
struct Disk {
    storage: MemoryStorage,
    free: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
}

impl Storage for Disk {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.storage.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.storage.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.storage.write(mutations, durability)
    }

    fn free_space(&self) -> Result<Option<FreeSpace>, StorageError> {
        Ok(Some(FreeSpace { available_bytes: self.free.load(Ordering::SeqCst), owed_bytes: 0 }))
    }
}

impl Disk {
    fn new() -> Self {
        Self { storage: MemoryStorage::new(), free: Arc::new(u64::MAX.into()), writes: Arc::default() }
    }

    fn open(&self) -> TestBroker {
        let disk = DiskLimits { reserve_bytes: RESERVE, resume_bytes: RESUME };
        let config = BrokerConfig { shards: 4, disk, ..BrokerConfig::default() };
        TestBroker::try_open_with(self.clone(), ManualClock::at(START_MS), config).expect("opens")
    }

    /// The broker finds it by itself.
    async fn becomes(&self, test: &TestBroker, free: u64, room: Room) {
        self.free.store(free, Ordering::SeqCst);
        let seen = async {
            while test.broker.disk_room() != room {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("the broker looks at its disk", seen).await;
    }
}

fn is_low(error: &WriteError) -> bool {
    matches!(error, WriteError::DiskLow { reserve_bytes: RESERVE, resume_bytes: RESUME, .. })
}

/// What it writes anew takes room before what it replaces gives any back.
#[tokio::test]
async fn compaction_waits_for_room() {
    let disk = Disk::new();
    let test = disk.open();
    test.broker.create_topic(&topic("t"), compacted()).await.expect("made");
    for n in 0..10 {
        test.produce("t", vec![NewRecord::of(n.to_string()).with_key("k".to_owned())], None).await;
    }
    disk.becomes(&test, RESERVE - 1, Room::Low).await;
    assert_eq!(test.broker.compact().await.expect("nothing is wrong"), 0);
    disk.becomes(&test, RESUME, Room::Enough).await;
    assert_eq!(test.broker.compact().await.expect("compacted"), 9);
}

/// Whoever may do nothing must not be able to fill the rest of the disk with the entries of his refusals.
#[tokio::test]
async fn refusals_are_not_written_down_while_the_disk_is_low() {
    let disk = Disk::new();
    let test = disk.open();
    test.broker.keep_audit(Duration::from_secs(86_400)).await.expect("kept");
    let note = || Note::of(&Act::of_request("anonymous".to_owned(), "topic.list", None, None), AuditOutcome::Refused, &[]);
    let refused = AuditQuery { outcome: Some(AuditOutcome::Refused), wait_ms: Some(20_000), ..AuditQuery::default() };
    disk.becomes(&test, RESERVE - 1, Room::Low).await;
    for _ in 0..10 {
        test.broker.write_refusal(note()).await;
    }
    disk.becomes(&test, RESUME, Room::Enough).await;
    test.broker.write_refusal(note()).await;
    let entries = within("the refusal", test.broker.audit(&refused)).await.expect("it is kept").entries;
    assert_eq!(entries.len(), 1, "{entries:?}");
}

#[tokio::test]
async fn what_adds_to_the_data_is_refused_with_nothing_stored_and_what_lets_go_of_it_goes_on() {
    let disk = Disk::new();
    let test = disk.open();
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("made");
    test.broker.create_topic(&topic("old"), one_partition()).await.expect("made");
    test.produce_texts("t", ["a", "b", "c"]).await;
    let first = test.receive_with("t", "g", &ReceiveRequest { max_records: Some(1), ..ReceiveRequest::default() }).await;
    disk.becomes(&test, RESERVE - 1, Room::Low).await;
    let writes = disk.writes.load(Ordering::SeqCst);

    let refused = test.broker.produce(&topic("t"), vec![NewRecord::of("d")], Some("key")).await.expect_err("it is low");
    assert!(matches!(&refused, ProduceError::Append(AppendError::Write(error)) if is_low(error)), "{refused:?}");
    let refused = test.broker.create_topic(&topic("new"), TopicConfig::default()).await.expect_err("it is low");
    assert!(matches!(&refused, CreateTopicError::Write(error) if is_low(error)), "{refused:?}");
    let refused = test.broker.receive(&topic("t"), &group("new"), &ReceiveRequest::default()).await.expect_err("it is low");
    assert!(matches!(&refused, ReceiveError::Create(sagamq_broker::CreateGroupError::Write(error)) if is_low(error)), "{refused:?}");
    let join = StreamHeartbeat {
        member_id: "m".parse().expect("legal"),
        epoch: 0,
        topics: Some(vec![topic("t")]),
        instance_id: None,
        session_ms: None,
        start: StartPosition::Earliest,
        owned: Vec::new(),
        leave: None,
    };
    let refused = test.broker.stream_heartbeat(&group("s"), &join).await.expect_err("it is low");
    assert!(matches!(&refused, sagamq_broker::StreamGroupError::Write(error) if is_low(error)), "{refused:?}");
    assert_eq!(disk.writes.load(Ordering::SeqCst), writes, "nothing is stored of what is refused");
    assert_eq!(test.values("t", 0).await, ["a", "b", "c"]);

    // Everything that works off what is there.
    test.ack("t", "g", &first).await;
    let rest = test.receive("t", "g").await;
    assert_eq!(rest.len(), 2);
    test.ack("t", "g", &rest).await;
    let change = TopicConfigChange { retention_ms: Some(1_000), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change).await.expect("changed");
    test.clock.advance(Duration::from_secs(10));
    assert_eq!(test.broker.apply_retention().await.expect("taken"), 3);
    test.broker.delete_topic(&topic("old")).await.expect("deleted");
    assert!(test.broker.create_topic(&topic("t"), TopicConfig { retention_ms: 1_000, ..one_partition() }).await.is_ok(), "it is there");

    // Between the two bounds it stays as it was.
    disk.free.store(RESUME - 1, Ordering::SeqCst);
    test.broker.look_at_disk().await;
    assert_eq!(test.broker.disk_room(), Room::Low);
    disk.becomes(&test, RESUME, Room::Enough).await;
    let produced = test.produce("t", vec![NewRecord::of("d")], Some("key")).await;
    assert_eq!((produced[0].offset.expect("stored").0, produced[0].duplicate), (3, false));
}

#[tokio::test]
async fn writes_wait_while_there_is_no_room_at_all_and_are_answered_when_there_is() {
    let disk = Disk::new();
    let test = disk.open();
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("made");
    test.produce_texts("t", ["a"]).await;
    let leased = test.receive("t", "g").await;
    disk.becomes(&test, RESERVE / 4 - 1, Room::Gone).await;
    let writes = disk.writes.load(Ordering::SeqCst);
    let broker = test.broker.clone();
    let request = AckRequest { receipts: vec![leased[0].receipt.clone()] };
    let ack = tokio::spawn(async move { broker.ack(&topic("t"), &group("g"), &request).await });
    // Several looks of the watcher and of the committer.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        test.broker.look_at_disk().await;
    }
    assert!(!ack.is_finished());
    assert_eq!(disk.writes.load(Ordering::SeqCst), writes, "nothing is written");
    disk.becomes(&test, RESERVE / 4, Room::Low).await;
    within("the acknowledgement", ack).await.expect("no panic").expect("acknowledged");
    assert!(test.broker.writes_stopped().is_none());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_room() {
    let disk = Disk::new();
    let test = disk.open();
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("made");
    test.produce_texts("t", ["a"]).await;
    let leased = test.receive("t", "g").await;
    disk.becomes(&test, 0, Room::Gone).await;
    let broker = test.broker.clone();
    let request = AckRequest { receipts: vec![leased[0].receipt.clone()] };
    let ack = tokio::spawn(async move { broker.ack(&topic("t"), &group("g"), &request).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    within("the shutdown", test.broker.shutdown()).await;
    // It was taken before the end and written, or refused because of it.
    assert!(matches!(within("the acknowledgement", ack).await, Ok(Ok(_) | Err(_))));
}
