//! Leased records in binary form: who asks for it gets the same as in JSON.

use super::{Answer, Server};
use axum::body::Body;
use axum::http::Request;
use sagamq_api::ErrorCode;
use sagamq_api::headers::APPLICATION_DELIVERIES;
use sagamq_api::queue::{EmptyReason, LeasesHead, ReceiveResponse};
use serde_json::json;

async fn received(server: &Server, accept: &str, body: &str) -> Answer {
    let request = Request::post("/v1/topics/t/groups/g:receive").header("content-type", "application/json").header("accept", accept);
    server.send(request.body(Body::from(body.to_owned())).expect("a request")).await
}

fn binary(answer: &Answer) -> ReceiveResponse {
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(APPLICATION_DELIVERIES)), "{answer:?}");
    ReceiveResponse::from_binary(answer.body.clone().into()).expect("whole")
}

async fn nack(server: &Server, received: &ReceiveResponse) {
    let receipts: Vec<&str> = received.deliveries.iter().map(|delivery| &*delivery.receipt).collect();
    server.post_json("/v1/topics/t/groups/g:nack", json!({"receipts": receipts, "not_begun": true})).await.ok();
}

#[tokio::test]
async fn what_is_leased_in_binary_form_is_what_json_says() {
    let server = Server::new();
    let config = json!({"partitions": 3});
    assert_eq!(server.post_json("/v1/topics", json!({"name": "t", "config": config})).await.status, 201);
    let records = json!({"records": [
        {"partition": 2, "key": "k", "value": "text", "headers": {"a": ["1", null], "b": {"base64": "/w=="}}},
        {"partition": 0, "value": {"n": 1.50}},
        {"partition": 2, "value_base64": "/w=="},
        {"partition": 0},
        {"partition": 2, "value": "far before the others", "timestamp_ms": i64::MIN / 2},
    ]});
    server.post_json("/v1/topics/t/records", records).await.ok();
    let as_binary = binary(&received(&server, APPLICATION_DELIVERIES, "{}").await);
    nack(&server, &as_binary).await;
    let as_json: ReceiveResponse = serde_json::from_value(received(&server, "application/json", "{}").await.ok()).expect("leased records");
    assert_eq!(as_binary.deliveries.len(), 5);
    let place = |of: &ReceiveResponse| {
        let mut records: Vec<_> = of.deliveries.iter().map(|delivery| (delivery.attempt, delivery.record.clone())).collect();
        records.sort_by_key(|(_, record)| (record.partition, record.offset));
        records
    };
    assert_eq!(place(&as_binary), place(&as_json), "the same records, each for the first time");
    nack(&server, &as_json).await;
    // A receipt of this form is one like any other, and records between those of a batch may be missing.
    let some = binary(&received(&server, APPLICATION_DELIVERIES, "{}").await);
    let of_two: Vec<_> = some.deliveries.iter().filter(|delivery| delivery.record.partition.0 == 2).collect();
    server.post_json("/v1/topics/t/groups/g:ack", json!({"receipts": [of_two[1].receipt]})).await.ok();
    let others: Vec<&str> = [of_two[0], of_two[2]].map(|delivery| &*delivery.receipt).to_vec();
    server.post_json("/v1/topics/t/groups/g:nack", json!({"receipts": others, "delay_ms": 0})).await.ok();
    let mut again = Vec::new();
    while again.len() < 2 {
        let some = binary(&received(&server, APPLICATION_DELIVERIES, r#"{"wait_ms":20000}"#).await).deliveries;
        assert!(!some.is_empty());
        again.extend(some);
    }
    let found: Vec<_> = again.iter().map(|delivery| (delivery.record.partition.0, delivery.record.offset.0, delivery.attempt)).collect();
    assert_eq!(found, [(2, 0, 2), (2, 2, 2)]);
}

#[tokio::test]
async fn why_there_is_nothing_and_what_is_settled_at_once_are_said_in_the_head() {
    let server = Server::new();
    server.topic("t").await;
    let none = received(&server, APPLICATION_DELIVERIES, "{}").await;
    assert_eq!(binary(&none).empty_reason, Some(EmptyReason::CaughtUp));
    assert_eq!(LeasesHead::unread(&none.body), br#"{"leases":[],"empty_reason":"caught_up"}"#);
    server.post_json("/v1/topics/t/records", json!({"records": [{"value": "a"}, {"value": "b"}]})).await.ok();
    let settled = binary(&received(&server, APPLICATION_DELIVERIES, r#"{"auto_ack":true}"#).await);
    let found: Vec<_> = settled.deliveries.iter().map(|delivery| (&*delivery.receipt, delivery.record.text())).collect();
    assert_eq!(found, [("", Some("a".to_owned())), ("", Some("b".to_owned()))]);
}

#[tokio::test]
async fn the_first_form_that_a_client_names_is_what_it_gets() {
    let server = Server::new();
    server.topic("t").await;
    for (accept, is_binary) in [
        ("application/vnd.sagamq.deliveries", true),
        ("application/vnd.sagamq.deliveries, application/json;q=0.5", true),
        ("application/json, application/vnd.sagamq.deliveries", false),
        ("*/*", false),
        ("text/html, application/vnd.sagamq.deliveries", true),
    ] {
        let answer = received(&server, accept, "{}").await;
        assert_eq!(answer.header("content-type") == Some(APPLICATION_DELIVERIES), is_binary, "{accept}");
    }
    let refused = received(&server, APPLICATION_DELIVERIES, r#"{"max_records":0}"#).await;
    assert_eq!(refused.code(), ErrorCode::InvalidRequest, "a problem is JSON in any case");
}
