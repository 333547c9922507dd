//! The interface over real routers and a broker on storage in memory: what is asked is HTTP, what is looked at is the answer.

mod access;
mod bad_input;
mod batches;
mod cloud_events;
mod common;
mod compression;
mod deliveries;
mod description;
mod edges;
mod events;
mod gzip;
mod holders;
mod hot_spots;
mod journeys;
mod producers;
mod quotas;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use prometheus_client::registry::Registry;
use sagamq_api::{ErrorCode, Problem};
use sagamq_broker::env::{ManualClock, Random};
use sagamq_broker::storage::Storage;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_server::{Application, HttpConfig, HttpMetrics, application, broker};
use serde_json::Value;
use std::sync::Arc;
use tower::ServiceExt as _;

const NOW_MS: u64 = 1_790_000_000_000;

/// A server on storage in memory, with a clock that stands still.
struct Server {
    app: Application,
    broker: Broker,
    clock: ManualClock,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Server {
    fn new() -> Self {
        Self::over(Arc::new(MemoryStorage::new()), BrokerConfig { shards: 4, ..BrokerConfig::default() })
    }

    fn over(storage: Arc<dyn Storage>, config: BrokerConfig) -> Self {
        Self::with_routes(storage, config, Router::new())
    }

    /// A server with routes of an embedder beside the broker's.
    fn with_routes(storage: Arc<dyn Storage>, config: BrokerConfig, more: Router) -> Self {
        Self::with_interface(storage, config, more, &HttpConfig::default())
    }

    fn with_interface(storage: Arc<dyn Storage>, config: BrokerConfig, more: Router, interface: &HttpConfig) -> Self {
        Self::build(storage, config, more, |_| interface.clone())
    }

    /// A server whose interface needs the broker, to look keys up.
    fn with_keys(storage: Arc<dyn Storage>, config: BrokerConfig, interface: impl FnOnce(&Broker) -> HttpConfig) -> Self {
        Self::build(storage, config, Router::new(), interface)
    }

    fn build(storage: Arc<dyn Storage>, config: BrokerConfig, more: Router, interface: impl FnOnce(&Broker) -> HttpConfig) -> Self {
        let mut registry = Registry::default();
        let clock = ManualClock::at(NOW_MS);
        let engine = Broker::open(storage, config, Arc::new(clock.clone()), Random::from_seed(1), &mut registry).expect("opens");
        let metrics = HttpMetrics::register(&mut registry);
        let routes = broker::router(engine.clone()).merge(more);
        Self { app: application(routes, broker::openapi(), Arc::new(registry), metrics, &interface(&engine)), broker: engine, clock }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.expect("it always answers");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a whole body").to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).body(Body::empty()).expect("a request")).await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request.body(body.into()).expect("a request")).await
    }

    async fn patch_json(&self, path: &str, body: Value) -> Answer {
        let request = Request::patch(path).header("content-type", "application/json");
        self.send(request.body(body.to_string().into()).expect("a request")).await
    }

    async fn post_json(&self, path: &str, body: Value) -> Answer {
        self.post(path, body.to_string()).await
    }

    /// Deletes a group whose leases are over, once its shards have noticed that.
    async fn delete_unused_group(&self, path: &str) {
        for _ in 0..500 {
            let answer = self.delete(path).await;
            if answer.status == StatusCode::NO_CONTENT {
                return;
            }
            assert_eq!(answer.code(), ErrorCode::GroupInUse);
            tokio::time::sleep(core::time::Duration::from_millis(20)).await;
        }
        panic!("the group is still in use");
    }

    /// Creates a topic with one partition.
    async fn topic(&self, name: &str) {
        let config = serde_json::json!({"partitions": 1, "delivery_limit": 2, "backoff_initial_ms": 1_000, "backoff_max_ms": 1_000});
        let answer = self.post_json("/v1/topics", serde_json::json!({"name": name, "config": config})).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// The problem in the answer, after a look at what all of them have in common.
    fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Problem = serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.status, problem.code.status());
        assert_eq!(problem.request_id.as_deref(), self.header("x-request-id"), "the problem names the request");
        assert!(problem.detail.len() > 10, "{problem:?}");
        assert_eq!(self.header("retry-after").is_some(), matches!(problem.status, 429 | 503), "{self:?}");
        problem
    }

    fn code(&self) -> ErrorCode {
        self.problem().code
    }

    fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.json()
    }
}

#[tokio::test]
async fn series_of_deleted_topics_and_groups_go() {
    let server = Server::new();
    for topic in ["kept", "dropped"] {
        server.topic(topic).await;
        let body = || r#"{"records":[{"value":1,"idempotency_key":"k"}]}"#;
        server.post(&format!("/v1/topics/{topic}/records"), body()).await.ok();
        server.post(&format!("/v1/topics/{topic}/records"), body()).await.ok();
        for group in ["a", "b"] {
            let received = server.post(&format!("/v1/topics/{topic}/groups/{group}:receive"), "").await.ok();
            let receipt = received["deliveries"][0]["receipt"].clone();
            server.post_json(&format!("/v1/topics/{topic}/groups/{group}:ack"), serde_json::json!({"receipts": [receipt]})).await.ok();
        }
    }
    let series = async |label: &str| {
        let text = String::from_utf8(server.get("/metrics").await.body).expect("text");
        text.lines().filter(|line| line.contains(label)).count()
    };
    let (of_topic, of_group) = (series(r#"topic="dropped""#).await, series(r#"group="a""#).await);
    assert!(of_topic >= 7 && of_group >= 4, "there is something to forget: {of_topic}, {of_group}");
    assert_eq!(server.delete("/v1/topics/kept/groups/a").await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.delete("/v1/topics/dropped").await.status, StatusCode::NO_CONTENT);
    assert_eq!((series(r#"topic="dropped""#).await, series(r#"group="a""#).await), (0, 0));
    assert!(series(r#"topic="kept""#).await > 0);
}
