//! Each role with each operation, over the whole interface: what the table allows is let through, everything else is refused before anything
//! is done.

mod calls;
mod definitions;
mod sagas;
mod table;

use super::Parts;
use crate::{Authentication, HttpConfig, QuotaLimits};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use prometheus_client::registry::Registry;
use sagamq_api::access::{CreateKey, Grant, KeyQuota, Need, OPERATIONS, Operation, Part, Place, Resource, Rights, Role};
use sagamq_api::saga::{SagaQuery, StartSaga};
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::OrchestratorConfig;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tower::ServiceExt as _;
use uuid::Uuid;

const DEFINITION: &str = "saga: mine\nversion: 1\nkey: ${ input.n }\nservices:\n  shop: { http: http://127.0.0.1:9/ }\nsteps:\n  - id: sell\n    \
                          call: shop.sell\n    timeout: 10s\n    compensate: none\n";

struct Guarded {
    parts: Parts,
    instance: Uuid,
}

struct Answer {
    status: StatusCode,
    body: Value,
}

impl Guarded {
    /// A server that asks for keys, on which there is one of everything, called `mine`.
    async fn start() -> Self {
        Self::holding(true).await
    }

    /// The same; whether it holds its sagas.
    async fn holding(hold: bool) -> Self {
        let mut registry = Registry::default();
        let config = BrokerConfig { shards: 1, ..BrokerConfig::default() };
        let clock = Arc::new(ManualClock::at(1_800_000_000_000));
        let broker = Broker::open(Arc::new(MemoryStorage::new()), config, clock, Random::from_seed(1), &mut registry).expect("opens");
        let interface = HttpConfig { authentication: Some(Authentication::by_keys(&broker, false)), ..HttpConfig::default() };
        let sagas = OrchestratorConfig { hold, ..OrchestratorConfig::default() };
        let parts = Parts::over(broker, registry, interface, QuotaLimits::default(), sagas, None).await.expect("opens");
        let guarded = Self { parts, instance: Uuid::nil() };
        let admin = guarded.key("setup", &["admin"]).await;
        for (path, body) in [
            ("/v1/topics", json!({ "name": "mine", "config": { "partitions": 1 } })),
            ("/v1/topics/mine/groups/mine:receive", json!({})),
            ("/v1/stream-groups/mine-stream:heartbeat", json!({ "member_id": "first", "epoch": 0, "topics": ["mine"] })),
        ] {
            let made = guarded.ask(&admin, "POST", path, &body.to_string()).await;
            assert!(made.status.is_success(), "{path}: {}", made.body);
        }
        guarded.parts.orchestrator.publish(DEFINITION).await.expect("legal");
        let input = json!({ "n": 1 }).into();
        let start = StartSaga { saga: "mine".parse().expect("a name"), version: None, mode: None, input };
        let instance = guarded.parts.orchestrator.start(start).await.expect("started").id;
        Self { instance, ..guarded }
    }

    async fn key(&self, name: &str, roles: &[&str]) -> String {
        let roles = roles.iter().map(|role| role.parse().unwrap_or_else(|error| panic!("{role}: {error}"))).collect();
        let request = CreateKey { name: name.parse().expect("a name"), roles, expires_in_ms: None, quota: KeyQuota::default() };
        self.parts.broker.create_key(request).await.expect("made").secret
    }

    async fn ask(&self, key: &str, method: &str, path: &str, body: &str) -> Answer {
        self.send(key, method, path, body, None).await
    }

    /// A request under a key that makes it one when it is sent again.
    async fn ask_once(&self, key: &str, once: &str, path: &str, body: &str) -> Answer {
        self.send(key, "POST", path, body, Some(once)).await
    }

    async fn send(&self, key: &str, method: &str, path: &str, body: &str, once: Option<&str>) -> Answer {
        let kind = if path.starts_with("/v1/saga-definitions") && method == "POST" { "application/yaml" } else { "application/json" };
        let mut request = Request::builder().method(method).uri(path).header("content-type", kind);
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(once) = once {
            request = request.header("idempotency-key", once);
        }
        let answer = self.parts.application.clone().oneshot(request.body(Body::from(body.to_owned())).expect("a request"));
        let (parts, body) = answer.await.expect("it always answers").into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a whole body");
        Answer { status: parts.status, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    /// A request for the operation on what is called `mine`.
    async fn try_out(&self, key: &str, operation: &Operation) -> Answer {
        let id = if operation.path.contains("saga-repairs") { Uuid::from_u128(7) } else { self.instance };
        let group = if operation.path.contains("stream-groups") { "mine-stream" } else { "mine" };
        let mut path = operation.path.replace("{topic}", "mine").replace("{group}", group).replace("{saga}", "mine");
        path = path.replace("{id}", &id.to_string()).replace("{partition}", "0").replace("{schedule}", "1-0-1-0");
        path = path.replace("{producer}", "mine").replace("{service}", "mine").replace("{key}", "nobody");
        if matches!(operation.saga, Place::Query(_)) {
            path.push_str("?saga=mine");
        }
        self.ask(key, operation.method, &path, &self.body(operation)).await
    }

    /// A body that says all that the right depends on.
    fn body(&self, operation: &Operation) -> String {
        let body = match operation.path {
            "/v1/saga-definitions" | "/v1/saga-definitions:lint" if operation.method == "POST" => return DEFINITION.to_owned(),
            "/v1/topics" | "/v1/producers" => json!({ "name": "mine" }),
            "/v1/stream-groups/{group}:heartbeat" => json!({ "member_id": "second", "epoch": 0, "topics": ["mine"] }),
            "/v1/stream-groups/{group}:commit" => json!({ "member_id": "first", "epoch": 1, "offsets": [] }),
            "/v1/stream-groups/{group}:seek" => json!({ "position": "start" }),
            "/v1/sagas" => json!({ "saga": "mine", "input": { "n": 2 } }),
            "/v1/sagas:signal" => json!({ "saga": "mine", "key": "1", "name": "s" }),
            "/v1/saga-calls:complete" => {
                json!({ "instance": self.instance, "step": "sell", "operation": "action", "epoch": 1, "reply": { "outcome": "succeeded" } })
            }
            "/v1/topics/{topic}/groups/{group}:ack-with-records" => json!({ "receipts": ["x"], "produce": [] }),
            _ => json!({}),
        };
        if operation.method == "GET" || operation.method == "DELETE" { String::new() } else { body.to_string() }
    }

    /// What requests could have changed.
    async fn state(&self) -> String {
        let topics: Vec<_> = self.parts.broker.topics().into_iter().map(|topic| (topic.name, topic.config, topic.partitions)).collect();
        let sagas = self.parts.orchestrator.list(SagaQuery::default()).await.expect("a list");
        let members = self.parts.broker.describe_stream_group(&"mine-stream".parse().expect("a name")).await.expect("it is there");
        let (definitions, services) = (self.parts.orchestrator.definitions(), self.parts.orchestrator.services());
        let producers = self.parts.broker.named_producers();
        format!("{topics:?} {sagas:?} {members:?} {definitions:?} {services:?} {producers:?}")
    }
}
