//! Quotas through the whole interface: who is refused, what he is told, and what the server says of it.

use super::{Answer, Server};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use core::time::Duration;
use prometheus_client::registry::Registry;
use sagamq_api::ErrorCode;
use sagamq_broker::BrokerConfig;
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_server::{HttpConfig, Quota, QuotaLimits};
use std::sync::Arc;

fn server(limits: QuotaLimits) -> (Server, ManualClock, Registry) {
    let (clock, mut registry) = (ManualClock::at(1_800_000_000_000), Registry::default());
    let quota = Some(Quota::new(limits, Arc::new(clock.clone()), &mut registry));
    let interface = HttpConfig { quota, ..HttpConfig::default() };
    let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
    (Server::with_interface(Arc::new(MemoryStorage::new()), config, Router::new(), &interface), clock, registry)
}

async fn asks(server: &Server, client: &str, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json").header("x-client-id", client);
    server.send(request.body(Body::from(body.to_owned())).expect("a request")).await
}

#[tokio::test]
async fn a_client_that_has_used_up_its_quota_is_told_when_to_come_back_and_others_are_not() {
    let (server, clock, registry) = server(QuotaLimits { requests_per_second: 2, bytes_per_second: 0 });
    assert_eq!(asks(&server, "setup", "POST", "/v1/topics", r#"{"name":"t"}"#).await.status.as_u16(), 201);
    let produce = async |client| asks(&server, client, "POST", "/v1/topics/t/records", r#"{"records":[{"value":1}]}"#).await;
    for _ in 0..2 {
        produce("greedy").await.ok();
    }
    let refused = produce("greedy").await;
    assert_eq!(refused.header("retry-after"), Some("1"), "{refused:?}");
    let problem = refused.problem();
    assert_eq!((problem.code, problem.status, problem.retryable), (ErrorCode::QuotaExceeded, 429, true));
    assert!(problem.request_id.is_some() && problem.detail.contains("`greedy`"), "{problem:?}");
    produce("modest").await.ok();
    assert_eq!(asks(&server, "greedy", "GET", "/readyz", "").await.status.as_u16(), 200, "how it is, is free");
    let stored: u64 = asks(&server, "looks", "GET", "/v1/topics/t", "").await.ok()["partitions"]
        .as_array()
        .expect("partitions")
        .iter()
        .map(|partition| partition["high_watermark"].as_u64().expect("a number"))
        .sum();
    assert_eq!(stored, 3, "nothing of the refused one");
    clock.advance(Duration::from_secs(1));
    produce("greedy").await.ok();
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &registry).expect("text");
    assert!(metrics.contains(r#"sagamq_quota_refused_requests_total{bound="requests"} 1"#), "{metrics}");
}

#[tokio::test]
async fn what_a_client_gets_counts_like_what_it_sends() {
    let (server, clock, _registry) = server(QuotaLimits { requests_per_second: 0, bytes_per_second: 10_000 });
    assert_eq!(asks(&server, "setup", "POST", "/v1/topics", r#"{"name":"t","config":{"partitions":1}}"#).await.status.as_u16(), 201);
    let body = format!(r#"{{"records":[{{"value":"{}"}}]}}"#, "x".repeat(30_000));
    // Larger than a second's worth, and alone: it passes and is paid for.
    asks(&server, "sends", "POST", "/v1/topics/t/records", &body).await.ok();
    let refused = asks(&server, "sends", "GET", "/v1/topics", "").await;
    assert_eq!(refused.header("retry-after"), Some("3"), "{refused:?}");
    let read = async || asks(&server, "reads", "GET", "/v1/topics/t/partitions/0/records", "").await;
    read().await.ok();
    assert_eq!(read().await.code(), ErrorCode::QuotaExceeded);
    clock.advance(Duration::from_secs(4));
    read().await.ok();
}
