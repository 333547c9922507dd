//! Nodes over a log in memory, and an operator who has them end.

use super::super::tests::{active, join, parts, settings};
use super::super::{NodeSettings, Standby, Status};
use super::*;
use crate::log::LogName;
use crate::log::memory::{Flavour, MemoryLog};
use sagamq_broker::storage::memory::MemoryStorage;

/// As an operator, who waits for as long as it may take.
async fn drained(log: &MemoryLog, node: &str, force: bool) -> Result<Drained, DrainError> {
    drain(Arc::new(log.clone()), node, force, Duration::from_secs(60), &mut Random::from_system()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_node_that_is_drained_hands_over_to_one_that_looks_out_for_it() {
    let log = MemoryLog::new(Flavour::Conditional);
    // Of themselves they look every three seconds.
    let slow = |name| NodeSettings { heartbeat: Duration::from_secs(3), ..settings(name) };
    let one = active(&log, &MemoryStorage::new(), "one").await;
    let mut other = Standby::join(parts(&log, &MemoryStorage::new(), slow("other"))).await.expect("it joins");
    let other = tokio::spawn(async move { other.until_active().await });
    let ends = async {
        one.is_to_end().await;
        assert!(one.lease().holds(), "it serves until then");
        one.end().await;
    };
    let (drained, ()) = tokio::join!(drained(&log, "one", false), ends);
    let drained = drained.expect("it hands over");
    assert!(drained.was_active && drained.active.is_some_and(|active| active.node == "other"), "it is told who is active");
    let other = other.await.expect("no panic").expect("it takes over").expect("it is not to end");
    assert!(other.lease().holds());
    assert_eq!(
        drain(Arc::new(log.clone()), "one", false, Duration::ZERO, &mut Random::from_system()).await,
        Err(DrainError::Gone("one".to_owned()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_tells_those_who_stand_by_before_it_ends_by_itself() {
    let log = MemoryLog::new(Flavour::Conditional);
    let one = active(&log, &MemoryStorage::new(), "one").await;
    one.announce().await;
    // On a busy machine it may stop waiting for what it says before that is said.
    let is_announced = async || Status::read(Arc::new(log.clone())).await.expect("it is read").members.hands_over().is_some();
    let announced = async {
        while !is_announced().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), announced).await.expect("it is announced");
    assert!(one.lease().holds(), "it serves on");
    one.end().await;
    assert_eq!(Status::read(Arc::new(log)).await.expect("it is read").members.hands_over(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_by_and_is_drained_ends_and_claims_nothing() {
    let log = MemoryLog::new(Flavour::Conditional);
    let one = active(&log, &MemoryStorage::new(), "one").await;
    let mut other = join(&log, &MemoryStorage::new(), "other").await;
    let ends = async {
        assert!(other.until_active().await.expect("the log can be read").is_none(), "it is told to end");
        other.leave().await;
    };
    let drain = async {
        // It is a member from when it says so.
        loop {
            match drained(&log, "other", false).await {
                Err(DrainError::Unknown(_)) => tokio::task::yield_now().await,
                drained => return drained.expect("it ends"),
            }
        }
    };
    let (drained, ()) = tokio::time::timeout(Duration::from_secs(120), async { tokio::join!(drain, ends) }).await.expect("in time");
    assert!(!drained.was_active && drained.active.is_some_and(|active| active.node == "one"));
    one.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_drained_who_is_not_there_and_none_without_another_one() {
    let log = MemoryLog::new(Flavour::Conditional);
    assert_eq!(drained(&log, "one", false).await, Err(DrainError::Unknown("one".to_owned())));
    // It is listened for others as long as its lease is.
    let brief = NodeSettings { lease: Duration::from_secs(5), ..settings("one") };
    let one = Standby::join(parts(&log, &MemoryStorage::new(), brief)).await.expect("it joins").until_active().await;
    let one = one.expect("nobody is").expect("it is not to end");
    assert_eq!(drained(&log, "two", false).await, Err(DrainError::Unknown("two".to_owned())));
    assert_eq!(drained(&log, "one", false).await, Err(DrainError::Alone { node: "one".to_owned(), within: OTHERS_MAX }));
    let ends = async {
        one.is_to_end().await;
        one.end().await;
    };
    let (drained, ()) = tokio::join!(drained(&log, "one", true), ends);
    assert_eq!(drained.expect("it is forced to").active, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_log_does_not_name_any_more_is_not_said_to_have_ended() {
    let log = MemoryLog::new(Flavour::Conditional);
    let mut other = join(&log, &MemoryStorage::new(), "other").await;
    let fast = NodeSettings { heartbeat: Duration::from_millis(1), ..settings("one") };
    let one = Standby::join(parts(&log, &MemoryStorage::new(), fast)).await.expect("it joins").until_active().await;
    let one = one.expect("nobody is").expect("it is not to end");
    let trimmed = async || log.bounds(LogName::Members).await.expect("memory").trimmed;
    let still = async {
        loop {
            let waits = tokio::time::timeout(Duration::from_millis(200), other.until_active()).await;
            assert!(waits.is_err(), "the active one lives");
            // From here on the other one stands still. The log is trimmed above what it has said last, and the operator looks at it then.
            let (before, log) = (trimmed().await, log.clone());
            let operator = async move { drain(Arc::new(log), "other", false, Duration::from_secs(600), &mut Random::from_system()).await };
            let operator = tokio::spawn(operator);
            while trimmed().await == before && !operator.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(LOOK * 10).await;
            if !operator.is_finished() {
                return operator.abort();
            }
            // It was trimmed already: nobody of that name is known.
            let drained = operator.await.expect("no panic");
            assert!(matches!(&drained, Err(DrainError::Unknown(_))), "{drained:?}");
        }
    };
    tokio::time::timeout(Duration::from_secs(300), still).await.expect("it goes on waiting");
    one.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_have_a_lease_to_say_that_they_stand_by_however_long_it_is() {
    let log = MemoryLog::new(Flavour::Conditional);
    for (lease, expected) in [(Duration::from_secs(5), OTHERS_MAX), (Duration::from_secs(120), Duration::from_secs(120))] {
        let slow = NodeSettings { lease, ..settings("one") };
        let one = Standby::join(parts(&log, &MemoryStorage::new(), slow)).await.expect("it joins").until_active().await;
        let one = one.expect("nobody is").expect("it is not to end");
        let status = Status::read(Arc::new(log.clone())).await.expect("it is read");
        assert_eq!(others_max(&status.members), expected);
        one.end().await;
    }
}
