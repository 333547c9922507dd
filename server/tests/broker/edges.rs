//! Browsers, lists in place of objects, memory for bodies, receipts of which one is bad.

use super::{Answer, Server};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use core::time::Duration;
use futures_util::{StreamExt as _, stream};
use sagamq_api::ErrorCode;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_broker::BrokerConfig;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_server::HttpConfig;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const RECORDS: &str = "/v1/topics/t/records";

fn local(config: HttpConfig) -> Server {
    let interface = HttpConfig { is_local: true, ..config };
    Server::with_interface(Arc::new(MemoryStorage::new()), BrokerConfig { shards: 2, ..BrokerConfig::default() }, Router::new(), &interface)
}

async fn asked(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    server.send(request.body(Body::from(r#"{"name":"t"}"#)).expect("a request")).await
}

#[tokio::test]
async fn a_page_in_a_browser_commands_nothing() {
    let server = local(HttpConfig::default());
    let own = ("host", "localhost:7070");
    for (headers, code) in [
        ([own, ("origin", "https://evil.example")], ErrorCode::OriginNotAllowed),
        ([own, ("origin", "null")], ErrorCode::OriginNotAllowed),
        ([own, ("sec-fetch-site", "cross-site")], ErrorCode::OriginNotAllowed),
        ([("host", "rebound.example:7070"), ("origin", "http://rebound.example:7070")], ErrorCode::HostNotAllowed),
    ] {
        for (method, path) in
            [(Method::POST, "/v1/topics"), (Method::DELETE, "/v1/topics/t"), (Method::POST, "/v1/topics/t/groups/g:receive")]
        {
            assert_eq!(asked(&server, method, path, &headers).await.code(), code, "{headers:?}");
        }
    }
    let probed = async |path| asked(&server, Method::GET, path, &[("host", "10.1.2.3:7070")]).await.status.as_u16();
    assert_eq!(
        [probed("/healthz").await, probed("/readyz").await, probed("/metrics").await],
        [200, 200, 421],
        "a probe knows the address only"
    );
    assert_eq!(server.get("/v1/topics").await.ok(), json!({"topics": []}));
    assert_eq!(asked(&server, Method::POST, "/v1/topics", &[own, ("origin", "http://localhost:7070")]).await.status.as_u16(), 201);
    assert_eq!(asked(&server, Method::POST, "/v1/topics", &[own]).await.status.as_u16(), 200);
}

#[tokio::test]
async fn pages_of_a_listed_origin_are_let_in_and_may_read() {
    let server = local(HttpConfig { allow_origins: vec!["https://console.example".to_owned()], ..HttpConfig::default() });
    let headers = [("host", "localhost:7070"), ("origin", "https://console.example")];
    let before = [headers[0], headers[1], ("access-control-request-method", "POST"), ("access-control-request-headers", "content-type")];
    let preflight = asked(&server, Method::OPTIONS, "/v1/topics", &before).await;
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://console.example"), "{preflight:?}");
    assert!(preflight.header("access-control-allow-headers").is_some_and(|names| names.contains("content-type")), "{preflight:?}");
    let methods = preflight.header("access-control-allow-methods").unwrap_or_default();
    assert!(methods.contains("PATCH") && methods.contains("DELETE"), "{preflight:?}");
    let created = asked(&server, Method::POST, "/v1/topics", &headers).await;
    let exposed = created.header("access-control-expose-headers").unwrap_or_default();
    assert!(["retry-after", "sagamq-next-offset", "sagamq-high-watermark"].iter().all(|name| exposed.contains(name)), "{created:?}");
    assert_eq!((created.status.as_u16(), created.header("access-control-allow-origin")), (201, Some("https://console.example")));
    // Attributes of an event are headers, whose names are the page's; they are read of events only.
    let names = "ce-id, CE-Type,ce-myextension, x-other, ce-, ce-a_b";
    let before = [headers[0], headers[1], ("access-control-request-method", "POST"), ("access-control-request-headers", names)];
    let allowed = async |path| {
        let preflight = asked(&server, Method::OPTIONS, path, &before).await;
        let names = preflight.header("access-control-allow-headers").expect("they are told").to_owned();
        names.split(',').filter(|name| name.starts_with("ce-") || *name == "x-other").map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(allowed("/v1/topics/t/events").await, ["ce-id", "ce-type", "ce-myextension"]);
    assert_eq!(allowed("/v1/topics/t/records").await, Vec::<String>::new());
    let other = asked(&server, Method::OPTIONS, "/v1/topics", &[headers[0], ("origin", "https://evil.example")]).await;
    assert_eq!(other.code(), ErrorCode::OriginNotAllowed);
}

#[tokio::test]
async fn lists_are_not_taken_for_objects() {
    let server = Server::new();
    server.topic("t").await;
    for (path, body) in [
        ("/v1/topics", r#"["other"]"#),
        ("/v1/topics", r#"{"name":"other","config":[2]}"#),
        ("/v1/topics/t/groups/g:receive", "[]"),
        ("/v1/topics/t/groups/g:redrive", "[]"),
        ("/v1/topics/t/groups/g:discard", "[true]"),
        ("/v1/topics/t/groups/g:nack", r#"[["r"],1,"busy",false]"#),
        ("/v1/topics/t/groups/g:extend", r#"[["r"],30000]"#),
        ("/v1/topics/t/groups/g:terminate", r#"[["r"],"no"]"#),
        (RECORDS, r#"{"records":[["k"]]}"#),
        ("/v1/topics/t/groups/g:ack", r#"[["r"]]"#),
        (RECORDS, "[[]]"),
        (RECORDS, r#"{"records":[[]]}"#),
    ] {
        let problem = server.post(path, body).await.problem();
        assert_eq!(problem.code, ErrorCode::InvalidRequest, "{path} {body}: {problem:?}");
        assert!(problem.detail.contains("expected an object"), "{path} {body}: {problem:?}");
    }
    assert_eq!(server.get("/v1/topics/t").await.ok()["partitions"][0]["high_watermark"], 0);
}

#[tokio::test]
async fn records_and_headers_are_counted_while_they_are_parsed() {
    let server = Server::new();
    server.topic("t").await;
    let many = format!("{{\"records\":[{}]}}", vec!["{}"; 1_000_000].join(","));
    let problem = server.post(RECORDS, many).await.problem();
    assert!(problem.detail.contains("more than 10000 records"), "{problem:?}");
    let headers = |count: usize| (0..count).map(|n| format!("\"{n}\":\"\"")).collect::<Vec<_>>().join(",");
    let problem = server.post(RECORDS, format!("{{\"records\":[{{\"headers\":{{{}}}}}]}}", headers(1_001))).await.problem();
    assert!(problem.detail.contains("at most 1000 headers"), "{problem:?}");
    let record = format!("{{\"headers\":{{{}}}}}", headers(1_000));
    let problem = server.post(RECORDS, format!("{{\"records\":[{}]}}", vec![record.as_str(); 201].join(","))).await.problem();
    assert!(problem.detail.contains("more than 200000 headers"), "{problem:?}");
    let deep = format!("{{\"records\":[{{\"value\":{}{}}}]}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let problem = server.post(RECORDS, deep).await.problem();
    assert!(problem.detail.contains("1000000 levels") && problem.detail.contains("value_base64"), "{problem:?}");
    assert_eq!(server.get("/v1/topics/t").await.ok()["partitions"][0]["high_watermark"], 0);
    server.post(RECORDS, format!("{{\"records\":[{}]}}", vec!["{}"; 10_000].join(","))).await.ok();
}

/// A client that announces a body and sends nothing of it.
fn silent(bytes: usize) -> Request<Body> {
    let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let request = Request::post(RECORDS).header("content-type", "application/json").header("content-length", bytes);
    request.body(body).expect("a request")
}

#[tokio::test]
async fn a_body_waits_for_its_turn_and_is_refused_if_there_is_none() {
    let server = local(HttpConfig { turn_wait: Duration::from_millis(20), ..HttpConfig::default() });
    server.topic("t").await;
    let large = || format!("{{\"records\":[{{\"value\":\"{}\"}}]}}", "x".repeat(20 << 20));
    {
        let held = server.send(silent(BODY_BYTES_MAX));
        tokio::pin!(held);
        assert!(futures_util::poll!(&mut held).is_pending());
        let refused = server.post(RECORDS, large()).await.problem();
        assert_eq!((refused.code, refused.retryable), (ErrorCode::Overloaded, true));
    }
    // The client went away: what it held is given back.
    assert_eq!(server.post(RECORDS, large()).await.code(), ErrorCode::RecordTooLarge);
}

/// What a body of gzip may become is counted before it comes, and not what it says to be.
#[tokio::test]
async fn a_body_of_gzip_takes_the_memory_of_what_it_may_become() {
    let server = local(HttpConfig { turn_wait: Duration::from_millis(20), ..HttpConfig::default() });
    server.topic("t").await;
    let zipped = || {
        let mut request = silent(1 << 20);
        request.headers_mut().insert("content-encoding", "gzip".parse().expect("a header"));
        request
    };
    let held = server.send(zipped());
    tokio::pin!(held);
    assert!(futures_util::poll!(&mut held).is_pending());
    assert_eq!(server.send(zipped()).await.code(), ErrorCode::Overloaded);
}

#[tokio::test]
async fn a_body_that_does_not_say_how_long_it_is_is_refused_when_it_is_too_long() {
    const PIECE: usize = 64 * 1024;
    let server = local(HttpConfig::default());
    let pieces = stream::iter(0..17).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; PIECE])));
    let request = Request::post("/v1/topics").header("content-type", "application/json").body(Body::from_stream(pieces));
    let refused = server.send(request.expect("a request")).await.problem();
    assert_eq!((refused.code, refused.detail.contains("1048576 bytes")), (ErrorCode::BodyTooLarge, true), "{refused}");
}

#[tokio::test]
async fn a_body_that_is_on_its_way_when_the_server_ends_is_not_waited_for() {
    let config = HttpConfig::default();
    let draining = config.draining.clone();
    let server = local(config);
    server.topic("t").await;
    let sent = server.send(silent(100));
    tokio::pin!(sent);
    assert!(futures_util::poll!(&mut sent).is_pending());
    draining.cancel();
    assert_eq!(sent.await.code(), ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for_without_end() {
    let server = local(HttpConfig { body_time: Duration::from_millis(20), ..HttpConfig::default() });
    server.topic("t").await;
    let problem = server.send(silent(100)).await.problem();
    assert_eq!((problem.code, problem.retryable), (ErrorCode::RequestTimeout, true));
}

/// Whoever writes to the end before he reads would not see the refusal; whoever never comes to an end is not let by for ever.
#[tokio::test]
async fn a_refused_body_is_let_by_up_to_a_bound_of_bytes_and_of_time() {
    const PIECE: usize = 1 << 20;
    let server = local(HttpConfig::default());
    server.topic("t").await;
    let limit = Duration::from_secs(60);
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let pieces = stream::repeat_with(move || counted.fetch_add(1, Ordering::SeqCst)).then(async |_| {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>(Bytes::from(vec![b' '; PIECE]))
    });
    let (mut endless, silent) = (silent(BODY_BYTES_MAX + 1), silent(BODY_BYTES_MAX + 1));
    *endless.body_mut() = Body::from_stream(pieces);
    for request in [endless, silent] {
        let refused = tokio::time::timeout(limit, server.send(request)).await.expect("it is answered");
        assert_eq!(refused.code(), ErrorCode::BodyTooLarge);
    }
    assert!(sent.load(Ordering::SeqCst) <= 2 * BODY_BYTES_MAX / PIECE + 2, "{sent:?}");
}

#[tokio::test]
async fn values_headers_and_repeated_names_come_back_as_they_were_sent() {
    let server = Server::new();
    server.topic("t").await;
    let value = r#"{"n":12345678901234567890123.50,"a": [1, 2],"a":3}"#;
    let body = format!(
        r#"{{"records":[{{"value":{value},"headers":{{"h":"1","h":[null,{{"base64":"/w=="}}],"e":""}}}},{{"value":"{}"}}]}}"#,
        r"\u0041\n"
    );
    server.post(RECORDS, body).await.ok();
    let read = server.get("/v1/topics/t/partitions/0/records").await;
    let text = String::from_utf8(read.body).expect("text");
    let headers = r#""headers":{"h":["1",null,{"base64":"/w=="}],"e":"","content-type":"application/json"}"#;
    for part in [&format!("\"value\":{value}"), headers, r#""value":"A\n""#] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let received = server.post("/v1/topics/t/groups/g:receive", "").await;
    assert!(String::from_utf8(received.body).expect("text").contains(&format!("\"value\":{value}")));
}

#[tokio::test]
async fn one_bad_receipt_does_not_refuse_the_others() {
    let server = Server::new();
    server.topic("t").await;
    server.post(RECORDS, r#"{"records":[{"value":"a"},{"value":"b"}]}"#).await.ok();
    let received = server.post("/v1/topics/t/groups/g:receive", "").await.ok();
    let receipt = |n: usize| received["deliveries"][n]["receipt"].clone();
    let ack = json!({"receipts": [receipt(0), "no receipt", receipt(1)]});
    let results = server.post_json("/v1/topics/t/groups/g:ack", ack).await.ok();
    let failed = json!({"status": "failed", "code": "INVALID_RECEIPT"});
    assert_eq!(results, json!({"results": [{"status": "done"}, failed, {"status": "done"}]}));
    assert_eq!(server.get("/v1/topics/t/groups/g").await.ok()["lag_records"], 0);
    let none = server.post_json("/v1/topics/t/groups/g:ack", json!({"receipts": ["x", "y"]})).await.problem();
    assert_eq!(none.code, ErrorCode::InvalidReceipt);
    assert!(none.detail.contains("receipt 0"), "{none:?}");
}
