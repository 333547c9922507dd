//! Compressed batches over HTTP: all clients see the same records, and no batch takes more memory than it may.

use super::{Answer, NOW_MS, Server};
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use core::time::Duration;
use sagamq_api::headers::APPLICATION_BATCH;
use sagamq_api::limits::{BATCH_BYTES_MAX, DECOMPRESSED_BYTES_MAX};
use sagamq_api::record::Payload;
use sagamq_api::{ErrorCode, PartitionId};
use sagamq_broker::BrokerConfig;
use sagamq_broker::log::batch::{self, Compression, NewBatch, Record};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_server::HttpConfig;
use serde_json::json;

const RECORDS: &str = "/v1/topics/orders/records";
const PARTITION: &str = "/v1/topics/orders/partitions/0/records";

fn of_value(value: impl Into<Bytes>) -> Record {
    Record { timestamp_ms: -1, payload: Payload { value: Some(value.into()), ..Payload::default() } }
}

fn compressed(records: &[Record], compression: Compression) -> Vec<u8> {
    let batch = NewBatch::encode(records).expect("legal").compressed(compression);
    assert!(batch.is_compressed());
    batch.bytes().to_vec()
}

fn framed(batches: &[Vec<u8>]) -> Vec<u8> {
    batches.iter().flat_map(|batch| [&batch::frame(Some(PartitionId(0)))[..], batch].concat()).collect()
}

/// The same batch with other attributes, and the checksum that it has then.
fn with_attributes(mut batch: Vec<u8>, attributes: i16) -> Vec<u8> {
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

async fn server() -> Server {
    let server = Server::new();
    let config = json!({"partitions": 1, "record_bytes_max": 16 << 20});
    assert_eq!(server.post_json("/v1/topics", json!({"name": "orders", "config": config})).await.status, 201);
    server
}

async fn produce(server: &Server, body: Vec<u8>, key: &str) -> Answer {
    let request = Request::post(RECORDS).header("content-type", APPLICATION_BATCH).header("idempotency-key", key);
    server.send(request.body(body.into()).expect("a request")).await
}

#[tokio::test]
async fn json_clients_see_the_records_and_binary_ones_the_bytes() {
    for codec in [Compression::Lz4, Compression::Zstd] {
        let server = server().await;
        let records: Vec<Record> = (0..300).map(|n| of_value(format!("record {n:03}, which says much the same"))).collect();
        let sent = compressed(&records, codec);
        let told = produce(&server, framed(std::slice::from_ref(&sent)), "once").await.ok();
        assert_eq!((&told["batches"][0]["records"], &told["batches"][0]["timestamp_ms"]), (&json!(300), &json!(NOW_MS)));
        let again = produce(&server, framed(std::slice::from_ref(&sent)), "once").await.ok();
        assert_eq!((&again["batches"][0]["duplicate"], &again["batches"][0]["offset"]), (&json!(true), &json!(0)));
        let others = framed(&[NewBatch::encode(&records).expect("legal").bytes().to_vec()]);
        assert_eq!(produce(&server, others, "once").await.code(), ErrorCode::IdempotencyKeyReused, "what was sent is another");
        let read = server.get(&format!("{PARTITION}?offset=120&max_records=2")).await.ok();
        assert_eq!((&read["records"][1]["value"], &read["next_offset"]), (&json!("record 121, which says much the same"), &json!(122)));
        let request = Request::get(PARTITION).header("accept", APPLICATION_BATCH).body(Body::empty());
        let stored = server.send(request.expect("a request")).await;
        assert_eq!(stored.body[batch::HEADER_LEN..], sent[batch::HEADER_LEN..], "the bytes are those that came");
        let received = server.post_json("/v1/topics/orders/groups/g:receive", json!({"max_records": 300})).await.ok();
        assert_eq!(received["deliveries"][299]["value"], json!("record 299, which says much the same"));
    }
}

#[tokio::test]
async fn other_codecs_are_refused_with_a_code_of_their_own() {
    let server = server().await;
    let sent = compressed(&[of_value("x".repeat(2_000))], Compression::Lz4);
    for (attributes, name) in [(1, "gzip"), (2, "snappy"), (6, "an unknown codec")] {
        let problem = produce(&server, framed(&[with_attributes(sent.clone(), attributes)]), "k").await.problem();
        assert_eq!((problem.status, problem.code), (415, ErrorCode::UnsupportedCompression));
        assert!(problem.detail.contains(name) && problem.detail.contains("zstd"), "{problem:?}");
    }
    let problem = produce(&server, framed(&[sent.clone(), with_attributes(sent, 4)]), "k").await.problem();
    assert_eq!(problem.code, ErrorCode::InvalidBatch, "LZ4 is no Zstandard");
    assert!(problem.detail.starts_with("batch 1: ") && problem.detail.contains("decompressed"), "{problem:?}");
    assert!(server.get(PARTITION).await.ok()["records"].as_array().is_some_and(Vec::is_empty), "nothing is stored");
}

#[tokio::test]
async fn no_batch_and_no_request_becomes_larger_than_it_may() {
    let server = server().await;
    let mib = 1 << 20;
    let large = |bytes: usize| of_value(vec![b'x'; bytes]);
    let two = compressed(&[large(BATCH_BYTES_MAX / 2), large(BATCH_BYTES_MAX / 2)], Compression::Zstd);
    let problem = produce(&server, framed(&[two]), "two").await.problem();
    assert_eq!(problem.code, ErrorCode::InvalidBatch);
    let bomb = compressed(&[large(DECOMPRESSED_BYTES_MAX)], Compression::Zstd);
    assert!(bomb.len() < 10_000);
    assert_eq!(produce(&server, framed(&[bomb]), "one").await.code(), ErrorCode::BodyTooLarge);
    let one = compressed(&[large(10 * mib)], Compression::Zstd);
    let many = produce(&server, framed(&vec![one.clone(); 4]), "many").await.problem();
    assert_eq!((many.status, many.code), (413, ErrorCode::BodyTooLarge));
    assert!(many.detail.contains("together"), "{many:?}");
    produce(&server, framed(&vec![one; 3]), "three").await.ok();
    let topic_bound = compressed(&[large(16 * mib + 1)], Compression::Lz4);
    assert_eq!(produce(&server, framed(&[topic_bound]), "topic").await.code(), ErrorCode::RecordTooLarge);
}

#[tokio::test]
async fn what_batches_become_comes_out_of_the_memory_for_requests() {
    let interface = HttpConfig { turn_wait: Duration::from_millis(50), ..HttpConfig::default() };
    let storage = std::sync::Arc::new(MemoryStorage::new());
    let server = Server::with_interface(storage, BrokerConfig { shards: 1, ..BrokerConfig::default() }, axum::Router::new(), &interface);
    let config = json!({"partitions": 1, "record_bytes_max": 16 << 20});
    assert_eq!(server.post_json("/v1/topics", json!({"name": "orders", "config": config})).await.status, 201);
    let body = framed(&[compressed(&[of_value(vec![b'x'; 15 << 20])], Compression::Zstd)]);
    // As many at once as the memory of parsed bodies cannot hold: some get their turn later, none is lost, and none waits for another for ever.
    let all: Vec<Answer> = futures_util::future::join_all((0..12).map(|n| {
        let (server, body) = (&server, body.clone());
        async move { produce(server, body, &format!("k{n}")).await }
    }))
    .await;
    let stored = all.iter().filter(|answer| answer.status == 200).count();
    let refused = all.iter().filter(|answer| answer.status == 429).count();
    assert!(stored >= 4 && stored + refused == 12, "{stored} stored, {refused} refused");
    // What was taken is given back.
    produce(&server, body, "later").await.ok();
}
