//! Dead letters in bounds: of a commit, of a listing, of a redrive.

use crate::common::{START_MS, TestBroker, group, one_partition, topic, within};
use bytes::Bytes;
use core::ops::{ControlFlow, Range};
use core::time::Duration;
use sagamq_api::queue::{DeadLetterQuery, DiscardRequest, ReceiveRequest, RedriveRequest, SettleStatus, TerminateRequest};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use sagamq_broker::{CreateGroupError, Delivered, ReceiveError, RedriveError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: usize = 1024 * 1024;

/// Storage that remembers its largest write.
#[derive(Clone, Default)]
struct MeasuringStorage {
    below: MemoryStorage,
    largest: Arc<AtomicUsize>,
}

impl Storage for MeasuringStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        self.largest.fetch_max(mutations.iter().map(Mutation::len).sum(), Ordering::SeqCst);
        self.below.write(mutations, durability)
    }
}

fn terminate(deliveries: &[Delivered]) -> TerminateRequest {
    TerminateRequest { receipts: deliveries.iter().map(|delivery| delivery.receipt.clone()).collect(), reason: "no".to_owned() }
}

async fn count(test: &TestBroker) -> u64 {
    test.broker.describe_group(&topic("t"), &group("g")).await.expect("there").dead_letters
}

/// Forty records of nearly 1 MiB, all leased.
async fn leased(storage: impl Storage, config: TopicConfig) -> (TestBroker, Vec<Delivered>) {
    let test = TestBroker::with_topic(storage, "t", config).await;
    for _ in 0..40 {
        test.produce_texts("t", ["x".repeat(MIB - 200)]).await;
    }
    let all = async {
        let mut deliveries = Vec::new();
        while deliveries.len() < 40 {
            deliveries.extend(test.receive("t", "g").await);
        }
        deliveries
    };
    let deliveries = within("all records are leased", all).await;
    (test, deliveries)
}

/// Whatever place a client names, nothing is there, and nobody dies of it.
#[tokio::test]
async fn a_place_behind_every_dead_letter_has_none() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    let got = test.receive("t", "g").await;
    test.broker.terminate(&topic("t"), &group("g"), &terminate(&got)).await.expect("terminated");
    for cursor in [format!("0:{}", u64::MAX), format!("0:{}", u64::MAX - 1), "0:1".to_owned()] {
        let query = DeadLetterQuery { cursor: Some(cursor.clone()), ..DeadLetterQuery::default() };
        let listed = test.broker.dead_letters(&topic("t"), &group("g"), &query).await.expect("listed");
        assert!(listed.dead_letters.is_empty() && listed.next_cursor.is_none(), "{cursor}");
        let redrive = RedriveRequest { cursor: Some(cursor.clone()), ..RedriveRequest::default() };
        assert_eq!(test.broker.redrive(&topic("t"), &group("g"), &redrive).await.expect("answered").redriven, 0, "{cursor}");
        let discard = DiscardRequest { all: true, cursor: Some(cursor.clone()), ..DiscardRequest::default() };
        assert_eq!(test.broker.discard(&topic("t"), &group("g"), &discard).await.expect("answered").discarded, 0, "{cursor}");
    }
    assert_eq!(count(&test).await, 1, "the server lives, and the letter is there");
}

#[tokio::test]
async fn forty_dead_letters_of_a_mebibyte_are_several_commits_and_one_answer() {
    let storage = MeasuringStorage::default();
    let (test, deliveries) = leased(storage.clone(), one_partition()).await;
    let answer = test.broker.terminate(&topic("t"), &group("g"), &terminate(&deliveries)).await.expect("terminated");
    assert!(answer.results.iter().all(|result| result.status == SettleStatus::DeadLettered));
    let largest = storage.largest.load(Ordering::SeqCst);
    assert!(largest < 16 * MIB, "one write of {largest} bytes");
    assert_eq!(count(&test).await, 40);
}

#[tokio::test]
async fn leases_that_run_out_for_the_last_time_are_several_commits() {
    let storage = MeasuringStorage::default();
    let (test, _) = leased(storage.clone(), TopicConfig { delivery_limit: 1, ..one_partition() }).await;
    test.clock.advance(Duration::from_secs(31));
    // A look at the group brings the first part about; the rest follows by itself.
    let dead = async {
        while count(&test).await < 40 {
            assert!(test.receive("t", "g").await.is_empty(), "delivered once and no more");
        }
    };
    within("all are dead letters", dead).await;
    let largest = storage.largest.load(Ordering::SeqCst);
    assert!(largest < 16 * MIB, "one write of {largest} bytes");
}

#[tokio::test]
async fn a_crash_between_the_commits_leaves_each_record_delivered_again_or_a_dead_letter() {
    let run = async |storage: CrashStorage, fail_at: Option<u64>| {
        let config = TopicConfig { record_bytes_max: 4 * 1024 * 1024, ..one_partition() };
        let test = TestBroker::with_topic(storage.clone(), "t", config).await;
        for _ in 0..6 {
            test.produce_texts("t", ["x".repeat(3 * MIB)]).await;
        }
        let deliveries = test.receive("t", "g").await;
        let before = storage.writes();
        if let Some(at) = fail_at {
            storage.fail_write(at, FailedWrite::AppliedNotSynced);
        }
        let answer = test.broker.terminate(&topic("t"), &group("g"), &terminate(&deliveries)).await;
        if fail_at.is_some() {
            let told = answer.expect_err("a write failed").to_string();
            assert!(!told.contains("an earlier one failed"), "a part may be stored: {told}");
        }
        test.broker.shutdown().await;
        (deliveries.len(), storage.writes() - before)
    };
    let (records, writes) = run(CrashStorage::new(), None).await;
    assert!(records > 2, "{records}");
    assert!(writes > 1, "several commits");
    for at in 1..=writes {
        let storage = CrashStorage::new();
        run(storage.clone(), Some(at)).await;
        for image in [storage.after_power_cut(), storage.after_kill()] {
            let test = TestBroker::try_open(image, ManualClock::at(START_MS + 3_600_000)).expect("opens");
            let letters = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed");
            let mut dead: BTreeSet<u64> = letters.dead_letters.iter().map(|letter| letter.origin_offset.0).collect();
            let mut cursor = letters.next_cursor;
            while let Some(from) = cursor {
                let query = DeadLetterQuery { cursor: Some(from), ..DeadLetterQuery::default() };
                let more = test.broker.dead_letters(&topic("t"), &group("g"), &query).await.expect("listed");
                dead.extend(more.dead_letters.iter().map(|letter| letter.origin_offset.0));
                cursor = more.next_cursor;
            }
            let waiting = ReceiveRequest { wait_ms: Some(500), ..ReceiveRequest::default() };
            let left = async {
                let mut alive = BTreeSet::new();
                while dead.len() + alive.len() < 6 {
                    test.clock.advance(Duration::from_secs(5));
                    alive.extend(test.receive_with("t", "g", &waiting).await.iter().map(|delivery| delivery.record.offset.0));
                }
                alive
            };
            let alive = within("every record is somewhere", left).await;
            assert!(dead.is_disjoint(&alive), "write {at}: dead {dead:?}, delivered {alive:?}");
        }
    }
}

#[tokio::test]
async fn a_redrive_looks_at_a_bounded_number_and_goes_on_where_it_ended() {
    let config = TopicConfig { delivery_limit: 1, ..one_partition() };
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config).await;
    let all = ReceiveRequest { max_records: Some(1_000), ..ReceiveRequest::default() };
    for _ in 0..11 {
        test.produce_texts("t", (0..1_000).map(|n| n.to_string())).await;
        let deliveries = test.receive_with("t", "g", &all).await;
        test.broker.terminate(&topic("t"), &group("g"), &terminate(&deliveries)).await.expect("terminated");
    }
    test.produce_texts("t", ["wanted"]).await;
    assert_eq!(test.receive("t", "g").await.len(), 1);
    test.clock.advance(Duration::from_secs(31));
    assert!(test.receive("t", "g").await.is_empty());
    assert_eq!(count(&test).await, 11_001);
    let request = |cursor| RedriveRequest { cause: Some("delivery_limit".to_owned()), cursor, ..RedriveRequest::default() };
    let redrive = async |request| test.broker.redrive(&topic("t"), &group("g"), &request).await;
    let first = redrive(request(None)).await.expect("redriven");
    assert_eq!((first.redriven, first.remaining, first.next_cursor.as_deref()), (0, 11_001, Some("0:10000")));
    let second = redrive(request(first.next_cursor)).await.expect("redriven");
    assert_eq!((second.redriven, second.remaining, second.next_cursor), (1, 11_000, None));
    assert_eq!(test.receive("t", "g").await[0].record.offset, Offset(11_000));

    let some =
        RedriveRequest { partition: Some(PartitionId(0)), offsets: vec![Offset(7), Offset(3), Offset(3)], ..RedriveRequest::default() };
    let named = redrive(some.clone()).await.expect("redriven");
    assert_eq!((named.redriven, named.remaining, named.limit), (2, 10_998, None));
    assert_eq!(redrive(some).await.expect("redriven").redriven, 0, "each once");
    let too_many =
        RedriveRequest { partition: Some(PartitionId(0)), offsets: (0..1_001).map(Offset).collect(), ..RedriveRequest::default() };
    assert!(matches!(redrive(too_many).await, Err(RedriveError::Parameter(_))));
    let foreign = RedriveRequest { cursor: Some("7:0".to_owned()), ..RedriveRequest::default() };
    assert!(matches!(redrive(foreign).await, Err(RedriveError::Parameter(_))));
}

#[tokio::test]
async fn a_redrive_goes_on_over_its_maximum() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 2, ..TopicConfig::default() }).await;
    for _ in 0..3 {
        test.produce_texts("t", (0..4).map(|n| n.to_string())).await;
        let deliveries = test.receive("t", "g").await;
        test.broker.terminate(&topic("t"), &group("g"), &terminate(&deliveries)).await.expect("terminated");
    }
    let (mut cursor, mut redriven) = (None, 0);
    for _ in 0..3 {
        let request = RedriveRequest { max_records: Some(5), cursor: cursor.take(), ..RedriveRequest::default() };
        let answer = test.broker.redrive(&topic("t"), &group("g"), &request).await.expect("redriven");
        redriven += answer.redriven;
        cursor = answer.next_cursor;
    }
    assert_eq!((redriven, cursor, count(&test).await), (12, None, 0));
}

/// Leaves so many dead letters in the one partition.
async fn give_up(test: &TestBroker, letters: u64) {
    let all = ReceiveRequest { max_records: Some(1_000), ..ReceiveRequest::default() };
    for from in (0..letters).step_by(1_000) {
        test.produce_texts("t", (from..letters.min(from + 1_000)).map(|n| n.to_string())).await;
        let deliveries = test.receive_with("t", "g", &all).await;
        test.broker.terminate(&topic("t"), &group("g"), &terminate(&deliveries)).await.expect("terminated");
    }
}

#[tokio::test]
async fn a_discard_is_bounded_goes_on_where_it_ended_and_delivers_nothing() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    give_up(&test, 2_500).await;
    let discard = async |request| test.broker.discard(&topic("t"), &group("g"), &request).await;
    let all = |cursor| DiscardRequest { all: true, cursor, ..DiscardRequest::default() };
    let first = discard(all(None)).await.expect("discarded");
    assert_eq!((first.discarded, first.remaining, first.next_cursor.as_deref()), (1_000, 1_500, Some("0:1000")));
    let named = DiscardRequest {
        partition: Some(PartitionId(0)),
        offsets: vec![Offset(1_007), Offset(3), Offset(1_007)],
        ..DiscardRequest::default()
    };
    assert_eq!(discard(named.clone()).await.expect("discarded").discarded, 1, "each once, whoever asked first");
    assert_eq!(discard(named).await.expect("discarded").discarded, 0);
    let absent = DiscardRequest { partition: Some(PartitionId(0)), offsets: vec![Offset(9_999_999)], ..DiscardRequest::default() };
    assert_eq!(discard(absent).await.expect("nothing").discarded, 0, "what is not written yet is no dead letter");
    let second = discard(all(first.next_cursor)).await.expect("discarded");
    assert_eq!((second.discarded, second.remaining, second.next_cursor.as_deref()), (1_000, 499, Some("0:2001")));
    let last = discard(all(second.next_cursor)).await.expect("discarded");
    assert_eq!((last.discarded, last.remaining, last.next_cursor), (499, 0, None));
    test.clock.advance(Duration::from_secs(3_600));
    assert!(test.receive("t", "g").await.is_empty(), "nothing is delivered again");
    assert_eq!(test.broker.describe_group(&topic("t"), &group("g")).await.expect("there").lag_records, 0);
}

#[tokio::test]
async fn a_discard_by_cause_looks_at_a_bounded_number() {
    let config = TopicConfig { delivery_limit: 1, ..one_partition() };
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config).await;
    give_up(&test, 11_000).await;
    let request = |cursor| DiscardRequest { cause: Some("delivery_limit".to_owned()), cursor, ..DiscardRequest::default() };
    let answer = test.broker.discard(&topic("t"), &group("g"), &request(None)).await.expect("looked at");
    assert_eq!((answer.discarded, answer.remaining, answer.next_cursor.as_deref()), (0, 11_000, Some("0:10000")));
    let answer = test.broker.discard(&topic("t"), &group("g"), &request(answer.next_cursor)).await.expect("looked at");
    assert_eq!((answer.discarded, answer.remaining, answer.next_cursor), (0, 11_000, None));
}

#[tokio::test]
async fn a_discard_that_is_answered_survives_a_power_cut() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    give_up(&test, 5).await;
    let some = DiscardRequest { partition: Some(PartitionId(0)), offsets: vec![Offset(1), Offset(2)], ..DiscardRequest::default() };
    assert_eq!(test.broker.discard(&topic("t"), &group("g"), &some).await.expect("discarded").discarded, 2);
    let image = storage.after_power_cut();
    test.broker.shutdown().await;
    let test = TestBroker::try_open(image, ManualClock::at(START_MS)).expect("opens");
    let left = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await.expect("listed").dead_letters;
    let offsets: Vec<u64> = left.iter().map(|letter| letter.record.offset.0).collect();
    assert_eq!(offsets, [0, 3, 4]);
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_read_can_be_discarded() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    give_up(&test, 3).await;
    test.broker.shutdown().await;
    // One batch of records, then a batch for each dead letter: the first of these is damaged.
    let mut batches = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        batches.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    storage.scan(Family::Log, &[0][..]..&[0xff][..], Direction::Forward, &mut visit).expect("scans");
    let (key, mut value) = batches.swap_remove(1);
    *value.last_mut().expect("not empty") ^= 1;
    storage.write(&[Mutation::Put { family: Family::Log, key, value: value.into() }], Durability::Synced).expect("written");

    let test = TestBroker::try_open(storage, test.clock).expect("opens");
    let list = async || test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await;
    assert!(list().await.is_err(), "it cannot be read");
    let damaged = DiscardRequest { partition: Some(PartitionId(0)), offsets: vec![Offset(0)], ..DiscardRequest::default() };
    assert_eq!(test.broker.discard(&topic("t"), &group("g"), &damaged).await.expect("discarded").discarded, 1);
    assert_eq!(list().await.expect("the others can be read").dead_letters.len(), 2);
}

#[tokio::test]
async fn what_is_told_of_dead_letters_is_durable() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    let deliveries = test.receive("t", "g").await;
    test.broker.terminate(&topic("t"), &group("g"), &terminate(&deliveries)).await.expect("terminated");
    storage.fail_write(1, FailedWrite::NothingApplied);
    test.broker.redrive(&topic("t"), &group("g"), &RedriveRequest::default()).await.expect_err("the write fails");
    let listed = test.broker.dead_letters(&topic("t"), &group("g"), &DeadLetterQuery::default()).await;
    assert!(!listed.is_ok_and(|list| list.dead_letters.is_empty()), "told of a redrive that is not stored");
}

#[tokio::test]
async fn no_group_reads_dead_letters_of_another_and_stays_behind_without_its_topic() {
    let storage = MemoryStorage::default();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["bad"]).await;
    let deliveries = test.receive("t", "g").await;
    test.broker.terminate(&topic("t"), &group("g"), &terminate(&deliveries)).await.expect("terminated");
    let refused = test.broker.receive(&topic("t.g.dlq"), &group("other"), &ReceiveRequest::default()).await;
    assert!(matches!(refused, Err(ReceiveError::Create(CreateGroupError::OfDeadLetters(_)))), "{refused:?}");
    assert_eq!(test.values("t.g.dlq", 0).await, ["bad"], "by offset they can be read");
    test.broker.delete_topic(&topic("t")).await.expect("deleted");
    let again = TestBroker::open(storage);
    assert!(again.broker.topics().is_empty(), "nothing is left, and the data opens");
}
