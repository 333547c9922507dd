//! Calls over HTTP that wait for their turn: over restarts of the server, where a service goes away, and beside transactions that are rolled back.

use crate::branches::{Say, Service};
use crate::common::Node;
use crate::services::{Endpoint, at, definition, nowhere, stock, until};
use core::time::Duration;
use sagamq_api::saga::{SagaState, SagaVerb, StepState};
use sagamq_api::service::{BreakerState, PutService};
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::OrchestratorConfig;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

async fn open(storage: &CrashStorage, clock: &ManualClock) -> Node {
    let node = Node::open_with(Arc::new(storage.clone()), Arc::new(clock.clone()), OrchestratorConfig::default()).await;
    node.expect("it opens")
}

/// The server is killed and started again.
async fn restart(node: Node, storage: CrashStorage, clock: &ManualClock) -> (Node, CrashStorage) {
    let left = storage.after_kill();
    node.close().await;
    (open(&left, clock).await, left)
}

/// Waits until so many connections to the service were refused since the server was started.
async fn refused(node: &Node, count: u32) {
    node.service_until(|service| service.endpoints[0].failures >= count).await;
}

#[tokio::test]
async fn what_waited_for_its_turn_when_the_server_was_started_again_has_all_of_its_time() {
    let (clock, storage) = (ManualClock::at(1_800_000_000_000), CrashStorage::new());
    let node = open(&storage, &clock).await;
    // Its steps may take 30 s, and have one attempt.
    node.sagas.publish(&definition("{}")).await.expect("legal");
    let endpoint = Endpoint::held();
    node.put(PutService { max_in_flight: Some(1), ..at(&[&endpoint.serve().await]) }).await;
    let orders = [node.buy("1").await, node.buy("2").await, node.buy("3").await];
    node.service_until(|service| service.in_flight == 1 && service.held_back == 2).await;
    let (node, _storage) = restart(node, storage, &clock).await;
    until(|| (endpoint.calls().len() == 2).then_some(()), || format!("{:?}", endpoint.calls())).await;
    node.service_until(|service| service.in_flight == 1 && service.held_back == 2).await;
    let sent = endpoint.calls()[1].clone();
    let is_sent = |order: &usize| sent == format!("{}/reserve", order + 1);
    // The one that has the place has no answer in time; the others have not begun.
    clock.advance(Duration::from_secs(36));
    let late = (0..3).find(is_sent).expect("one of them");
    assert_ne!(node.at_rest(orders[late]).await.summary.state, SagaState::Completed);
    endpoint.answers.add_permits(100);
    for order in (0..3).filter(|order| !is_sent(order)) {
        node.sold(orders[order]).await;
    }
    node.close().await;
}

#[tokio::test]
async fn a_service_that_is_away_costs_no_attempt_however_often_the_server_is_started_again() {
    let (clock, mut storage) = (ManualClock::at(1_800_000_000_000), CrashStorage::new());
    let mut node = open(&storage, &clock).await;
    node.sagas.publish(&definition("{}")).await.expect("legal");
    node.put(PutService { eject_after: Some(0), ..at(&[&nowhere()]) }).await;
    let id = node.buy("1").await;
    for _ in 0..3 {
        refused(&node, 1).await;
        node.until(id, |saga| saga.failures.iter().any(|failure| failure.failure.code == "NOT_SENT")).await;
        (node, storage) = restart(node, storage, &clock).await;
    }
    refused(&node, 1).await;
    node.put(at(&[&Endpoint::quick().serve().await])).await;
    node.sold(id).await;
    node.close().await;
}

/// An order that is cancelled while its first call waits at a service that is away. What is called once the service is there: after a restart
/// it may have been called before.
#[tokio::test]
async fn what_an_earlier_process_may_have_sent_is_undone_and_what_nobody_sent_is_not() {
    for is_restarted in [false, true] {
        let (clock, mut storage) = (ManualClock::at(1_800_000_000_000), CrashStorage::new());
        let mut node = open(&storage, &clock).await;
        let undone = definition("{}").replace("call: stock.reserve, compensate: none", "call: stock.reserve, compensate: stock.release");
        node.sagas.publish(&undone).await.expect("legal");
        let address = nowhere();
        node.put(PutService { eject_after: Some(0), ..at(&[&address]) }).await;
        let id = node.buy("1").await;
        refused(&node, 1).await;
        if is_restarted {
            (node, storage) = restart(node, storage, &clock).await;
            refused(&node, 1).await;
        }
        node.operate(id, SagaVerb::Cancel).await.expect("cancelled");
        let endpoint = Endpoint::quick();
        if is_restarted {
            // For a while after a start, time decides nothing.
            clock.advance(Duration::from_secs(6));
            node.until(id, |saga| saga.steps[0].state == StepState::Compensating).await;
            node.put(at(&[&endpoint.serve().await])).await;
        }
        let ended = if is_restarted { SagaState::Compensated } else { SagaState::Failed };
        assert_eq!(node.at_rest(id).await.summary.state, ended);
        assert_eq!(endpoint.calls(), vec!["1/reserve/undone".to_owned(); usize::from(is_restarted)]);
        node.close().await;
        drop(storage);
    }
}

#[tokio::test]
async fn calls_of_transactions_that_are_rolled_back_meanwhile_say_nothing_of_their_service() {
    let (clock, storage) = (ManualClock::at(1_800_000_000_000), CrashStorage::new());
    let node = open(&storage, &clock).await;
    let text = "saga: shop\nversion: 1\nmode: 2pc\nkey: ${ input.order }\ntimeout: 50s\ndefaults: { timeout: 20s }\n\
                services: { stock: {}, money: {} }\nsteps:\n  - { id: reserve, call: stock.reserve, after: [] }\n\
                \x20 - { id: charge, call: money.charge, after: [] }\n";
    node.sagas.publish(text).await.expect("legal");
    let (shop, bank, gate) = (Service::default(), Service::default(), Arc::new(Semaphore::new(0)));
    node.put(at(&[&shop.serve(0).await])).await;
    let money = PutService { break_after: Some(1), ..at(&[&bank.serve(0).await]) };
    node.sagas.put_service("money".parse().expect("legal"), money).await.expect("legal");
    let breaker = || node.sagas.service(&"money".parse().expect("legal")).expect("put").breaker;
    shop.says("reserve", Say::Held(Arc::clone(&gate)));
    bank.says("charge", Say::Held(Arc::new(Semaphore::new(0))));
    let id = node.order("1").await;
    let called = async |id| until(|| bank.words(id).contains(&"charge".to_owned()).then_some(()), || format!("{:?}", bank.calls())).await;
    called(id).await;
    // What is under way at the bank is given up, long before it is late.
    node.operate(id, SagaVerb::Cancel).await.expect("cancelled");
    node.ended(id).await;
    assert_eq!(breaker(), BreakerState::Closed);
    // One that is late counts.
    bank.says("charge", Say::Held(Arc::new(Semaphore::new(0))));
    let id = node.order("2").await;
    called(id).await;
    clock.advance(Duration::from_secs(51));
    until(|| (breaker() == BreakerState::Open).then_some(()), || format!("{:?}", breaker())).await;
    gate.add_permits(100);
    node.close().await;
}

#[tokio::test]
async fn the_call_that_tries_a_service_and_is_refused_lets_another_one_try() {
    let (clock, storage) = (ManualClock::at(1_800_000_000_000), CrashStorage::new());
    let node = open(&storage, &clock).await;
    let text = definition("{}").replace(
        "timeout: 30s, retry: { initial: 5ms, factor: 2, max: 20ms, attempts: 1 }",
        "timeout: 10s, retry: { initial: 1h, max: 1h, attempts: 9 }",
    );
    node.sagas.publish(&text).await.expect("legal");
    let (hangs, gone) = (Endpoint::held(), CancellationToken::new());
    let address = nowhere();
    let listens = address.trim_start_matches("http://").to_owned();
    hangs.serve_at(&listens, gone.clone()).await;
    node.put(PutService { eject_after: Some(0), break_after: Some(1), break_ms: Some(1_000), ..at(&[&address]) }).await;
    let first = node.buy("1").await;
    until(|| (hangs.calls().len() == 1).then_some(()), || "it is called".to_owned()).await;
    clock.advance(Duration::from_secs(10));
    node.service_until(|service| service.breaker == BreakerState::Open).await;
    gone.cancel();
    hangs.answers.add_permits(100);
    let second = node.buy("2").await;
    node.until(second, |saga| saga.failures.iter().any(|failure| failure.failure.code == "BREAKER_OPEN")).await;
    until(|| std::net::TcpStream::connect(&listens).is_err().then_some(()), || "nobody listens any more".to_owned()).await;
    clock.advance(Duration::from_secs(1));
    // It is tried, by a call that would try again in an hour.
    refused(&node, 1).await;
    Endpoint::quick().serve_at(&listens, CancellationToken::new()).await;
    let third = node.buy("3").await;
    node.until(third, |saga| !saga.failures.is_empty()).await;
    assert_eq!(node.sagas.service(&stock()).expect("put").breaker, BreakerState::Open, "it is tried again in a second");
    clock.advance(Duration::from_secs(1));
    node.service_until(|service| service.breaker == BreakerState::Closed).await;
    for id in [second, third] {
        node.sold(id).await;
    }
    // It was late, and is tried again in an hour.
    assert!(!node.sagas.get(first).await.expect("there").summary.state.is_final());
    node.close().await;
}
