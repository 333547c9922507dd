//! What the tests of the orchestrator share: a node on storage that can crash, and participants that keep books.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod stage;

use core::time::Duration;
use prometheus_client::registry::Registry;
use sagamq_api::queue::{AckRequest, ReceiveRequest};
use sagamq_api::saga::{
    Call, CallOutcome, CompleteCall, Failure, OperateSaga, Operation, SagaDescription, SagaState, SagaVerb, StartSaga, StartedSaga,
};
use sagamq_broker::env::{Clock, Random, SystemClock};
use sagamq_broker::storage::Storage;
use sagamq_broker::{Broker, BrokerConfig, Delivered};
use sagamq_saga::{OperateError, Operated, Orchestrator, OrchestratorConfig, StartError};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a test waits for what must come.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Three services, the last step of which is the pivot.
pub(crate) const ORDER: &str = r#"
saga: order
version: 1
key: ${ input.order }
timeout: 1m
defaults:
  timeout: 2s
  retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 10 }
  compensate_retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 50 }
services:
  stock: { topic: stock.commands }
  money: { topic: money.commands }
steps:
  - id: reserve
    call: stock.reserve
    with: { order: "${ input.order }", behave: "${ input.behave }" }
    compensate: stock.release
  - id: authorize
    call: money.authorize
    with: { order: "${ input.order }", behave: "${ input.behave }" }
    compensate: money.void
  - id: capture
    call: money.capture
    with: { order: "${ input.order }", behave: "${ input.behave }", from: "${ steps.authorize.output.by }" }
    pivot: true
output: { captured: "${ steps.capture.output.by }" }
"#;

/// Takes from a shelf and puts back, both under the shelf's lock, and sells in between.
pub(crate) const SHELF: &str = r#"
saga: shelf
version: 1
key: ${ input.order }
timeout: 1h
defaults:
  timeout: 30s
  retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 10 }
  compensate_retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 50 }
services: { stock: { topic: stock.commands } }
steps:
  - { id: take, call: stock.take, compensate: stock.back, lock: "sku/${ input.sku }", with: { sku: "${ input.sku }" } }
  - { id: sell, call: stock.sell, pivot: true, lock: "sku/${ input.sku }", with: { sku: "${ input.sku }" } }
"#;

/// No two nodes draw the same numbers, as no two processes do: what must be the same in both must not come from them.
fn next_seed() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(7);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A running node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) broker: Broker,
    pub(crate) sagas: Orchestrator,
}

impl Node {
    /// Opens a node; an error when the storage fails at once.
    pub(crate) async fn open(storage: Arc<dyn Storage>) -> Result<Self, String> {
        Self::open_at(storage, Arc::new(SystemClock)).await
    }

    /// Opens a node with a clock of the test's own.
    pub(crate) async fn open_at(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let config = OrchestratorConfig { restart_grace: Duration::from_millis(20), ..OrchestratorConfig::default() };
        Self::open_with(storage, clock, config).await
    }

    /// Opens a node with a clock and settings of the test's own.
    pub(crate) async fn open_with(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>, config: OrchestratorConfig) -> Result<Self, String> {
        let mut registry = Registry::default();
        let broker_config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
        let broker =
            Broker::open(storage, broker_config, clock, Random::from_seed(next_seed()), &mut registry).map_err(|e| e.to_string())?;
        let sagas = Orchestrator::open(broker.clone(), config, &mut registry).await;
        Ok(Self { broker, sagas: sagas.map_err(|e| e.to_string())? })
    }

    /// Ends both, the orchestrator first.
    pub(crate) async fn close(self) {
        let closed = async {
            self.sagas.shutdown().await;
            self.broker.shutdown().await;
        };
        tokio::time::timeout(LIMIT, closed).await.expect("both end");
    }

    pub(crate) async fn start(&self, saga: &str, input: Value) -> Result<StartedSaga, StartError> {
        self.sagas.start(StartSaga { saga: saga.parse().expect("legal"), version: None, mode: None, input: input.into() }).await
    }

    /// Does what an operator wants.
    pub(crate) async fn operate(&self, id: Uuid, verb: SagaVerb) -> Result<Operated, OperateError> {
        self.sagas.operate(id, OperateSaga { verb, reason: Some("as the test asks".to_owned()), actor: Some("ada".to_owned()) }).await
    }

    /// Waits until the saga is at rest.
    pub(crate) async fn at_rest(&self, id: Uuid) -> SagaDescription {
        self.until(id, |saga| saga.summary.state.is_final() || saga.summary.state == SagaState::Blocked).await
    }

    /// Waits until the saga is as wanted.
    pub(crate) async fn until(&self, id: Uuid, wanted: impl Fn(&SagaDescription) -> bool) -> SagaDescription {
        let waited = tokio::time::timeout(LIMIT, async {
            loop {
                let saga = self.sagas.get(id).await.expect("the saga is there");
                if wanted(&saga) {
                    return saga;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        match waited.await {
            Ok(saga) => saga,
            Err(_) => panic!("the saga does not get there: {:?}", self.sagas.get(id).await),
        }
    }

    /// Takes the next command of a service, as a worker would.
    pub(crate) async fn next_command(&self, topic: &str) -> (Call, String) {
        let request = ReceiveRequest { max_records: Some(1), wait_ms: Some(5_000), ..ReceiveRequest::default() };
        let (topic, group) = (topic.parse().expect("legal"), "workers".parse().expect("legal"));
        let waited = tokio::time::timeout(LIMIT, async {
            loop {
                let mut received = self.broker.receive(&topic, &group, &request).await.expect("the topic is there");
                if let Some(delivery) = received.deliveries.pop() {
                    return (call_of(&delivery), delivery.receipt);
                }
            }
        });
        waited.await.expect("a command comes")
    }

    /// Waits until the saga is as wanted; `None`: a write failed, or it cannot be asked.
    pub(crate) async fn until_or_failed(&self, id: Uuid, wanted: impl Fn(&SagaDescription) -> bool) -> Option<()> {
        while !wanted(&self.sagas.get(id).await.ok()?) {
            if self.broker.writes_stopped().is_some() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Some(())
    }

    /// Unsettled records of a service's workers.
    pub(crate) async fn lag(&self, topic: &str) -> u64 {
        let (topic, group) = (topic.parse().expect("legal"), "workers".parse().expect("legal"));
        self.broker.describe_group(&topic, &group).await.expect("the group is there").lag_records
    }
}

/// The call that a command is.
pub(crate) fn call_of(delivery: &Delivered) -> Call {
    let value = delivery.record.payload.value.as_deref().expect("a command has a value");
    serde_json::from_slice(value).expect("a call")
}

/// A reply to a call.
pub(crate) fn reply_to(call: &Call, reply: CallOutcome) -> CompleteCall {
    CompleteCall { attempt: call.attempt.clone(), reply }
}

pub(crate) fn succeeded() -> CallOutcome {
    CallOutcome::Succeeded { output: json!({"by": "test"}).into() }
}

pub(crate) fn refused() -> CallOutcome {
    CallOutcome::Refused { failure: Failure { code: "NO".to_owned(), message: "it cannot be".to_owned() } }
}

/// What the participants did, by order: it survives every crash of the node. They keep the barrier's rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books(Arc<Mutex<BooksState>>);

#[derive(Debug, Default)]
struct BooksState {
    in_effect: BTreeMap<String, BTreeSet<String>>,
    undone: BTreeSet<String>,
    seen: BTreeMap<String, u32>,
    action_runs: BTreeMap<String, u32>,
}

impl Books {
    /// Answers a call; `None`: the reply is lost.
    pub(crate) fn answer(&self, call: &Call) -> Option<CallOutcome> {
        let mut books = self.0.lock().expect("no panic while it is held");
        let arguments = call.arguments.to_value();
        let text = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        let (order, behave) = (text("order"), text("behave"));
        let seen = books.seen.entry(call.idempotency_key.clone()).or_default();
        *seen += 1;
        let is_first = *seen == 1;
        let step = call.attempt.step.to_string();
        let barrier = format!("{order}/{step}");
        match call.attempt.operation {
            Operation::Action => {
                if behave == format!("refuse {step}") {
                    return Some(refused());
                }
                if behave == format!("lose {step}") && is_first {
                    return Some(CallOutcome::Unknown {
                        failure: Failure { code: "LOST".to_owned(), message: String::new() },
                        retry_after_ms: None,
                    });
                }
                if !books.undone.contains(&barrier) && books.in_effect.entry(order).or_default().insert(step) {
                    *books.action_runs.entry(barrier).or_default() += 1;
                }
                (!(behave == "silent" && is_first)).then(succeeded)
            }
            Operation::Compensation => {
                books.undone.insert(barrier);
                books.in_effect.entry(order).or_default().remove(&step);
                Some(succeeded())
            }
            other => unreachable!("no saga calls {other}"),
        }
    }

    /// The effects of an order that are not undone.
    pub(crate) fn effects(&self, order: &str) -> usize {
        self.0.lock().expect("no panic while it is held").in_effect.get(order).map_or(0, BTreeSet::len)
    }

    /// How often an action took effect at the most: more than once would be a duplicate.
    pub(crate) fn runs_max(&self) -> u32 {
        self.0.lock().expect("no panic while it is held").action_runs.values().copied().max().unwrap_or(0)
    }
}

/// Workers of the services of [`ORDER`]; they end with the token.
pub(crate) fn spawn_workers(node: &Node, books: &Books, stop: &CancellationToken) -> Vec<tokio::task::JoinHandle<()>> {
    let work = |topic: &'static str| {
        let (node, books, stop) = (node.clone(), books.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = serve(&node, &books, topic) => {}
            }
        })
    };
    ["stock.commands", "money.commands"].map(work).into_iter().collect()
}

/// Starts a saga with each of these inputs beside [`spawn_workers`], and waits for all to end; `None`: a write failed.
pub(crate) async fn run_all(
    node: &Node,
    books: &Books,
    stop: &CancellationToken,
    saga: &str,
    inputs: impl IntoIterator<Item = Value>,
) -> Option<()> {
    let workers = spawn_workers(node, books, stop);
    let mut started = Vec::new();
    for input in inputs {
        started.push(node.start(saga, input).await.ok()?.id);
    }
    for id in started {
        node.until_or_failed(id, |saga| saga.summary.state.is_final()).await?;
    }
    stop.cancel();
    for worker in workers {
        worker.await.ok()?;
    }
    Some(())
}

async fn serve(node: &Node, books: &Books, topic: &str) {
    let request = ReceiveRequest { max_records: Some(16), wait_ms: Some(100), ..ReceiveRequest::default() };
    let (topic, group) = (topic.parse().expect("legal"), "workers".parse().expect("legal"));
    loop {
        let Ok(received) = node.broker.receive(&topic, &group, &request).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        for delivery in received.deliveries {
            let call = call_of(&delivery);
            match books.answer(&call) {
                // The reply settles the command; a fenced one was settled when its attempt ended.
                Some(outcome) => drop(node.sagas.complete(reply_to(&call, outcome)).await),
                None => drop(node.broker.ack(&topic, &group, &AckRequest { receipts: vec![delivery.receipt] }).await),
            }
        }
    }
}
