//! Records that are to be appended later: when, in which order, once, and until when they can be taken back.

use crate::common::{START_MS, Says as _, TestBroker, one_partition, topic, within};
use core::time::Duration;
use sagamq_api::schedule::ScheduleQuery;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{PartitionId, ScheduleId};
use sagamq_broker::env::{Clock as _, ManualClock, Random};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Family, Storage};
use sagamq_broker::{AppendError, At, BrokerConfig, Due, NewRecord, ProduceError, Produced, ScheduleConfig, ScheduleError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

fn later(text: impl Into<String>, ms: u64) -> NewRecord {
    NewRecord::of(text.into()).with_due(Due::After(ms))
}

fn id_of(produced: &[Produced]) -> ScheduleId {
    produced[0].schedule.expect("it waits")
}

/// Everything in all partitions of a topic.
async fn all_values(test: &TestBroker, name: &str) -> Vec<String> {
    let mut values = Vec::new();
    for partition in test.broker.describe_topic(&topic(name)).expect("there").partitions {
        values.extend(test.values(name, partition.partition.0).await);
    }
    values
}

/// Waits until so many records are in the topic, and gives them.
async fn until_stored(test: &TestBroker, name: &str, count: usize) -> Vec<String> {
    within("what is due is appended", async {
        loop {
            let values = all_values(test, name).await;
            if values.len() >= count {
                return values;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Every id that waits, over pages of this size.
async fn listed(test: &TestBroker, name: &str, page: u32) -> Vec<ScheduleId> {
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let query = ScheduleQuery { max_records: Some(page), cursor: cursor.take() };
        let answer = test.broker.schedules(&topic(name), &query).await.expect("listed");
        assert!(answer.schedules.len() <= page as usize);
        ids.extend(answer.schedules.iter().map(|schedule| schedule.id));
        match answer.next_cursor {
            None => return ids,
            Some(next) => cursor = Some(next.to_string()),
        }
    }
}

fn rows(storage: &impl Storage) -> usize {
    let mut rows = 0;
    let visit = &mut |_: &[u8], _: &[u8]| {
        rows += 1;
        ControlFlow::Continue(())
    };
    storage.scan(Family::Schedule, &[][..]..&[u8::MAX; 64][..], Direction::Forward, visit).expect("scans");
    rows
}

#[tokio::test]
async fn a_record_waits_until_it_is_due_and_its_time_is_that_of_its_appending() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let answer = test.produce("t", vec![NewRecord::of("now"), later("later", 60_000)], None).await;
    assert_eq!((answer[0].offset.map(|offset| offset.0), answer[0].schedule), (Some(0), None));
    assert_eq!((answer[1].offset, answer[1].timestamp_ms), (None, i64::try_from(START_MS + 60_000).expect("small")));
    let id = answer[1].schedule.expect("it waits");
    let listing = test.broker.schedules(&topic("t"), &ScheduleQuery::default()).await.expect("listed");
    let [schedule] = &listing.schedules[..] else { panic!("one waits: {listing:?}") };
    assert_eq!((schedule.id, schedule.arrived_ms, schedule.bytes, schedule.partition), (id, START_MS, 5, PartitionId(0)));
    test.clock.advance(Duration::from_millis(59_999));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(test.values("t", 0).await, ["now"], "it is not due yet");
    test.clock.advance(Duration::from_millis(2));
    assert_eq!(until_stored(&test, "t", 2).await, ["now", "later"]);
    let read = test.broker.read(&topic("t"), PartitionId(0), &ReadQuery::default()).await.expect("read");
    assert_eq!(read.records[1].timestamp_ms, i64::try_from(test.clock.now_ms()).expect("small"));
    assert_eq!(listed(&test, "t", 10).await, []);
    let again = test.broker.cancel_schedule(&topic("t"), id).await;
    assert!(matches!(again, Err(ScheduleError::NotFound { .. })), "{again:?}");
}

#[tokio::test]
async fn records_are_appended_as_they_are_due_and_of_one_moment_as_they_arrived() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let at = |text: &str, ms: u64| NewRecord::of(text.to_owned()).with_due(Due::At(START_MS + ms));
    test.produce("t", vec![at("d", 300), at("b", 200), at("a", 100)], None).await;
    test.produce("t", vec![at("c", 200), at("e", 300)], None).await;
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(until_stored(&test, "t", 5).await, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn what_is_due_already_is_appended_at_once_and_what_cannot_be_is_refused() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let due = |due| NewRecord::of("v").with_due(due);
    for past in [Due::At(0), Due::At(START_MS), Due::After(0)] {
        let stored = test.produce("t", vec![due(past)], None).await;
        assert!(stored[0].offset.is_some() && stored[0].schedule.is_none(), "{past:?}");
    }
    let year = 365 * 24 * 3_600_000;
    test.produce("t", vec![due(Due::After(year))], None).await;
    let far = test.broker.produce(&topic("t"), vec![due(Due::After(year + 1))], None).await;
    assert!(matches!(far, Err(ProduceError::DueAhead { index: 0, .. })), "{far:?}");
    let timed = NewRecord { timestamp_ms: Some(5), ..due(Due::After(5)) };
    let timed = test.broker.produce(&topic("t"), vec![NewRecord::of("v"), timed], None).await;
    assert!(matches!(timed, Err(ProduceError::DueWithTime(1))), "{timed:?}");
    assert_eq!(test.values("t", 0).await.len(), 3, "a refused request stores nothing");
}

#[tokio::test]
async fn a_duplicate_is_answered_with_the_schedule_until_it_is_due_and_then_with_the_offset() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    let record = || later("v", 3 * 24 * 3_600_000).with_idempotency_key("k");
    let first = test.produce("t", vec![record()], None).await;
    let both = test.produce("t", vec![record(), record()], None).await;
    assert!(both.iter().all(|again| again.duplicate && again.schedule == first[0].schedule && again.timestamp_ms == first[0].timestamp_ms));
    for other in [later("other", 3 * 24 * 3_600_000), later("v", 5), NewRecord::of("v")] {
        let refused = test.broker.produce(&topic("t"), vec![other.with_idempotency_key("k")], None).await;
        let Err(
            ProduceError::Append(AppendError::KeyReused { first: at, .. })
            | ProduceError::KeyReused { reason: AppendError::KeyReused { first: at, .. }, .. },
        ) = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!(at, first[0].schedule.map(At::Schedule));
    }
    // Longer than the window of the topic, and over a restart.
    test.clock.advance(Duration::from_secs(2 * 24 * 3600));
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
    let again = test.produce("t", vec![record()], None).await;
    assert_eq!((again[0].duplicate, again[0].schedule), (true, first[0].schedule));
    test.clock.advance(Duration::from_secs(24 * 3600));
    until_stored(&test, "t", 1).await;
    let again = test.produce("t", vec![record()], None).await;
    assert_eq!((again[0].duplicate, again[0].offset.map(|offset| offset.0), again[0].schedule), (true, Some(0), None));
    let other = test.broker.produce(&topic("t"), vec![later("other", 5).with_idempotency_key("k")], None).await;
    assert!(other.is_err(), "the key counts for the window of the topic, from the appending on: {other:?}");
    test.clock.advance(Duration::from_secs(25 * 3600));
    let anew = test.produce("t", vec![record()], None).await;
    assert_eq!((anew[0].duplicate, anew[0].schedule.is_some()), (false, true));
}

#[tokio::test]
async fn a_key_of_one_request_is_not_both_of_a_record_for_now_and_of_one_for_later() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let records = vec![NewRecord::of("v").with_idempotency_key("k"), later("v", 1_000).with_idempotency_key("k")];
    let refused = test.broker.produce(&topic("t"), records, None).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!((test.values("t", 0).await.len(), listed(&test, "t", 10).await.len()), (0, 0));
}

#[tokio::test]
async fn the_key_of_a_request_covers_what_it_schedules() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { partitions: 6, ..TopicConfig::default() }).await;
    let records = || -> Vec<NewRecord> {
        let record = |n: u32| match n % 3 {
            0 => NewRecord::of(n.to_string()),
            1 => later(n.to_string(), 1_000),
            _ => later(n.to_string(), 100_000),
        };
        (0..30).map(|n| record(n).with_key(format!("k{n}"))).collect()
    };
    let first = test.produce("t", records(), Some("key")).await;
    let again = test.produce("t", records(), Some("key")).await;
    assert!(again.iter().all(|record| record.duplicate));
    let places = |of: &[Produced]| of.iter().map(|record| (record.partition, record.offset, record.schedule)).collect::<Vec<_>>();
    assert_eq!(places(&first), places(&again));
    let mut other = records();
    other[1].due = Some(Due::After(1_001));
    let refused = test.broker.produce(&topic("t"), other, Some("key")).await;
    assert!(matches!(refused, Err(ProduceError::Append(AppendError::RequestKeyReused { .. }))), "{refused:?}");
    test.clock.advance(Duration::from_secs(2));
    until_stored(&test, "t", 20).await;
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
    let again = test.produce("t", records(), Some("key")).await;
    assert!(again.iter().all(|record| record.duplicate));
    assert_eq!(again.iter().filter(|record| record.offset.is_some()).count(), 20);
    assert!((0..30).filter(|n| n % 3 != 1).all(|n| places(&again)[n] == places(&first)[n]));
    assert_eq!((all_values(&test, "t").await.len(), listed(&test, "t", 100).await.len()), (20, 10), "nothing is there twice");
}

#[tokio::test]
async fn a_cancelled_record_is_never_appended_and_its_key_is_free() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    let record = |text: &str, ms| later(text, ms).with_idempotency_key("k");
    let id = id_of(&test.produce("t", vec![record("never", 1_000)], None).await);
    test.broker.cancel_schedule(&topic("t"), id).await.expect("it waited");
    let wrong = [id, ScheduleId { shard: 900, ..id }, ScheduleId { index: 7, ..id }, ScheduleId { commit: u64::MAX, ..id }];
    for id in wrong {
        let again = test.broker.cancel_schedule(&topic("t"), id).await;
        assert!(matches!(again, Err(ScheduleError::NotFound { .. })), "{id}: {again:?}");
    }
    test.produce("t", vec![record("another", 2_000)], None).await;
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, test.clock.clone()).expect("opens");
    test.clock.advance(Duration::from_secs(3));
    assert_eq!(until_stored(&test, "t", 1).await, ["another"]);
}

#[tokio::test]
async fn a_shard_lets_as_many_wait_as_it_is_told_and_a_refused_request_schedules_nothing() {
    let config = BrokerConfig { shards: 4, schedules: ScheduleConfig { records_max: 3, bytes_max: 1_000 }, ..BrokerConfig::default() };
    let test = TestBroker::try_open_with(MemoryStorage::new(), ManualClock::at(START_MS), config).expect("opens");
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("made");
    let once = |n: u32| later(n.to_string(), 1_000).with_idempotency_key(n.to_string());
    let first = test.produce("t", vec![once(0), once(1)], None).await;
    let refused = test.broker.produce(&topic("t"), vec![NewRecord::of("now"), once(2), once(3)], None).await;
    let Err(ProduceError::Append(error @ AppendError::ScheduleLimit { records: 2, records_max: 3, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(error.to_string().contains("schedule_records_max"), "{error}");
    assert_eq!((test.values("t", 0).await.len(), listed(&test, "t", 10).await.len()), (0, 2));
    test.produce("t", vec![once(0), once(1), once(2)], None).await;
    let large = test.broker.produce(&topic("t"), vec![later("x".repeat(2_000), 5)], None).await;
    assert!(matches!(large, Err(ProduceError::Append(AppendError::ScheduleLimit { .. }))), "{large:?}");
    test.broker.cancel_schedule(&topic("t"), id_of(&first)).await.expect("it waited");
    test.produce("t", vec![once(3)], None).await;
    test.clock.advance(Duration::from_secs(2));
    until_stored(&test, "t", 3).await;
    test.produce("t", vec![once(4), once(5), once(6)], None).await;
}

#[tokio::test]
async fn what_one_shard_has_stored_and_another_has_refused_is_told_as_stored_in_part_and_completed_under_its_key() {
    let config = BrokerConfig { shards: 2, schedules: ScheduleConfig { records_max: 1, bytes_max: 1_000 }, ..BrokerConfig::default() };
    let test = TestBroker::try_open_with(MemoryStorage::new(), ManualClock::at(START_MS), config).expect("opens");
    test.broker.create_topic(&topic("t"), TopicConfig { partitions: 16, ..TopicConfig::default() }).await.expect("made");
    // Which partitions lie on which shard, by the ids of what waits there.
    let mut shards = Vec::new();
    for partition in 0..16 {
        let id = id_of(&test.produce("t", vec![later("x", 1_000).with_partition(PartitionId(partition))], None).await);
        test.broker.cancel_schedule(&topic("t"), id).await.expect("it waited");
        shards.push(id.shard);
    }
    let other = u32::try_from(shards.iter().position(|shard| *shard != shards[0]).expect("both shards have some")).expect("small");
    let waits = id_of(&test.produce("t", vec![later("waits", 1_000).with_partition(PartitionId(0))], None).await);
    let request = || vec![later("too many", 500).with_partition(PartitionId(0)), NewRecord::of("now").with_partition(PartitionId(other))];
    let refused = test.broker.produce(&topic("t"), request(), Some("k")).await;
    let Err(ProduceError::InPart(reason)) = &refused else { panic!("{refused:?}") };
    assert!(matches!(&**reason, ProduceError::Append(AppendError::ScheduleLimit { .. })), "{reason:?}");
    assert_eq!((test.values("t", other).await, listed(&test, "t", 10).await.len()), (vec!["now".to_owned()], 1));
    // Of what every shard refuses, nothing is stored.
    let alone = test.broker.produce(&topic("t"), vec![later("too many", 500).with_partition(PartitionId(0))], None).await;
    assert!(matches!(alone, Err(ProduceError::Append(AppendError::ScheduleLimit { .. }))), "{alone:?}");
    test.broker.cancel_schedule(&topic("t"), waits).await.expect("it waited");
    let again = test.produce("t", request(), Some("k")).await;
    assert_eq!(again.iter().map(|produced| produced.duplicate).collect::<Vec<_>>(), [false, true]);
    assert_eq!((test.values("t", other).await, listed(&test, "t", 10).await.len()), (vec!["now".to_owned()], 1), "once");
}

#[tokio::test]
async fn a_topics_schedules_go_with_it() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { partitions: 6, ..TopicConfig::default() }).await;
    test.broker.create_topic(&topic("stays"), one_partition()).await.expect("made");
    let records = || (0..20).map(|n| later("old", 1_000 + n).with_key(n.to_string()).with_idempotency_key(n.to_string())).collect();
    let id = id_of(&test.produce("t", records(), None).await);
    test.produce("stays", vec![later("stays", 1_000)], None).await;
    test.broker.delete_topic(&topic("t")).await.expect("deleted");
    assert_eq!(rows(&storage), 2, "how many wait of the other, and that one");
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("another of its name");
    assert!(matches!(test.broker.cancel_schedule(&topic("t"), id).await, Err(ScheduleError::NotFound { .. })));
    test.produce("t", vec![later("new", 2_000)], None).await;
    test.clock.advance(Duration::from_secs(5));
    assert_eq!((until_stored(&test, "t", 1).await, until_stored(&test, "stays", 1).await), (vec!["new".into()], vec!["stays".into()]));
    test.broker.shutdown().await;
    TestBroker::try_open(storage, test.clock.clone()).expect("opens");
}

#[tokio::test]
async fn a_page_of_the_list_goes_on_where_the_last_one_ended() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 9, ..TopicConfig::default() }).await;
    let records = (0..60_u64).map(|n| later("v", 1_000 + n % 7).with_key(n.to_string())).collect();
    let mut wanted: Vec<_> = test.produce("t", records, None).await.iter().map(|produced| produced.schedule.expect("it waits")).collect();
    wanted.sort_unstable();
    for page in [1, 7, 59, 60, 1_000] {
        assert_eq!(listed(&test, "t", page).await, wanted, "pages of {page}");
    }
    for query in [ScheduleQuery { max_records: Some(0), cursor: None }, ScheduleQuery { max_records: None, cursor: Some("x".into()) }] {
        assert!(matches!(test.broker.schedules(&topic("t"), &query).await, Err(ScheduleError::Parameter(_))), "{query:?}");
    }
}

#[tokio::test]
async fn a_burst_is_appended_in_pieces_and_others_are_answered_between() {
    const RECORDS: usize = 20_000;
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.broker.create_topic(&topic("other"), one_partition()).await.expect("made");
    for part in 0..RECORDS / 10_000 {
        test.produce("t", (0..10_000).map(|n| later(format!("{}", part * 10_000 + n), 1_000)).collect(), None).await;
    }
    let before = storage.writes();
    test.clock.advance(Duration::from_secs(2));
    let mut answered = 0;
    within("all are appended", async {
        while test.broker.describe_topic(&topic("t")).expect("there").partitions[0].high_watermark.0 < RECORDS as u64 {
            test.produce_texts("other", ["between"]).await;
            answered += 1;
        }
    })
    .await;
    let values = test.values("t", 0).await;
    assert!(values.iter().enumerate().all(|(n, value)| *value == n.to_string()) && values.len() == RECORDS, "in order, and once");
    assert!(storage.writes() - before >= RECORDS as u64 / 1_000, "in pieces");
    assert!(answered > 1, "who produces to the same shard is answered meanwhile");
}

/// What must be in the log, and what must wait, by the texts of the records.
#[derive(Default)]
struct Model {
    waits: BTreeMap<ScheduleId, String>,
    stored: Vec<String>,
}

#[tokio::test]
async fn whatever_is_scheduled_cancelled_and_restarted_every_record_is_appended_once_and_in_order() {
    for seed in 0..12 {
        let (storage, mut random) = (MemoryStorage::new(), Random::from_seed(seed));
        let mut test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
        let mut model = Model::default();
        for step in 0..60 {
            match random.next_u64() % 8 {
                0..=3 => {
                    let ms = random.next_u64() % 500 + 1;
                    let produced = test.produce("t", vec![later(format!("{seed} {step}"), ms)], None).await;
                    model.waits.insert(id_of(&produced), format!("{seed} {step}"));
                }
                4 => {
                    let place = usize::try_from(random.next_u64() % 64).expect("small");
                    if let Some((&id, _)) = model.waits.iter().nth(place) {
                        test.broker.cancel_schedule(&topic("t"), id).await.expect("it waits");
                        model.waits.remove(&id);
                    }
                }
                5 | 6 => test.clock.advance(Duration::from_millis(random.next_u64() % 200)),
                _ => {
                    test.broker.shutdown().await;
                    // Its clock may begin a little later than the one before has stopped.
                    test = TestBroker::try_open(storage.clone(), test.clock.clone()).expect("opens");
                }
            }
            let now_ms = test.clock.now_ms();
            let due: Vec<_> = model.waits.keys().copied().take_while(|id| id.due_ms <= now_ms).collect();
            model.stored.extend(due.iter().filter_map(|id| model.waits.remove(id)));
            assert_eq!(until_stored(&test, "t", model.stored.len()).await, model.stored, "seed {seed}, step {step}");
            assert_eq!(listed(&test, "t", 5).await, model.waits.keys().copied().collect::<Vec<_>>(), "seed {seed}, step {step}");
        }
    }
}

/// What was acknowledged: scheduled, and cancelled.
type Acknowledged = (BTreeSet<String>, BTreeSet<String>);

fn record(n: u64) -> NewRecord {
    later(n.to_string(), 1_000 + n / 2).with_key(n.to_string()).with_idempotency_key(format!("key-{n}"))
}

/// Schedules, cancels and lets time pass, until a write fails.
async fn run(storage: CrashStorage) -> Acknowledged {
    let (mut scheduled, mut cancelled) = (BTreeSet::new(), BTreeSet::new());
    let Ok(test) = TestBroker::try_open(storage, ManualClock::at(START_MS)) else { return (scheduled, cancelled) };
    let _ = test.broker.create_topic(&topic("t"), TopicConfig { partitions: 2, ..TopicConfig::default() }).await;
    for n in 0..6 {
        let Ok(produced) = test.broker.produce(&topic("t"), vec![record(n)], None).await else { continue };
        scheduled.insert(n.to_string());
        if n == 3 && test.broker.cancel_schedule(&topic("t"), id_of(&produced)).await.is_ok() {
            cancelled.insert(n.to_string());
        }
    }
    for _ in 0..3 {
        test.clock.advance(Duration::from_millis(1_000));
        within("what is due is appended, or a write failed", async {
            while test.broker.writes_stopped().is_none() && test.broker.describe_topic(&topic("t")).is_ok() {
                let waits = test.broker.schedules(&topic("t"), &ScheduleQuery::default()).await.expect("listed").schedules;
                if waits.iter().all(|schedule| schedule.id.due_ms > test.clock.now_ms()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }
    test.broker.shutdown().await;
    (scheduled, cancelled)
}

#[tokio::test]
async fn a_crash_at_any_write_loses_no_schedule_and_appends_none_twice() {
    let whole = CrashStorage::new();
    let (scheduled, cancelled) = run(whole.clone()).await;
    assert_eq!((scheduled.len(), cancelled.len()), (6, 1));
    let writes = whole.writes();
    assert!(writes > 8, "the run writes often enough to be worth crashing: {writes}");
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let (scheduled, cancelled) = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} of {writes} left {leaves:?}");
                let test = TestBroker::open(image);
                test.clock.advance(Duration::from_secs(60));
                let Ok(described) = test.broker.describe_topic(&topic("t")) else {
                    assert!(scheduled.is_empty(), "{case}: {scheduled:?} were acknowledged");
                    continue;
                };
                drop(described);
                within("nothing waits", async {
                    while !listed(&test, "t", 100).await.is_empty() {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                })
                .await;
                let values = all_values(&test, "t").await;
                let unique: BTreeSet<String> = values.iter().cloned().collect();
                assert_eq!(unique.len(), values.len(), "{case}: appended twice: {values:?}");
                let lost: Vec<_> = scheduled.difference(&unique).filter(|text| !cancelled.contains(*text) && *text != "3").collect();
                assert!(lost.is_empty(), "{case}: lost {lost:?}");
                assert!(unique.is_disjoint(&cancelled), "{case}: cancelled {cancelled:?}, appended {values:?}");
                // A retry of what was appended stores nothing.
                for n in (0..6).filter(|n: &u64| unique.contains(&n.to_string())) {
                    assert!(test.produce("t", vec![record(n)], None).await[0].duplicate, "{case}: {n}");
                }
            }
        }
    }
}

#[tokio::test]
async fn damage_among_the_records_that_wait_is_refused_at_the_open() {
    use sagamq_broker::storage::{Durability, Mutation};
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce("t", vec![later("v", 1_000)], None).await;
    test.broker.shutdown().await;
    let mut keys = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    };
    storage.scan(Family::Schedule, &[][..]..&[u8::MAX; 64][..], Direction::Forward, visit).expect("scans");
    assert_eq!(keys.len(), 2);
    for key in keys {
        let image = storage.after_kill();
        image.write(&[Mutation::Delete { family: Family::Schedule, key }], Durability::Synced).expect("written");
        let refused = TestBroker::try_open(image, ManualClock::at(START_MS)).err().expect("refused").to_string();
        assert!(refused.contains("that wait"), "{refused}");
    }
}

#[tokio::test]
async fn what_says_of_a_record_when_it_came_is_read_from_the_record() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", one_partition()).await;
    let record = later("body", 10).with_key("the key").with_header("a", "b");
    test.produce("t", vec![record], None).await;
    let listing = test.broker.schedules(&topic("t"), &ScheduleQuery::default()).await.expect("listed");
    assert_eq!(listing.schedules[0].key.as_deref(), Some(&b"the key"[..]));
    test.clock.advance(Duration::from_secs(1));
    until_stored(&test, "t", 1).await;
    let read = test.broker.read(&topic("t"), PartitionId(0), &ReadQuery::default()).await.expect("read");
    let payload = &read.records[0].payload;
    assert_eq!((read.records[0].text().as_deref(), payload.key.as_deref()), (Some("body"), Some(&b"the key"[..])));
    assert!(payload.headers.contains("a"));
}
