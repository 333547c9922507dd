//! Batches that say who sent them, over HTTP: each rule has its code, and a refused batch is not stored.

use super::{Answer, Server};
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use sagamq_api::headers::APPLICATION_BATCH;
use sagamq_api::record::Payload;
use sagamq_api::{ErrorCode, PartitionId};
use sagamq_broker::log::batch::{self, Batch, NewBatch, Record, Stamp};
use serde_json::json;

fn framed(partition: Option<u32>, stamp: Option<Stamp>, value: &str) -> Vec<u8> {
    let payload = Payload { value: Some(value.to_owned().into()), ..Payload::default() };
    let batch = NewBatch::encode(&[Record { timestamp_ms: -1, payload }]).expect("legal");
    let batch = match stamp {
        Some(stamp) => batch.stamped(stamp),
        None => batch,
    };
    [&batch::frame(partition.map(PartitionId))[..], batch.bytes()].concat()
}

fn stamp(epoch: u16, sequence: u32) -> Option<Stamp> {
    Some(Stamp { producer: 7, epoch, sequence })
}

async fn produce(server: &Server, body: Vec<u8>, key: Option<&str>) -> Answer {
    let request = Request::post("/v1/topics/orders/records").header("content-type", APPLICATION_BATCH);
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    server.send(request.body(body.into()).expect("a request")).await
}

#[tokio::test]
async fn each_rule_has_its_code() {
    let server = Server::new();
    server.topic("orders").await;
    let of = |epoch, sequence| framed(Some(0), stamp(epoch, sequence), "a");
    let first = produce(&server, of(1, 0), None).await.ok();
    assert_eq!((&first["batches"][0]["offset"], &first["batches"][0]["duplicate"]), (&json!(0), &json!(false)));
    server.clock.advance(core::time::Duration::from_secs(3));
    let again = produce(&server, of(1, 0), None).await.ok();
    assert_eq!((&again["batches"][0]["offset"], &again["batches"][0]["duplicate"]), (&json!(0), &json!(true)));
    assert_eq!(again["batches"][0]["timestamp_ms"], first["batches"][0]["timestamp_ms"], "that of the first arrival");
    for (body, key, code, says) in [
        (of(1, 3), None, ErrorCode::OutOfOrderSequence, "whose next is 1"),
        (framed(Some(0), stamp(1, 0), "b"), None, ErrorCode::OutOfOrderSequence, "for other records, which lie at offset 0"),
        (of(0, 1), None, ErrorCode::ProducerFenced, "is in epoch 1"),
        (framed(Some(0), Some(Stamp { producer: 8, epoch: 0, sequence: 5 }), "a"), None, ErrorCode::UnknownProducer, "producer 8"),
        (of(1, 1), Some("key"), ErrorCode::InvalidRequest, "give one or the other"),
        (framed(None, stamp(1, 1), "a"), None, ErrorCode::InvalidRequest, "say which one"),
        ([framed(Some(0), None, "a"), of(1, 1)].concat(), None, ErrorCode::InvalidRequest, "batch 1 has a producer id"),
    ] {
        let problem = produce(&server, body, key).await.problem();
        assert_eq!(problem.code, code, "{problem:?}");
        assert!(problem.detail.contains(says), "{problem:?}");
        assert!(!problem.outcome_unknown, "{problem:?}");
    }
    assert_eq!(produce(&server, of(1, 1), None).await.ok()["batches"][0]["offset"], json!(1), "nothing was stored by what was refused");
    let metrics = String::from_utf8(server.get("/metrics").await.body).expect("text");
    for line in [
        "sagamq_producers 1",
        "sagamq_producer_waiting_batches 0",
        "sagamq_producer_duplicate_batches_total 1",
        "sagamq_producer_refused_batches_total{reason=\"out_of_order\"} 1",
        "sagamq_producer_refused_batches_total{reason=\"reused\"} 1",
        "sagamq_producer_refused_batches_total{reason=\"fenced\"} 1",
        "sagamq_producer_refused_batches_total{reason=\"unknown\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_reader_of_batches_sees_who_sent_them_and_one_of_json_sees_records() {
    let server = Server::new();
    server.topic("orders").await;
    produce(&server, framed(Some(0), stamp(2, 0), "a"), None).await.ok();
    let request = Request::get("/v1/topics/orders/partitions/0/records").header("accept", APPLICATION_BATCH);
    let answer = server.send(request.body(Body::empty()).expect("a request")).await;
    let mut left = Bytes::from(answer.body);
    let stored = Batch::parse(batch::take(&mut left).expect("whole").expect("one")).expect("sound");
    assert_eq!(stored.header().stamp, stamp(2, 0), "also with the time that it got");
    let read = server.get("/v1/topics/orders/partitions/0/records").await.ok();
    assert_eq!(read["records"][0]["value"], json!("a"));
}

#[tokio::test]
async fn a_name_is_registered_listed_taken_over_and_forgotten() {
    let server = Server::new();
    server.topic("orders").await;
    let register = || server.post_json("/v1/producers", json!({"name": "billing"}));
    let id = |answer: &serde_json::Value| answer["producer_id"].as_str().expect("text").parse::<u64>().expect("a number");
    let first = id(&register().await.ok());
    let of = |producer, sequence| framed(Some(0), Some(Stamp { producer, epoch: 0, sequence }), "a");
    produce(&server, of(first, 0), None).await.ok();
    let second = register().await.ok();
    assert_eq!(server.get("/v1/producers").await.ok(), json!({"producers": [second]}));
    let fenced = produce(&server, of(first, 1), None).await.problem();
    assert_eq!((fenced.code, fenced.outcome_unknown), (ErrorCode::ProducerFenced, false));
    produce(&server, of(id(&second), 0), None).await.ok();
    assert_eq!(server.delete("/v1/producers/billing").await.status.as_u16(), 204);
    assert_eq!(produce(&server, of(id(&second), 1), None).await.code(), ErrorCode::ProducerFenced);
    assert_eq!(server.delete("/v1/producers/billing").await.code(), ErrorCode::ProducerNotFound);
    assert_eq!(server.post_json("/v1/producers", json!({"name": "a b"})).await.code(), ErrorCode::InvalidName);
}
