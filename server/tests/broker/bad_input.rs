//! Bad input: each is a problem of its own, and nothing is stored.

use super::{NOW_MS, Server};
use axum::body::Body;
use axum::http::Request;
use sagamq_api::limits::{BODY_BYTES_MAX, PRODUCE_RECORDS_MAX, RECEIPTS_MAX};
use sagamq_api::{ErrorCode, Offset, PartitionId};
use sagamq_broker::group::queue::Receipt;
use sagamq_broker::ids::{GroupId, TopicId};
use serde_json::{Value, json};

use ErrorCode::*;

const RECORDS: &str = "/v1/topics/t/records";
const READ: &str = "/v1/topics/t/partitions/0/records";

/// A server with a topic that has one record and a group without records in flight.
async fn server() -> Server {
    let server = Server::new();
    server.topic("t").await;
    server.post(RECORDS, r#"{"records":[{"value":"first"}]}"#).await.ok();
    server.post("/v1/topics/t/groups/g:receive", r#"{"auto_ack":true}"#).await.ok();
    server
}

/// Everything that can be seen from outside.
async fn seen(server: &Server) -> [Value; 3] {
    let topics = server.get("/v1/topics").await.ok();
    let groups = server.get("/v1/topics/t/groups").await.ok();
    [topics, groups, server.get(READ).await.ok()]
}

#[tokio::test]
async fn refused_bodies_name_what_is_wrong_and_store_nothing() {
    let server = server().await;
    let before = seen(&server).await;
    let many = format!(r#"{{"records":[{}]}}"#, vec!["{}"; PRODUCE_RECORDS_MAX + 1].join(","));
    let large = json!({"records": [{"value": "x".repeat(1024 * 1024 + 1)}]}).to_string();
    let long_key = json!({"records": [{"value": 1, "idempotency_key": "k".repeat(257)}]}).to_string();
    let receipts = json!({"receipts": vec!["x"; RECEIPTS_MAX + 1]}).to_string();
    let long_name = json!({"name": "n".repeat(250)}).to_string();
    let cases: &[(&str, &str, ErrorCode, &str)] = &[
        // Produce.
        (RECORDS, "{", MalformedRequest, "line 1"),
        (RECORDS, "records=1", MalformedRequest, "not JSON"),
        (RECORDS, r#"{"records":[]} x"#, MalformedRequest, "not JSON"),
        (RECORDS, "", InvalidRequest, "records"),
        (RECORDS, "[]", InvalidRequest, "invalid"),
        (RECORDS, r#"{"records":[]}"#, InvalidRequest, "0 records"),
        (RECORDS, r#"{"records":[{"val":1}]}"#, InvalidRequest, "val"),
        (RECORDS, r#"{"records":[{"value":1}],"more":1}"#, InvalidRequest, "more"),
        (RECORDS, r#"{"records":[{"value":1},{"key":7}]}"#, InvalidRequest, "records[1].key"),
        (RECORDS, r#"{"records":[{"headers":{"a":1}}]}"#, InvalidRequest, "records[0].headers.a"),
        (RECORDS, r#"{"records":[{"partition":-1}]}"#, InvalidRequest, "records[0].partition"),
        (RECORDS, r#"{"records":[{"value":1},{"partition":1}]}"#, PartitionNotFound, "record 1"),
        (RECORDS, r#"{"records":[{"value":1},{"value_base64":"*"}]}"#, InvalidBase64, "value_base64"),
        (RECORDS, r#"{"records":[{"key_base64":"a"}]}"#, InvalidBase64, "key_base64"),
        (RECORDS, r#"{"records":[{"value":1,"value_base64":"YQ=="}]}"#, InvalidRequest, "value_base64"),
        (RECORDS, r#"{"records":[{"value":1,"idempotency_key":""}]}"#, InvalidRequest, "idempotency key"),
        (RECORDS, &long_key, InvalidRequest, "257"),
        (RECORDS, &many, InvalidRequest, "more than 10000 records"),
        (RECORDS, &large, RecordTooLarge, "1048576"),
        ("/v1/topics/none/records", r#"{"records":[{"value":1}]}"#, TopicNotFound, "none"),
        ("/v1/topics/t.g.dlq/records", r#"{"records":[{"value":1}]}"#, TopicInUse, "t.g.dlq"),
        ("/v1/topics/a@b/records", r#"{"records":[{"value":1}]}"#, InvalidName, "@"),
        // Topics.
        ("/v1/topics", "{}", InvalidRequest, "name"),
        ("/v1/topics", r#"{"name":"a/b"}"#, InvalidName, "a/b"),
        ("/v1/topics", r#"{"name":".."}"#, InvalidName, ".."),
        ("/v1/topics", &long_name, InvalidName, "249"),
        ("/v1/topics", r#"{"name":"new","config":{"partition":3}}"#, InvalidRequest, "partition"),
        ("/v1/topics", r#"{"name":"new","config":{"partitions":"3"}}"#, InvalidRequest, "config.partitions"),
        ("/v1/topics", r#"{"name":"new","config":{"partitions":0,"dedup_window_ms":1}}"#, InvalidRequest, "dedup_window_ms"),
        ("/v1/topics", r#"{"name":"t","config":{"partitions":7}}"#, TopicExists, "another configuration"),
        // Groups.
        ("/v1/topics/none/groups/g:receive", "{}", TopicNotFound, "none"),
        ("/v1/topics/t/groups/a@b:receive", "{}", InvalidName, "group"),
        ("/v1/topics/t/groups/new:receive", r#"{"max_records":0}"#, InvalidRequest, "max_records"),
        ("/v1/topics/t/groups/new:receive", r#"{"max_records":1001}"#, InvalidRequest, "1000"),
        ("/v1/topics/t/groups/new:receive", r#"{"wait_ms":20001}"#, InvalidRequest, "wait_ms"),
        ("/v1/topics/t/groups/new:receive", r#"{"lease_ms":999}"#, InvalidRequest, "lease_ms"),
        ("/v1/topics/t/groups/new:receive", r#"{"start":"middle"}"#, InvalidRequest, "start"),
        ("/v1/topics/t/groups/none:ack", r#"{"receipts":["x"]}"#, GroupNotFound, "none"),
        ("/v1/topics/t/groups/g:ack", r#"{"receipts":[]}"#, InvalidRequest, "receipts"),
        ("/v1/topics/t/groups/g:ack", &receipts, InvalidRequest, "1001"),
        ("/v1/topics/t/groups/g:ack", r#"{"receipts":["x"]}"#, InvalidReceipt, "receipt 0"),
        ("/v1/topics/t/groups/g:nack", r#"{"receipts":["x"],"delay_ms":43200001}"#, InvalidRequest, "delay_ms"),
        ("/v1/topics/t/groups/g:extend", r#"{"receipts":["x"]}"#, InvalidRequest, "lease_ms"),
        ("/v1/topics/t/groups/g:terminate", r#"{"receipts":["x"]}"#, InvalidRequest, "reason"),
        ("/v1/topics/t/groups/g:redrive", r#"{"offsets":[1]}"#, InvalidRequest, "partition"),
        ("/v1/topics/t/groups/g:redrive", r#"{"max_records":1001}"#, InvalidRequest, "max_records"),
        ("/v1/topics/t/groups/none:redrive", "", GroupNotFound, "none"),
        ("/v1/topics/t/groups/g:discard", "", InvalidRequest, "`all`"),
        ("/v1/topics/t/groups/g:discard", r#"{"max_records":1}"#, InvalidRequest, "`all`"),
        ("/v1/topics/t/groups/g:discard", r#"{"all":true,"cause":"terminated"}"#, InvalidRequest, "`all`"),
        ("/v1/topics/t/groups/g:discard", r#"{"offsets":[1]}"#, InvalidRequest, "partition"),
        ("/v1/topics/t/groups/g:discard", r#"{"all":true,"max_records":1001}"#, InvalidRequest, "max_records"),
        ("/v1/topics/t/groups/g:discard", r#"{"partition":0,"offsets":[1],"cursor":"0:0"}"#, InvalidRequest, "cursor"),
        ("/v1/topics/t/groups/none:discard", r#"{"all":true}"#, GroupNotFound, "none"),
        ("/v1/topics/t/groups/g:frobnicate", "{}", RouteNotFound, "/v1/topics/t/groups/g:frobnicate"),
    ];
    for &(path, body, code, says) in cases {
        let answer = server.post(path, body.to_owned()).await;
        let problem = answer.problem();
        assert_eq!(problem.code, code, "{path} {:.80}: {problem:?}", body);
        assert!(answer.status.is_client_error() && !problem.outcome_unknown && !problem.retryable, "{problem:?}");
        assert!(problem.detail.contains(says), "{path} {:.80}: {:?} does not say {says:?}", body, problem.detail);
    }
    assert_eq!(seen(&server).await, before);
}

#[tokio::test]
async fn refused_paths_and_queries() {
    let server = server().await;
    let long = format!("/v1/topics/{}", "n".repeat(250));
    let cases: &[(&str, ErrorCode, &str)] = &[
        ("/", RouteNotFound, "openapi.json"),
        ("/v1/topics/t/", RouteNotFound, "/v1/topics/t/"),
        ("/v1/topics/none", TopicNotFound, "none"),
        ("/v1/topics/a%2Fb", InvalidName, "a/b"),
        ("/v1/topics/%ff", InvalidRequest, "UTF-8"),
        (&long, InvalidName, "249"),
        ("/v1/topics/t/groups/none", GroupNotFound, "none"),
        ("/v1/topics/t/groups/none/dead-letters", GroupNotFound, "none"),
        ("/v1/topics/t/groups/g/dead-letters?max_records=0", InvalidRequest, "max_records"),
        ("/v1/topics/t/partitions/1/records", PartitionNotFound, "partition 1"),
        ("/v1/topics/t/partitions/x/records", InvalidRequest, "partition"),
        ("/v1/topics/t/partitions/-1/records", InvalidRequest, "partition"),
        ("/v1/topics/t/partitions/0/records?offset=2", OffsetOutOfRange, "offset 2"),
        ("/v1/topics/t/partitions/0/records?offset=x", InvalidRequest, "offset"),
        ("/v1/topics/t/partitions/0/records?offset=0&timestamp_ms=0", InvalidRequest, "timestamp_ms"),
        ("/v1/topics/t/partitions/0/records?limit=1", InvalidRequest, "limit"),
        ("/v1/topics/t/partitions/0/records?max_records=0", InvalidRequest, "max_records"),
        ("/v1/topics/t/partitions/0/records?wait_ms=20001", InvalidRequest, "wait_ms"),
    ];
    for &(path, code, says) in cases {
        let problem = server.get(path).await.problem();
        assert_eq!(problem.code, code, "{path}: {problem:?}");
        assert!(problem.detail.contains(says), "{path}: {:?} does not say {says:?}", problem.detail);
    }
    assert_eq!(server.delete("/v1/topics/none").await.code(), TopicNotFound);
    assert_eq!(server.delete("/v1/topics/t.g.dlq").await.code(), TopicInUse);
    assert_eq!(server.delete("/v1/topics/t/groups/none").await.code(), GroupNotFound);
}

#[tokio::test]
async fn media_types_and_sizes() {
    let server = server().await;
    let before = seen(&server).await;
    let body = r#"{"records":[{"value":1}]}"#;
    let of_type = |content_type: &str| Request::post(RECORDS).header("content-type", content_type).body(body.into()).expect("a request");
    for page in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "application/xml"] {
        assert_eq!(server.send(of_type(page)).await.code(), UnsupportedMediaType, "{page}");
    }
    assert_eq!(server.send(Request::post(RECORDS).body(body.into()).expect("a request")).await.code(), UnsupportedMediaType);
    let encoded = Request::post(RECORDS).header("content-type", "application/json").header("content-encoding", "br");
    let problem = server.send(encoded.body(body.into()).expect("a request")).await.problem();
    assert_eq!(problem.code, UnsupportedMediaType);
    assert!(problem.detail.contains("gzip"), "{problem:?}");
    // Too large by what it says, and too large by what comes.
    let announced = Request::post(RECORDS)
        .header("content-type", "application/json")
        .header("content-length", BODY_BYTES_MAX + 1)
        .body(Body::empty())
        .expect("a request");
    assert_eq!(server.send(announced).await.code(), BodyTooLarge);
    assert_eq!(server.post(RECORDS, vec![b' '; BODY_BYTES_MAX + 1]).await.code(), BodyTooLarge);
    assert_eq!(seen(&server).await, before);
    server.send(of_type("application/json; charset=utf-8")).await.ok();
}

#[tokio::test]
async fn idempotency_keys() {
    let server = server().await;
    let keyed = |keys: &[&str], body: &str| {
        let json = Request::post(RECORDS).header("content-type", "application/json");
        let request = keys.iter().fold(json, |request, key| request.header("idempotency-key", *key));
        request.body(body.to_owned().into()).expect("a request")
    };
    let body = r#"{"records":[{"value":1}]}"#;
    let first = server.send(keyed(&["k"], body)).await.ok();
    assert_eq!(first["records"][0]["duplicate"], json!(false));
    let again = server.send(keyed(&["k"], body)).await.ok();
    assert_eq!((&again["records"][0]["offset"], &again["records"][0]["duplicate"]), (&first["records"][0]["offset"], &json!(true)));
    assert_eq!(server.send(keyed(&["k"], r#"{"records":[{"value":2}]}"#)).await.code(), IdempotencyKeyReused);
    assert_eq!(server.send(keyed(&["a", "b"], body)).await.code(), InvalidRequest);
    assert_eq!(server.send(keyed(&[""], body)).await.code(), InvalidRequest);
    assert_eq!(server.send(keyed(&["a"], r#"{"records":[{"value":1,"idempotency_key":"b"}]}"#)).await.code(), InvalidRequest);
}

#[tokio::test]
async fn receipts_of_others_and_receipts_that_are_over() {
    let server = server().await;
    server.post(RECORDS, r#"{"records":[{"value":"second"}]}"#).await.ok();
    let delivery = server.post("/v1/topics/t/groups/g:receive", r#"{"lease_ms":1000}"#).await.ok()["deliveries"][0].clone();
    let receipt = delivery["receipt"].as_str().expect("a receipt").to_owned();
    let ack = |receipt: &str| json!({"receipts": [receipt]});
    // Another group, a changed character, another broker's signature.
    server.post("/v1/topics/t/groups/other:receive", "").await.ok();
    assert_eq!(server.post_json("/v1/topics/t/groups/other:ack", ack(&receipt)).await.code(), InvalidReceipt);
    let changed = receipt.replace(&receipt[30..31], if &receipt[30..31] == "A" { "B" } else { "A" });
    assert_eq!(server.post_json("/v1/topics/t/groups/g:ack", ack(&changed)).await.code(), InvalidReceipt);
    let forged = Receipt { topic: TopicId(1), partition: PartitionId(0), group: GroupId(1), offset: Offset(1), lease_id: 1, holder: None }
        .sign(&[0; 32]);
    assert_eq!(server.post_json("/v1/topics/t/groups/g:ack", ack(&forged)).await.code(), InvalidReceipt);
    // The lease runs out: it cannot be extended or given back.
    assert_eq!(delivery["lease_until_ms"], json!(NOW_MS + 1_000));
    server.clock.advance(core::time::Duration::from_millis(1_000));
    let extend = json!({"receipts": [receipt], "lease_ms": 1000});
    assert_eq!(server.post_json("/v1/topics/t/groups/g:extend", extend).await.code(), ReceiptExpired);
    assert_eq!(server.post_json("/v1/topics/t/groups/g:nack", ack(&receipt)).await.code(), ReceiptExpired);
    // Deleted and made again: the old receipt is not the new group's.
    server.delete_unused_group("/v1/topics/t/groups/g").await;
    server.post("/v1/topics/t/groups/g:receive", "").await.ok();
    assert_eq!(server.post_json("/v1/topics/t/groups/g:ack", ack(&receipt)).await.code(), InvalidReceipt);
}
