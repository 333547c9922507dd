//! A partition as server-sent events: nothing is lost over a reconnect, and an end is told.

use super::Server;
use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use core::time::Duration;
use futures_util::StreamExt as _;
use sagamq_api::ErrorCode;
use serde_json::{Value, json};
use tower::ServiceExt as _;

const PARTITION: &str = "/v1/topics/orders/partitions/0/records";

/// Far beyond what a test needs: only a hang meets it.
const LIMIT: Duration = Duration::from_secs(60);

/// An event as a browser sees it.
#[derive(Debug, PartialEq)]
struct Event {
    id: Option<u64>,
    event: String,
    data: Value,
}

/// A connection on which events come.
struct Connection {
    body: BodyDataStream,
    text: String,
}

impl Connection {
    async fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        let request = Request::get(format!("{PARTITION}{query}")).header("accept", "text/event-stream");
        let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        let response = server.app.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("it always answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
                let event = field("event").map(|event| Event {
                    id: field("id").map(|id| id.parse().expect("an offset")),
                    event,
                    data: serde_json::from_str(&field("data").expect("data")).expect("JSON on one line"),
                });
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let piece = tokio::time::timeout(LIMIT, self.body.next()).await.expect("something happens")?.expect("it does not break");
            self.text.push_str(core::str::from_utf8(&piece).expect("text"));
        }
    }

    /// So many records: their ids and values.
    async fn records(&mut self, count: usize) -> Vec<(u64, Value)> {
        let mut records = Vec::new();
        while records.len() < count {
            let event = self.next().await.expect("more records");
            assert_eq!(event.event, "record");
            assert_eq!(event.data["offset"], json!(event.id));
            records.push((event.id.expect("an id"), event.data["value"].clone()));
        }
        records
    }
}

async fn produce(server: &Server, values: &[&str]) {
    let records: Vec<Value> = values.iter().map(|value| json!({"value": value})).collect();
    server.post_json("/v1/topics/orders/records", json!({"records": records})).await.ok();
}

fn numbered(from: u64, values: &[&str]) -> Vec<(u64, Value)> {
    (from..).zip(values.iter().map(|value| json!(value))).collect()
}

#[tokio::test]
async fn records_come_as_they_are_stored_and_a_reconnect_goes_on_behind_the_last() {
    let server = Server::new();
    server.topic("orders").await;
    produce(&server, &["a", "b"]).await;
    let mut first = Connection::open(&server, "", None).await;
    assert_eq!(first.records(2).await, numbered(0, &["a", "b"]));
    produce(&server, &["c"]).await;
    assert_eq!(first.records(1).await, numbered(2, &["c"]));
    drop(first);
    produce(&server, &["d", "e"]).await;
    let mut again = Connection::open(&server, "?offset=0", Some("2")).await;
    assert_eq!(again.records(2).await, numbered(3, &["d", "e"]), "what the client has seen counts, not where it began");
    let mut at_the_end = Connection::open(&server, "?offset=5", None).await;
    produce(&server, &["f"]).await;
    assert_eq!(at_the_end.records(1).await, numbered(5, &["f"]));
}

#[tokio::test]
async fn a_stream_of_so_many_records_ends_behind_them() {
    let server = Server::new();
    server.topic("orders").await;
    produce(&server, &["0"; 150]).await;
    let mut all = Connection::open(&server, "?max_records=120", None).await;
    assert_eq!(all.records(120).await.len(), 120);
    assert_eq!(all.next().await, None);
}

#[tokio::test]
async fn json_with_line_breaks_is_one_line() {
    let server = Server::new();
    server.topic("orders").await;
    server.post("/v1/topics/orders/records", "{\"records\":[{\"value\":{\n\"a\":1}},{\"value\":\"two\\nlines\"}]}").await.ok();
    let mut events = Connection::open(&server, "", None).await;
    assert_eq!(events.next().await.expect("a record").data["value_base64"], json!("ewoiYSI6MX0="));
    assert_eq!(events.next().await.expect("a record").data["value"], json!("two\nlines"));
}

#[tokio::test]
async fn what_retention_took_meanwhile_is_told() {
    let server = Server::new();
    server.topic("orders").await;
    produce(&server, &["a", "b", "c"]).await;
    server.patch_json("/v1/topics/orders", json!({"config": {"retention_ms": 5_000}})).await.ok();
    server.clock.advance(Duration::from_secs(7));
    assert_eq!(server.broker.apply_retention().await.expect("applied"), 3);
    produce(&server, &["d"]).await;
    let mut back = Connection::open(&server, "", Some("0")).await;
    let trimmed = back.next().await.expect("it is told");
    assert_eq!(trimmed, Event { id: Some(2), event: "trimmed".to_owned(), data: json!({"from": 1, "to": 3}) });
    assert_eq!(back.records(1).await, numbered(3, &["d"]));
}

#[tokio::test]
async fn the_end_of_a_topic_is_told_and_that_of_the_server_ends_the_stream() {
    let server = Server::new();
    server.topic("orders").await;
    produce(&server, &["a"]).await;
    let mut deleted = Connection::open(&server, "", None).await;
    deleted.records(1).await;
    assert_eq!(server.delete("/v1/topics/orders").await.status, 204);
    let error = deleted.next().await.expect("it is told");
    assert_eq!((error.event.as_str(), &error.data["code"]), ("error", &json!("TOPIC_NOT_FOUND")));
    assert_eq!(deleted.next().await, None);
    // Also if there is another of its name before anybody looks: that is another log.
    server.topic("orders").await;
    produce(&server, &["a"]).await;
    let mut deleted = Connection::open(&server, "", None).await;
    deleted.records(1).await;
    assert_eq!(server.delete("/v1/topics/orders").await.status, 204);
    server.topic("orders").await;
    produce(&server, &["x", "y", "z"]).await;
    let error = deleted.next().await.expect("it is told");
    assert_eq!((error.event.as_str(), &error.data["code"]), ("error", &json!("TOPIC_NOT_FOUND")));
    let mut open = Connection::open(&server, "", None).await;
    open.records(3).await;
    server.broker.begin_shutdown();
    assert_eq!(open.next().await, None);
}

#[tokio::test]
async fn what_can_be_refused_is_refused_before_the_stream_begins() {
    let server = Server::new();
    server.topic("orders").await;
    let refused = async |path: &str, last: Option<&str>| {
        let request = Request::get(path).header("accept", "text/event-stream");
        let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        server.send(request.body(Body::empty()).expect("a request")).await.code()
    };
    assert_eq!(refused(PARTITION, Some("last")).await, ErrorCode::InvalidRequest);
    assert_eq!(refused(PARTITION, Some("18446744073709551615")).await, ErrorCode::InvalidRequest, "nothing is behind it");
    assert_eq!(refused(&format!("{PARTITION}?wait_ms=5"), None).await, ErrorCode::InvalidRequest);
    assert_eq!(refused(&format!("{PARTITION}?offset=1"), None).await, ErrorCode::OffsetOutOfRange);
    assert_eq!(refused(PARTITION, Some("7")).await, ErrorCode::OffsetOutOfRange, "the topic was made anew: nobody guesses");
    assert_eq!(refused("/v1/topics/nobody/partitions/0/records", None).await, ErrorCode::TopicNotFound);
}
