//! What operators do to a queue group: pause and resume it, skip all that is there, begin anew somewhere; with crashes at every write.

use crate::common::{Says as _, TestBroker, group, one_partition, topic, within};
use core::time::Duration;
use sagamq_api::queue::{AckRequest, EmptyReason, GroupSeek, NackRequest, PurgeRequest, ReceiveRequest, SettleStatus, StartPosition};
use sagamq_api::stream::SeekPosition;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{Offset, PartitionId};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Delivered, NewRecord, OperateGroupError, SettleError};

fn offsets(deliveries: &[Delivered]) -> Vec<u64> {
    deliveries.iter().map(|delivered| delivered.record.offset.0).collect()
}

fn receipts(deliveries: &[Delivered]) -> AckRequest {
    AckRequest { receipts: deliveries.iter().map(|delivered| delivered.receipt.clone()).collect() }
}

fn at_most(max: u32) -> ReceiveRequest {
    ReceiveRequest { max_records: Some(max), ..ReceiveRequest::default() }
}

/// Ten records, of which the group has settled two and has two leased.
async fn begun(storage: impl sagamq_broker::storage::Storage) -> (TestBroker, Vec<Delivered>) {
    let test = TestBroker::with_topic(storage, "t", one_partition()).await;
    for n in 0..10 {
        let record = NewRecord { timestamp_ms: Some(1_000 + n), ..NewRecord::of(n.to_string()) };
        test.produce("t", vec![record], None).await;
    }
    let mut leased = test.receive_with("t", "g", &at_most(4)).await;
    let left = leased.split_off(2);
    test.ack("t", "g", &leased).await;
    (test, left)
}

impl TestBroker {
    async fn pause(&self, paused: bool) -> Result<(), OperateGroupError> {
        self.broker.pause_group(&topic("t"), &group("g"), paused).await.map(drop)
    }

    async fn purge(&self) -> Result<u64, OperateGroupError> {
        self.broker.purge_group(&topic("t"), &group("g"), &PurgeRequest::default()).await.map(|purged| purged.purged)
    }

    /// Where it stands then, what was skipped, and what comes again.
    async fn seek(&self, request: &GroupSeek) -> Result<(u64, u64, u64), OperateGroupError> {
        let sought = self.broker.seek_group(&topic("t"), &group("g"), request).await?;
        Ok((sought.partitions[0].offset.0, sought.skipped, sought.again))
    }

    async fn lag(&self) -> (bool, u64) {
        let group = self.broker.describe_group(&topic("t"), &group("g")).await.expect("there");
        (group.paused, group.lag_records)
    }
}

fn to(position: SeekPosition) -> GroupSeek {
    GroupSeek { position: Some(position), ..GroupSeek::default() }
}

#[tokio::test]
async fn a_paused_group_gets_nothing_until_it_is_resumed_and_settles_what_it_has() {
    let storage = MemoryStorage::new();
    let (test, leased) = begun(storage.clone()).await;
    test.pause(true).await.expect("paused");
    test.pause(true).await.expect("twice is once");
    let empty = test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await.expect("received");
    assert_eq!((empty.deliveries.len(), empty.empty_reason), (0, Some(EmptyReason::Paused)));
    test.ack("t", "g", &leased[..1]).await;
    let nack = NackRequest { receipts: receipts(&leased[1..]).receipts, delay_ms: Some(0), reason: None, not_begun: false };
    test.broker.nack(&topic("t"), &group("g"), &nack).await.expect("given back");
    drop(test);
    let test = TestBroker::open(storage);
    assert_eq!(test.lag().await, (true, 7));
    let auto_ack = ReceiveRequest { auto_ack: true, ..ReceiveRequest::default() };
    assert!(test.receive_with("t", "g", &auto_ack).await.is_empty());
    // Another group is none of its business.
    assert_eq!(test.receive("t", "other").await.len(), 10);
    let patient = ReceiveRequest { wait_ms: Some(20_000), ..ReceiveRequest::default() };
    let waiting = test.receive_with("t", "g", &patient);
    let resume = async {
        tokio::task::yield_now().await;
        test.pause(false).await.expect("resumed");
    };
    let (received, ()) = within("what waited", async { tokio::join!(waiting, resume) }).await;
    assert_eq!(offsets(&received), [3, 4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_purge_settles_what_is_there_and_nothing_that_comes() {
    let storage = MemoryStorage::new();
    let (test, leased) = begun(storage.clone()).await;
    assert_eq!(test.purge().await.expect("purged"), 8);
    assert_eq!(test.purge().await.expect("purged"), 0, "there is nothing left");
    let late = test.broker.ack(&topic("t"), &group("g"), &receipts(&leased)).await.expect("answered");
    assert!(late.results.iter().all(|result| result.status == SettleStatus::AlreadySettled), "{late:?}");
    test.produce_texts("t", ["new"]).await;
    drop(test);
    let test = TestBroker::open(storage);
    assert_eq!(test.lag().await, (false, 1));
    assert_eq!(offsets(&test.receive("t", "g").await), [10]);
    let missing = PurgeRequest { partition: Some(PartitionId(1)) };
    let missing = test.broker.purge_group(&topic("t"), &group("g"), &missing).await;
    assert!(matches!(missing, Err(OperateGroupError::PartitionNotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_seek_delivers_again_or_skips_and_ends_every_lease() {
    let storage = MemoryStorage::new();
    let (test, leased) = begun(storage.clone()).await;
    assert_eq!(test.seek(&to(SeekPosition::Start)).await.expect("moved"), (0, 0, 2));
    let fenced = test.broker.ack(&topic("t"), &group("g"), &receipts(&leased)).await;
    assert!(matches!(fenced, Err(SettleError::AllExpired)), "their leases are over: {fenced:?}");
    let again = test.receive_with("t", "g", &at_most(3)).await;
    assert_eq!((offsets(&again), again[2].attempt), (vec![0, 1, 2], 1), "deliveries are counted from the start");
    let by_offset = GroupSeek { partition: Some(PartitionId(0)), offset: Some(Offset(7)), ..GroupSeek::default() };
    assert_eq!(test.seek(&by_offset).await.expect("moved"), (7, 7, 0));
    let late = test.broker.ack(&topic("t"), &group("g"), &receipts(&again)).await.expect("answered");
    assert!(late.results.iter().all(|result| result.status == SettleStatus::AlreadySettled), "{late:?}");
    drop(test);
    let test = TestBroker::open(storage.clone());
    assert_eq!(offsets(&test.receive("t", "g").await), [7, 8, 9]);
    let by_time = GroupSeek { timestamp_ms: Some(1_005), ..GroupSeek::default() };
    assert_eq!(test.seek(&by_time).await.expect("moved"), (5, 0, 2), "5 and 6 were skipped before");
    assert_eq!(test.seek(&to(SeekPosition::End)).await.expect("moved"), (10, 5, 0));
    assert!(test.receive("t", "g").await.is_empty());
    for (wrong, what) in [
        (GroupSeek::default(), "exactly one"),
        (GroupSeek { timestamp_ms: Some(0), ..to(SeekPosition::End) }, "exactly one"),
        (GroupSeek { offset: Some(Offset(1)), ..GroupSeek::default() }, "needs `partition`"),
        (GroupSeek { partition: Some(PartitionId(0)), offset: Some(Offset(11)), ..GroupSeek::default() }, "behind it"),
    ] {
        let refused = test.seek(&wrong).await.expect_err(what).to_string();
        assert!(refused.contains(what), "{refused}");
    }
    assert_eq!(test.lag().await, (false, 0), "what was refused changed nothing");
}

#[tokio::test]
async fn what_is_read_for_a_receive_while_the_group_moves_is_not_delivered_twice() {
    let (test, _) = begun(MemoryStorage::new()).await;
    let (five, start) = (at_most(5), to(SeekPosition::Start));
    for round in 0..50 {
        let (received, sought) = tokio::join!(test.receive_with("t", "g", &five), test.seek(&start));
        sought.expect("moved");
        // Leased before the seek, their leases are over; leased behind it, they stand.
        let left = test.receive("t", "g").await;
        let held = test.broker.ack(&topic("t"), &group("g"), &receipts(&received)).await;
        match held {
            Ok(_) => assert_eq!(received.len() + left.len(), 10, "{round}"),
            Err(SettleError::AllExpired) => assert_eq!(left.len(), 10, "{round}"),
            Err(SettleError::Parameter(_)) => assert!(received.is_empty(), "{round}"),
            Err(error) => panic!("{error}"),
        }
        test.seek(&to(SeekPosition::Start)).await.expect("moved");
    }
}

#[tokio::test]
async fn a_group_that_the_embedder_needs_is_left_alone() {
    let test = TestBroker::with_topic(MemoryStorage::new(), "t", TopicConfig { partitions: 4, ..TopicConfig::default() }).await;
    test.broker.ensure_group(&topic("t"), &group("g"), StartPosition::Earliest).await.expect("made");
    test.broker.own_group(&topic("t"), &group("g")).await.expect("owned");
    let refused = [test.pause(true).await.map(|()| 0), test.purge().await, test.seek(&to(SeekPosition::End)).await.map(|_| 0)];
    assert!(refused.iter().all(|result| matches!(result, Err(OperateGroupError::Owned { .. }))), "{refused:?}");
}

/// Pauses, purges, resumes and moves a group until a write fails; how many of them were done.
async fn operate(storage: CrashStorage, fail_at: Option<(u64, FailedWrite)>) -> (usize, u64) {
    let (test, _) = begun(storage.clone()).await;
    let before = storage.writes();
    if let Some((at, leaves)) = fail_at {
        storage.fail_write(at, leaves);
    }
    let mut done = 0;
    let results = [
        test.pause(true).await.is_ok(),
        test.purge().await.is_ok(),
        test.pause(false).await.is_ok(),
        test.seek(&to(SeekPosition::Start)).await.is_ok(),
    ];
    for is_done in results {
        if !is_done {
            break;
        }
        done += 1;
    }
    let writes = storage.writes() - before;
    test.broker.shutdown().await;
    (done, writes)
}

#[tokio::test]
async fn a_crash_at_any_write_of_an_operator_leaves_it_done_or_not_done_and_what_was_answered_done() {
    // Paused, and unsettled, after each.
    let states = [(false, 8), (true, 8), (true, 0), (false, 0), (false, 10)];
    let (done, writes) = operate(CrashStorage::new(), None).await;
    assert_eq!((done, writes), (4, 4));
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            let (done, _) = operate(storage.clone(), Some((at, leaves))).await;
            for (image, is_power_cut) in [(storage.after_power_cut(), true), (storage.after_kill(), false)] {
                let case = format!("write {at} left {leaves:?}, power cut: {is_power_cut}");
                let test = TestBroker::open(image);
                let found = test.lag().await;
                assert!(states[done..=done + 1].contains(&found), "{case}: {done} were answered, found {found:?}");
                test.pause(false).await.expect("resumed");
                let mut values = Vec::new();
                for _ in 0..3 {
                    test.clock.advance(Duration::from_secs(3_600));
                    let received = test.receive("t", "g").await;
                    if !received.is_empty() {
                        test.ack("t", "g", &received).await;
                    }
                    values.extend(received.iter().map(|delivered| delivered.record.text().expect("text")));
                    if test.lag().await.1 == 0 {
                        break;
                    }
                }
                assert_eq!(values.len() as u64, found.1, "{case}: what is not settled is delivered");
            }
        }
    }
}
