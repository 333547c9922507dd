//! How many there may be, and how long they are kept.

use super::{ORDER, PAYMENT, money, open_with, paid, stock};
use crate::common::{LIMIT, Node, refused, reply_to, succeeded};
use core::time::Duration;
use sagamq_api::saga::{Retention, SagaState, SagaVerb};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::protocol::lane_of;
use sagamq_saga::{InstanceError, OrchestratorConfig};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

#[tokio::test]
async fn sub_sagas_count_among_the_open_ones_and_are_never_refused_for_their_number() {
    let node = open_with(&CrashStorage::new(), OrchestratorConfig { open_max: 2, ..OrchestratorConfig::default() }).await;
    // One a shard is what may be open.
    let mut ids = Vec::new();
    for number in 0..40 {
        if let Ok(started) = node.start("order", json!({"order": number.to_string()})).await {
            ids.push(started.id);
        }
    }
    assert_eq!(ids.len(), 2, "the bound holds for what is started from outside");
    for _ in 0..2 {
        stock(&node, "reserve", succeeded()).await;
    }
    for _ in 0..4 {
        let (call, _) = node.next_command("money.commands").await;
        node.sagas.complete(reply_to(&call, succeeded())).await.expect("the current attempt");
    }
    for _ in 0..2 {
        stock(&node, "ship", succeeded()).await;
    }
    for id in ids {
        assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    }
    node.close().await;
}

/// One at its end does not count. It is open again as soon as its parent wants it undone: it counts, and stays in memory.
#[tokio::test]
async fn a_completed_sub_saga_that_is_undone_is_open_again() {
    let node = open_with(&CrashStorage::new(), OrchestratorConfig { open_max: 6, ..OrchestratorConfig::default() }).await;
    let (mut families, mut ships) = (Vec::new(), Vec::new());
    for order in ["1", "2"] {
        families.push(paid(&node, order).await);
        ships.push(node.next_command("stock.commands").await.0);
    }
    for ship in ships {
        node.sagas.complete(reply_to(&ship, refused())).await.expect("the current attempt");
    }
    let mut undoing = Vec::new();
    for (_, paying) in &families {
        undoing.push(node.next_command("money.commands").await.0);
        node.until(*paying, |saga| saga.summary.state == SagaState::Compensating).await;
    }
    // Three a shard is what may be open. Four are already: two parents, and what both undo.
    let open = |lane: u16| families.iter().flat_map(|(id, paying)| [*id, *paying]).filter(|id| lane_of(*id) == lane).count();
    let room: usize = (0..2).map(|lane| 3_usize.saturating_sub(open(lane))).sum();
    let mut started = 0;
    for number in 0..60 {
        started += usize::from(node.start("order", json!({"order": format!("more-{number}")})).await.is_ok());
    }
    assert_eq!(started, room, "those that are undone count again");
    for call in undoing {
        node.sagas.complete(reply_to(&call, succeeded())).await.expect("the current attempt");
        money(&node, "void", succeeded()).await;
    }
    node.close().await;
}

#[tokio::test]
async fn a_sub_saga_is_kept_as_long_as_its_parent_may_undo_it() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(storage), Arc::new(clock.clone()), config).await.expect("it opens");
    node.sagas.publish(PAYMENT).await.expect("a legal definition");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    let (id, paying) = paid(&node, "1").await;
    let alone = node.start("payment", json!({"order": "2"})).await.expect("started").id;
    money(&node, "authorize", succeeded()).await;
    money(&node, "book", succeeded()).await;
    node.at_rest(alone).await;
    let minute = Retention { keep_ms: Some(60_000), keep_count: None };
    node.sagas.set_retention(Some("payment".parse().expect("legal")), Some(minute)).await.expect("set");
    clock.advance(HOUR);
    until_removed(&node, alone).await;
    assert_eq!(node.sagas.get(paying).await.expect("its parent may undo it").summary.state, SagaState::Completed);
    stock(&node, "ship", succeeded()).await;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    clock.advance(HOUR);
    until_removed(&node, paying).await;
    node.close().await;
}

#[tokio::test]
async fn a_rerun_of_one_whose_parent_has_ended_is_removed_as_any_other() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(storage), Arc::new(clock.clone()), config).await.expect("it opens");
    node.sagas.publish(&PAYMENT.replace(", compensate: money.unbook", ", compensate: none")).await.expect("a legal definition");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    let (id, paying) = paid(&node, "1").await;
    let rerun = || SagaVerb::Rerun { from: "book".parse().expect("legal"), input: None };
    let no = node.operate(paying, rerun()).await.expect_err("its parent counts on it");
    assert!(no.to_string().contains("goes on from that"), "{no}");
    stock(&node, "ship", succeeded()).await;
    node.at_rest(id).await;
    let told = async { while node.operate(paying, rerun()).await.is_err() {} };
    tokio::time::timeout(LIMIT, told).await.expect("it is told of its parent's end");
    money(&node, "book", succeeded()).await;
    let again = node.sagas.get(paying).await.expect("it is there").summary.rerun_as.expect("it was rerun");
    assert_eq!(node.at_rest(again).await.summary.state, SagaState::Completed);
    let minute = Retention { keep_ms: Some(60_000), keep_count: None };
    node.sagas.set_retention(Some("payment".parse().expect("legal")), Some(minute)).await.expect("set");
    clock.advance(HOUR);
    until_removed(&node, paying).await;
    until_removed(&node, again).await;
    node.close().await;
}

async fn until_removed(node: &Node, id: Uuid) {
    let gone = async {
        while !matches!(node.sagas.get(id).await, Err(InstanceError::NotFound(_))) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("it is removed when its time is over");
}
