//! What every route has in common: ids of requests, methods, panics, health, overload, metrics.

use super::Server;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use bytes::Bytes;
use core::future::IntoFuture as _;
use core::ops::Range;
use sagamq_api::ErrorCode;
use sagamq_broker::BrokerConfig;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_broker::storage::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use std::sync::{Arc, Condvar, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

/// Storage whose writes wait as long as they are held.
#[derive(Clone, Default)]
struct HeldStorage {
    below: MemoryStorage,
    held: Arc<(Mutex<Held>, Condvar)>,
}

#[derive(Default)]
struct Held {
    is_held: bool,
    waiting: usize,
}

impl HeldStorage {
    fn hold(&self) {
        self.held.0.lock().expect("free").is_held = true;
    }

    fn release(&self) {
        self.held.0.lock().expect("free").is_held = false;
        self.held.1.notify_all();
    }

    async fn until_a_write_waits(&self) {
        while self.held.0.lock().expect("free").waiting == 0 {
            tokio::time::sleep(core::time::Duration::from_millis(1)).await;
        }
    }
}

impl Storage for HeldStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.below.get(family, key)
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        self.below.scan(family, range, direction, visit)
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let (held, released) = &*self.held;
        let mut held = held.lock().expect("free");
        held.waiting += 1;
        let mut held = released.wait_while(held, |held| held.is_held).expect("free");
        held.waiting -= 1;
        drop(held);
        self.below.write(mutations, durability)
    }
}

fn with_id(path: &str, id: &[u8]) -> Request<Body> {
    Request::get(path).header("x-request-id", id).body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn a_request_keeps_its_id_or_gets_one() {
    let server = Server::new();
    let kept = server.send(with_id("/v1/topics/none", b"order-7/retry:2")).await;
    assert_eq!(kept.problem().request_id.as_deref(), Some("order-7/retry:2"));
    let ok = server.send(with_id("/healthz", b"abc")).await;
    assert_eq!(ok.header("x-request-id"), Some("abc"));
    for forged in [b"a b".as_slice(), b"", b"\xff", &[b'x'; 129]] {
        let made = server.send(with_id("/healthz", forged)).await;
        let id = made.header("x-request-id").expect("an id");
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
    }
    let ids = [server.get("/healthz").await, server.get("/healthz").await].map(|answer| answer.header("x-request-id").map(str::to_owned));
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn verbs_and_queries_pass_a_real_connection() {
    let server = Server::new();
    server.topic("t").await;
    server.post("/v1/topics/t/records", r#"{"records":[{"value":1},{"value":2}]}"#).await.ok();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let served = Router::new().fallback_service(server.app.clone());
    let serving = tokio::spawn(axum::serve(listener, served).into_future());
    let requests = [
        "POST /v1/topics/t/groups/g:receive HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        "GET /v1/topics/t/partitions/0/records?offset=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ];
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(requests.concat().as_bytes()).await.expect("sent");
    let mut answers = String::new();
    connection.read_to_string(&mut answers).await.expect("answered and closed");
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
    assert!(answers.contains("\"deliveries\":[{\"receipt\"") && answers.contains("\"next_offset\":2"), "{answers}");
    serving.abort();
}

#[tokio::test]
async fn a_wrong_method_says_which_are_right() {
    let server = Server::new();
    let answer = server.delete("/v1/topics").await;
    assert_eq!(answer.code(), ErrorCode::MethodNotAllowed);
    let allow = answer.header("allow").expect("RFC 9110 asks for it");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    assert_eq!(server.get("/v1/topics/t/groups/g:receive").await.code(), ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn a_panic_is_a_problem_and_the_server_goes_on() {
    async fn panics() {
        panic!("the secret of the handler");
    }
    let more = Router::new().route("/v1/panics", get(panics));
    let server = Server::with_routes(Arc::new(MemoryStorage::new()), BrokerConfig::default(), more);
    let problem = server.get("/v1/panics").await.problem();
    assert_eq!(problem.code, ErrorCode::Internal);
    assert!(problem.outcome_unknown && !problem.detail.contains("secret"), "{problem:?}");
    assert_eq!(server.get("/healthz").await.status.as_u16(), 200);
}

#[tokio::test]
async fn readiness_ends_with_a_shutdown_and_liveness_does_not() {
    let server = Server::new();
    server.topic("t").await;
    assert_eq!(server.get("/readyz").await.status.as_u16(), 200);
    server.broker.shutdown().await;
    assert_eq!(server.get("/readyz").await.code(), ErrorCode::ShuttingDown);
    assert_eq!(server.get("/healthz").await.status.as_u16(), 200);
    let refused = server.post("/v1/topics/t/records", r#"{"records":[{"value":1}]}"#).await;
    assert_eq!(refused.code(), ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn readiness_ends_with_the_death_of_a_part() {
    let server = Server::new();
    drop(server.broker.liveness().guard("a lane"));
    let problem = server.get("/readyz").await.problem();
    assert_eq!(problem.code, ErrorCode::Internal);
    assert!(problem.detail.contains("a lane"), "{problem:?}");
}

#[tokio::test]
async fn after_a_failed_write_reads_go_on_and_writes_say_why_not() {
    let storage = CrashStorage::new();
    let server = Server::over(Arc::new(storage.clone()), BrokerConfig::default());
    server.topic("t").await;
    server.post("/v1/topics/t/records", r#"{"records":[{"value":1}]}"#).await.ok();
    storage.fail_write(1, FailedWrite::NothingApplied);
    let failed = server.post("/v1/topics/t/records", r#"{"records":[{"value":2}]}"#).await.problem();
    assert_eq!(failed.code, ErrorCode::WritesStopped);
    assert!(failed.outcome_unknown && failed.retryable, "{failed:?}");
    let refused = server.post("/v1/topics/t/records", r#"{"records":[{"value":3}]}"#).await;
    assert_eq!(refused.code(), ErrorCode::WritesStopped);
    assert_eq!(server.get("/readyz").await.code(), ErrorCode::WritesStopped);
    assert_eq!(server.get("/healthz").await.status.as_u16(), 200);
    let read = server.get("/v1/topics/t/partitions/0/records").await.ok();
    assert_eq!(read["records"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_full_queue_is_429_and_stores_nothing() {
    let config = BrokerConfig { staged_bytes_max: 1_000, ..BrokerConfig::default() };
    let storage = HeldStorage::default();
    let server = Server::over(Arc::new(storage.clone()), config);
    server.post("/v1/topics", r#"{"name":"t","config":{"partitions":2}}"#).await;
    server.post("/v1/topics", r#"{"name":"others","config":{"partitions":3}}"#).await;
    let value = "x".repeat(1_000);
    let records = || serde_json::json!({"records": [{"value": value, "partition": 0}, {"value": value, "partition": 1}]});
    // Somebody else's records wait for the disk.
    storage.hold();
    let theirs = Request::post("/v1/topics/others/records").header("content-type", "application/json");
    let theirs = theirs.body(Body::from(r#"{"records":[{"value":1,"partition":2}]}"#)).expect("a request");
    let waiting = tokio::spawn(server.app.clone().oneshot(theirs));
    storage.until_a_write_waits().await;
    let answer = server.post_json("/v1/topics/t/records", records()).await;
    assert!(matches!(answer.header("retry-after"), Some("1" | "2" | "3")), "{answer:?}");
    let problem = answer.problem();
    assert_eq!(problem.code, ErrorCode::Overloaded);
    assert!(problem.retryable && !problem.outcome_unknown);
    for partition in server.get("/v1/topics/t").await.ok()["partitions"].as_array().expect("partitions") {
        assert_eq!(partition["high_watermark"], 0);
    }
    storage.release();
    assert_eq!(waiting.await.expect("no panic").expect("it always answers").status().as_u16(), 200);
    // Larger than the bound, and alone: it gets through, or it never would.
    server.post_json("/v1/topics/t/records", records()).await.ok();
}

#[tokio::test]
async fn metrics_count_requests_by_route_and_not_by_path() {
    let server = Server::new();
    server.topic("t").await;
    server.post("/v1/topics/t/records", r#"{"records":[{"value":1}]}"#).await.ok();
    for group in ["a", "b"] {
        server.post(&format!("/v1/topics/t/groups/{group}:receive"), "").await.ok();
    }
    server.get("/no/such/route").await.problem();
    let answer = server.get("/metrics").await;
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = String::from_utf8(answer.body).expect("text");
    let receive = r#"sagamq_http_requests_total{route="/v1/topics/{topic}/groups/{group}:receive",method="POST",status="200"} 2"#;
    for line in [
        receive,
        r#"sagamq_http_requests_total{route="none",method="GET",status="404"} 1"#,
        r#"sagamq_http_request_seconds_count{route="/v1/topics",method="POST"} 1"#,
        r#"sagamq_produced_records_total{topic="t"} 1"#,
        r#"sagamq_delivered_records_total{topic="t",group="a"} 1"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("/no/such/route"));
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted() {
    let server = Server::new();
    server.topic("t").await;
    let receive = server.post("/v1/topics/t/groups/g:receive", r#"{"wait_ms":20000}"#);
    tokio::select! {
        biased;
        answer = receive => panic!("there is nothing to receive: {answer:?}"),
        () = async { while server.get("/v1/topics/t/groups/g").await.status.as_u16() != 200 { tokio::task::yield_now().await } } => {}
    }
    let text = String::from_utf8(server.get("/metrics").await.body).expect("text");
    let line = r#"sagamq_http_requests_total{route="/v1/topics/{topic}/groups/{group}:receive",method="POST",status="499"} 1"#;
    assert!(text.lines().any(|found| found == line), "{text}");
}
