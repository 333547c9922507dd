//! A power cut or a kill at every write: what was acknowledged is there, and a retry with the same key stores once.

use crate::common::{Says as _, TestBroker, group, one_partition, topic};
use sagamq_api::PartitionId;
use sagamq_api::queue::{AckRequest, ReceiveRequest};
use sagamq_api::topic::TopicConfig;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::{AppendError, NewRecord, ProduceError, WriteError};
use std::collections::BTreeSet;

/// Produces, consumes and acknowledges until a write fails; gives what was acknowledged to the producer and by the consumer.
async fn run(storage: CrashStorage) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let (mut stored, mut settled) = (BTreeSet::new(), BTreeSet::new());
    let Ok(test) = TestBroker::try_open(storage, sagamq_broker::env::ManualClock::at(crate::common::START_MS)) else {
        return (stored, settled);
    };
    let _ = test.broker.create_topic(&topic("t"), one_partition()).await;
    for n in 0..6_u64 {
        let record = NewRecord::of(n.to_string());
        if test.broker.produce(&topic("t"), vec![record], Some(&format!("key-{n}"))).await.is_ok() {
            stored.insert(n);
        }
        let request = ReceiveRequest { max_records: Some(1), ..ReceiveRequest::default() };
        let Ok(received) = test.broker.receive(&topic("t"), &group("g"), &request).await else { continue };
        for delivery in received.deliveries {
            let n = delivery.record.json().expect("a number");
            if test.broker.ack(&topic("t"), &group("g"), &AckRequest { receipts: vec![delivery.receipt] }).await.is_ok() {
                settled.insert(n);
            }
        }
    }
    test.broker.shutdown().await;
    (stored, settled)
}

/// What is in the log and what a group still gets.
async fn look(storage: CrashStorage) -> (Vec<u64>, BTreeSet<u64>) {
    let test = TestBroker::open(storage);
    test.broker.create_topic(&topic("t"), one_partition()).await.expect("made, or there");
    for n in 0..6_u64 {
        test.produce("t", vec![NewRecord::of(n.to_string())], Some(&format!("key-{n}"))).await;
    }
    let log = test.values("t", 0).await.iter().map(|value| value.parse().expect("a number")).collect();
    let mut left = BTreeSet::new();
    // First leases run out, then their records wait for a while.
    for _ in 0..3 {
        test.clock.advance(core::time::Duration::from_secs(3600));
        left.extend(test.receive("t", "g").await.iter().map(|delivery| delivery.record.json::<u64>().expect("a number")));
    }
    (log, left)
}

#[tokio::test]
async fn a_crash_at_any_write_loses_nothing_acknowledged_and_a_retry_stores_once() {
    let whole = CrashStorage::new();
    let (stored, settled) = run(whole.clone()).await;
    assert_eq!((stored.len(), settled.len()), (6, 6));
    let writes = whole.writes();
    assert!(writes > 15, "the run writes often enough to be worth crashing: {writes}");
    for at in 1..=writes {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            storage.fail_write(at, leaves);
            let (stored, settled) = run(storage.clone()).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let (log, left) = look(image).await;
                let case = format!("write {at} of {writes} left {leaves:?}");
                let unique: BTreeSet<u64> = log.iter().copied().collect();
                assert_eq!(unique.len(), log.len(), "{case}: a retry with the same key stored twice: {log:?}");
                assert_eq!(unique.len(), 6, "{case}: the retries stored everything: {log:?}");
                assert!(stored.is_subset(&unique), "{case}: acknowledged {stored:?}, in the log {log:?}");
                assert!(settled.is_disjoint(&left), "{case}: settled {settled:?}, delivered again {left:?}");
            }
        }
    }
}

/// Takes forty records one by one and acknowledges them in no order until a write fails, so that most writes are changes of a state; gives
/// what was acknowledged.
async fn settle_scattered(storage: CrashStorage, fail_at: Option<(u64, FailedWrite)>) -> (BTreeSet<u64>, u64) {
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", (0..40).map(|n| n.to_string())).await;
    let mut leased = Vec::new();
    for _ in 0..40 {
        leased.extend(test.receive_with("t", "g", &ReceiveRequest { max_records: Some(1), ..ReceiveRequest::default() }).await);
    }
    let before = storage.writes();
    if let Some((at, leaves)) = fail_at {
        storage.fail_write(at, leaves);
    }
    let mut settled = BTreeSet::new();
    for at in 0..40 {
        let delivery = &leased[(at * 7) % 40];
        let request = AckRequest { receipts: vec![delivery.receipt.clone()] };
        if test.broker.ack(&topic("t"), &group("g"), &request).await.is_ok() {
            settled.insert(delivery.record.json().expect("a number"));
        }
    }
    let writes = storage.writes() - before;
    test.broker.shutdown().await;
    (settled, writes)
}

#[tokio::test]
async fn a_crash_between_changes_of_a_groups_state_loses_no_acknowledgement_and_no_record() {
    let (settled, writes) = settle_scattered(CrashStorage::new(), None).await;
    assert_eq!((settled.len(), writes >= 40), (40, true));
    for at in (1..=writes).step_by(3) {
        for leaves in [FailedWrite::NothingApplied, FailedWrite::Applied, FailedWrite::AppliedNotSynced] {
            let storage = CrashStorage::new();
            let (settled, _) = settle_scattered(storage.clone(), Some((at, leaves))).await;
            for image in [storage.after_power_cut(), storage.after_kill()] {
                let test = TestBroker::open(image);
                let mut left = BTreeSet::new();
                for _ in 0..3 {
                    test.clock.advance(core::time::Duration::from_secs(3600));
                    left.extend(test.receive("t", "g").await.iter().map(|delivery| delivery.record.json::<u64>().expect("a number")));
                }
                let case = format!("write {at} of {writes} left {leaves:?}");
                assert!(settled.is_disjoint(&left), "{case}: settled {settled:?}, delivered again {left:?}");
                // The one whose write failed may be either.
                assert!((39..=40).contains(&(settled.len() + left.len())), "{case}: settled {settled:?}, left {left:?}");
            }
        }
    }
}

#[tokio::test]
async fn that_a_record_is_settled_already_is_synced_before_it_is_said() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    let receipts = test.receive("t", "g").await.into_iter().map(|delivery| delivery.receipt).collect();
    let request = AckRequest { receipts };
    storage.fail_write(1, FailedWrite::AppliedNotSynced);
    test.broker.ack(&topic("t"), &group("g"), &request).await.expect_err("the write failed");
    // The process is killed, and the client asks the next one, which has nothing to write.
    let killed = storage.after_kill();
    let next = TestBroker::open(killed.clone());
    next.broker.ack(&topic("t"), &group("g"), &request).await.expect("it is settled");
    let after = TestBroker::open(killed.after_power_cut());
    after.clock.advance(core::time::Duration::from_secs(3600));
    assert!(after.receive("t", "g").await.is_empty(), "what was acknowledged never comes again");
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_written_and_reads_go_on() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", one_partition()).await;
    test.produce_texts("t", ["a"]).await;
    storage.fail_write(1, FailedWrite::NothingApplied);
    let failed = test.broker.produce(&topic("t"), vec![NewRecord::of("b")], None).await;
    assert!(matches!(failed, Err(ProduceError::Append(AppendError::Write(WriteError::Failed(_))))), "the outcome is unknown: {failed:?}");
    let refused = test.broker.produce(&topic("t"), vec![NewRecord::of("c")], None).await;
    assert!(matches!(refused, Err(ProduceError::Append(AppendError::Write(WriteError::Stopped(_))))), "nothing was stored: {refused:?}");
    assert!(test.broker.writes_stopped().is_some());
    let writes = storage.writes();
    assert!(test.broker.receive(&topic("t"), &group("g"), &ReceiveRequest::default()).await.is_err(), "a group cannot be made");
    assert_eq!(test.values("t", 0).await, ["a"]);
    assert_eq!(storage.writes(), writes, "no write is tried again");
}

#[tokio::test]
async fn a_failed_write_stops_the_shards_that_were_in_it_and_every_other_with_its_next_commit() {
    let storage = CrashStorage::new();
    let test = TestBroker::with_topic(storage.clone(), "t", TopicConfig { partitions: 4, ..TopicConfig::default() }).await;
    let produce = async |partition| {
        let record = NewRecord::of("a").with_partition(PartitionId(partition));
        test.broker.produce(&topic("t"), vec![record], None).await
    };
    let stopped = || test.broker.writes_stopped().expect("some are");
    storage.fail_write(1, FailedWrite::NothingApplied);
    let failed = produce(1).await;
    assert!(matches!(failed, Err(ProduceError::Append(AppendError::Write(WriteError::Failed(_))))), "the outcome is unknown: {failed:?}");
    assert!(stopped().ends_with("(shards 1 of 4)"), "{}", stopped());
    let writes = storage.writes();
    for again in [false, true] {
        let refused = produce(2).await;
        assert!(matches!(refused, Err(ProduceError::Append(AppendError::Write(WriteError::Stopped(_))))), "{again}: {refused:?}");
        assert!(stopped().ends_with("(shards 1, 2 of 4)"), "{}", stopped());
    }
    assert_eq!(storage.writes(), writes, "nobody writes behind what a failed sync left");
}
