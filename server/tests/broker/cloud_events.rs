//! CloudEvents over HTTP: every form comes in and goes out, once, and what is wrong is said.

use super::{Answer, Server};
use axum::body::Body;
use axum::http::Request;
use sagamq_api::ErrorCode;
use serde_json::{Value, json};

const EVENTS: &str = "/v1/topics/orders/events";
const LIST: &str = "application/cloudevents-batch+json";

fn event(id: &str, data: &Value) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": "order.placed", "partitionkey": "k", "data": data })
}

impl Server {
    async fn send_events(&self, content_type: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let request = Request::post(EVENTS).header("content-type", content_type);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.send(request.body(body.into()).expect("a request")).await
    }

    async fn read_events(&self, from: u64) -> Answer {
        let path = format!("/v1/topics/orders/partitions/0/records?offset={from}");
        self.send(Request::get(path).header("accept", LIST).body(Body::empty()).expect("a request")).await
    }
}

const HEADERS: [(&str, &str); 5] =
    [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "order.placed"), ("ce-partitionkey", "k")];

#[tokio::test]
async fn one_event_is_stored_once_whichever_form_it_comes_in() {
    let server = Server::new();
    server.topic("orders").await;
    let first = server.send_events("application/json", &HEADERS, r#"{"total": 1.0}"#).await.ok();
    assert_eq!((&first["records"][0]["offset"], &first["records"][0]["duplicate"]), (&json!(0), &json!(false)));
    // Its very text: another one is another event under the same name.
    let alone = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","partitionkey":"k","data":{"total": 1.0}}"#;
    let again = server.send_events("application/cloudevents+json; charset=utf-8", &[], alone).await.ok();
    assert_eq!((&again["records"][0]["offset"], &again["records"][0]["duplicate"]), (&json!(0), &json!(true)));
    let list = server.send_events(LIST, &[], format!("[{alone},{}]", event("2", &json!("two")))).await.ok();
    let told: Vec<(&Value, &Value)> =
        list["records"].as_array().expect("records").iter().map(|record| (&record["offset"], &record["duplicate"])).collect();
    assert_eq!(told, [(&json!(0), &json!(true)), (&json!(1), &json!(false))]);
    let other = server.send_events("application/json", &HEADERS, "{}").await;
    assert_eq!(other.code(), ErrorCode::IdempotencyKeyReused);
    // Longer than a key may be, and still known again.
    let long = json!({ "specversion": "1.0", "id": "x".repeat(500), "source": "/shop", "type": "t" }).to_string();
    for duplicate in [false, true] {
        let stored = server.send_events("application/cloudevents+json", &[], long.clone()).await.ok();
        assert_eq!(stored["records"][0]["duplicate"], json!(duplicate));
    }

    let read = server.read_events(0).await;
    assert_eq!((read.header("content-type"), read.header("sagamq-next-offset")), (Some(LIST), Some("3")));
    assert_eq!((read.header("sagamq-log-start-offset"), read.header("sagamq-high-watermark")), (Some("0"), Some("3")));
    let text = String::from_utf8(read.body.clone()).expect("text");
    assert!(text.contains(r#""data":{"total": 1.0}"#), "the very text: {text}");
    let events = read.ok();
    let shown = (&events[0]["id"], &events[0]["partitionkey"], &events[0]["datacontenttype"], &events[0]["sagamqoffset"]);
    assert_eq!(shown, (&json!("1"), &json!("k"), &json!("application/json"), &json!("0")));
    assert_eq!((&events[1]["data"], &events[2].get("data")), (&json!("two"), &None));
    // What comes out can be sent in again.
    let back = server.send_events(LIST, &[], text).await;
    assert_eq!(back.status.as_u16(), 200, "{back:?}");
    assert_eq!(server.read_events(3).await.ok(), json!([]));
    // As a record it has the headers of the binding to Kafka.
    let record = server.get("/v1/topics/orders/partitions/0/records?offset=1").await.ok()["records"][0].clone();
    assert_eq!(
        (&record["key"], &record["headers"]["ce_id"], &record["headers"]["content-type"]),
        (&json!("k"), &json!("2"), &json!("application/json"))
    );
}

#[tokio::test]
async fn a_group_receives_events_with_their_receipts() {
    let server = Server::new();
    server.topic("orders").await;
    server.send_events(LIST, &[], json!([event("1", &json!(1))]).to_string()).await.ok();
    server.post("/v1/topics/orders/records", r#"{"records":[{"value":"plain","headers":{"colour":"green"}}]}"#).await.ok();
    let receive = async || {
        let request = Request::post("/v1/topics/orders/groups/billing:receive").header("accept", LIST);
        server.send(request.body(Body::empty()).expect("a request")).await
    };
    let received = receive().await;
    assert_eq!(received.header("content-type"), Some(LIST));
    let events = received.ok();
    assert_eq!((&events[0]["id"], &events[0]["sagamqattempt"]), (&json!("1"), &json!("1")));
    assert_eq!((&events[1]["type"], &events[1]["colour"], &events[1]["data"]), (&json!("sagamq.record"), &json!("green"), &json!("plain")));
    let receipts: Vec<&Value> = events.as_array().expect("a list").iter().map(|event| &event["sagamqreceipt"]).collect();
    let settled = server.post_json("/v1/topics/orders/groups/billing:ack", json!({ "receipts": receipts })).await.ok();
    assert_eq!(settled["results"], json!([{ "status": "done" }, { "status": "done" }]));
    assert_eq!(receive().await.ok(), json!([]));
}

#[tokio::test]
async fn an_event_goes_on_with_its_trace_unless_the_request_has_one() {
    const OWN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OF_REQUEST: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let server = Server::new();
    server.topic("orders").await;
    let traced = |id: &str| {
        let mut event = event(id, &json!(1));
        event["traceparent"] = json!(OWN);
        event["tracestate"] = json!("shop=7");
        event
    };
    let in_headers =
        [("ce-specversion", "1.0"), ("ce-source", "/shop"), ("ce-type", "t"), ("ce-traceparent", OWN), ("ce-tracestate", "shop=7")];
    let with = |id: &'static str, more: &[(&'static str, &'static str)]| [&in_headers[..], &[("ce-id", id)], more].concat();
    server.send_events("application/json", &with("0", &[]), "{}").await.ok();
    server.send_events(LIST, &[], json!([traced("1"), event("2", &json!(1))]).to_string()).await.ok();
    server.send_events("application/json", &with("3", &[("traceparent", OF_REQUEST)]), "{}").await.ok();
    server.send_events(LIST, &[("traceparent", OF_REQUEST)], json!([traced("4"), event("5", &json!(1))]).to_string()).await.ok();
    // What is no trace is an attribute as any other.
    let mut untraced = event("6", &json!(1));
    untraced["traceparent"] = json!("none");
    server.send_events(LIST, &[], json!([untraced]).to_string()).await.ok();
    let records = server.get("/v1/topics/orders/partitions/0/records").await.ok()["records"].clone();
    let of = |index: usize, name: &str| records[index]["headers"][name].as_str().map(str::to_owned);
    let contexts: Vec<_> = (0..7).map(|index| (of(index, "traceparent"), of(index, "tracestate"))).collect();
    let (own, none, of_request) = ((Some(OWN.to_owned()), Some("shop=7".to_owned())), (None, None), (Some(OF_REQUEST.to_owned()), None));
    assert_eq!(contexts, [own.clone(), own, none.clone(), of_request.clone(), of_request.clone(), of_request, none], "{records}");
    // Out, the attribute is that of the event, else that of its record: nobody changes where an event says that it began.
    let events = server.read_events(0).await.ok();
    let shown: Vec<&Value> = events.as_array().expect("a list").iter().map(|event| &event["traceparent"]).collect();
    assert_eq!(shown, [&json!(OWN), &json!(OWN), &Value::Null, &json!(OWN), &json!(OWN), &json!(OF_REQUEST), &json!("none")]);
    assert_eq!(events[0]["tracestate"], "shop=7");
    // Sent again under another trace it is the same event.
    let again = [("ce-specversion", "1.0"), ("ce-id", "0"), ("ce-source", "/shop"), ("ce-type", "t"), ("ce-traceparent", OF_REQUEST)];
    let again = server.send_events("application/json", &again, "{}").await.ok();
    assert_eq!((&again["records"][0]["offset"], &again["records"][0]["duplicate"]), (&json!(0), &json!(true)));
}

#[tokio::test]
async fn what_is_no_event_is_refused_and_nothing_is_stored() {
    let server = Server::new();
    server.topic("orders").await;
    let wrong = json!([event("1", &json!(1)), { "specversion": "1.0", "id": "2", "source": "/shop" }]).to_string();
    let deep = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
    for (content_type, headers, body, code, says) in [
        ("text/plain", &[][..], "x", ErrorCode::UnsupportedMediaType, "no CloudEvent"),
        ("application/json", &[], "{}", ErrorCode::UnsupportedMediaType, "no CloudEvent"),
        ("application/json", &HEADERS[1..], "{}", ErrorCode::InvalidRequest, "no `specversion`"),
        ("application/json", &HEADERS[..3], "{}", ErrorCode::InvalidRequest, "no `type`"),
        ("application/cloudevents+json", &[], "{}", ErrorCode::InvalidRequest, "no `specversion`"),
        ("application/cloudevents+json", &[], "[]", ErrorCode::MalformedRequest, "expected a CloudEvent"),
        ("application/cloudevents+json", &[], &deep, ErrorCode::InvalidRequest, "too deep"),
        (LIST, &[], "{}", ErrorCode::MalformedRequest, "expected a list of CloudEvents"),
        (LIST, &[], &wrong, ErrorCode::InvalidRequest, "event 1: the event has no `type`"),
        (LIST, &[], "[]", ErrorCode::InvalidRequest, "records"),
    ] {
        let problem = server.send_events(content_type, headers, body.to_owned()).await.problem();
        assert_eq!(problem.code, code, "{content_type} {body}: {problem:?}");
        assert!(problem.detail.contains(says), "{content_type} {body}: {problem:?}");
    }
    let zipped = [&HEADERS[..], &[("content-encoding", "gzip")]].concat();
    assert_eq!(server.send_events("application/json", &zipped, "x").await.code(), ErrorCode::UnsupportedMediaType);
    assert_eq!(server.get("/v1/topics/orders").await.ok()["partitions"][0]["high_watermark"], json!(0));
}
