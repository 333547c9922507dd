//! Who asks, and what happens to whom may not: refused before anything is done, and cut off when a key ends.

mod keys;

use super::Server;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use core::time::Duration;
use sagamq_api::{ErrorCode, TraceContext};
use sagamq_broker::BrokerConfig;
use sagamq_broker::access::{Secret, Session};
use sagamq_broker::env::{Random, SystemClock};
use sagamq_broker::spans::{Span, SpanSink, Tracer, Value as SpanValue};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_server::{Authentication, HttpConfig};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tower::ServiceExt as _;

/// A server that asks for keys, and its administrator's secret.
pub(crate) struct Guarded {
    pub(crate) server: Server,
    pub(crate) admin: String,
}

impl Guarded {
    pub(crate) async fn new() -> Self {
        Self::with(false, HttpConfig::default()).await
    }

    pub(crate) async fn with(open_metrics: bool, config: HttpConfig) -> Self {
        let server = Server::with_keys(Arc::new(MemoryStorage::new()), BrokerConfig { shards: 2, ..BrokerConfig::default() }, |broker| {
            HttpConfig { authentication: Some(Authentication::by_keys(broker, open_metrics)), ..config }
        });
        let secret = Secret::new(&mut Random::from_seed(7));
        let admin = secret.reveal();
        let brought = server.broker.bring_key("admin".parse().expect("a name"), vec!["admin".parse().expect("a role")], secret).await;
        assert!(brought.expect("stored").is_some());
        Self { server, admin }
    }

    pub(crate) async fn ask(&self, key: &str, method: &str, path: &str, body: Value) -> super::Answer {
        self.server.send(request(key, method, path, &body)).await
    }

    pub(crate) async fn key(&self, name: &str, roles: &[&str]) -> String {
        let made = self.ask(&self.admin, "POST", "/v1/keys", json!({ "name": name, "roles": roles })).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        assert_eq!(made.header("cache-control"), Some("no-store"));
        made.json()["secret"].as_str().expect("a secret").to_owned()
    }
}

pub(crate) fn request(key: &str, method: &str, path: &str, body: &Value) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !key.is_empty() {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    match body {
        Value::Null => request.body(Body::empty()),
        body => request.header("content-type", "application/json").body(body.to_string().into()),
    }
    .expect("a request")
}

#[tokio::test]
async fn without_a_valid_key_nothing_is_done_and_the_answer_says_what_is_missing() {
    let guarded = Guarded::new().await;
    let topic = json!({ "name": "t" });
    let stranger = Secret::new(&mut Random::from_seed(8)).reveal();
    for key in ["", "sq_", "abc", &stranger, &guarded.admin[..83], &guarded.admin.to_uppercase()] {
        for (method, path, body) in
            [("POST", "/v1/topics", topic.clone()), ("GET", "/v1/keys", Value::Null), ("GET", "/metrics", Value::Null)]
        {
            let refused = guarded.ask(key, method, path, body).await;
            assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"sagamq\""), "{key} {path}");
            let problem = refused.problem();
            assert_eq!(problem.code, ErrorCode::Unauthenticated);
            assert!(key.len() < 20 || !problem.detail.contains(&key[20..]), "{problem:?}");
        }
    }
    for (name, value) in [("authorization", format!("Basic {}", guarded.admin)), ("x-api-key", guarded.admin.clone())] {
        let request = Request::get("/v1/topics").header(name, value).body(Body::empty()).expect("a request");
        assert_eq!(guarded.server.send(request).await.code(), ErrorCode::Unauthenticated);
    }
    let twice = Request::get("/v1/topics").header("authorization", format!("Bearer {}", guarded.admin));
    let twice = twice.header("authorization", format!("Bearer {stranger}")).body(Body::empty()).expect("a request");
    assert_eq!(guarded.server.send(twice).await.code(), ErrorCode::Unauthenticated, "one of two would be a guess");
    assert_eq!(guarded.ask(&guarded.admin, "GET", "/v1/topics", Value::Null).await.ok(), json!({ "topics": [] }));
    for open in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(guarded.ask("", "GET", open, Value::Null).await.status, StatusCode::OK, "{open}");
        assert_eq!(guarded.ask("sq_wrong", "HEAD", open, Value::Null).await.status, StatusCode::OK, "{open}");
    }
    let open = Guarded::with(true, HttpConfig::default()).await;
    assert_eq!(open.ask("", "GET", "/metrics", Value::Null).await.status, StatusCode::OK);
}

/// Keeps the names and traces of spans.
#[derive(Debug, Default)]
struct Spans(Mutex<Vec<(String, u128)>>);

impl SpanSink for Spans {
    fn samples(&self, parent: Option<&TraceContext>, _: u128) -> bool {
        parent.is_none_or(TraceContext::is_sampled)
    }

    fn record(&self, span: Span) {
        self.0.lock().expect("no panic").push((span.name.into_owned(), span.context.trace_id()));
    }
}

#[tokio::test]
async fn whoever_shows_no_key_writes_nothing_into_traces() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let spans = Arc::new(Spans::default());
    let tracer = Tracer::new(Arc::clone(&spans) as Arc<dyn SpanSink>, Arc::new(SystemClock), Random::from_seed(3));
    let guarded = Guarded::with(true, HttpConfig { tracer: tracer.clone(), ..HttpConfig::default() }).await;
    let with_parent = |key: &str, method: &str, path: &str| {
        let mut request = request(key, method, path, &Value::Null);
        request.headers_mut().insert("traceparent", PARENT.parse().expect("a header"));
        request
    };
    let stranger = Secret::new(&mut Random::from_seed(8)).reveal();
    for key in ["", "sq_", &stranger] {
        for path in ["/v1/topics", "/healthz", "/readyz", "/openapi.json", "/metrics", "/nowhere"] {
            for method in ["GET", "POST", "OPTIONS"] {
                guarded.server.send(with_parent(key, method, path)).await;
                guarded.server.send(request(key, method, path, &Value::Null)).await;
            }
        }
    }
    assert!(spans.0.lock().expect("no panic").is_empty(), "{spans:?}");
    let forbidden = guarded.key("nothing", &["consume:topic=t"]).await;
    spans.0.lock().expect("no panic").clear();
    guarded.server.send(with_parent(&forbidden, "GET", "/v1/keys")).await;
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    assert_eq!(*spans.0.lock().expect("no panic"), [("GET /v1/keys".to_owned(), trace)], "a key that may not is known");
    spans.0.lock().expect("no panic").clear();
    let config = HttpConfig { tracer, ..HttpConfig::default() };
    let open = Server::with_interface(Arc::new(MemoryStorage::new()), BrokerConfig::default(), axum::Router::new(), &config);
    open.send(with_parent("", "GET", "/v1/topics")).await;
    assert_eq!(*spans.0.lock().expect("no panic"), [("GET /v1/topics".to_owned(), trace)], "where nobody is asked all are the same");
}

/// The longest text that a span has told.
#[derive(Debug, Default)]
struct Longest(Mutex<usize>);

impl SpanSink for Longest {
    fn samples(&self, _: Option<&TraceContext>, _: u128) -> bool {
        true
    }

    fn record(&self, span: Span) {
        let length = |value: &SpanValue| if let SpanValue::Text(text) = value { text.len() } else { 0 };
        let longest = span.attributes.iter().map(|(_, value)| length(value)).max().unwrap_or_default();
        let mut known = self.0.lock().expect("no panic");
        *known = longest.max(*known);
    }
}

#[tokio::test]
async fn a_path_without_end_takes_no_memory_while_its_span_waits_to_be_exported() {
    let longest = Arc::new(Longest::default());
    let tracer = Tracer::new(Arc::clone(&longest) as Arc<dyn SpanSink>, Arc::new(SystemClock), Random::from_seed(3));
    let config = HttpConfig { tracer, ..HttpConfig::default() };
    let open = Server::with_interface(Arc::new(MemoryStorage::new()), BrokerConfig::default(), axum::Router::new(), &config);
    let path = format!("/v1/topics/{}/records", "x".repeat(60_000));
    let refused = open.send(request("", "POST", &path, &json!({ "records": [] }))).await;
    assert_eq!(refused.code(), ErrorCode::InvalidName);
    assert!((500..2_000).contains(&*longest.0.lock().expect("no panic")), "as much as tells which one it is: {longest:?}");
}

#[tokio::test]
async fn a_body_is_not_read_before_it_is_known_who_sends_it() {
    let guarded = Guarded::new().await;
    let consumer = guarded.key("c", &["consume:topic=t"]).await;
    for key in ["", &consumer] {
        let body =
            Body::from_stream(futures_util::stream::poll_fn(|_| -> core::task::Poll<Option<Result<bytes::Bytes, std::io::Error>>> {
                panic!("the body is read")
            }));
        let mut request = request(key, "POST", "/v1/topics/t/records", &Value::Null);
        request.headers_mut().insert("content-type", "application/json".parse().expect("a type"));
        *request.body_mut() = body;
        let refused = guarded.server.send(request).await;
        assert!(matches!(refused.code(), ErrorCode::Unauthenticated | ErrorCode::Forbidden), "{refused:?}");
    }
}

#[tokio::test]
async fn what_is_forbidden_names_the_right_and_routes_that_are_not_there_are_told_to_keys() {
    let guarded = Guarded::new().await;
    let key = guarded.key("shop", &["produce:topic=orders*"]).await;
    guarded.ask(&guarded.admin, "POST", "/v1/topics", json!({ "name": "orders.new" })).await;
    let refused = guarded.ask(&key, "POST", "/v1/topics/orders.new/groups/billing:receive", Value::Null).await.problem();
    assert_eq!((refused.code, refused.retryable, refused.outcome_unknown), (ErrorCode::Forbidden, false, false));
    for said in ["`key:shop`", "`consume`", "topic `orders.new`", "group `billing`"] {
        assert!(refused.detail.contains(said), "{said}: {refused}");
    }
    assert_eq!(guarded.ask("", "GET", "/v1/nothing", Value::Null).await.code(), ErrorCode::Unauthenticated);
    assert_eq!(guarded.ask(&key, "GET", "/v1/nothing", Value::Null).await.code(), ErrorCode::RouteNotFound);
    assert_eq!(guarded.ask(&key, "PUT", "/v1/topics", Value::Null).await.code(), ErrorCode::Forbidden, "what is in no table");
    assert_eq!(guarded.ask(&guarded.admin, "PUT", "/v1/topics", Value::Null).await.code(), ErrorCode::MethodNotAllowed);
}

#[tokio::test]
async fn lists_leave_out_what_a_key_has_no_role_for() {
    let guarded = Guarded::new().await;
    for name in ["a", "b"] {
        guarded.ask(&guarded.admin, "POST", "/v1/topics", json!({ "name": name })).await;
        for group in ["x", "y"] {
            guarded.ask(&guarded.admin, "POST", &format!("/v1/topics/{name}/groups/{group}:receive"), Value::Null).await.ok();
        }
        let join = json!({ "member_id": name, "epoch": 0, "topics": [name] });
        guarded.ask(&guarded.admin, "POST", &format!("/v1/stream-groups/s{name}:heartbeat"), join).await.ok();
    }
    let key = guarded.key("c", &["consume:topic=a,group=x", "consume:topic=a,group=s*"]).await;
    let names = |answer: Value, list: &str| {
        let names = answer[list].as_array().expect("a list").iter().map(|row| row["name"].as_str().expect("a name").to_owned());
        names.filter(|name| !name.ends_with(".dlq")).collect::<Vec<_>>()
    };
    let get = async |path: &str| guarded.ask(&key, "GET", path, Value::Null).await;
    assert_eq!(names(get("/v1/topics").await.ok(), "topics"), ["a"]);
    assert_eq!(names(get("/v1/topics/a/groups").await.ok(), "groups"), ["x"]);
    assert_eq!(names(get("/v1/stream-groups").await.ok(), "groups"), ["sa"]);
    assert_eq!(get("/v1/topics/b/groups").await.code(), ErrorCode::Forbidden);
    assert_eq!(get("/v1/stream-groups/sb").await.code(), ErrorCode::Forbidden);
    get("/v1/stream-groups/sa/offsets").await.ok();
    // A stream group is reached by whoever may do it in each topic that it reads, and no topic is read through the name of a group.
    let join = |topics: &[&str]| json!({ "member_id": "m", "epoch": 0, "topics": topics });
    let joined = guarded.ask(&key, "POST", "/v1/stream-groups/sa:heartbeat", join(&["a", "b"])).await;
    assert_eq!(joined.code(), ErrorCode::Forbidden);
    guarded.ask(&key, "POST", "/v1/stream-groups/sa:heartbeat", join(&["a"])).await.ok();
    // A stream group whose only topic is gone reads nothing: it is for those who have it in all topics.
    assert!(guarded.ask(&guarded.admin, "DELETE", "/v1/topics/a", Value::Null).await.status.is_success());
    let all = guarded.key("all", &["consume:group=s*"]).await;
    assert_eq!(get("/v1/stream-groups/sa").await.code(), ErrorCode::Forbidden);
    assert_eq!(names(get("/v1/stream-groups").await.ok(), "groups"), [""; 0]);
    guarded.ask(&all, "GET", "/v1/stream-groups/sa", Value::Null).await.ok();
}

#[tokio::test]
async fn a_receipt_of_one_group_cannot_be_used_with_the_right_for_another() {
    let guarded = Guarded::new().await;
    guarded.ask(&guarded.admin, "POST", "/v1/topics", json!({ "name": "t", "config": { "partitions": 1 } })).await;
    guarded.ask(&guarded.admin, "POST", "/v1/topics/t/records", json!({ "records": [{ "value": 1 }] })).await.ok();
    let of = |group: &str| format!("consume:topic=t,group={group}");
    let (mine, other) = (guarded.key("mine", &[&of("mine"), &of("third")]).await, guarded.key("other", &[&of("other")]).await);
    let received = guarded.ask(&mine, "POST", "/v1/topics/t/groups/mine:receive", Value::Null).await.ok();
    let receipt = received["deliveries"][0]["receipt"].clone();
    guarded.ask(&other, "POST", "/v1/topics/t/groups/other:receive", Value::Null).await.ok();
    guarded.ask(&mine, "POST", "/v1/topics/t/groups/third:receive", Value::Null).await.ok();
    for verb in ["ack", "nack", "extend", "terminate"] {
        let body = match verb {
            "extend" => json!({ "receipts": [receipt], "lease_ms": 60_000 }),
            "terminate" => json!({ "receipts": [receipt], "reason": "no" }),
            _ => json!({ "receipts": [receipt] }),
        };
        let forbidden = guarded.ask(&other, "POST", &format!("/v1/topics/t/groups/mine:{verb}"), body.clone()).await;
        assert_eq!(forbidden.code(), ErrorCode::Forbidden, "{verb}");
        // Nor is it one of another group to whom it was given, and to all others it is somebody else's.
        for (key, group, code) in [(&mine, "third", ErrorCode::InvalidReceipt), (&other, "other", ErrorCode::ReceiptOfAnother)] {
            let refused = guarded.ask(key, "POST", &format!("/v1/topics/t/groups/{group}:{verb}"), body.clone()).await;
            assert_eq!(refused.code(), code, "{verb} {group}");
        }
    }
    // And the records that an acknowledgement brings need their own right.
    let body = json!({ "receipts": [receipt], "produce": [{ "topic": "t", "records": [{ "value": 2 }] }] });
    let forbidden = guarded.ask(&mine, "POST", "/v1/topics/t/groups/mine:ack-with-records", body).await.problem();
    assert_eq!(forbidden.code, ErrorCode::Forbidden);
    assert!(forbidden.detail.contains("`produce`"), "{forbidden}");
    let acked = guarded.ask(&mine, "POST", "/v1/topics/t/groups/mine:ack", json!({ "receipts": [receipt] })).await.ok();
    assert!(!acked.to_string().contains("problem"), "{acked}");
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_ask_whether_it_may_send_a_key() {
    let config = HttpConfig { allow_origins: vec!["https://console.example".to_owned()], ..HttpConfig::default() };
    let guarded = Guarded::with(false, config).await;
    let mut asks = request("", "OPTIONS", "/v1/topics", &Value::Null);
    let headers: &mut HeaderMap = asks.headers_mut();
    headers.insert("origin", "https://console.example".parse().expect("an origin"));
    headers.insert("access-control-request-method", "GET".parse().expect("a method"));
    headers.insert("access-control-request-headers", "authorization".parse().expect("a name"));
    let answer = guarded.server.send(asks).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("access-control-allow-headers").is_some_and(|names| names.contains("authorization")), "{answer:?}");
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_read_why_it_is_refused_before_anything_is_looked_at() {
    let config = HttpConfig { allow_origins: vec!["https://console.example/".to_owned()], ..HttpConfig::default() };
    let guarded = Guarded::with(false, config).await;
    let asks = async |key: &str, path: &str, origin: &str| {
        let mut asks = request(key, "GET", path, &Value::Null);
        asks.headers_mut().insert("origin", origin.parse().expect("an origin"));
        guarded.server.send(asks).await
    };
    let reader = guarded.key("reader", &["consume:topic=t"]).await;
    let refused = [
        ("", "/v1/topics", ErrorCode::Unauthenticated),
        (&reader, "/v1/keys", ErrorCode::Forbidden),
        (&reader, "/v1/none", ErrorCode::RouteNotFound),
    ];
    for (key, path, code) in refused {
        let answer = asks(key, path, "https://console.example").await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://console.example"), "{answer:?}");
        assert!(answer.header("access-control-expose-headers").is_some_and(|names| names.contains("retry-after")), "{answer:?}");
        assert!(answer.header("vary").is_some_and(|names| names.contains("origin")), "{answer:?}");
        assert_eq!(answer.code(), code);
    }
    let foreign = asks(&reader, "/v1/topics", "https://evil.example").await;
    assert_eq!((foreign.header("access-control-allow-origin"), foreign.code()), (None, ErrorCode::OriginNotAllowed));
}

#[tokio::test]
async fn replies_are_produced_by_whoever_may_answer_the_calls_of_all_sagas_and_edits_by_whoever_may_produce() {
    let guarded = Guarded::new().await;
    for topic in ["saga.replies", "t"] {
        guarded.ask(&guarded.admin, "POST", "/v1/topics", json!({ "name": topic, "config": { "partitions": 1 } })).await;
    }
    let records = json!({ "records": [{ "headers": { "saga-id": "x" }, "value": 1 }] });
    let cases: [(&[&str], bool); 5] = [
        (&["produce"], false),
        (&["produce:topic=s*"], false),
        (&["produce:topic=saga.replies", "consume:saga=checkout"], false),
        (&["produce:topic=saga.replies", "consume:saga=*"], true),
        (&["admin"], true),
    ];
    for (number, (roles, may)) in cases.into_iter().enumerate() {
        let key = guarded.key(&format!("k{number}"), roles).await;
        let answer = guarded.ask(&key, "POST", "/v1/topics/saga.replies/records", records.clone()).await;
        assert_eq!(answer.status == StatusCode::OK, may, "{roles:?}: {answer:?}");
        let encoded = guarded.ask(&key, "POST", "/v1/topics/s%61ga%2Ereplies/records", records.clone()).await;
        assert!(may || encoded.status == StatusCode::FORBIDDEN, "however it is written: {roles:?}: {encoded:?}");
        let event = json!([{ "specversion": "1.0", "id": "1", "source": "/a", "type": "b", "data": 1 }]);
        let mut event = request(&key, "POST", "/v1/topics/saga.replies/events", &event);
        event.headers_mut().insert("content-type", "application/cloudevents-batch+json".parse().expect("a value"));
        let event = guarded.server.send(event).await;
        assert_eq!(event.status == StatusCode::OK, may, "{roles:?}: {event:?}");
        let pipeline = guarded.key(&format!("p{number}"), &[roles, &["consume:topic=t"]].concat()).await;
        let body = json!({ "receipts": ["x"], "produce": [{ "topic": "saga.replies", "records": [{ "value": 2 }] }] });
        let answer = guarded.ask(&pipeline, "POST", "/v1/topics/t/groups/g:ack-with-records", body).await;
        assert_eq!(answer.status != StatusCode::FORBIDDEN, may, "{roles:?}: {answer:?}");
    }
    let operator = guarded.key("operator", &["operate:topic=t,group=g"]).await;
    guarded.ask(&guarded.admin, "POST", "/v1/topics/t/groups/g:receive", Value::Null).await.ok();
    let redrive = "/v1/topics/t/groups/g:redrive";
    guarded.ask(&operator, "POST", redrive, Value::Null).await.ok();
    let edit = json!({ "partition": 0, "offsets": [0], "edit": { "value": { "amount": 1 }, "headers": {} } });
    let refused = guarded.ask(&operator, "POST", redrive, edit.clone()).await.problem();
    assert!(refused.code == ErrorCode::Forbidden && refused.detail.contains("`produce`"), "{refused}");
    let both = guarded.key("both", &["operate:topic=t,group=g", "produce:topic=t"]).await;
    assert_ne!(guarded.ask(&both, "POST", redrive, edit).await.status, StatusCode::FORBIDDEN);
}
