//! Texts that travel compressed with gzip: what they become is bounded, and who does not ask for it gets nothing of it.

use super::{Answer, NOW_MS, Server};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use core::future::IntoFuture as _;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use sagamq_api::ErrorCode;
use sagamq_api::headers::APPLICATION_BATCH;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_broker::BrokerConfig;
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_server::{HttpConfig, Quota, QuotaLimits};
use serde_json::{Value, json};
use std::io::Read as _;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const RECORDS: &str = "/v1/topics/t/records";
const PARTITION: &str = "/v1/topics/t/partitions/0/records";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzEncoder::new(text, Compression::best()).read_to_end(&mut out).expect("memory");
    out
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
    out
}

async fn server() -> Server {
    let server = Server::new();
    server.topic("t").await;
    server
}

async fn sent(server: &Server, encoding: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(RECORDS).header("content-type", "application/json").header("content-encoding", encoding);
    server.send(request.body(body.into()).expect("a request")).await
}

async fn taken(server: &Server, accept_encoding: &str, accept: &str, path: &str) -> Answer {
    let request = Request::get(path).header("accept-encoding", accept_encoding).header("accept", accept);
    server.send(request.body(Body::empty()).expect("a request")).await
}

fn records(count: usize) -> Value {
    json!({"records": (0..count).map(|n| json!({"value": {"order": n, "currency": "EUR"}})).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_body_of_gzip_is_what_it_was_before() {
    let server = server().await;
    let small = gzip(r#"{"records":[{"value":"a"}]}"#.as_bytes());
    sent(&server, "gzip", small.clone()).await.ok();
    sent(&server, "X-Gzip", small.clone()).await.ok();
    sent(&server, "identity", r#"{"records":[{"value":"b"}]}"#).await.ok();
    let many = records(5_000).to_string();
    let zipped = gzip(many.as_bytes());
    assert!(zipped.len() > 2_048 && 4 * zipped.len() < many.len(), "beside the thread of requests");
    sent(&server, "gzip", zipped).await.ok();
    // In pieces whose length nobody tells, and in two members.
    let halves = [gzip(br#"{"records":[{"val"#), gzip(br#"ue":"c"}]}"#)];
    let pieces = futures_util::stream::iter(halves.map(|half| Ok::<_, std::io::Error>(Bytes::from(half))));
    sent(&server, "gzip", Body::from_stream(pieces)).await.ok();
    let read = server.get(&format!("{PARTITION}?offset=3")).await.ok();
    assert_eq!((&read["records"][0]["value"]["order"], &read["high_watermark"]), (&json!(0), &json!(5_004)));
    let nothing = Request::post("/v1/topics/t/groups/g:receive").header("content-encoding", "gzip").body(Body::empty());
    assert_eq!(server.send(nothing.expect("a request")).await.ok()["deliveries"].as_array().map(Vec::len), Some(100), "no body is none");
}

#[tokio::test]
async fn what_is_no_gzip_or_another_encoding_is_refused() {
    let server = server().await;
    let good = gzip(records(500).to_string().as_bytes());
    for encoding in ["br", "zstd", "deflate", "gzip, gzip"] {
        let problem = sent(&server, encoding, good.clone()).await.problem();
        assert_eq!((problem.status, problem.code), (415, ErrorCode::UnsupportedMediaType), "{encoding}");
    }
    let twice = Request::post(RECORDS)
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .header("content-encoding", "gzip");
    assert_eq!(server.send(twice.body(good.clone().into()).expect("a request")).await.code(), ErrorCode::UnsupportedMediaType);
    let mut damaged = good.clone();
    *damaged.last_mut().expect("bytes") ^= 1;
    let cut = good[..good.len() - 3].to_vec();
    for (what, body) in [("plain", b"{}".to_vec()), ("damaged", damaged), ("cut", cut), ("behind", [good.clone(), vec![1, 2, 3]].concat())]
    {
        let problem = sent(&server, "gzip", body).await.problem();
        assert_eq!(problem.code, ErrorCode::MalformedRequest, "{what}");
        assert!(problem.detail.contains("not gzip"), "{what}: {problem:?}");
    }
    let batches = Request::post(RECORDS).header("content-type", APPLICATION_BATCH).header("content-encoding", "gzip");
    let problem = server.send(batches.body(good.into()).expect("a request")).await.problem();
    assert_eq!(problem.code, ErrorCode::UnsupportedMediaType);
    assert!(problem.detail.contains("batches"), "{problem:?}");
    assert_eq!(server.get(PARTITION).await.ok()["high_watermark"], json!(0), "nothing is stored");
}

#[tokio::test]
async fn a_bomb_of_gzip_is_refused_over_a_real_connection_and_the_server_goes_on() {
    let server = server().await;
    let bomb = gzip(&vec![b' '; BODY_BYTES_MAX + 1]);
    assert!(bomb.len() < 40_000, "{}", bomb.len());
    let small_bomb = gzip(&vec![b' '; 1_500_000]);
    assert!(small_bomb.len() < 2_048, "decompressed at once: {}", small_bomb.len());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let served = Router::new().fallback_service(server.app.clone());
    let serving = tokio::spawn(axum::serve(listener, served).into_future());
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    for (path, body, last) in [
        (RECORDS, &bomb, false),
        ("/v1/topics/t/groups/g:receive", &small_bomb, false),
        (RECORDS, &gzip(br#"{"records":[{"value":1}]}"#), true),
    ] {
        let close = if last { "connection: close\r\n" } else { "" };
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n{close}content-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(head.as_bytes()).await.expect("sent");
        connection.write_all(body).await.expect("sent");
    }
    let mut answers = String::new();
    connection.read_to_string(&mut answers).await.expect("answered and closed");
    assert_eq!(answers.matches("HTTP/1.1 413 ").count(), 2, "{answers}");
    assert_eq!((answers.matches("BODY_TOO_LARGE").count(), answers.matches("HTTP/1.1 200 OK").count()), (2, 1), "{answers}");
    serving.abort();
}

#[tokio::test]
async fn texts_are_sent_compressed_to_who_takes_that_and_nothing_else_is() {
    let server = server().await;
    server.post_json(RECORDS, records(200)).await.ok();
    let plain = server.get(PARTITION).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, None));
    for accepted in ["gzip", "br;q=1.0, gzip;q=0.5", "deflate, GZIP"] {
        let zipped = taken(&server, accepted, "application/json", PARTITION).await;
        let is_named = accepted.contains("gzip");
        assert_eq!(zipped.header("content-encoding"), is_named.then_some("gzip"), "{accepted}");
        if is_named {
            assert!(3 * zipped.body.len() < plain.body.len() && zipped.header("vary").is_some_and(|vary| vary.contains("accept-encoding")));
            assert_eq!(gunzip(&zipped.body), plain.body);
        }
    }
    for refused in ["gzip;q=0", "br, zstd"] {
        assert_eq!(taken(&server, refused, "application/json", PARTITION).await.body, plain.body, "{refused}");
    }
    let short = taken(&server, "gzip", "*/*", "/v1/topics/t/partitions/0/records?max_records=1").await;
    assert_eq!(short.header("content-encoding"), None, "there is nothing to gain");
    let batches = taken(&server, "gzip", APPLICATION_BATCH, PARTITION).await;
    assert_eq!((batches.header("content-encoding"), batches.header("content-type")), (None, Some(APPLICATION_BATCH)));
    let events = taken(&server, "gzip", "text/event-stream", &format!("{PARTITION}?max_records=50")).await;
    assert_eq!((events.header("content-encoding"), events.header("content-type")), (None, Some("text/event-stream")));
    let problem = taken(&server, "gzip", "*/*", &format!("/v1/topics/{}", "x".repeat(240))).await;
    assert_eq!(problem.code(), ErrorCode::TopicNotFound);
    for (path, is_large) in [("/openapi.json", true), ("/metrics", true), ("/healthz", false)] {
        let answer = taken(&server, "gzip", "*/*", path).await;
        assert_eq!(answer.header("content-encoding").is_some(), is_large, "{path}");
    }
}

#[tokio::test]
async fn a_client_pays_for_what_its_body_becomes() {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let limits = QuotaLimits { requests_per_second: 0, bytes_per_second: 20_000 };
    let quota = Some(Quota::new(limits, clock, &mut prometheus_client::registry::Registry::default()));
    let interface = HttpConfig { quota, ..HttpConfig::default() };
    let storage = Arc::new(MemoryStorage::new());
    let server = Server::with_interface(storage, BrokerConfig { shards: 1, ..BrokerConfig::default() }, Router::new(), &interface);
    let named =
        |client: &'static str, path: &str| Request::post(path).header("x-client-id", client).header("content-type", "application/json");
    server.send(named("operator", "/v1/topics").body(r#"{"name":"t"}"#.into()).expect("a request")).await;
    // One record, so that the answer is short: that is paid for as well.
    let zipped = gzip(json!({ "records": [{ "value": "x".repeat(100_000) }] }).to_string().as_bytes());
    assert!(zipped.len() < 10_000, "{}", zipped.len());
    server.send(named("a", RECORDS).header("content-encoding", "gzip").body(zipped.into()).expect("a request")).await.ok();
    let again = named("a", RECORDS).body(r#"{"records":[{"value":1}]}"#.into()).expect("a request");
    assert_eq!(server.send(again).await.code(), ErrorCode::QuotaExceeded);
}
