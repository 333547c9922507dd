//! Nodes over a log in memory, and an operator who has them end.

use super::super::tests::{active, join, parts, settings};
use super::super::{NodeSettings, Standby, Status};
use super::*;
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
    let one = active(&log, &MemoryStorage::new(), "one").await;
    assert_eq!(drained(&log, "two", false).await, Err(DrainError::Unknown("two".to_owned())));
    assert_eq!(drained(&log, "one", false).await, Err(DrainError::Alone { node: "one".to_owned() }));
    let ends = async {
        one.is_to_end().await;
        one.end().await;
    };
    let (drained, ()) = tokio::join!(drained(&log, "one", true), ends);
    assert_eq!(drained.expect("it is forced to").active, None);
}
