//! Retention of topics that stream groups read: what goes before it was committed is counted once, whoever notices.

use crate::common::{START_MS, TestBroker, group, one_partition, topic};
use crate::streams::Member;
use core::time::Duration;
use sagamq_api::stream::{SeekPosition, StreamGroupDescription, StreamSeek};
use sagamq_api::topic::TopicConfig;
use sagamq_broker::NewRecord;
use sagamq_broker::env::{Clock as _, ManualClock};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;

fn for_a_second() -> TopicConfig {
    TopicConfig { retention_ms: 1_000, ..one_partition() }
}

async fn described(test: &TestBroker, of: &str) -> StreamGroupDescription {
    test.broker.describe_stream_group(&group(of)).await.expect("a group")
}

/// How many records were lost, where the group stands, and how far behind it is.
async fn stands(test: &TestBroker, of: &str) -> (u64, u64, u64) {
    let described = described(test, of).await;
    assert_eq!(described.trimmed_unsettled, described.partitions.iter().map(|of| of.trimmed_unsettled).sum::<u64>());
    (described.trimmed_unsettled, described.partitions[0].offset.0, described.lag_records)
}

async fn ten(test: &TestBroker) {
    test.produce_texts("t", (0..10).map(|n| n.to_string())).await;
}

/// Time goes by until all records are too old, and they go.
async fn all_go(test: &TestBroker, records: u64) {
    test.clock.advance(Duration::from_secs(10));
    assert_eq!(test.retain().await, records);
}

#[tokio::test]
async fn what_is_gone_before_it_was_committed_is_counted_over_restarts_too() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", for_a_second()).await;
    ten(&test).await;
    let (mut some, mut none) = (Member::new("m", &["t"]), Member::new("m", &["t"]));
    some.beat(&test, "some").await.expect("joined");
    none.beat(&test, "none").await.expect("joined");
    some.commit(&test, "some", &[("t", 0, 4)]).await.expect("committed");
    assert_eq!(stands(&test, "some").await, (0, 4, 6));
    all_go(&test, 10).await;
    assert_eq!((stands(&test, "some").await, stands(&test, "none").await), ((6, 10, 0), (10, 10, 0)));
    assert_eq!(described(&test, "none").await.partitions[0].committed_at_ms, None, "nobody has committed anything");
    // A group that begins now has lost nothing.
    let mut late = Member::new("m", &["t"]);
    late.beat(&test, "late").await.expect("joined");
    assert_eq!((late.offsets(), stands(&test, "late").await), (vec![10], (0, 10, 0)));
    test.broker.shutdown().await;
    let test = TestBroker::try_open(storage, ManualClock::at(test.clock.now_ms())).expect("opens");
    for (of, lost) in [("some", 6), ("none", 10), ("late", 0)] {
        assert_eq!(stands(&test, of).await, (lost, 10, 0), "{of}");
    }
    ten(&test).await;
    let mut some = Member::new("m", &["t"]);
    some.beat(&test, "some").await.expect("joined");
    assert_eq!(some.offsets(), [10]);
    some.commit(&test, "some", &[("t", 0, 13)]).await.expect("committed");
    all_go(&test, 10).await;
    assert_eq!(stands(&test, "some").await, (6 + 7, 20, 0));
}

#[tokio::test]
async fn a_commit_or_a_seek_below_the_start_counts_nothing_twice() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", for_a_second()).await;
    ten(&test).await;
    let mut member = Member::new("m", &["t"]);
    member.beat(&test, "g").await.expect("joined");
    all_go(&test, 10).await;
    ten(&test).await;
    // It had read seven before they went, and three afterwards.
    for (offset, is_at) in [(7, 10), (13, 13), (5, 10)] {
        member.commit(&test, "g", &[("t", 0, offset)]).await.expect("committed");
        assert_eq!(stands(&test, "g").await, (10, is_at, 20 - is_at), "committed {offset}");
    }
    let seek = StreamSeek { position: Some(SeekPosition::Start), ..StreamSeek::default() };
    test.broker.stream_seek(&group("g"), &seek).await.expect("moved");
    assert_eq!(stands(&test, "g").await, (10, 10, 10));
    let committed = described(&test, "g").await.partitions[0].committed_at_ms;
    assert_eq!(committed, Some(test.clock.now_ms()), "somebody has by now");
    assert_eq!(test.retain().await, 0);
}

#[tokio::test]
async fn a_topic_takes_along_what_was_counted_and_holders_of_it_go_on_with_the_rest() {
    let storage = MemoryStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", for_a_second()).await;
    test.broker.create_topic(&topic("other"), one_partition()).await.expect("made");
    ten(&test).await;
    let mut member = Member::new("m", &["t", "other"]);
    member.beat(&test, "g").await.expect("joined");
    test.clock.advance(Duration::from_secs(10));
    let name = topic("t");
    let (deleted, retained) = tokio::join!(test.broker.delete_topic(&name), test.broker.apply_retention());
    deleted.expect("deleted");
    assert!([0, 10].contains(&retained.expect("looked")), "before or after");
    // It says that it has what is gone.
    member.beat(&test, "g").await.expect("there");
    assert_eq!(member.offsets(), [0]);
    let left = described(&test, "g").await;
    assert_eq!((left.partitions.len(), left.trimmed_unsettled), (1, 0));
    test.broker.create_topic(&topic("t"), for_a_second()).await.expect("made anew");
    member.join_again(&test, "g").await;
    assert_eq!((member.offsets(), described(&test, "g").await.trimmed_unsettled), (vec![0, 0], 0));
    test.broker.shutdown().await;
    TestBroker::try_open(storage, ManualClock::at(test.clock.now_ms())).expect("opens");
}

/// Four of ten records are committed, and retention takes all, until a write fails. What the group was told that it has lost.
async fn lose(storage: CrashStorage) -> Option<u64> {
    let test = TestBroker::try_open(storage, ManualClock::at(START_MS)).ok()?;
    test.broker.create_topic(&topic("t"), for_a_second()).await.ok()?;
    let records = (0..10).map(|n| NewRecord::of(format!("{n}"))).collect();
    test.broker.produce(&topic("t"), records, None).await.ok()?;
    let mut member = Member::new("m", &["t"]);
    member.beat(&test, "g").await.ok()?;
    member.commit(&test, "g", &[("t", 0, 4)]).await.ok()?;
    test.clock.advance(Duration::from_secs(10));
    test.broker.apply_retention().await.ok()?;
    let described = test.broker.describe_stream_group(&group("g")).await.ok()?;
    test.broker.shutdown().await;
    Some(described.trimmed_unsettled)
}

#[tokio::test]
async fn a_crash_at_any_write_forgets_no_loss_that_was_told_and_counts_none_twice() {
    let whole = CrashStorage::new();
    assert_eq!(lose(whole.clone()).await, Some(6));
    let writes = whole.writes();
    assert!(writes > 5, "the run writes often enough to be worth crashing: {writes}");
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let told = lose(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let case = format!("write {at} of {writes} left {leaves:?}");
                let test =
                    TestBroker::try_open(image, ManualClock::at(START_MS + 10_000)).unwrap_or_else(|error| panic!("{case}: {error}"));
                let Ok(opened) = test.broker.describe_stream_group(&group("g")).await else { continue };
                assert!(told.is_none_or(|told| told == opened.trimmed_unsettled), "{case}: {told:?}, and now {opened:?}");
                test.retain().await;
                let lost = described(&test, "g").await.trimmed_unsettled;
                assert!([0, 6, 10].contains(&lost) && told.is_none_or(|told| told == lost), "{case}: {told:?}, and now {lost}");
            }
        }
    }
}
