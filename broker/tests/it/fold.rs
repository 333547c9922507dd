//! The fold: a shard is what its own commits say, in their order, and nothing else. So the commits of each shard, applied alone and from
//! empty, make the same rows.

use crate::common::{START_MS, TestBroker, group, one_partition, topic, within};
use crate::outbox::messages;
use crate::streams::{Member, until_members};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use core::time::Duration;
use sagamq_api::queue::{DiscardRequest, NackRequest, ReceiveRequest, RedriveRequest, StartPosition, TerminateRequest};
use sagamq_api::record::Payload;
use sagamq_api::schedule::ScheduleQuery;
use sagamq_api::stream::{SeekPosition, StreamSeek};
use sagamq_api::topic::{TopicConfig, TopicConfigChange};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::ids::{PartitionKey, ShardId, StreamKey, TopicId};
use sagamq_broker::log::batch::Stamp;
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{Due, NewRecord};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Row = (&'static str, Vec<u8>, Vec<u8>);

/// Storage that remembers every write.
#[derive(Clone, Default)]
struct RecordingStorage {
    below: MemoryStorage,
    writes: Arc<Mutex<Vec<Vec<Mutation>>>>,
}

impl Storage for RecordingStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.writes.lock().expect("no panic").push(mutations.to_vec());
        self.below.write(mutations, durability)
    }
}

/// One commit of a shard.
struct Committed {
    number: u64,
    mutations: Vec<Mutation>,
}

fn shard_of(mutation: &Mutation) -> ShardId {
    let key = match mutation {
        Mutation::Put { key, .. } | Mutation::Delete { key, .. } => key,
        Mutation::DeleteRange { range, .. } => &range.start,
    };
    ShardId(u16::from_be_bytes(key[..2].try_into().expect("a key begins with its shard")))
}

/// The number of the commit that this mutation ends, if it ends one.
fn end_of_commit(mutation: &Mutation) -> Option<u64> {
    let Mutation::Put { family: Family::Meta, key, value } = mutation else { return None };
    let is_number = *key == MetaKey::CommitNumber(shard_of(mutation)).encode();
    is_number.then(|| u64::from_be_bytes(value[..8].try_into().expect("a number")))
}

/// The commits of every shard in their order. An error if something was written beside them.
fn commits(writes: &[Vec<Mutation>]) -> Result<BTreeMap<ShardId, Vec<Committed>>, String> {
    let mut commits: BTreeMap<ShardId, Vec<Committed>> = BTreeMap::new();
    for write in writes {
        let mut open: BTreeMap<ShardId, Vec<Mutation>> = BTreeMap::new();
        for mutation in write {
            let shard = shard_of(mutation);
            let of_commit = open.entry(shard).or_default();
            of_commit.push(mutation.clone());
            if let Some(number) = end_of_commit(mutation) {
                let mutations = std::mem::take(of_commit);
                commits.entry(shard).or_default().push(Committed { number, mutations });
            }
        }
        if let Some((shard, beside)) = open.into_iter().find(|(_, left)| !left.is_empty()) {
            return Err(format!("{beside:?} was written beside the commits of shard {}", shard.0));
        }
    }
    Ok(commits)
}

/// What the commits make, each shard's alone.
fn fold(writes: &[Vec<Mutation>]) -> Result<MemoryStorage, String> {
    let folded = MemoryStorage::new();
    for (shard, commits) in commits(writes)? {
        for (place, commit) in commits.into_iter().enumerate() {
            if commit.number != place as u64 + 1 {
                return Err(format!("commit {} of shard {} has number {}", place + 1, shard.0, commit.number));
            }
            folded.write(&commit.mutations, Durability::Buffered).expect("memory");
        }
    }
    Ok(folded)
}

/// Every row, but for records below the start of their log: their space is given back outside of all commits.
fn rows(storage: &MemoryStorage) -> Vec<Row> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        let visit = &mut |key: &[u8], value: &[u8]| {
            if family != Family::Log || PartitionKey::log_base(key).expect("a key of the log") >= log_start(storage, key) {
                rows.push((family.name(), key.to_vec(), value.to_vec()));
            }
            ControlFlow::Continue(())
        };
        storage.scan(family, &[][..]..&[u8::MAX; 64][..], Direction::Forward, visit).expect("scans");
    }
    rows
}

/// Start of the log that a key of the `log` family belongs to.
fn log_start(storage: &MemoryStorage, key: &[u8]) -> Offset {
    let number = |at: usize| u32::from_be_bytes(key[at..at + 4].try_into().expect("four bytes"));
    let shard = ShardId(u16::from_be_bytes(key[..2].try_into().expect("two bytes")));
    let of = PartitionKey { shard, topic: TopicId(number(2)), partition: PartitionId(number(6)) };
    let row = storage.get(Family::Meta, &of.positions()).expect("reads").expect("a log with records stands somewhere");
    Offset(u64::from_be_bytes(row[9..17].try_into().expect("eight bytes")))
}

/// Everything that changes something.
async fn use_everything(test: &TestBroker, round: u32) {
    let broker = &test.broker;
    let lane = TopicConfig { partitions: 4, ..TopicConfig::default() };
    let fast = TopicConfig { partitions: 6, delivery_limit: 1, ..TopicConfig::default() };
    for (name, config) in [("orders", fast), ("lane", lane.clone()), ("gone", lane)] {
        broker.create_topic(&topic(name), config).await.expect("made, or there");
    }
    // Without keys, with record keys, with idempotency keys of records and of requests, at home and scattered.
    test.produce_texts("orders", (0..20).map(|n| format!("{round} plain {n}"))).await;
    let keyed = |n: u32| NewRecord::of(format!("{round} keyed {n}")).with_key(format!("k{n}"));
    test.produce("orders", (0..20).map(keyed).collect(), None).await;
    let once = |n: u32| keyed(n).with_idempotency_key(format!("{round}-{n}"));
    test.produce("orders", (0..20).map(once).collect(), None).await;
    test.produce("orders", (0..20).map(once).collect(), None).await;
    for key in ["scattered", "scattered", "again"] {
        test.produce("orders", (0..20).map(keyed).collect(), Some(&format!("{round}-{key}"))).await;
    }
    test.produce("orders", vec![NewRecord::of("at home")], Some(&format!("{round}-home"))).await;
    test.produce_texts("gone", ["a", "b", "c"]).await;
    // Of a producer that counts them, with a retry.
    for sequence in [0, 2, 2, 4] {
        crate::producers::send(test, "orders", Stamp { producer: 7, epoch: round as u16, sequence }).await.expect("the next");
    }
    crate::producers::send(test, "gone", Stamp { producer: 7, epoch: 0, sequence: 0 }).await.expect("its first");
    // Records that wait: appended when due, cancelled, gone with their topic, and some that still wait at the end.
    let wait = |n: u32, ms: u64| once(n + 100).with_due(Due::After(ms));
    test.produce("orders", (0..20).map(|n| wait(n, 1_000)).collect(), None).await;
    let waits = test.produce("orders", (20..40).map(|n| wait(n, 300 * 24 * 3_600_000)).collect(), None).await;
    test.produce("orders", (40..60).map(|n| keyed(n).with_due(Due::After(1_000))).collect(), Some(&format!("{round}-waits"))).await;
    test.produce("gone", (0..4).map(|n| wait(n, 3_600_000)).collect(), None).await;
    broker.cancel_schedule(&topic("orders"), waits[0].schedule.expect("it waits")).await.expect("cancelled");
    test.clock.advance(Duration::from_secs(2));
    within("what is due is appended", async {
        let due_ms = test.clock.now_ms();
        while broker.schedules(&topic("orders"), &ScheduleQuery::default()).await.expect("listed").schedules[0].id.due_ms <= due_ms {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Leases, acknowledgements, dead letters of every cause, redriven and discarded.
    let (orders, workers) = (topic("orders"), group("workers"));
    let some = ReceiveRequest { max_records: Some(15), ..ReceiveRequest::default() };
    let leased = test.receive_with("orders", "workers", &some).await;
    test.ack("orders", "workers", &leased).await;
    let leased = test.receive_with("orders", "workers", &some).await;
    let receipts = leased.iter().map(|delivery| delivery.receipt.clone()).collect();
    broker.terminate(&orders, &workers, &TerminateRequest { receipts, reason: "no".to_owned() }).await.expect("terminated");
    let leased = test.receive_with("orders", "workers", &some).await;
    let receipts = leased.iter().map(|delivery| delivery.receipt.clone()).collect();
    broker.nack(&orders, &workers, &NackRequest { receipts, delay_ms: None, reason: None, not_begun: false }).await.expect("given back");
    test.receive_with("orders", "workers", &some).await;
    test.clock.advance(Duration::from_secs(3600));
    test.receive_with("orders", "workers", &ReceiveRequest { auto_ack: true, ..some.clone() }).await;
    let redrive = RedriveRequest { max_records: Some(4), ..RedriveRequest::default() };
    assert!(broker.redrive(&orders, &workers, &redrive).await.expect("redriven").redriven > 0);
    let discard = DiscardRequest { all: true, max_records: Some(4), ..DiscardRequest::default() };
    assert!(broker.discard(&orders, &workers, &discard).await.expect("discarded").discarded > 0);
    test.receive("gone", "readers").await;
    // Records that go when their time is over: settled, leased, never delivered, and dead letters that are done with.
    let short = TopicConfig { partitions: 6, retention_ms: 60_000, delivery_limit: 1, ..TopicConfig::default() };
    broker.create_topic(&topic("short"), short).await.expect("made, or there");
    test.produce("short", (0..20).map(keyed).collect(), None).await;
    let leased = test.receive_with("short", "readers", &some).await;
    test.ack("short", "readers", &leased[..5]).await;
    let receipts = leased[5..10].iter().map(|delivery| delivery.receipt.clone()).collect();
    broker
        .terminate(&topic("short"), &group("readers"), &TerminateRequest { receipts, reason: "no".to_owned() })
        .await
        .expect("terminated");
    let all = DiscardRequest { all: true, ..DiscardRequest::default() };
    broker.discard(&topic("short"), &group("readers"), &all).await.expect("discarded");
    let change = TopicConfigChange { retention_ms: Some(1_000), ..TopicConfigChange::default() };
    broker.update_topic(&topic("short.readers.dlq"), change).await.expect("changed");
    test.clock.advance(Duration::from_secs(120));
    test.produce("short", (0..3).map(keyed).collect(), None).await;
    assert!(broker.apply_retention().await.expect("applied") >= 25, "20 records and 5 dead letters");
    // Keys of which the newest record stays, and one that is gone and goes with the second round.
    broker.create_topic(&topic("prices"), TopicConfig { partitions: 6, ..crate::compaction::compacted() }).await.expect("made, or there");
    for n in 0..30 {
        test.produce("prices", vec![NewRecord::of(format!("{round} {n}")).with_key(format!("k{}", n % 7))], None).await;
    }
    assert!(broker.compact().await.expect("compacted") >= 23);
    // The embedder.
    broker.ensure_group(&topic("lane"), &group("lane"), StartPosition::Earliest).await.expect("made");
    broker.own_topic(&topic("lane")).await.expect("there");
    for shard in 0..4 {
        let embedder = broker.embedder(shard);
        embedder.mark_hand_outs(&topic("lane"), &group("lane")).expect("there");
        for n in 0..3_u8 {
            let mut commit = embedder.begin();
            commit.put(&[b'k', n], vec![n]);
            commit.delete(&[b'k', n.wrapping_sub(1)]);
            commit.append(&topic("lane"), Payload { value: Some(Bytes::from_static(b"v")), ..Payload::default() }).expect("a lane topic");
            let submitted = embedder.submit(commit).await.expect("taken");
            let offset = submitted.offsets[0].expect("the topic is there");
            submitted.durable().await.expect("durable");
            let mut commit = embedder.begin();
            match n {
                0 => commit.settle_unseen(&topic("lane"), &group("lane"), offset).expect("there"),
                _ => commit.settle(&topic("lane"), &group("lane"), offset).expect("there"),
            }
            embedder.submit(commit).await.expect("taken").durable().await.expect("durable");
        }
    }
    // Acknowledge-with-records, for this shard and for others.
    broker.create_topic(&topic("made"), TopicConfig { partitions: 6, ..TopicConfig::default() }).await.expect("made, or there");
    let stored = || broker.describe_topic(&topic("made")).expect("there").partitions.iter().map(|of| of.high_watermark.0).sum::<u64>();
    let (before, deliveries) = (stored(), test.receive_with("orders", "pipeline", &some).await);
    let wanted = before + deliveries.len() as u64 * 6;
    assert!(wanted > before, "there are records to process");
    for delivery in deliveries {
        let made = (0..6).map(|n| NewRecord::of("made").with_key(format!("k{n}"))).collect();
        let receipts = [delivery.receipt];
        broker.ack_with_records(&orders, &group("pipeline"), &receipts, vec![(topic("made"), made)]).await.expect("acknowledged");
    }
    within("what was made is there", async {
        while stored() < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Stream groups: two members, a handover, commits, a seek, a session that ends, one that leaves.
    let (mut first, mut second) = (Member::new("first", &["orders", "lane"]), Member::new("second", &["orders"]));
    for _ in 0..3 {
        first.beat(test, "stream").await.expect("there");
        second.beat(test, "stream").await.expect("there");
    }
    second.commit_all(test, "stream").await;
    let seek = StreamSeek { position: Some(SeekPosition::End), ..StreamSeek::default() };
    broker.stream_seek(&group("stream"), &seek).await.expect("sought");
    test.clock.advance(Duration::from_secs(40));
    first.beat(test, "stream").await.expect("there");
    test.clock.advance(Duration::from_secs(40));
    until_members(test, "stream", 1).await;
    Member::new("third", &["gone"]).beat(test, "short-stream").await.expect("joined");
    test.clock.advance(Duration::from_secs(46));
    until_members(test, "short-stream", 0).await;
    broker.delete_stream_group(&group("short-stream")).await.expect("deleted");
    Member::new(if round == 0 { "fourth" } else { "fifth" }, &["gone", "orders"]).beat(test, "stays").await.expect("joined");
    // What goes.
    broker.ensure_group(&orders, &group("short"), StartPosition::Latest).await.expect("made");
    broker.delete_group(&orders, &group("short")).await.expect("deleted");
    broker.delete_topic(&topic("gone")).await.expect("deleted");
    broker.create_topic(&topic("gone"), one_partition()).await.expect("another of its name");
    test.produce_texts("gone", ["anew"]).await;
    broker.delete_topic(&topic("gone")).await.expect("deleted");
}

/// Messages between shards, which are taken, and let go of by their senders; some still wait.
async fn exchange(test: &TestBroker, storage: &RecordingStorage, round: u32) {
    for from in 0..4_u16 {
        let embedder = test.broker.embedder(from);
        let mut commit = embedder.begin();
        for to in 0..4 {
            commit.send(to, format!("{round} {from} {to}").into_bytes());
        }
        commit.put(b"sent", vec![1]);
        embedder.submit(commit).await.expect("taken").durable().await.expect("durable");
    }
    for to in 0..4_u16 {
        let embedder = test.broker.embedder(to);
        for from in 0..to {
            let mut commit = embedder.begin();
            commit.take(from, u64::from(round) + 1);
            embedder.submit(commit).await.expect("the next").durable().await.expect("durable");
        }
    }
    within("senders let go of what was taken", async {
        while messages(storage).len() > usize::try_from((round + 1) * 10).expect("small") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A run with everything in it, a restart in the middle, and a restart after which something is swept.
async fn run() -> RecordingStorage {
    let storage = RecordingStorage::default();
    let mut now = ManualClock::at(START_MS);
    for round in 0..2 {
        let test = TestBroker::try_open(storage.clone(), now).expect("opens");
        use_everything(&test, round).await;
        exchange(&test, &storage, round).await;
        test.broker.shutdown().await;
        // Old idempotency entries are over by then.
        now = ManualClock::at(test.clock.now_ms() + 48 * 3_600_000);
    }
    // As if a crash had come behind the catalogue's commit: the shard's own comes at the next open.
    let leftover = commits(&storage.writes.lock().expect("no panic")).expect("nothing beside commits");
    let last = leftover[&ShardId(0)].last().expect("it has some").number;
    let row = storage.get(Family::Meta, &MetaKey::CommitNumber(ShardId(0)).encode()).expect("reads").expect("there");
    let crash = [
        Mutation::DeleteRange { family: Family::Meta, range: MetaKey::groups() },
        Mutation::DeleteRange { family: Family::Meta, range: MetaKey::topics() },
        Mutation::DeleteRange { family: Family::Meta, range: MetaKey::stream_groups() },
        Mutation::Put {
            family: Family::Meta,
            key: MetaKey::CommitNumber(ShardId(0)).encode(),
            value: [&(last + 1).to_be_bytes()[..], &row[8..]].concat().into(),
        },
    ];
    storage.write(&crash, Durability::Synced).expect("written");
    let test = TestBroker::try_open(storage.clone(), now).expect("opens");
    test.broker.create_topic(&topic("after"), one_partition()).await.expect("made");
    test.produce("after", vec![NewRecord::of("a")], Some("after")).await;
    test.broker.shutdown().await;
    storage
}

#[tokio::test]
async fn the_commits_of_each_shard_alone_make_the_same_rows() {
    let storage = run().await;
    let writes = storage.writes.lock().expect("no panic").clone();
    let folded = fold(&writes).expect("nothing is written beside the commits of a shard, and none is missing");
    let (stored, folded) = (rows(&storage.below), rows(&folded));
    assert!(stored == folded, "the fold has {} rows, the storage {}", folded.len(), stored.len());
    for family in [Family::Log, Family::TimeIndex, Family::Dedup, Family::Saga, Family::Meta] {
        assert!(stored.iter().any(|(name, ..)| *name == family.name()), "the run left rows of {}", family.name());
    }
    let of_producers = |mutation: &&Mutation| matches!(mutation, Mutation::Put { family: Family::Producer, .. });
    assert_eq!(writes.iter().flatten().filter(of_producers).count(), 8, "producers sent batches");
    let waited = |mutation: &&Mutation| matches!(mutation, Mutation::Put { family: Family::Schedule, .. });
    assert!(writes.iter().flatten().filter(waited).count() > 100, "records waited");
    let commits = commits(&writes).expect("the same");
    assert!(commits.len() == 4 && commits.values().all(|commits| commits.len() > 10), "every shard had something to do");
    let groups = writes.iter().flatten().filter(|mutation| matches!(mutation, Mutation::Put { family: Family::Group, .. })).count();
    assert!(groups > 20, "groups changed {groups} times");
    let of_streams =
        |mutation: &&Mutation| matches!(mutation, Mutation::Put { family: Family::Group, key, .. } if StreamKey::of_row(key).is_some());
    assert!(writes.iter().flatten().filter(of_streams).count() > 20, "stream groups changed");
    let left = stored.iter().filter(|(family, key, _)| *family == Family::Group.name() && StreamKey::of_row(key).is_some()).count();
    assert_eq!(left, 0, "the groups are not in the catalogue any more, so their rows are gone");
}

#[tokio::test]
async fn a_write_beside_the_commits_is_found() {
    let storage = run().await;
    let writes = storage.writes.lock().expect("no panic").clone();
    let beside = Mutation::Put { family: Family::Saga, key: vec![0, 1, 7], value: Bytes::from_static(b"beside") };
    for place in [0, writes.len() / 2, writes.len()] {
        let mut planted = writes.clone();
        planted.insert(place, vec![beside.clone()]);
        assert!(fold(&planted).is_err(), "before write {place}");
    }
    // A write without mutations only syncs what came before: nothing is missing without it.
    let mut lost: Vec<_> = writes.into_iter().filter(|write| !write.is_empty()).collect();
    lost.remove(lost.len() / 2);
    assert!(fold(&lost).is_err(), "a commit that is missing");
}
