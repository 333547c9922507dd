//! Spans of sagas: which there are, below what, with which outcome; and that a crash makes no second one of an attempt.

use crate::common::{LIMIT, Node, call_of, refused, reply_to, succeeded};
use core::time::Duration;
use prometheus_client::registry::Registry;
use sagamq_api::TraceContext;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::saga::{CallOutcome, SagaState, StartSaga};
use sagamq_broker::env::{Random, SystemClock};
use sagamq_broker::spans::{Span, SpanKind, SpanSink, Tracer, Value};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::{Orchestrator, OrchestratorConfig, Wait};
use serde_json::json;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const ORDER: &str = "
saga: order
version: 1
key: ${ input.order }
defaults: { timeout: 30s, retry: { initial: 5ms, max: 10ms }, compensate_retry: { initial: 5ms, max: 10ms } }
services: { stock: { topic: stock.commands }, money: { topic: money.commands } }
steps:
  - { id: reserve, call: stock.reserve, compensate: stock.release }
  - { id: pay, saga: payment, with: { order: \"${ input.order }\" } }
  - { id: ship, call: stock.ship, compensate: none }
";

const PAYMENT: &str = "
saga: payment
version: 1
key: ${ input.order }
defaults: { timeout: 30s, compensate_retry: { initial: 5ms, max: 10ms } }
services: { money: { topic: money.commands } }
steps:
  - { id: charge, call: money.charge, compensate: money.refund }
";

/// Keeps what it gets.
#[derive(Default)]
struct Sink(Mutex<Vec<Span>>);

impl SpanSink for Sink {
    fn samples(&self, parent: Option<&TraceContext>, _: u128) -> bool {
        parent.is_none_or(TraceContext::is_sampled)
    }

    fn record(&self, span: Span) {
        self.0.lock().expect("no panic").push(span);
    }
}

impl Sink {
    fn all(&self) -> Vec<Span> {
        self.0.lock().expect("no panic").clone()
    }

    /// The one span of this name.
    fn one(&self, name: &str) -> Span {
        let found: Vec<Span> = self.all().into_iter().filter(|span| span.name == name).collect();
        let [one] = &found[..] else { panic!("{name}: {} of {:?}", found.len(), self.names()) };
        one.clone()
    }

    fn names(&self) -> Vec<String> {
        self.all().into_iter().map(|span| span.name.into_owned()).collect()
    }

    /// Waits until there is one of this name.
    async fn has(&self, name: &str) {
        let there = async {
            while !self.names().iter().any(|known| known == name) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, there).await.unwrap_or_else(|_| panic!("{name} is not among {:?}", self.names()));
    }
}

fn said(span: &Span, key: &str) -> Option<String> {
    span.attributes.iter().find(|(known, _)| *known == key).map(|(_, value)| match value {
        Value::Text(text) => text.to_string(),
        Value::Number(number) => number.to_string(),
    })
}

async fn open(storage: &CrashStorage, tracer: Tracer) -> Node {
    let mut registry = Registry::default();
    let config = BrokerConfig { shards: 2, tracer, ..BrokerConfig::default() };
    let broker = Broker::open(Arc::new(storage.clone()), config, Arc::new(SystemClock), Random::from_system(), &mut registry);
    let broker = broker.expect("it opens");
    let config = OrchestratorConfig { restart_grace: Duration::from_millis(20), ..OrchestratorConfig::default() };
    let sagas = Orchestrator::open(broker.clone(), config, &mut registry).await.expect("it opens");
    Node { broker, sagas }
}

fn recording() -> (Arc<Sink>, Tracer) {
    let sink = Arc::new(Sink::default());
    (Arc::clone(&sink), Tracer::new(sink, Arc::new(SystemClock), Random::from_seed(3)))
}

fn request(sampled: bool) -> TraceContext {
    let flags = if sampled { "01" } else { "00" };
    TraceContext::parse(&format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"), Some("a=1")).expect("legal")
}

async fn start(node: &Node, key: &str, trace: Option<TraceContext>) -> Uuid {
    let (saga, input) = ("order".parse().expect("legal"), json!({ "order": key }).into());
    let start = StartSaga { saga, version: None, mode: None, input };
    node.sagas.start_and_wait(start, Wait::try_from(Some(0)).expect("no wait"), trace).await.expect("started").id
}

/// Takes the next command, with what its record says of the span that it is made by.
async fn command(node: &Node, topic: &str) -> (sagamq_api::saga::Call, Option<TraceContext>) {
    let request = ReceiveRequest { max_records: Some(1), wait_ms: Some(5_000), ..ReceiveRequest::default() };
    let (topic, group) = (topic.parse().expect("legal"), "workers".parse().expect("legal"));
    let taken = async {
        loop {
            if let Some(delivery) = node.broker.receive(&topic, &group, &request).await.expect("the topic is there").deliveries.pop() {
                return (call_of(&delivery), TraceContext::of_record(&delivery.record.payload.headers));
            }
        }
    };
    tokio::time::timeout(LIMIT, taken).await.expect("a command comes")
}

async fn publish(node: &Node) {
    for definition in [PAYMENT, ORDER] {
        node.sagas.publish_active(definition).await.expect("published");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_is_a_span_with_its_outcome_below_its_saga_over_restarts() {
    let (storage, (sink, tracer)) = (CrashStorage::new(), recording());
    let node = open(&storage, tracer.clone()).await;
    publish(&node).await;
    let id = start(&node, "o-1", Some(request(true))).await;
    let (reserve, by_first) = command(&node, "stock.commands").await;
    let unknown = CallOutcome::Unknown {
        failure: sagamq_api::saga::Failure { code: "LOST".to_owned(), message: "s3cret".to_owned() },
        retry_after_ms: None,
    };
    node.sagas.complete(reply_to(&reserve, unknown)).await.expect("heard");
    let (again, by_second) = command(&node, "stock.commands").await;
    sink.has("action reserve").await;
    // What is open when the node dies goes on in the next one, as the same attempt.
    node.close().await;
    let node = open(&storage, tracer).await;
    node.sagas.complete(reply_to(&again, succeeded())).await.expect("heard");
    let (charge, by_charge) = command(&node, "money.commands").await;
    node.sagas.complete(reply_to(&charge, succeeded())).await.expect("heard");
    let (ship, _) = command(&node, "stock.commands").await;
    node.sagas.complete(reply_to(&ship, refused())).await.expect("heard");
    for topic in ["money.commands", "stock.commands"] {
        let (undo, _) = command(&node, topic).await;
        node.sagas.complete(reply_to(&undo, succeeded())).await.expect("heard");
    }
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated);
    sink.has("saga order").await;
    node.close().await;

    let (order, payment) = (sink.one("saga order"), sink.one("saga payment"));
    assert_eq!((order.parent_span_id, said(&order, "sagamq.saga.state").as_deref()), (Some(request(true).span_id()), Some("COMPENSATED")));
    assert_eq!(order.error, None, "what was undone has done its work");
    let attempts: Vec<Span> = sink.all().into_iter().filter(|span| span.name == "action reserve").collect();
    let [first, second] = &attempts[..] else { panic!("two attempts: {:?}", sink.names()) };
    let seen = |span: &Span| {
        (said(span, "sagamq.saga.attempt"), said(span, "sagamq.saga.outcome"), span.error.clone().map(|code| code.into_owned()))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(seen(first), (some("1"), some("unknown"), some("LOST")));
    assert_eq!(seen(second), (some("2"), some("succeeded"), None));
    assert_eq!([by_first, by_second], [Some(first.context.clone()), Some(second.context.clone())], "workers are called by the attempts");
    for span in [first, second] {
        assert_eq!((span.parent_span_id, span.kind), (Some(order.context.span_id()), SpanKind::Producer));
        assert_eq!(said(span, "messaging.destination.name").as_deref(), Some("stock.commands"));
        assert!(span.start_ns > 0 && span.start_ns <= span.end_ns && span.context.tracestate() == Some("a=1"));
    }
    // The sub-saga is below the attempt that starts it. It had completed, and what undoes it is below it as well.
    let (pay, charged) = (sink.one("action pay"), sink.one("action charge"));
    assert_eq!((pay.kind, payment.parent_span_id, payment.is_parent_remote), (SpanKind::Internal, Some(pay.context.span_id()), false));
    assert_eq!((charged.parent_span_id, by_charge), (Some(payment.context.span_id()), Some(charged.context)));
    assert_eq!(said(&payment, "sagamq.saga.state").as_deref(), Some("COMPLETED"), "told when it ended for the first time");
    assert_eq!(sink.one("compensation charge").parent_span_id, Some(payment.context.span_id()));
    assert_eq!(sink.one("compensation pay").parent_span_id, Some(order.context.span_id()));
    assert_eq!(said(&sink.one("action ship"), "sagamq.saga.outcome").as_deref(), Some("refused"));
    let all = sink.all();
    let mut ids: Vec<u64> = all.iter().map(|span| span.context.span_id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "no two spans are one: {:?}", sink.names());
    assert!(!format!("{all:?}").contains("s3cret"), "what participants say stays in the history");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_spans_what_came_is_given_on_and_remembered() {
    let storage = CrashStorage::new();
    let node = open(&storage, Tracer::default()).await;
    publish(&node).await;
    start(&node, "plain", None).await;
    assert_eq!(command(&node, "stock.commands").await.1, None, "nothing is made up");
    start(&node, "off", Some(request(true))).await;
    assert_eq!(command(&node, "stock.commands").await.1, Some(request(true)));
    // One that nobody records is not recorded here either.
    node.close().await;
    let (sink, tracer) = recording();
    let node = open(&storage, tracer).await;
    start(&node, "unsampled", Some(request(false))).await;
    let (call, by) = command(&node, "stock.commands").await;
    assert_eq!((call.key.as_str(), by), ("unsampled", Some(request(false))));
    node.sagas.complete(reply_to(&call, succeeded())).await.expect("heard");
    node.close().await;
    assert_eq!(sink.names(), Vec::<String>::new());
}
