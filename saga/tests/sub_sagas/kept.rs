//! How many there may be, and how long they are kept.

use crate::common::{LIMIT, Node, reply_to, succeeded};
use crate::{ORDER, PAYMENT, money, open_with, paid, stock};
use core::time::Duration;
use sagamq_api::saga::{Retention, SagaState};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
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

async fn until_removed(node: &Node, id: Uuid) {
    let gone = async {
        while !matches!(node.sagas.get(id).await, Err(InstanceError::NotFound(_))) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.expect("it is removed when its time is over");
}
