//! One order is one trace, from the customer's request through the saga, its commands and the participants, over a crash of the server;
//! and what is exported of metrics is what `/metrics` shows.

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use sagamq_api::TraceContext;
use sagamq_api::record::{ConsumedRecord, Headers, ProduceRecord};
use sagamq_api::topic::{ReadQuery, TopicConfig};
use sagamq_api::{PartitionId, TopicName};
use sagamq_sdk::Client;
use sagamq_tests::ServerProcess;
use sagamq_tests::otlp::{GotSpan, OtlpReceiver, text};
use sagamq_tests::server::{binary, eventually, free_address, wait_until};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// What the customer's own program says: its trace, and the span in which it orders.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CUSTOMER: &str = "00f067aa0ba902b7";

fn traceparent() -> String {
    format!("00-{TRACE}-{CUSTOMER}-01")
}

/// A process of the shop that exports, killed when it is dropped.
struct Service {
    url: String,
    child: Child,
    _data: TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Service {
    async fn start(name: &str, address: SocketAddr, server: &ServerProcess, receiver: &OtlpReceiver) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(binary("sagamq-shop"));
        command.args([name, "--listen", &address.to_string(), "--server", &server.url(), "--data-dir"]).arg(data.path());
        command.envs(receiver.variables()).env("RUST_LOG", "off").stdin(Stdio::null()).stdout(Stdio::null());
        let service = Self { url: format!("http://{address}"), child: command.spawn().expect("it starts"), _data: data };
        let health = format!("{}/healthz", service.url);
        eventually("the service is there", async || reqwest::get(&health).await.ok().filter(|answer| answer.status().is_success())).await;
        service
    }
}

/// A participant of the test's own, which answers when it is told to, and keeps the `traceparent` of each call.
#[derive(Clone)]
struct Gate {
    asked: Arc<Mutex<Vec<String>>>,
    open: Arc<Semaphore>,
}

impl Gate {
    async fn start() -> (Self, SocketAddr) {
        let gate = Self { asked: Arc::default(), open: Arc::new(Semaphore::new(0)) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let routes = Router::new().route("/check", post(check)).with_state(gate.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (gate, address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn check(State(gate): State<Gate>, headers: HeaderMap) -> &'static str {
    let parent = headers.get("traceparent").and_then(|parent| parent.to_str().ok()).unwrap_or_default();
    gate.asked.lock().expect("no panic").push(parent.to_owned());
    let _open = gate.open.acquire().await.expect("it is not closed");
    "{}"
}

/// A checkout that has each kind of participant, and a step that tells what it did.
fn definition(gate: SocketAddr, shipping: SocketAddr) -> String {
    format!(
        r#"saga: checkout
version: 1
key: ${{ input.order_id }}
services:
  orders: {{ topic: orders.commands }}
  gate: {{ http: "http://{gate}" }}
  inventory: {{ topic: inventory.commands }}
  shipping: {{ http: "http://{shipping}/saga" }}
steps:
  - id: create_order
    call: orders.create
    with: {{ order_id: "${{ input.order_id }}", card: "${{ input.card }}", lines: "${{ input.lines }}", total: "${{ input.total }}" }}
    compensate: {{ call: orders.reject, with: {{ order_id: "${{ input.order_id }}", reason: "${{ failure.code }}" }} }}
  - id: check
    call: gate.check
    timeout: 1m
    compensate: none
  - id: reserve_stock
    call: inventory.reserve
    timeout: 1m
    with: {{ order_id: "${{ input.order_id }}", lines: "${{ input.lines }}" }}
    compensate: inventory.release
  - id: reserve_shipment
    call: shipping.reserve
    with: {{ order_id: "${{ input.order_id }}", country: "${{ input.country }}" }}
    compensate: shipping.cancel
    emit: {{ topic: shipments, value: "${{ input.order_id }}" }}
  - id: complete_order
    call: orders.complete
    with: {{ order_id: "${{ input.order_id }}", tracking: "${{ steps.reserve_shipment.output.tracking }}" }}
    compensate: none
"#
    )
}

/// Every record of a topic.
async fn all_records(client: &Client, topic: &str) -> Vec<ConsumedRecord> {
    let topic: TopicName = topic.parse().expect("legal");
    let mut all = Vec::new();
    for partition in 0..client.describe_topic(&topic).await.expect("it is there").config.partitions {
        all.extend(client.read(&topic, PartitionId(partition), &ReadQuery::default()).await.expect("read").records);
    }
    all
}

/// The one span that this is true of.
fn one<'a>(spans: &'a [GotSpan], what: &str, is_it: impl Fn(&GotSpan) -> bool) -> &'a GotSpan {
    let found: Vec<&GotSpan> = spans.iter().filter(|span| is_it(span)).collect();
    let [one] = found[..] else {
        panic!(
            "{what}: {} spans, in {:#?}",
            found.len(),
            spans.iter().map(|span| (&span.service, &span.span.name, span.id(), span.parent())).collect::<Vec<_>>()
        )
    };
    one
}

fn step_is(span: &GotSpan, step: &str) -> bool {
    span.attribute("sagamq.saga.step").as_deref() == Some(step)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_is_one_trace_over_a_crash_of_the_server() {
    let receiver = OtlpReceiver::start().await;
    let mut server = ServerProcess::start_with(&receiver.variables()).await;
    let client = server.client();
    let ((gate, gate_address), shipping_address) = (Gate::start().await, free_address());
    client.sagas().publish(&definition(gate_address, shipping_address)).await.expect("published");
    let orders = Service::start("order", free_address(), &server, &receiver).await;
    let inventory = Service::start("inventory", free_address(), &server, &receiver).await;
    let _shipping = Service::start("shipping", shipping_address, &server, &receiver).await;
    let http = reqwest::Client::new();
    let stocked = http.put(format!("{}/stock", inventory.url)).json(&json!({ "mug": 10 })).send().await.expect("an answer");
    assert!(stocked.status().is_success());

    let order = json!({ "order_id": "o-1", "card": "4242", "country": "DE", "lines": [{ "sku": "mug", "quantity": 1 }] });
    let request = http.post(format!("{}/orders", orders.url)).header("traceparent", traceparent()).header("tracestate", "customer=1");
    let accepted: Value = request.json(&order).send().await.expect("an answer").json().await.expect("JSON");
    let saga: uuid::Uuid = accepted["saga"].as_str().expect("a saga works on it").parse().expect("an id");

    // The second step hangs in its participant when the server dies. What was over before is exported by then.
    wait_until("the gate is asked", || gate.asked().first().cloned()).await;
    let is_first = |span: &GotSpan| span.service == "sagamq" && step_is(span, "create_order");
    wait_until("the first step is exported", || receiver.spans().into_iter().find(is_first)).await;
    let is_start = |span: &GotSpan| span.service == "sagamq" && span.span.name == "POST /v1/sagas";
    wait_until("the start is exported", || receiver.spans().into_iter().find(is_start)).await;
    server.kill();
    server.restart().await;
    wait_until("the gate is asked again", || gate.asked().get(1).cloned()).await;
    gate.open.add_permits(16);
    let ended = client.sagas().wait(saga, std::time::Duration::from_secs(120)).await.expect("it ends");
    assert_eq!(ended.summary.state, sagamq_api::saga::SagaState::Completed, "{ended:?}");
    let of_saga = |span: &GotSpan| span.span.name == "saga checkout";
    wait_until("the saga is exported", || receiver.spans().into_iter().find(of_saga)).await;
    let handlers = [
        ("create_order", "shop-order"),
        ("reserve_stock", "shop-inventory"),
        ("reserve_shipment", "shop-shipping"),
        ("complete_order", "shop-order"),
    ];
    for (step, service) in handlers {
        let is_it = |span: &GotSpan| span.service == service && step_is(span, step);
        wait_until("the handlers are exported", || receiver.spans().into_iter().find(is_it)).await;
    }

    let spans: Vec<GotSpan> = receiver.spans().into_iter().filter(|span| span.trace_id() == TRACE).collect();
    let about = receiver.spans().into_iter().filter(|span| span.attribute("sagamq.saga.id") == Some(saga.to_string()));
    assert!(about.clone().count() > 5 && about.into_iter().all(|span| span.trace_id() == TRACE), "all of it is one trace");
    assert!(spans.iter().all(|span| span.span.trace_state == "customer=1"), "and everybody gives on what the customer's system said");

    // The customer's request, the server's answer to the shop's, and the saga, each below the one before.
    let placed = one(&spans, "the order", |span| span.span.name == "POST /orders");
    assert_eq!((placed.service.as_str(), placed.parent().as_str()), ("shop-order", CUSTOMER));
    let started = one(&spans, "the start", |span| span.service == "sagamq" && span.span.name == "POST /v1/sagas");
    assert_eq!((started.parent(), started.span.kind), (placed.id(), SpanKind::Server as i32));
    assert_eq!(
        (started.attribute("http.route").as_deref(), started.attribute("http.response.status_code").as_deref()),
        (Some("/v1/sagas"), Some("201"))
    );
    let whole = one(&spans, "the saga", of_saga);
    assert_eq!(whole.parent(), started.id());
    for (key, value) in
        [("sagamq.saga.name", "checkout"), ("sagamq.saga.key", "o-1"), ("sagamq.saga.state", "COMPLETED"), ("sagamq.saga.version", "1")]
    {
        assert_eq!(whole.attribute(key).as_deref(), Some(value), "{key}");
    }

    // Each attempt is one span of the server, whatever died meanwhile, and the participant's is below it.
    let all = [
        ("create_order", SpanKind::Producer, Some("shop-order")),
        ("check", SpanKind::Client, None),
        ("reserve_stock", SpanKind::Producer, Some("shop-inventory")),
        ("reserve_shipment", SpanKind::Client, Some("shop-shipping")),
        ("complete_order", SpanKind::Producer, Some("shop-order")),
    ];
    for (step, kind, participant) in all {
        let attempt = one(&spans, step, |span| span.span.name == format!("action {step}"));
        assert_eq!((attempt.service.as_str(), attempt.parent(), attempt.span.kind), ("sagamq", whole.id(), kind as i32), "{step}");
        assert_eq!(attempt.attribute("sagamq.saga.outcome").as_deref(), Some("succeeded"), "{step}");
        assert_eq!(attempt.attribute("sagamq.saga.attempt").as_deref(), Some("1"), "{step}");
        assert!(attempt.span.start_time_unix_nano <= attempt.span.end_time_unix_nano, "{step}");
        assert!(attempt.span.start_time_unix_nano >= whole.span.start_time_unix_nano, "{step}");
        let Some(participant) = participant else { continue };
        let handled = one(&spans, step, |span| span.service == participant && step_is(span, step));
        assert_eq!(handled.parent(), attempt.id(), "{step}: {handled:?}");
        let topic = handled.attribute("messaging.destination.name");
        if kind == SpanKind::Producer {
            assert_eq!(handled.span.kind, SpanKind::Consumer as i32, "{step}");
            assert_eq!(handled.attribute("messaging.operation.type").as_deref(), Some("process"), "{step}");
            assert_eq!(
                (topic.clone(), Some(format!("process {}", topic.unwrap_or_default()))),
                (attempt.attribute("messaging.destination.name"), Some(handled.span.name.clone()))
            );
        } else {
            assert_eq!(handled.span.kind, SpanKind::Server as i32, "{step}");
        }
    }
    // The call that was made again after the crash was made by the same span: it was one attempt.
    let checked = one(&spans, "the check", |span| span.span.name == "action check");
    let by_it = format!("00-{TRACE}-{}-01", checked.id());
    assert_eq!(gate.asked(), [by_it.clone(), by_it]);

    // What a step tells others bears a span of its own, below its attempt.
    let told = one(&spans, "the record", |span| span.span.name == "send shipments");
    let shipped = one(&spans, "the shipment", |span| span.span.name == "action reserve_shipment");
    assert_eq!((told.parent(), told.span.kind), (shipped.id(), SpanKind::Producer as i32));
    let records = all_records(&client, "shipments").await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].headers.get("traceparent"), Some(format!("00-{TRACE}-{}-01", told.id()).as_str()));
    assert_eq!(records[0].headers.get("tracestate"), Some("customer=1"));
    // And what a handler produces is caused by what it handles.
    let completed = one(&spans, "the completion", |span| span.service == "shop-order" && step_is(span, "complete_order"));
    let told = all_records(&client, "orders.events").await;
    let parents: Vec<Option<&str>> = told.iter().map(|record| record.headers.get("traceparent")).collect();
    assert_eq!(parents, [Some(format!("00-{TRACE}-{}-01", completed.id()).as_str())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_exported_as_they_are_shown() {
    let receiver = OtlpReceiver::start().await;
    let mut server = ServerProcess::start_with(&receiver.variables()).await;
    let client = server.client();
    let topic: TopicName = "counted".parse().expect("legal");
    client.create_topic(&topic, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("a topic");
    for _ in 0..7 {
        client.produce(&topic, vec![ProduceRecord::text("x")], None).await.expect("stored");
    }
    let is_of_records = |attributes: &[_]| text(attributes, "route").as_deref() == Some("/v1/topics/{topic}/records");
    let exported = wait_until("the requests are exported", || {
        let Some(Data::Sum(sum)) = receiver.metric("sagamq", "sagamq_http_requests")?.data else { panic!("a counter is a sum") };
        sum.data_points.into_iter().find(|point| is_of_records(&point.attributes) && point.value == Some(Number::AsInt(7)))
    });
    assert_eq!(text(&exported.await.attributes, "status").as_deref(), Some("200"));
    // One number is taken after the other: a request may have come in between.
    let seconds = wait_until("their times are exported", || {
        let Some(Data::Histogram(seconds)) = receiver.metric("sagamq", "sagamq_http_request_seconds")?.data else { panic!("a histogram") };
        seconds.data_points.into_iter().find(|point| is_of_records(&point.attributes) && point.count == 7)
    });
    assert_eq!(seconds.await.bucket_counts.iter().sum::<u64>(), 7);
    // Every metric of the page is exported, under its name.
    let page = reqwest::get(format!("{}/metrics", server.url())).await.expect("an answer").text().await.expect("text");
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in families.filter(|name| page.lines().any(|line| line.starts_with(name))) {
        wait_until(name, || receiver.metric("sagamq", name)).await;
    }
    // What happened last is exported at the end.
    client.produce(&topic, vec![ProduceRecord::text("last")], None).await.expect("stored");
    assert!(server.terminate().await.success());
    let Some(Data::Sum(sum)) = receiver.metric("sagamq", "sagamq_http_requests").expect("there").data else { panic!("a sum") };
    let last = sum.data_points.iter().find(|point| is_of_records(&point.attributes)).and_then(|point| point.value);
    assert_eq!(last, Some(Number::AsInt(8)));
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_slow_receiver_does_not_take_are_counted_and_told_once() {
    // It is connected to, and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let data = tempfile::tempdir().expect("a folder");
    let (address, log) = (free_address(), tempfile::NamedTempFile::new().expect("a file"));
    let mut command = ServerProcess::command(data.path(), address);
    command.env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", format!("http://{}/v1/traces", silent.local_addr().expect("it is bound")));
    command.env("OTEL_BSP_SCHEDULE_DELAY", "50").env("OTEL_BSP_MAX_QUEUE_SIZE", "2").env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
    let mut child = command.stderr(log.reopen().expect("a file")).spawn().expect("it starts");
    let client = Client::new(format!("http://{address}")).expect("a URL");
    eventually("the server is ready", async || client.ready().await.ok()).await;
    let dropped = async |reason: &str| {
        let metrics = reqwest::get(format!("http://{address}/metrics")).await.expect("an answer").text().await.expect("text");
        let name = format!("sagamq_dropped_spans_total{{reason=\"{reason}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse::<u64>().expect("a number")
    };
    let topic: TopicName = "t".parse().expect("legal");
    client.create_topic(&topic, TopicConfig::default()).await.expect("a topic");
    eventually("more spans come than wait", async || {
        for _ in 0..20 {
            client.produce(&topic, vec![ProduceRecord::text("x")], None).await.expect("nobody is held up");
        }
        (dropped("queue_full").await >= 30).then_some(())
    })
    .await;
    eventually("an export fails", async || (dropped("export_failed").await > 0).then_some(())).await;
    let told = std::fs::read_to_string(log.path()).expect("a log").matches("more spans wait to be exported than may").count();
    assert!(told >= 1 && told as u64 <= 2 + dropped("export_failed").await, "once, and again only after none waited: {told}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::KILL).expect("it can be signalled");
    let _ = wait_until("the server ends", || child.try_wait().expect("a process")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_or_is_away_holds_nobody_up_and_is_told_once() {
    let receiver = OtlpReceiver::start().await;
    receiver.break_down(true);
    let data = tempfile::tempdir().expect("a folder");
    let (address, log) = (free_address(), tempfile::NamedTempFile::new().expect("a file"));
    let mut command = ServerProcess::command(data.path(), address);
    command.envs(receiver.variables()).stderr(log.reopen().expect("a file"));
    let mut child = command.spawn().expect("it starts");
    let client = Client::new(format!("http://{address}")).expect("a URL");
    eventually("the server is ready", async || client.ready().await.ok()).await;
    let topic: TopicName = "t".parse().expect("legal");
    client.create_topic(&topic, TopicConfig::default()).await.expect("a topic");
    let told = |what: &str| std::fs::read_to_string(log.path()).expect("a log").matches(what).count();
    // Several exports of both are refused, while records are stored as ever.
    wait_until("of both exports are refused", || (told("telemetry cannot be exported") == 2).then_some(())).await;
    let refused = receiver.refused() + 8;
    wait_until("exports are refused", || (receiver.refused() > refused).then_some(())).await;
    client.produce(&topic, vec![ProduceRecord::text("x")], None).await.expect("stored");
    assert_eq!(told("telemetry cannot be exported"), 2, "once for traces, once for metrics");
    receiver.break_down(false);
    client.produce(&topic, vec![ProduceRecord::text("x")], None).await.expect("stored");
    let is_sent = |span: &GotSpan| span.span.name == "POST /v1/topics/{topic}/records";
    wait_until("spans are exported again", || receiver.spans().into_iter().find(is_sent)).await;
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).expect("it can be signalled");
    assert!(wait_until("the server ends", || child.try_wait().expect("a process")).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_nothing_is_exported_and_what_came_is_given_on() {
    let server = ServerProcess::start().await;
    let client = server.client();
    let topic: TopicName = "t".parse().expect("legal");
    client.create_topic(&topic, TopicConfig { partitions: 1, ..TopicConfig::default() }).await.expect("a topic");
    let url = format!("{}/v1/topics/t/records", server.url());
    let own = format!("00-{TRACE}-1111111111111111-00");
    let body = json!({ "records": [{ "value": 1 }, { "value": 2, "headers": { "traceparent": own } }] });
    let http = reqwest::Client::new();
    let send = |parent: String| http.post(&url).header("traceparent", parent).header("idempotency-key", "k").json(&body).send();
    let first: Value = send(traceparent()).await.expect("an answer").json().await.expect("JSON");
    // A retry belongs to another span, and is the same request.
    let again: Value = send(format!("00-{TRACE}-2222222222222222-01")).await.expect("an answer").json().await.expect("JSON");
    assert_eq!((&first["records"][0]["duplicate"], &again["records"][0]["duplicate"]), (&json!(false), &json!(true)), "{again}");
    let plain = http.post(&url).json(&json!({ "records": [{ "value": 3 }] })).send().await.expect("an answer");
    assert!(plain.status().is_success());
    let records = all_records(&client, "t").await;
    let parents: Vec<Option<&str>> = records.iter().map(|record| record.headers.get("traceparent")).collect();
    assert_eq!(parents, [Some(traceparent().as_str()), Some(own.as_str()), None], "a record's own word counts, and nothing is made up");
    let given: Headers = [("traceparent", traceparent())].into_iter().collect();
    assert!(TraceContext::of_record(&given).is_some());
}
