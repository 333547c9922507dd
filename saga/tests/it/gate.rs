//! The gate before publishing: what can end wrong is not published where that is asked for.

use crate::common::Node;
use sagamq_api::saga::PublishQuery;
use sagamq_broker::env::SystemClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::{OrchestratorConfig, PublishError};
use std::sync::Arc;
use std::time::Duration;

const WRONG: &str = include_str!("../verify/wrong/01-shipped-before-paid.yaml");
const RIGHT: &str = include_str!("../verify/right/01-paid-before-shipped.yaml");
const VERIFY: PublishQuery = PublishQuery { activate: false, verify: true };

async fn open(verify_states_max: usize) -> Node {
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, verify_states_max, ..OrchestratorConfig::default() };
    Node::open_with(Arc::new(CrashStorage::default()), Arc::new(SystemClock), config).await.expect("it opens")
}

#[tokio::test]
async fn what_can_end_wrong_is_published_only_if_nobody_asks() {
    let node = open(0).await;
    let refused = node.sagas.publish_with(WRONG, VERIFY).await.expect_err("it can end wrong");
    let PublishError::Broken { property, timeline, .. } = &refused else { panic!("{refused}") };
    assert_eq!(property, "invariant-1");
    assert!(timeline.contains("`ship` (shipping.ship) is done"), "{timeline}");
    assert!(node.sagas.definitions().is_empty(), "nothing is stored");
    node.sagas.publish_with(WRONG, PublishQuery::default()).await.expect("nobody asks");
    let (_, is_new) = node.sagas.publish_with(WRONG, VERIFY).await.expect("it is published already");
    assert!(!is_new);
    node.close().await;
}

#[tokio::test]
async fn the_setting_asks_for_everybody() {
    let node = open(50_000).await;
    let refused = node.sagas.publish(WRONG).await.expect_err("it can end wrong");
    assert!(matches!(refused, PublishError::Broken { .. }), "{refused}");
    node.sagas.publish(RIGHT).await.expect("nothing is wrong");
    node.close().await;
}

#[tokio::test]
async fn a_bound_that_is_hit_publishes_nothing_and_names_itself() {
    let node = open(10).await;
    let refused = node.sagas.publish(RIGHT).await.expect_err("10 states are too few");
    let PublishError::NotVerified(reason) = &refused else { panic!("{refused}") };
    assert!(reason.contains("10 states"), "{reason}");
    assert!(node.sagas.definitions().is_empty(), "nothing is stored");
    node.close().await;
}

/// Whoever asks for it may go, as a client does that waits no longer: its verification ends, and the next one has its turn.
#[tokio::test]
async fn a_verification_that_nobody_waits_for_any_more_ends() {
    let node = open(0).await;
    // Far more states than can be looked at in the time that the next one waits here.
    let steps: String = (0..40).map(|at| format!("  - {{ id: s{at}, call: a.do{at}, compensate: a.undo{at}, after: [] }}\n")).collect();
    let large = format!("saga: wide\nversion: 1\nkey: ${{ input.order }}\nservices: {{ a: {{ topic: a.commands }} }}\nsteps:\n{steps}");
    let given_up = tokio::time::timeout(Duration::from_millis(200), node.sagas.publish_with(&large, VERIFY)).await;
    assert!(given_up.is_err(), "it takes longer: {given_up:?}");
    let next = tokio::time::timeout(Duration::from_secs(15), node.sagas.publish_with(RIGHT, VERIFY)).await;
    next.expect("its turn comes at once").expect("nothing is wrong");
    assert_eq!(node.sagas.definitions().len(), 1, "what nobody waited for is not published");
    node.close().await;
}
