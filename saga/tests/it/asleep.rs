//! Sagas that sleep, with a clock that a test moves, over kills and power cuts.

use crate::common::{LIMIT, Node, reply_to, succeeded};
use core::time::Duration;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sagamq_api::saga::{SagaQuery, SagaState, SagaVerb, SendSignalByKey, StepState, WaitCode, Waits};
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::{Orchestrator, OrchestratorConfig, Wait};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

const NAP: &str = "
saga: nap
version: 1
key: ${ input.order }
services: { stock: { topic: stock.commands } }
steps:
  - { id: reserve, call: stock.reserve, compensate: stock.release }
  - { id: rest, sleep: 364d }
  - { id: sell, call: stock.sell, pivot: true }
";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NEARLY: Duration = Duration::from_millis(364 * 24 * 60 * 60 * 1_000 - 1);

async fn open(storage: &CrashStorage, clock: &ManualClock) -> Node {
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(storage.clone()), Arc::new(clock.clone()), config).await.expect("it opens");
    node.sagas.publish(NAP).await.expect("a legal definition");
    node
}

/// Starts an order and answers its first call: then it sleeps.
async fn asleep(node: &Node, order: &str) -> Uuid {
    let id = node.start("nap", json!({ "order": order })).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    node.sagas.complete(reply_to(&call, succeeded())).await.expect("the current attempt");
    node.until(id, |saga| saga.summary.state == SagaState::Waiting).await;
    id
}

#[tokio::test]
async fn it_sleeps_a_year_over_restarts_and_wakes_once() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let node = open(&storage, &clock).await;
    let id = asleep(&node, "1").await;
    let slept = node.sagas.get(id).await.expect("it is there");
    let until_ms = 1_000_000 + 364 * 24 * 60 * 60 * 1_000;
    assert_eq!((slept.steps[1].state, slept.steps[1].due_at_ms), (StepState::InProgress, Some(until_ms)));
    let waits = slept.summary.waits.expect("it says why it does not move");
    assert_eq!((waits.code, waits.next_at_ms), (WaitCode::Sleeps, Some(until_ms)));
    assert!(waits.message.contains("sleeps at `rest` since 1970-01-01T00:16:40.000Z until 1970-12-31T00:16:40.000Z"), "{}", waits.message);
    let mut left = storage.after_kill();
    node.close().await;
    for is_power_cut in [false, true] {
        clock.advance(DAY);
        let node = open(&left, &clock).await;
        let query = SagaQuery { state: Some(SagaState::Waiting), ..SagaQuery::default() };
        let listed = node.sagas.list(query).await.expect("a page").sagas;
        assert_eq!(listed[0].waits.as_ref().map(|waits| (waits.code, waits.next_at_ms)), Some((WaitCode::Sleeps, Some(until_ms))));
        let next = if is_power_cut { left.after_power_cut() } else { left.after_kill() };
        node.close().await;
        left = next;
    }
    let node = open(&left, &clock).await;
    clock.advance(NEARLY - 2 * DAY);
    assert_eq!(node.sagas.get(id).await.expect("it is there").steps[1].state, StepState::InProgress, "a millisecond is left");
    clock.advance(Duration::from_millis(1));
    let (call, _) = node.next_command("stock.commands").await;
    assert_eq!((call.attempt.instance, call.call.as_str()), (id, "sell"));
    node.sagas.complete(reply_to(&call, succeeded())).await.expect("the current attempt");
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    node.close().await;
}

#[tokio::test]
async fn what_was_over_while_the_server_was_down_or_the_saga_paused_wakes_then() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let node = open(&storage, &clock).await;
    let (paused, other) = (asleep(&node, "1").await, asleep(&node, "2").await);
    node.operate(paused, SagaVerb::Pause).await.expect("it sleeps");
    let left = storage.after_kill();
    node.close().await;
    clock.advance(365 * DAY);
    let node = open(&left, &clock).await;
    let (call, _) = node.next_command("stock.commands").await;
    assert_eq!(call.attempt.instance, other);
    assert_eq!(node.sagas.get(paused).await.expect("it is there").steps[1].state, StepState::InProgress);
    node.operate(paused, SagaVerb::Resume).await.expect("it is paused");
    let (call, _) = node.next_command("stock.commands").await;
    assert_eq!(call.attempt.instance, paused);
    node.close().await;
}

#[tokio::test]
async fn a_cancellation_ends_a_sleep_at_once_and_undoes_what_was_done() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let node = open(&storage, &clock).await;
    let id = asleep(&node, "1").await;
    assert_eq!(node.operate(id, SagaVerb::Cancel).await.expect("before the pivot").state, SagaState::Compensating);
    let (call, _) = node.next_command("stock.commands").await;
    assert_eq!(call.call, "release");
    node.sagas.complete(reply_to(&call, succeeded())).await.expect("the current attempt");
    let ended = node.at_rest(id).await;
    assert_eq!((ended.summary.state, ended.steps[1].state), (SagaState::Compensated, StepState::Failed));
    assert!(ended.failures.iter().any(|failed| failed.failure.code == "SLEEP_ENDED"), "{:?}", ended.failures);
    node.close().await;
}

const NIGHT: &str = "
saga: night
version: 1
key: ${ input.order }
services: {}
steps:
  - { id: rest, sleep: 30d }
  - { id: word, wait_for: go }
output: { said: \"${ steps.word.output }\" }
";

/// A node whose metrics are read.
struct Measured {
    node: Node,
    registry: Registry,
    clock: ManualClock,
}

impl Measured {
    async fn open(storage: &CrashStorage, clock: &ManualClock) -> Self {
        let mut registry = Registry::default();
        let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
        let clock_of_node = Arc::new(clock.clone());
        let broker = Broker::open(Arc::new(storage.clone()), config, clock_of_node, Random::from_seed(7), &mut registry).expect("it opens");
        let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
        let sagas = Orchestrator::open(broker.clone(), config, &mut registry).await.expect("it opens");
        sagas.publish(NIGHT).await.expect("a legal definition");
        sagas.publish(NAP).await.expect("a legal definition");
        Self { node: Node { broker, sagas }, registry, clock: clock.clone() }
    }

    fn gauge(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("it is written");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Waits until so many are not in memory; the clock goes on meanwhile.
    async fn until_away(&self, count: u64) {
        let waited = tokio::time::timeout(LIMIT, async {
            while self.gauge("sagamq_sagas_asleep") != count {
                self.clock.advance(Duration::from_millis(100));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{} and not {count}", self.gauge("sagamq_sagas_asleep"));
        assert_eq!(self.gauge("sagamq_sagas_active{state=\"WAITING\"}"), count, "they are counted all the same");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_waits_leaves_memory_is_not_read_at_a_restart_and_is_there_when_something_comes() {
    const COUNT: u64 = 300;
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let measured = Measured::open(&storage, &clock).await;
    let mut ids = Vec::new();
    for order in 0..COUNT {
        ids.push(measured.node.start("night", json!({ "order": order })).await.expect("started").id);
    }
    measured.until_away(COUNT).await;
    // Nobody sees a difference.
    let saga = measured.node.sagas.get(ids[0]).await.expect("it is there");
    let code = |waits: &Option<Waits>| waits.as_ref().map(|waits| waits.code);
    assert_eq!(
        (saga.summary.state, code(&saga.summary.waits), code(&saga.steps[0].waits)),
        (SagaState::Waiting, Some(WaitCode::Sleeps), Some(WaitCode::Sleeps))
    );
    let query = SagaQuery { state: Some(SagaState::Waiting), limit: Some(1_000), ..SagaQuery::default() };
    let listed = measured.node.sagas.list(query).await.expect("a page").sagas;
    assert!(listed.len() == ids.len() && listed.iter().all(|row| code(&row.waits) == Some(WaitCode::Sleeps)));
    let again = measured.node.start("night", json!({"order": 0})).await.expect("started before");
    assert_eq!((again.id, again.duplicate, again.state), (ids[0], true, SagaState::Waiting));
    // A long poll waits for its end, and a verb reaches it.
    let sagas = measured.node.sagas.clone();
    let (first, wait) = (ids[0], Wait::try_from(Some(60_000)).expect("in range"));
    let polling = tokio::spawn(async move { sagas.wait(first, wait).await });
    measured.node.operate(ids[1], SagaVerb::Pause).await.expect("it sleeps");
    measured.node.operate(ids[1], SagaVerb::Resume).await.expect("it is paused");
    assert!(!polling.is_finished(), "nothing has come of it");
    measured.node.operate(first, SagaVerb::Cancel).await.expect("it sleeps");
    tokio::time::timeout(LIMIT, polling).await.expect("it is told").expect("no panic");
    assert_eq!(measured.node.sagas.get(first).await.expect("it is there").summary.state, SagaState::Failed);
    measured.until_away(COUNT - 1).await;
    let left = storage.after_power_cut();
    measured.node.close().await;
    let measured = Measured::open(&left, &clock).await;
    measured.until_away(COUNT - 1).await;
    assert_eq!(measured.gauge("sagamq_sagas_recovered_total"), COUNT - 1);
    // All of them wake, wait for a signal, and leave again.
    clock.advance(30 * DAY);
    for id in &ids[1..] {
        measured.node.until(*id, |saga| code(&saga.summary.waits) == Some(WaitCode::AwaitsSignal)).await;
    }
    measured.until_away(COUNT - 1).await;
    let left = left.after_kill();
    measured.node.close().await;
    let measured = Measured::open(&left, &clock).await;
    measured.until_away(COUNT - 1).await;
    for order in 1..COUNT {
        let (name, payload) = ("go".parse().expect("legal"), json!(order).into());
        let (saga, key) = ("night".parse().expect("legal"), order.to_string());
        let signal = SendSignalByKey { saga, key, name, payload, signal_id: None, actor: None, reason: None };
        let sent = measured.node.sagas.signal_by_key(signal, None).await.expect("it waits");
        assert_eq!((sent.id, sent.state), (ids[usize::try_from(order).expect("few")], SagaState::Completed));
    }
    let saga = measured.node.sagas.get(ids[7]).await.expect("it is there");
    assert_eq!(saga.output, Some(json!({"said": 7}).into()));
    assert_eq!((measured.gauge("sagamq_sagas_asleep"), measured.gauge("sagamq_sagas_active{state=\"WAITING\"}")), (0, 0));
    measured.node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_woke_and_is_called_is_read_at_the_next_restart() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let measured = Measured::open(&storage, &clock).await;
    let id = asleep(&measured.node, "1").await;
    measured.until_away(1).await;
    clock.advance(364 * DAY);
    let (call, _) = measured.node.next_command("stock.commands").await;
    assert_eq!((call.attempt.instance, call.call.as_str()), (id, "sell"));
    let left = storage.after_kill();
    measured.node.close().await;
    let measured = Measured::open(&left, &clock).await;
    // Its calls and their deadlines are known again, and not only that there is an instance.
    let saga = measured.node.until(id, |saga| saga.steps[2].waits.is_some()).await;
    assert_eq!((saga.summary.state, measured.gauge("sagamq_sagas_asleep")), (SagaState::Running, 0));
    assert_eq!(measured.gauge("sagamq_sagas_active{state=\"RUNNING\"}"), 1);
    measured.node.sagas.complete(reply_to(&call, succeeded())).await.expect("the current attempt");
    assert_eq!(measured.node.at_rest(id).await.summary.state, SagaState::Completed);
    measured.node.close().await;
}
