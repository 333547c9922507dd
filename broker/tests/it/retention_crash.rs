//! Retention at every write that fails, against a model, and over hours.

use crate::common::{START_MS, TestBroker, group, one_partition, topic, within};
use crate::retention::{HOUR, for_an_hour, rows};
use core::time::Duration;
use proptest::prelude::*;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::NewRecord;
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::storage::Family;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Produces and consumes with retention in between, until a write fails. What was acknowledged to the producer, and by the consumer.
async fn run(storage: CrashStorage) -> (Vec<u64>, BTreeSet<u64>, u64) {
    let (mut stored, mut settled) = (Vec::new(), BTreeSet::new());
    let clock = ManualClock::at(START_MS);
    let Ok(test) = TestBroker::try_open(storage, clock.clone()) else { return (stored, settled, START_MS) };
    let _ = test.broker.create_topic(&topic("t"), for_an_hour()).await;
    for n in 0..4_u64 {
        if let Ok(placed) = test.broker.produce(&topic("t"), vec![NewRecord::of(n.to_string())], None).await {
            stored.push(placed[0].offset.expect("stored").0);
        }
        let one = ReceiveRequest { max_records: Some(1), ..ReceiveRequest::default() };
        if let Ok(received) = test.broker.receive(&topic("t"), &group("g"), &one).await {
            for delivery in received.deliveries.iter().filter(|_| n % 2 == 0) {
                let request = sagamq_api::queue::AckRequest { receipts: vec![delivery.receipt.clone()] };
                if test.broker.ack(&topic("t"), &group("g"), &request).await.is_ok() {
                    settled.insert(delivery.record.offset.0);
                }
            }
        }
        clock.advance(Duration::from_secs(25 * 60));
        // A failure shows in what comes next.
        let _ = test.broker.apply_retention().await;
    }
    test.broker.shutdown().await;
    (stored, settled, clock.now_ms())
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_a_log_that_opens_and_goes_on_where_it_was() {
    let whole = CrashStorage::new();
    let (stored, settled, _) = run(whole.clone()).await;
    assert_eq!((stored.len(), settled.len()), (4, 2));
    let writes = whole.writes();
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let (stored, settled, now_ms) = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} of {writes} left {leaves:?}");
                let test = TestBroker::try_open(image, ManualClock::at(now_ms)).unwrap_or_else(|error| panic!("{case}: {error}"));
                test.broker.create_topic(&topic("t"), for_an_hour()).await.expect("made, or there");
                test.retain().await;
                let start = test.log_start("t");
                let log = test.broker.read(&topic("t"), PartitionId(0), &ReadQuery::default()).await.expect("read").records;
                let offsets: Vec<u64> = log.iter().map(|record| record.offset.0).collect();
                // Written every 25 minutes: the two youngest are below an hour.
                let young: Vec<u64> = stored.iter().copied().filter(|&offset| offset >= start).collect();
                assert!(young.iter().all(|offset| offsets.contains(offset)), "{case}: {offsets:?} of {stored:?} from {start}");
                assert!(log.iter().all(|record| record.timestamp_ms.cast_unsigned() + 3_600_000 + 1_000 > now_ms), "{case}: {offsets:?}");
                let next = test.produce_texts("t", ["next"]).await[0].offset.expect("stored").0;
                assert!(stored.iter().all(|&offset| offset < next), "{case}: offset {next} was given before: {stored:?}");
                let mut left = BTreeSet::new();
                for _ in 0..3 {
                    test.clock.advance(Duration::from_secs(600));
                    left.extend(test.receive("t", "g").await.iter().map(|delivery| delivery.record.offset.0));
                }
                assert!(settled.is_disjoint(&left), "{case}: settled {settled:?}, delivered again {left:?}");
                assert!(left.iter().all(|&offset| offset >= start), "{case}: {left:?} from {start}");
                let letters = test.broker.describe_group(&topic("t"), &group("g")).await.expect("described").dead_letters;
                assert_eq!(letters, 0, "{case}");
                test.broker.shutdown().await;
            }
        }
    }
}

/// What a user does, and what time does.
#[derive(Clone, Debug)]
enum Step {
    Produce { records: u64, minutes_ago: u64 },
    Receive { max: u32, ack: bool },
    Pass { minutes: u64 },
    Retain,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..5_u64, 0..90_u64).prop_map(|(records, minutes_ago)| Step::Produce { records, minutes_ago }),
        2 => (1..6_u32, any::<bool>()).prop_map(|(max, ack)| Step::Receive { max, ack }),
        2 => (1..50_u64).prop_map(|minutes| Step::Pass { minutes }),
        2 => Just(Step::Retain),
        1 => Just(Step::Restart),
    ]
}

/// What should be there: the times of all records, those that are settled, where the log begins, what was lost to the group.
#[derive(Debug, Default)]
struct Model {
    times_ms: Vec<u64>,
    /// First offset of each batch: a batch goes as a whole.
    batches: Vec<u64>,
    settled: BTreeSet<u64>,
    start: u64,
    lost: u64,
}

impl Model {
    /// Where the log may begin at the least and at the most.
    fn trim(&mut self, now_ms: u64, start: u64) {
        let old = |offset: u64, slack: u64| self.times_ms[offset as usize] + 3_600_000 + slack <= now_ms;
        let end = self.times_ms.len() as u64;
        let first_young = (self.start..end).find(|&offset| !old(offset, 0)).unwrap_or(end);
        assert!(start >= self.start && start <= first_young, "{start} of {self:?} at {now_ms}");
        // Two steps of the index at the most: that of the entry and that of the batches behind it.
        let must_go = (self.start..end).find(|&offset| !old(offset, 2_000)).unwrap_or(end);
        let whole = self.batches.iter().copied().filter(|&base| base <= must_go).max().unwrap_or(0);
        let must_go = if must_go == end { end } else { whole };
        assert!(start >= must_go.max(self.start), "{start} of {must_go}, {self:?} at {now_ms}");
        self.lost += (self.start..start).filter(|offset| !self.settled.contains(offset)).count() as u64;
        self.settled.extend(self.start..start);
        self.start = start;
    }
}

async fn play(steps: Vec<Step>) {
    let storage = MemoryStorage::new();
    let mut test = TestBroker::with_topic(storage.clone(), "t", for_an_hour()).await;
    test.broker.ensure_group(&topic("t"), &group("g"), sagamq_api::queue::StartPosition::Earliest).await.expect("made");
    let mut model = Model::default();
    for step in steps {
        let now_ms = test.clock.now_ms();
        match step {
            Step::Produce { records, minutes_ago } => {
                let at_ms = now_ms - minutes_ago * 60_000;
                let record = NewRecord { timestamp_ms: Some(at_ms.cast_signed()), ..NewRecord::of("x") };
                let placed = test.produce("t", vec![record; records as usize], None).await;
                assert_eq!(placed[0].offset.expect("stored").0, model.times_ms.len() as u64);
                model.batches.push(placed[0].offset.expect("stored").0);
                model.times_ms.extend((0..records).map(|_| at_ms));
            }
            Step::Receive { max, ack } => {
                let request = ReceiveRequest { max_records: Some(max), lease_ms: Some(3_600_000), ..ReceiveRequest::default() };
                let got = test.receive_with("t", "g", &request).await;
                for delivery in &got {
                    let offset = delivery.record.offset.0;
                    assert!(offset >= model.start && !model.settled.contains(&offset), "{offset} of {model:?}");
                }
                if ack && !got.is_empty() {
                    test.ack("t", "g", &got).await;
                    model.settled.extend(got.iter().map(|delivery| delivery.record.offset.0));
                }
            }
            Step::Pass { minutes } => test.clock.advance(Duration::from_secs(minutes * 60)),
            Step::Retain => {
                test.retain().await;
                model.trim(now_ms, test.log_start("t"));
            }
            Step::Restart => {
                test.broker.shutdown().await;
                test = TestBroker::try_open(storage.clone(), ManualClock::at(now_ms)).expect("opens");
            }
        }
        let described = test.broker.describe_group(&topic("t"), &group("g")).await.expect("described");
        let end = model.times_ms.len() as u64;
        let unsettled = (model.start..end).filter(|offset| !model.settled.contains(offset)).count() as u64;
        assert_eq!((described.lag_records, described.trimmed_unsettled), (unsettled, model.lost), "{model:?}");
        assert_eq!(described.dead_letters, 0);
        let all = ReadQuery { max_records: Some(1_000), ..ReadQuery::default() };
        let read = test.broker.read(&topic("t"), PartitionId(0), &all).await.expect("read");
        let offsets: Vec<u64> = read.records.iter().map(|record| record.offset.0).collect();
        assert_eq!(offsets, (model.start..end).collect::<Vec<_>>());
    }
    test.broker.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_with_a_group_is_what_a_simple_model_says(steps in proptest::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(play(steps));
    }
}

#[tokio::test]
async fn rows_are_flat_over_a_day() {
    let storage = MemoryStorage::new();
    let config = TopicConfig { delivery_limit: 0, ..for_an_hour() };
    let test = TestBroker::with_topic(storage.clone(), "t", config).await;
    let mut after_two = 0;
    let families = [Family::Log, Family::TimeIndex, Family::Group, Family::Meta];
    for minute in 0..24 * 60_u64 {
        test.produce_texts("t", ["a", "b"]).await;
        if minute % 3 == 0 {
            let got = test.receive("t", "g").await;
            test.ack("t", "g", &got[..got.len() / 2]).await;
        }
        test.clock.advance(Duration::from_secs(60));
        test.retain().await;
        let all = families.iter().map(|&family| rows(&storage, family)).sum::<usize>();
        if minute == 120 {
            after_two = all;
        }
        assert!(minute < 120 || all <= after_two + 130, "minute {minute}: {all} rows, {after_two} after two hours");
    }
    assert!(test.log_start("t") > 2 * 22 * 60);
}

fn bytes_of_values(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry"));
    let values = files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "blob"));
    // One may go between the look and the question.
    values.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_flat_over_hours() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = RocksOptions {
        log_buffer_bytes: 128 << 10,
        space_interval: Duration::from_millis(20),
        dead_bytes_max: 0,
        ..RocksOptions::default()
    };
    let storage = Arc::new(RocksStorage::open(directory.path(), &options).expect("opens"));
    let test = TestBroker::with_topic(storage, "t", for_an_hour()).await;
    let kept_config = TopicConfig { retention_ms: 0, ..one_partition() };
    test.broker.create_topic(&topic("kept"), kept_config).await.expect("made");
    // Twelve megabytes an hour, and beside them a little that stays in the same files.
    for tick in 0..6 * 60_u64 {
        let value: Vec<u8> = (0..200 << 10).map(|at: u64| (at.wrapping_mul(2_654_435_761 + tick) >> 7) as u8).collect();
        test.produce("t", vec![NewRecord::of(value)], None).await;
        if tick % 30 == 0 {
            test.produce("kept", vec![NewRecord::of(vec![1; 4_096])], None).await;
        }
        test.clock.advance(Duration::from_secs(60));
        test.retain().await;
    }
    within("what was taken gives its space back", async {
        // An hour lives; a third more may be dead, and the files that are being written.
        while bytes_of_values(directory.path()) > (12 << 20) * 4 / 3 + (2 << 20) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let first = test.broker.read(&topic("t"), PartitionId(0), &ReadQuery { max_records: Some(1), ..ReadQuery::default() }).await;
    assert_eq!(first.expect("read").records[0].offset, Offset(test.log_start("t")));
    assert_eq!(test.broker.describe_topic(&topic("kept")).expect("there").partitions[0].log_start_offset, Offset(0));
    assert!(test.log_start("t") >= 5 * 60 - 2, "{}", test.log_start("t"));
    test.clock.advance(2 * HOUR);
    test.retain().await;
    within("an emptied topic gives all its space back", async {
        while bytes_of_values(directory.path()) > 3 << 20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
