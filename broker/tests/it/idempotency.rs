//! Idempotency keys: over the whole topic for a request, over crashes between its commits, over clocks that step.

use crate::common::{START_MS, TestBroker, one_partition, topic};
use crate::ordering::{keyed, texts as texts_of};
use core::ops::ControlFlow;
use core::time::Duration;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::topic::{Ordering, TopicConfig, TopicConfigChange};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::ids::{PartitionKey, ShardId, TopicId};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::keys::MetaKey;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage};
use sagamq_broker::{AppendError, NewRecord, ProduceError, Produced};

const PARTITIONS: u32 = 4;
const HOUR: Duration = Duration::from_secs(3600);

fn config() -> TopicConfig {
    TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() }
}

/// A record in each partition, and one that goes where the request's key does.
fn spread(text: &str) -> Vec<NewRecord> {
    let mut records: Vec<_> = (0..PARTITIONS).map(|p| NewRecord::of(format!("{text}{p}")).with_partition(PartitionId(p))).collect();
    records.push(NewRecord::of(format!("{text}*")));
    records
}

fn texts(text: &str) -> Vec<String> {
    let mut texts: Vec<_> = (0..PARTITIONS).map(|p| format!("{text}{p}")).collect();
    texts.push(format!("{text}*"));
    texts.sort();
    texts
}

async fn all_values(test: &TestBroker) -> Vec<String> {
    let mut values = Vec::new();
    for partition in 0..PARTITIONS {
        values.extend(test.values("t", partition).await);
    }
    values.sort();
    values
}

fn is_reused(result: &Result<Vec<Produced>, ProduceError>) -> bool {
    matches!(result, Err(ProduceError::Append(AppendError::RequestKeyReused { .. })))
}

fn places(records: &[Produced]) -> Vec<(PartitionId, Option<Offset>, i64)> {
    records.iter().map(|record| (record.partition, record.offset, record.timestamp_ms)).collect()
}

#[tokio::test]
async fn a_key_of_a_request_holds_over_all_partitions() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config()).await;
    let name = topic("t");
    let first = test.produce("t", vec![NewRecord::of("v").with_key("a")], Some("k")).await;
    for key in ["b", "c", "d", "e", "f", "g"] {
        let other = test.broker.produce(&name, vec![NewRecord::of("v").with_key(key)], Some("k")).await;
        assert!(is_reused(&other), "record key {key}: {other:?}");
    }
    let more = vec![NewRecord::of("v").with_key("a"), NewRecord::of("w").with_key("b")];
    assert!(is_reused(&test.broker.produce(&name, more, Some("k")).await));
    assert_eq!(all_values(&test).await, ["v"], "what was refused stored nothing");
    let again = test.produce("t", vec![NewRecord::of("v").with_key("a")], Some("k")).await;
    assert_eq!((places(&again), again[0].duplicate), (places(&first), true));

    let first = test.produce("t", spread("x"), Some("q")).await;
    let one = vec![NewRecord::of("x0").with_partition(PartitionId(0))];
    assert!(is_reused(&test.broker.produce(&name, one, Some("q")).await), "a part of it is another request");
    let mut reversed = spread("x");
    reversed.reverse();
    assert!(is_reused(&test.broker.produce(&name, reversed, Some("q")).await), "so is another order");
    let again = test.produce("t", spread("x"), Some("q")).await;
    assert!(first.iter().all(|record| !record.duplicate) && again.iter().all(|record| record.duplicate));
    assert_eq!(places(&again), places(&first));
}

#[tokio::test]
async fn a_record_has_its_own_time_in_the_answer_to_a_duplicate() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", config()).await;
    let records = |own: bool| -> Vec<NewRecord> {
        let at = |text: &str, timestamp_ms| NewRecord { timestamp_ms, ..NewRecord::of(text.to_owned()) };
        let mut records = vec![at("a", Some(50)), at("b", None), at("c", Some(-7))];
        for (index, record) in records.iter_mut().enumerate().filter(|_| own) {
            record.idempotency_key = Some(format!("key-{index}").into());
        }
        records
    };
    let start = i64::try_from(START_MS).expect("in range");
    for (own, key) in [(true, None), (false, Some("k"))] {
        let first = test.produce("t", records(own), key).await;
        let expected = [50, first[1].timestamp_ms, -7];
        test.clock.advance(HOUR);
        let again = test.produce("t", records(own), key).await;
        assert!(again.iter().all(|record| record.duplicate), "{again:?}");
        assert_eq!(again.iter().map(|record| record.timestamp_ms).collect::<Vec<_>>(), expected, "the request's key: {key:?}");
        assert!(first[1].timestamp_ms >= start);
    }
}

#[tokio::test]
async fn of_two_requests_at_once_one_wins_and_the_other_stores_nothing() {
    for round in 0..20 {
        let test = TestBroker::with_topic(MemoryStorage::new(), "t", config()).await;
        let (name, key) = (topic("t"), format!("key-{round}"));
        let produce = |text| test.broker.produce(&name, spread(text), Some(&key));
        let (a, b, c) = tokio::join!(produce("a"), produce("b"), produce("a"));
        let winner = if a.is_ok() { "a" } else { "b" };
        assert_eq!((a.is_ok(), b.is_ok(), c.is_ok()), (winner == "a", winner == "b", winner == "a"), "{a:?} {b:?} {c:?}");
        assert!([&a, &b, &c].into_iter().filter(|result| result.is_err()).all(is_reused));
        assert_eq!(all_values(&test).await, texts(winner));
    }
}

/// Removes what the commit of some partitions wrote, as if the power had gone before it: records, their index, where the partition stands, the
/// share's entry.
fn forget_shares(storage: &MemoryStorage, forgotten: impl Fn(u32) -> bool) {
    let mut mutations = Vec::new();
    for partition in (0..PARTITIONS).filter(|&partition| forgotten(partition)) {
        let shard = ShardId(u16::try_from(partition).expect("a partition a shard"));
        let key = PartitionKey { shard, topic: TopicId(1), partition: PartitionId(partition) };
        for family in [Family::Log, Family::TimeIndex] {
            mutations.push(Mutation::DeleteRange { family, range: key.all() });
        }
        mutations.push(Mutation::Delete { family: Family::Meta, key: key.positions() });
        // The ends of the shard's logs, which have no other.
        let commit = MetaKey::CommitNumber(shard).encode();
        let mut row = storage.get(Family::Meta, &commit).expect("reads").expect("it has commits").to_vec();
        row[8..].fill(0);
        mutations.push(Mutation::Put { family: Family::Meta, key: commit, value: row.into() });
        let entries = shard.dedup_from(0);
        let visit = &mut |key: &[u8], value: &[u8]| {
            // Kind 0: stored. The claim itself, kind 1, came before.
            if value[1] == 0 {
                mutations.push(Mutation::Delete { family: Family::Dedup, key: key.to_vec() });
            }
            ControlFlow::Continue(())
        };
        storage.scan(Family::Dedup, &entries.start..&entries.end, Direction::Forward, visit).expect("scans");
    }
    storage.write(&mutations, Durability::Synced).expect("written");
}

#[tokio::test]
async fn a_retry_goes_on_from_the_claim_whichever_shares_were_stored() {
    for stored in 0..1_u32 << PARTITIONS {
        let storage = MemoryStorage::new();
        let test = TestBroker::with_topic(storage.clone(), "t", config()).await;
        test.produce("t", spread("a"), Some("k")).await;
        test.broker.shutdown().await;
        forget_shares(&storage, |partition| stored & (1 << partition) == 0);

        let test = TestBroker::try_open(storage, ManualClock::at(START_MS + 5_000)).expect("opens");
        let other = test.broker.produce(&topic("t"), spread("b"), Some("k")).await;
        assert!(is_reused(&other), "the key is taken though not all is stored: {other:?}");
        let before = all_values(&test).await.len();
        let retried = test.produce("t", spread("a"), Some("k")).await;
        for record in &retried {
            assert_eq!(record.duplicate, stored & (1 << record.partition.0) != 0, "{stored:04b}: {retried:?}");
        }
        assert_eq!(all_values(&test).await, texts("a"), "{stored:04b}, {before} before");
        let again = test.produce("t", spread("a"), Some("k")).await;
        assert_eq!(places(&again), places(&retried), "{stored:04b}");
    }
}

#[tokio::test]
async fn a_retry_goes_on_from_the_claim_after_partitions_were_added_whichever_shares_were_stored() {
    for stored in 0..1_u32 << PARTITIONS {
        let storage = MemoryStorage::new();
        let test = TestBroker::with_topic(storage.clone(), "t", config()).await;
        test.produce("t", spread("a"), Some("k")).await;
        test.broker.shutdown().await;
        forget_shares(&storage, |partition| stored & (1 << partition) == 0);

        let test = TestBroker::try_open(storage, ManualClock::at(START_MS + 5_000)).expect("opens");
        for partitions in [PARTITIONS + 1, PARTITIONS + 5] {
            let change = TopicConfigChange { partitions: Some(partitions), ..TopicConfigChange::default() };
            test.broker.update_topic(&topic("t"), change).await.expect("added");
        }
        let other = test.broker.produce(&topic("t"), spread("b"), Some("k")).await;
        assert!(is_reused(&other), "the key is taken though not all is stored: {other:?}");
        let retried = test.produce("t", spread("a"), Some("k")).await;
        for record in &retried {
            assert_eq!(record.duplicate, stored & (1 << record.partition.0) != 0, "{stored:04b}: {retried:?}");
        }
        // All of it where the claim says.
        assert_eq!(all_values(&test).await, texts("a"), "{stored:04b}");
        let again = test.produce("t", spread("a"), Some("k")).await;
        assert_eq!(places(&again), places(&retried), "{stored:04b}");
        assert!(again.iter().all(|record| record.duplicate));
    }
}

#[tokio::test]
async fn what_comes_after_the_rest_of_a_request_from_before_partitions_were_added_waits_for_it() {
    let storage = MemoryStorage::new();
    let by_key = TopicConfig { ordering: Ordering::Key, backoff_initial_ms: 0, backoff_max_ms: 0, ..config() };
    let test = TestBroker::with_topic(storage.clone(), "t", by_key).await;
    let records = |text: &str| (0..8).map(|n| keyed(&format!("key-{n}"), format!("{text} {n}"))).collect::<Vec<_>>();
    let first = test.produce("t", records("old"), Some("k")).await;
    test.broker.shutdown().await;
    forget_shares(&storage, |_| true);

    let mut test = TestBroker::try_open(storage.clone(), ManualClock::at(START_MS + 5_000)).expect("opens");
    let change = TopicConfigChange { partitions: Some(PARTITIONS + 1), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change).await.expect("added");
    let retried = test.produce("t", records("old"), Some("k")).await;
    assert_eq!(
        places(&retried).iter().map(|place| place.0).collect::<Vec<_>>(),
        places(&first).iter().map(|place| place.0).collect::<Vec<_>>()
    );
    let new = test.produce("t", records("new"), None).await;
    assert!(new.iter().zip(&first).any(|(new, old)| new.partition != old.partition), "some keys have another partition now");
    let all = ReceiveRequest { max_records: Some(100), ..ReceiveRequest::default() };
    for restart in [false, true] {
        if restart {
            test.broker.shutdown().await;
            test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
            test.clock.advance(HOUR);
        }
        let mut got = until_empty(&test, &all).await;
        got.sort();
        assert_eq!(got, (0..8).map(|n| format!("old {n}")).collect::<Vec<_>>(), "restart: {restart}");
        test.clock.advance(HOUR);
    }
    let got = until_empty(&test, &ReceiveRequest { auto_ack: true, ..all }).await;
    let at = |text: String| got.iter().position(|got| *got == text).unwrap_or_else(|| panic!("{text} is not in {got:?}"));
    assert!((0..8).all(|n| at(format!("old {n}")) < at(format!("new {n}"))) && got.len() == 16, "{got:?}");
}

#[tokio::test]
async fn what_came_before_the_rest_of_a_request_from_before_partitions_were_added_waits_for_nothing_that_waits_for_it() {
    let storage = MemoryStorage::new();
    let by_key = TopicConfig { ordering: Ordering::Key, backoff_initial_ms: 0, backoff_max_ms: 0, ..config() };
    let test = TestBroker::with_topic(storage.clone(), "t", by_key).await;
    let records = |text: &str| (0..40).map(|n| keyed(&format!("key-{n}"), format!("{text} {n}"))).collect::<Vec<_>>();
    test.produce("t", records("old"), Some("k")).await;
    test.broker.shutdown().await;
    forget_shares(&storage, |_| true);

    let mut test = TestBroker::try_open(storage.clone(), ManualClock::at(START_MS + 5_000)).expect("opens");
    let change = TopicConfigChange { partitions: Some(PARTITIONS + 1), ..TopicConfigChange::default() };
    test.broker.update_topic(&topic("t"), change).await.expect("added");
    test.produce("t", records("new"), None).await;
    test.produce("t", records("old"), Some("k")).await;
    test.produce("t", records("newest"), None).await;
    for restart in [false, true] {
        if restart {
            test.broker.shutdown().await;
            test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
        }
        let group = if restart { "h" } else { "g" };
        let all = ReceiveRequest { max_records: Some(100), auto_ack: true, ..ReceiveRequest::default() };
        let mut got = Vec::new();
        loop {
            let some = texts_of(&test.receive_with("t", group, &all).await);
            if some.is_empty() {
                break;
            }
            got.extend(some);
        }
        assert_eq!(got.len(), 120, "restart {restart}: nothing is kept back for good");
        let at = |text: String| got.iter().position(|got| *got == text);
        assert!((0..40).all(|n| at(format!("new {n}")) < at(format!("newest {n}"))), "restart {restart}: {got:?}");
    }
}

/// All that a group gets now.
async fn until_empty(test: &TestBroker, request: &ReceiveRequest) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let got = texts_of(&test.receive_with("t", "g", request).await);
        if got.is_empty() {
            return all;
        }
        all.extend(got);
    }
}

/// Opens, makes the topic and sends the request; whether it was acknowledged.
async fn send(storage: CrashStorage) -> bool {
    let Ok(test) = TestBroker::try_open(storage, ManualClock::at(START_MS)) else { return false };
    let _ = test.broker.create_topic(&topic("t"), config()).await;
    let is_stored = test.broker.produce(&topic("t"), spread("a"), Some("k")).await.is_ok();
    test.broker.shutdown().await;
    is_stored
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_one_request_whole_after_its_retry() {
    let whole = CrashStorage::new();
    assert!(send(whole.clone()).await);
    // A group commit may take the shares of several partitions, so that runs differ by a few writes.
    let (writes, mut taken) = (whole.writes() + u64::from(PARTITIONS), [0, 0]);
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let is_acknowledged = send(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} left {leaves:?}");
                let test = TestBroker::open(image);
                test.broker.create_topic(&topic("t"), config()).await.expect("made, or there");
                let before = all_values(&test).await;
                let other = test.broker.produce(&topic("t"), spread("b"), Some("k")).await;
                let first = test.broker.produce(&topic("t"), spread("a"), Some("k")).await;
                assert!(is_reused(&other) != is_reused(&first), "{case}: one has the key: {other:?} {first:?}");
                let winner = if first.is_ok() { "a" } else { "b" };
                taken[usize::from(winner == "a")] += 1;
                assert!(!is_acknowledged || winner == "a", "{case}: acknowledged");
                assert!(before.is_empty() || winner == "a", "{case}: records without their claim: {before:?}");
                assert_eq!(all_values(&test).await, texts(winner), "{case}");
            }
        }
    }
    assert!(taken.iter().all(|&count| count > 0), "the crash came before the claim and behind it: {taken:?}");
}

#[tokio::test]
async fn a_clock_that_steps_back_over_a_buckets_edge_hides_nothing() {
    const BUCKET_MS: u64 = 3 * 3600 * 1000;
    let edge = START_MS.next_multiple_of(BUCKET_MS);
    let keyed = || vec![NewRecord::of("r").with_idempotency_key("r")];
    for back in [Duration::from_secs(25), HOUR, 30 * HOUR] {
        let storage = MemoryStorage::new();
        let test = TestBroker::try_open(storage.clone(), ManualClock::at(edge + 10)).expect("opens");
        test.broker.create_topic(&topic("t"), config()).await.expect("made");
        test.produce("t", keyed(), None).await;
        test.produce("t", spread("a"), Some("k")).await;
        test.produce("t", vec![NewRecord::of("z")], Some("z")).await;
        test.broker.shutdown().await;
        // With its marks, time would not begin before what is stored.
        let marks = (0..4).map(|shard| Mutation::Delete { family: Family::Meta, key: MetaKey::ClockMark(ShardId(shard)).encode() });
        storage.write(&marks.collect::<Vec<_>>(), Durability::Synced).expect("written");
        let earlier = ManualClock::at(edge + 10 - u64::try_from(back.as_millis()).expect("short"));
        let test = TestBroker::try_open(storage, earlier.clone()).expect("opens");
        assert!(earlier.now_ms() < edge, "it stepped back");
        for (records, key) in [(keyed(), None), (spread("a"), Some("k")), (vec![NewRecord::of("z")], Some("z"))] {
            let again = test.produce("t", records, key).await;
            assert!(again.iter().all(|record| record.duplicate), "{back:?} back: {again:?}");
        }
    }
}

#[tokio::test]
async fn entries_are_deleted_when_the_window_of_their_own_topic_is_over() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "short", TopicConfig { dedup_window_ms: 60_000, ..one_partition() }).await;
    test.broker.create_topic(&topic("long"), one_partition()).await.expect("made");
    for name in ["short", "long"] {
        test.produce(name, vec![NewRecord::of("a")], Some("k")).await;
    }
    let entries = || {
        let mut count = 0;
        let all = ShardId(0).dedup_from(0);
        let visit = &mut |_: &[u8], _: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        storage.scan(Family::Dedup, &all.start..&all.end, Direction::Forward, visit).expect("scans");
        count
    };
    assert_eq!(entries(), 2);
    // Past the end of the bucket in which the short window ends, and long before the other's end.
    test.clock.advance(4 * HOUR);
    for _ in 0..1_000 {
        if entries() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(entries(), 1, "the short one is gone, the long one is not");
    let again = |name: &'static str| test.produce(name, vec![NewRecord::of("a")], Some("k"));
    assert!(again("long").await[0].duplicate);
    assert!(!again("short").await[0].duplicate);
}

#[tokio::test]
async fn no_key_is_called_used_by_a_record_that_is_not_stored() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", config()).await;
    let keyed = |text: &'static str, partition| NewRecord::of(text).with_partition(PartitionId(partition)).with_idempotency_key("k");
    let name = topic("t");
    storage.fail_write(1, FailedWrite::NothingApplied);
    // The second one is over two partitions: the shards are asked about its keys while the first one is on its way to the disk.
    let first = test.broker.produce(&name, vec![keyed("a", 0)], None);
    let second = test.broker.produce(&name, vec![keyed("b", 0), keyed("b", 1)], None);
    let (first, second) = tokio::join!(first, second);
    first.expect_err("the write fails");
    assert!(matches!(second, Err(ProduceError::Append(AppendError::Write(_)))), "{second:?}");
}
