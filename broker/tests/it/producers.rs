//! Producers that count their records: each batch is stored once and in its place, over lost answers, restarts, kills and power cuts.

use crate::common::{START_MS, TestBroker, one_partition, topic, within};
use bytes::{Bytes, BytesMut};
use core::ops::ControlFlow;
use core::time::Duration;
use futures_util::future::join_all;
use sagamq_api::limits::{
    PARTITION_PRODUCERS_MAX, PRODUCER_EXPIRY_MS, PRODUCER_IDLE_MS_MIN, PRODUCER_NAMES_MAX, PRODUCER_ONCE_IDLE_MS_MIN,
};
use sagamq_api::record::Payload;
use sagamq_api::topic::{TopicConfig, TopicDurability};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::log::batch::{NewBatch, ReceivedBatch, Record, Stamp};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage};
use sagamq_broker::{AppendError, OpenError, ProduceError, SentBatch, WriteError};

pub(crate) fn stamp(producer: u64, epoch: u16, sequence: u32) -> Stamp {
    Stamp { producer, epoch, sequence }
}

fn batch(partition: u32, stamp: Stamp, values: &[String]) -> SentBatch {
    let record = |value: &String| Record { timestamp_ms: -1, payload: Payload { value: Some(value.clone().into()), ..Payload::default() } };
    let records: Vec<Record> = values.iter().map(record).collect();
    let encoded = NewBatch::encode(&records).expect("legal").stamped(stamp);
    let batch = ReceivedBatch::parse(BytesMut::from(encoded.bytes())).expect("legal");
    SentBatch { partition: Some(PartitionId(partition)), batch }
}

/// Sends two records; where they are, and whether they were there.
pub(crate) async fn send(test: &TestBroker, name: &str, stamp: Stamp) -> Result<(u64, bool), ProduceError> {
    let values = [0, 1].map(|n| format!("{}-{}", stamp.epoch, stamp.sequence + n));
    let sent = test.broker.produce_batches(None, &topic(name), vec![batch(0, stamp, &values)], None).await?;
    Ok((sent[0].offset.0, sent[0].duplicate))
}

fn refusal<T>(result: Result<T, ProduceError>) -> AppendError {
    match result {
        Err(ProduceError::Append(error)) => error,
        Err(other) => panic!("another refusal: {other}"),
        Ok(_) => panic!("it was stored"),
    }
}

fn rows(storage: &impl Storage) -> Vec<(Vec<u8>, Bytes)> {
    let mut rows = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    };
    storage.scan(Family::Producer, &[][..]..&[u8::MAX; 64][..], Direction::Forward, visit).expect("scans");
    rows
}

#[tokio::test]
async fn batches_are_stored_once_and_in_order_over_restarts() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    for n in 0..7 {
        assert_eq!(send(&test, "t", stamp(7, 0, n * 2)).await.expect("the next"), (u64::from(n) * 2, false));
    }
    // The same numbers of another producer are others.
    assert_eq!(send(&test, "t", stamp(8, 0, 0)).await.expect("its first"), (14, false));
    test.broker.shutdown().await;
    let test = TestBroker::open(storage);
    for n in 2..7 {
        assert_eq!(send(&test, "t", stamp(7, 0, n * 2)).await.expect("known"), (u64::from(n) * 2, true));
    }
    let behind = refusal(send(&test, "t", stamp(7, 0, 2)).await);
    assert!(matches!(behind, AppendError::OutOfOrder { expected: 14, .. }), "{behind}");
    let ahead = refusal(send(&test, "t", stamp(7, 0, 16)).await);
    assert!(matches!(ahead, AppendError::OutOfOrder { expected: 14, .. }), "{ahead}");
    let unknown = refusal(send(&test, "t", stamp(9, 3, 2)).await);
    assert!(matches!(unknown, AppendError::UnknownProducer { .. }), "{unknown}");
    assert_eq!(send(&test, "t", stamp(7, 1, 0)).await.expect("a new epoch"), (16, false));
    let fenced = refusal(send(&test, "t", stamp(7, 0, 14)).await);
    assert!(matches!(fenced, AppendError::Fenced { epoch: 1, .. }), "{fenced}");
    let others =
        test.broker.produce_batches(None, &topic("t"), vec![batch(0, stamp(7, 1, 0), &["x".to_owned(), "y".to_owned()])], None).await;
    let reused = refusal(others);
    assert!(matches!(reused, AppendError::SequenceReused { first: Offset(16), .. }), "{reused}");
    assert_eq!(test.values("t", 0).await.len(), 18, "what is refused is not stored");
}

#[tokio::test]
async fn a_batch_that_is_faster_than_the_one_before_it_waits_for_it() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    // As they would come over connections of their own: the last one first, and also the very first of a producer that nobody knows.
    for epoch in 0..2 {
        let all = [6, 4, 2, 0].map(|sequence| send(&test, "t", stamp(7, epoch, sequence)));
        let places: Vec<u64> = join_all(all).await.into_iter().map(|place| place.expect("stored").0).collect();
        let first = u64::from(epoch) * 8;
        assert_eq!(places, [6, 4, 2, 0].map(|n| first + n));
    }
    // Only as many as may be on their way, and not for ever.
    let early = join_all([12, 14, 16, 18, 20, 22].map(|sequence| send(&test, "t", stamp(7, 1, sequence))));
    for refused in within("the end of their waiting", early).await {
        assert!(matches!(refusal(refused), AppendError::OutOfOrder { expected: 8, .. }));
    }
    assert_eq!(send(&test, "t", stamp(7, 1, 8)).await.expect("the next"), (16, false));
}

#[tokio::test]
async fn who_waits_at_a_shutdown_hears_that_nothing_was_stored() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    send(&test, "t", stamp(7, 0, 0)).await.expect("stored");
    let broker = test.broker.clone();
    let early =
        tokio::spawn(
            async move { broker.produce_batches(None, &topic("t"), vec![batch(0, stamp(7, 0, 4), &["a".to_owned()])], None).await },
        );
    tokio::task::yield_now().await;
    test.broker.shutdown().await;
    let refused = refusal(early.await.expect("no panic"));
    let is_told = matches!(refused, AppendError::Write(WriteError::ShuttingDown) | AppendError::OutOfOrder { .. });
    assert!(is_told, "{refused}");
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_a_batch_with_its_row_or_neither() {
    async fn run(storage: CrashStorage, durability: TopicDurability) -> u32 {
        let Ok(test) = TestBroker::try_open(storage, ManualClock::at(START_MS)) else { return 0 };
        let config = TopicConfig { durability, ..one_partition() };
        let _ = test.broker.create_topic(&topic("t"), config).await;
        let mut answered = 0;
        for n in 0..5 {
            match send(&test, "t", stamp(7, 0, n * 2)).await {
                Ok(_) => answered += 1,
                Err(_) => break,
            }
        }
        test.broker.shutdown().await;
        answered
    }
    for durability in [TopicDurability::Sync, TopicDurability::Memory] {
        let whole = CrashStorage::new();
        assert_eq!(run(whole.clone(), durability).await, 5);
        for at in 1..=whole.writes() {
            for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
                let storage = CrashStorage::new();
                storage.fail_write(at, leaves);
                let answered = run(storage.clone(), durability).await;
                for (image, is_kill) in [(storage.after_power_cut(), false), (storage.after_kill(), true)] {
                    let case = format!("{durability}, write {at} left {leaves:?}, a kill: {is_kill}");
                    let test = TestBroker::open(image.clone());
                    let _ = test.broker.create_topic(&topic("t"), TopicConfig { durability, ..one_partition() }).await;
                    let before = test.values("t", 0).await.len();
                    assert_eq!(rows(&image).len(), usize::from(before > 0), "{case}: {before} records");
                    if durability == TopicDurability::Sync || is_kill {
                        assert!(before >= answered as usize * 2, "{case}: {answered} were answered");
                    }
                    // The producer repeats all it has.
                    for n in 0..5 {
                        let (offset, is_duplicate) = send(&test, "t", stamp(7, 0, n * 2)).await.expect(&case);
                        assert_eq!((offset, is_duplicate), (u64::from(n) * 2, (n * 2) < before as u32), "{case}");
                    }
                    let expected: Vec<String> = (0..10).map(|n| format!("0-{n}")).collect();
                    assert_eq!(test.values("t", 0).await, expected, "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn who_is_silent_for_a_day_is_forgotten() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    send(&test, "t", stamp(7, 0, 0)).await.expect("stored");
    test.clock.advance(Duration::from_millis(PRODUCER_EXPIRY_MS - 1_000));
    send(&test, "t", stamp(8, 0, 0)).await.expect("stored");
    assert_eq!(rows(&storage).len(), 2);
    test.clock.advance(Duration::from_secs(120));
    within("it is forgotten", async {
        while rows(&storage).len() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let unknown = refusal(send(&test, "t", stamp(7, 0, 2)).await);
    assert!(matches!(unknown, AppendError::UnknownProducer { .. }), "{unknown}");
    send(&test, "t", stamp(8, 0, 2)).await.expect("it was heard of");
}

#[tokio::test]
async fn a_partition_knows_so_many_producers_and_the_one_that_is_silent_longest_makes_room() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let many = PARTITION_PRODUCERS_MAX as u64;
    send(&test, "t", stamp(0, 0, 0)).await.expect("stored");
    test.clock.advance(Duration::from_millis(10));
    for all in join_all((1..many).map(|producer| send(&test, "t", stamp(producer, 0, 0)))).await {
        all.expect("stored");
    }
    let full = refusal(send(&test, "t", stamp(many, 0, 0)).await);
    assert!(matches!(full, AppendError::ProducerLimit), "{full}");
    send(&test, "t", stamp(0, 0, 2)).await.expect("whoever is known goes on");
    test.clock.advance(Duration::from_millis(10));
    for all in join_all((1..many).map(|producer| send(&test, "t", stamp(producer, 0, 2)))).await {
        all.expect("whoever is known goes on");
    }
    test.clock.advance(Duration::from_millis(PRODUCER_IDLE_MS_MIN - 10));
    send(&test, "t", stamp(many, 0, 0)).await.expect("one was silent for long enough");
    let unknown = refusal(send(&test, "t", stamp(0, 0, 2)).await);
    assert!(matches!(unknown, AppendError::UnknownProducer { .. }), "{unknown}");
    let full = refusal(send(&test, "t", stamp(many + 1, 0, 0)).await);
    assert!(matches!(full, AppendError::ProducerLimit), "the others were heard of later: {full}");
}

#[tokio::test]
async fn who_has_sent_one_batch_makes_room_before_those_that_go_on() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let many = PARTITION_PRODUCERS_MAX as u64;
    for all in join_all((0..10).map(|producer| send(&test, "t", stamp(producer, 0, 0)))).await {
        all.expect("stored");
    }
    for all in join_all((0..10).map(|producer| send(&test, "t", stamp(producer, 0, 2)))).await {
        all.expect("stored");
    }
    test.clock.advance(Duration::from_millis(10));
    for all in join_all((10..many).map(|producer| send(&test, "t", stamp(producer, 0, 0)))).await {
        all.expect("stored");
    }
    test.clock.advance(Duration::from_millis(PRODUCER_ONCE_IDLE_MS_MIN - 1));
    let full = refusal(send(&test, "t", stamp(many, 0, 0)).await);
    assert!(matches!(full, AppendError::ProducerLimit), "its only batch may come again: {full}");
    test.clock.advance(Duration::from_millis(1));
    for late in many..many + 500 {
        send(&test, "t", stamp(late, 0, 0)).await.expect("one of those that sent one batch made room");
    }
    for producer in 0..10 {
        send(&test, "t", stamp(producer, 0, 4)).await.expect("whoever sent more is known, though it was silent for longer");
    }
}

#[tokio::test]
async fn rows_go_with_their_topic() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    send(&test, "t", stamp(7, 0, 0)).await.expect("stored");
    assert_eq!(rows(&storage).len(), 1);
    test.broker.delete_topic(&topic("t")).await.expect("deleted");
    assert_eq!(rows(&storage).len(), 0);
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("another of its name");
    let unknown = refusal(send(&test, "t", stamp(7, 0, 2)).await);
    assert!(matches!(unknown, AppendError::UnknownProducer { .. }), "{unknown}");
    assert_eq!(send(&test, "t", stamp(7, 0, 0)).await.expect("stored"), (0, false));
}

#[tokio::test]
async fn rows_that_cannot_be_are_refused_at_an_open() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    send(&test, "t", stamp(7, 0, 0)).await.expect("stored");
    test.broker.shutdown().await;
    let (key, row) = rows(&storage).remove(0);
    let mut behind = row.to_vec();
    // The lowest byte of the base offset.
    behind[11 + 19] = 9;
    for (wrong, says) in [(row[1..].to_vec(), "cannot be read"), (behind, "but the log ends at 2")] {
        let image = storage.after_kill();
        let put = Mutation::Put { family: Family::Producer, key: key.clone(), value: wrong.into() };
        image.write(&[put], Durability::Synced).expect("written");
        match TestBroker::try_open(image, ManualClock::at(START_MS)) {
            Err(OpenError::Damaged(reason)) => assert!(reason.contains(says), "{reason}"),
            Err(other) => panic!("another refusal: {other}"),
            Ok(_) => panic!("it opens"),
        }
    }
    let test = TestBroker::open(storage.after_kill());
    assert!(test.clock.now_ms() > 0);
    send(&test, "t", stamp(7, 0, 2)).await.expect("goes on");
}

#[tokio::test]
async fn whoever_takes_a_name_over_supersedes_the_one_before_in_every_partition_and_over_restarts() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    let name = "billing".parse().expect("legal");
    let first = test.broker.register_producer(&name).await.expect("registered").producer_id.0;
    send(&test, "t", stamp(first, 0, 0)).await.expect("stored");
    send(&test, "t", stamp(first + 1, 0, 0)).await.expect("the lowest bits are its own");
    let second = test.broker.register_producer(&name).await.expect("taken over").producer_id.0;
    assert_ne!(first, second);
    for (id, sequence) in [(first, 2), (first, 0), (first + 1, 2), (first + 2, 0)] {
        let fenced = refusal(send(&test, "t", stamp(id, 0, sequence)).await);
        assert!(matches!(fenced, AppendError::NameTaken { .. }), "{fenced}");
    }
    send(&test, "t", stamp(second, 0, 0)).await.expect("stored");
    let other = test.broker.register_producer(&"other".parse().expect("legal")).await.expect("registered").producer_id.0;
    send(&test, "t", stamp(other, 0, 0)).await.expect("another name is another producer");
    // What was answered is there after a power cut.
    let test = TestBroker::open(storage.after_power_cut());
    let fenced = refusal(send(&test, "t", stamp(first, 0, 2)).await);
    assert!(matches!(fenced, AppendError::NameTaken { .. }), "{fenced}");
    send(&test, "t", stamp(second, 0, 2)).await.expect("goes on");
    let names: Vec<_> = test.broker.named_producers().into_iter().map(|named| (named.name.to_string(), named.producer_id.0)).collect();
    assert_eq!(names, [("billing".to_owned(), second), ("other".to_owned(), other)]);
    test.broker.forget_producer(&name).await.expect("forgotten");
    let fenced = refusal(send(&test, "t", stamp(second, 0, 4)).await);
    assert!(matches!(fenced, AppendError::NameTaken { .. }), "{fenced}");
    let third = test.broker.register_producer(&name).await.expect("registered anew").producer_id.0;
    assert!(third != first && third != second, "no id comes again");
    assert!(test.broker.forget_producer(&"nobody".parse().expect("legal")).await.is_err());
}

#[tokio::test]
async fn a_crash_at_any_write_never_gives_a_name_back() {
    async fn run(storage: CrashStorage) -> u32 {
        let Ok(test) = TestBroker::try_open(storage, ManualClock::at(START_MS)) else { return 0 };
        let mut answered = 0;
        for _ in 0..3 {
            answered += u32::from(test.broker.register_producer(&"billing".parse().expect("legal")).await.is_ok());
        }
        test.broker.shutdown().await;
        answered
    }
    let whole = CrashStorage::new();
    assert_eq!(run(whole.clone()).await, 3);
    for at in 1..=whole.writes() {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let answered = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let test = TestBroker::open(image);
                let generation = |id: u64| id >> 8 & 0xff_ffff;
                let next = test.broker.register_producer(&"billing".parse().expect("legal")).await.expect("registered");
                assert!(generation(next.producer_id.0) >= u64::from(answered), "write {at} left {leaves:?}: {answered} were answered");
            }
        }
    }
}

#[tokio::test]
async fn so_many_producers_have_names_and_no_more() {
    let test = TestBroker::open(MemoryStorage::new());
    let name = |n: usize| format!("p{n}").parse().expect("legal");
    for n in 0..PRODUCER_NAMES_MAX {
        test.broker.register_producer(&name(n)).await.expect("registered");
    }
    assert!(test.broker.register_producer(&name(PRODUCER_NAMES_MAX)).await.is_err(), "one too many");
    test.broker.register_producer(&name(3)).await.expect("a name that is there is taken over");
    test.broker.forget_producer(&name(4)).await.expect("forgotten");
    test.broker.register_producer(&name(PRODUCER_NAMES_MAX)).await.expect("there is room");
}
