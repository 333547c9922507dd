//! Record batches over HTTP: JSON and binary clients see the same records.

use super::{Answer, NOW_MS, Server};
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use sagamq_api::ErrorCode;
use sagamq_api::PartitionId;
use sagamq_api::headers::APPLICATION_BATCH;
use sagamq_api::partitioner::partition_of;
use sagamq_api::record::Payload;
use sagamq_broker::BrokerConfig;
use sagamq_broker::env::ManualClock;
use sagamq_broker::log::batch::{self, Batch, NewBatch, Record, StoredRecord};
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_server::{HttpConfig, Quota, QuotaLimits};
use serde_json::{Value, json};

const RECORDS: &str = "/v1/topics/orders/records";

fn record(key: Option<&str>, value: &str, timestamp_ms: i64) -> Record {
    let payload = Payload { key: key.map(|key| key.to_owned().into()), value: Some(value.to_owned().into()), ..Payload::default() };
    Record { timestamp_ms, payload }
}

fn body(batches: &[(Option<u32>, &[Record])]) -> Vec<u8> {
    let mut body = Vec::new();
    for &(partition, records) in batches {
        body.extend_from_slice(&batch::frame(partition.map(PartitionId)));
        body.extend_from_slice(NewBatch::encode(records).expect("legal").bytes());
    }
    body
}

async fn server(partitions: u32) -> Server {
    let server = Server::new();
    let config = json!({"partitions": partitions, "record_bytes_max": 1_000});
    assert_eq!(server.post_json("/v1/topics", json!({"name": "orders", "config": config})).await.status, 201);
    server
}

async fn produce(server: &Server, body: Vec<u8>, key: Option<&str>) -> Answer {
    let request = Request::post(RECORDS).header("content-type", APPLICATION_BATCH);
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    server.send(request.body(body.into()).expect("a request")).await
}

async fn read(server: &Server, query: &str) -> Answer {
    let request = Request::get(format!("/v1/topics/orders/partitions/{query}")).header("accept", APPLICATION_BATCH);
    server.send(request.body(Body::empty()).expect("a request")).await
}

fn records(answer: &Answer) -> Vec<StoredRecord> {
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(APPLICATION_BATCH)), "{answer:?}");
    let mut left = Bytes::from(answer.body.clone());
    let mut records = Vec::new();
    while let Some(bytes) = batch::take(&mut left).expect("whole batches") {
        records.extend(Batch::parse(bytes).and_then(|batch| batch.records()).expect("sound"));
    }
    records
}

fn texts(records: &[StoredRecord]) -> Vec<(u64, String)> {
    let text = |record: &StoredRecord| String::from_utf8(record.payload.value.clone().expect("a value").to_vec()).expect("text");
    records.iter().map(|record| (record.offset.0, text(record))).collect()
}

fn places(answer: &Answer) -> [&str; 3] {
    ["sagamq-next-offset", "sagamq-log-start-offset", "sagamq-high-watermark"].map(|name| answer.header(name).expect("it says where"))
}

#[tokio::test]
async fn binary_and_json_clients_see_the_same_records() {
    let server = server(1).await;
    let now = NOW_MS.cast_signed();
    let batches: [(Option<u32>, &[Record]); 2] =
        [(Some(0), &[record(Some("k"), "a", 5), record(None, "b", 4)]), (None, &[record(None, "c", -1)])];
    let produced = produce(&server, body(&batches), None).await.ok();
    let told = json!({"batches": [
        {"partition": 0, "offset": 0, "records": 2, "timestamp_ms": 5, "duplicate": false},
        {"partition": 0, "offset": 2, "records": 1, "timestamp_ms": now, "duplicate": false},
    ]});
    assert_eq!(produced, told, "a batch without times has that of its arrival");
    server.post_json(RECORDS, json!({"records": [{"key": "j", "value": "d", "timestamp_ms": 9}]})).await.ok();
    let as_json = server.get("/v1/topics/orders/partitions/0/records").await.ok();
    let shown = |value: &Value| (value["offset"].clone(), value["value"].clone(), value["timestamp_ms"].clone());
    let shown: Vec<_> = as_json["records"].as_array().expect("records").iter().map(shown).collect();
    let expected = [(0, "a", 5), (1, "b", 4), (2, "c", now), (3, "d", 9)];
    assert_eq!(shown, expected.map(|(offset, value, time)| (json!(offset), json!(value), json!(time))));
    let answer = read(&server, "0/records").await;
    assert_eq!(places(&answer), ["4", "0", "4"]);
    let stored = records(&answer);
    let found: Vec<_> = stored.iter().zip(texts(&stored)).map(|(record, (offset, text))| (offset, text, record.timestamp_ms)).collect();
    assert_eq!(found, expected.map(|(offset, value, time)| (offset, value.to_owned(), time)));
    assert_eq!(stored[0].payload.key.as_deref(), Some(b"k".as_slice()));
}

#[tokio::test]
async fn batches_go_to_the_partitions_they_name_in_the_order_of_the_request() {
    let server = server(7).await;
    let records_of = |partition: u32| [record(Some("k"), &format!("{partition}-a"), 1), record(Some("k"), &format!("{partition}-b"), 1)];
    let all: Vec<(u32, [Record; 2])> = [6, 0, 3, 6, 0].map(|partition| (partition, records_of(partition))).to_vec();
    let batches: Vec<(Option<u32>, &[Record])> = all.iter().map(|(partition, records)| (Some(*partition), &records[..])).collect();
    let produced = produce(&server, body(&batches), Some("once")).await.ok();
    let told: Vec<_> =
        produced["batches"].as_array().expect("batches").iter().map(|of| (of["partition"].clone(), of["offset"].clone())).collect();
    assert_eq!(told, [(6, 0), (0, 0), (3, 0), (6, 2), (0, 2)].map(|(partition, offset)| (json!(partition), json!(offset))));
    let mut again = produce(&server, body(&batches), Some("once")).await.ok();
    for of in again["batches"].as_array_mut().expect("batches") {
        assert_eq!(of["duplicate"].take(), json!(true));
        of["duplicate"] = json!(false);
    }
    assert_eq!(again, produced, "a retry gets the same places");
    assert_eq!(records(&read(&server, "6/records").await).len(), 4, "and stores nothing");
    assert_eq!(produce(&server, body(&batches[..4]), Some("once")).await.code(), ErrorCode::IdempotencyKeyReused);
}

#[tokio::test]
async fn a_batch_for_any_partition_is_recognised_when_it_comes_again() {
    let server = server(5).await;
    let batches: [(Option<u32>, &[Record]); 1] = [(None, &[record(None, "a", -1), record(None, "b", -1)])];
    let first = produce(&server, body(&batches), Some("once")).await.ok();
    server.clock.advance(core::time::Duration::from_secs(3));
    let again = produce(&server, body(&batches), Some("once")).await.ok();
    let of = |answer: &Value| ["partition", "offset", "records", "timestamp_ms"].map(|field| answer["batches"][0][field].clone());
    assert_eq!(of(&again), of(&first), "the time of the first arrival as well");
    assert_eq!((&first["batches"][0]["duplicate"], &again["batches"][0]["duplicate"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn a_read_begins_with_the_batch_that_holds_the_offset_and_keeps_its_bounds() {
    let server = server(1).await;
    for base in [0, 3, 6] {
        let three = [0, 1, 2].map(|n| record(None, &format!("{}", base + n), i64::from(base)));
        produce(&server, body(&[(Some(0), &three)]), None).await.ok();
    }
    let offsets = |answer: &Answer| records(answer).iter().map(|record| record.offset.0).collect::<Vec<_>>();
    let from_four = read(&server, "0/records?offset=4").await;
    assert_eq!((offsets(&from_four), places(&from_four)), ((3..9).collect(), ["9", "0", "9"]));
    let one_batch = read(&server, "0/records?offset=4&max_bytes=1").await;
    assert_eq!((offsets(&one_batch), places(&one_batch)[0]), (vec![3, 4, 5], "6"));
    assert_eq!(offsets(&read(&server, "0/records?max_records=4").await), (0..6).collect::<Vec<_>>(), "no batch begins behind four");
    assert_eq!(offsets(&read(&server, "0/records?timestamp_ms=6").await), [6, 7, 8]);
    let at_the_end = read(&server, "0/records?offset=9").await;
    assert_eq!((offsets(&at_the_end), places(&at_the_end)), (vec![], ["9", "0", "9"]));
    assert_eq!(read(&server, "0/records?offset=10").await.code(), ErrorCode::OffsetOutOfRange);
    assert_eq!(read(&server, "0/records?max_bytes=0").await.code(), ErrorCode::InvalidRequest);
    assert_eq!(server.get("/v1/topics/orders/partitions/0/records?max_bytes=1").await.ok()["records"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn who_names_json_first_gets_json() {
    let server = server(1).await;
    for (accept, is_binary) in [
        ("application/vnd.sagamq.batch", true),
        ("application/vnd.sagamq.batch, application/json;q=0.5", true),
        ("application/json, application/vnd.sagamq.batch", false),
        ("*/*", false),
        ("text/html", false),
    ] {
        let request = Request::get("/v1/topics/orders/partitions/0/records").header("accept", accept);
        let answer = server.send(request.body(Body::empty()).expect("a request")).await;
        assert_eq!(answer.header("content-type") == Some(APPLICATION_BATCH), is_binary, "{accept}");
    }
}

#[tokio::test]
async fn bad_batches_are_refused_and_nothing_is_stored() {
    let server = server(3).await;
    let good = [record(None, "a", -1)];
    let keyed = [record(Some("k"), "a", -1)];
    let large = [record(None, &"x".repeat(1_001), -1)];
    let late = [record(None, "a", NOW_MS.cast_signed() + 3_600_001)];
    let of = |partition: Option<u32>, records: &[Record]| body(&[(Some(0), &good), (partition, records)]);
    let mut damaged = of(Some(0), &good);
    *damaged.last_mut().expect("bytes") ^= 1;
    let mut cut = of(Some(0), &good);
    cut.truncate(cut.len() - 1);
    let key_partition = partition_of(b"k", 3).0;
    for (body, code, says) in [
        (damaged, ErrorCode::InvalidBatch, "batch 1: checksum"),
        (cut, ErrorCode::InvalidBatch, "batch 1: the record batch says"),
        (Vec::new(), ErrorCode::InvalidRequest, "0 records"),
        (of(None, &keyed), ErrorCode::InvalidRequest, "batch 1 has records with keys and no partition"),
        (of(Some(3), &good), ErrorCode::PartitionNotFound, "no partition 3"),
        (of(Some(0), &large), ErrorCode::RecordTooLarge, "1001 bytes"),
        (of(Some(0), &late), ErrorCode::InvalidRequest, "ahead of the broker's clock"),
    ] {
        let problem = produce(&server, body, None).await.problem();
        assert_eq!(problem.code, code, "{problem:?}");
        assert!(problem.detail.contains(says), "{problem:?}");
    }
    for partition in 0..3 {
        assert!(records(&read(&server, &format!("{partition}/records")).await).is_empty(), "nothing is stored");
    }
    produce(&server, of(Some(key_partition), &keyed), None).await.ok();
}

#[tokio::test]
async fn no_batch_makes_a_partition_unreadable_by_the_time_that_it_gets() {
    let server = server(1).await;
    // The times of the records are -1, said as the lowest number and the largest distance from it.
    let mut bytes = NewBatch::encode(&[record(None, "a", -1)]).expect("legal").bytes().to_vec();
    let largest = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let at = batch::HEADER_LEN + 2;
    bytes.splice(at..=at, largest);
    bytes[at - 2] += 2 * 9;
    let length = u32::try_from(bytes.len() - 12).expect("small");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[27..35].copy_from_slice(&i64::MIN.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    let refused = produce(&server, [&batch::frame(Some(PartitionId(0)))[..], &bytes].concat(), None).await;
    server.post_json(RECORDS, json!({"records": [{"value": "b"}]})).await.ok();
    let read = server.get("/v1/topics/orders/partitions/0/records").await.ok();
    assert_eq!(read["records"].as_array().map(Vec::len), Some(1), "{refused:?}");
    assert_eq!(refused.code(), ErrorCode::InvalidBatch);
}

#[tokio::test]
async fn a_request_of_batches_has_no_more_headers_than_one_of_json() {
    let server = server(1).await;
    let mut headed = record(None, "a", -1);
    (0..1_000).for_each(|_| headed.payload.headers.push("", None));
    let full = vec![headed; 100];
    let batches = |count: usize, more: &[Record]| {
        let mut batches: Vec<(Option<u32>, &[Record])> = vec![(Some(0), &full[..]); count];
        batches.push((Some(0), more));
        body(&batches)
    };
    let mut one_more = record(None, "b", -1);
    one_more.payload.headers.push("", None);
    let problem = produce(&server, batches(2, &[one_more]), None).await.problem();
    assert_eq!(problem.code, ErrorCode::InvalidRequest);
    assert!(problem.detail.contains("200000 headers"), "{problem:?}");
    produce(&server, batches(2, &[record(None, "b", -1)]), None).await.ok();
}

#[tokio::test]
async fn a_batch_whose_length_is_not_told_is_charged_to_its_client() {
    let quota = Some(Quota::new(
        QuotaLimits { requests_per_second: 0, bytes_per_second: 100 },
        std::sync::Arc::new(ManualClock::at(NOW_MS)),
        &mut prometheus_client::registry::Registry::default(),
    ));
    let interface = HttpConfig { quota, ..HttpConfig::default() };
    let storage = std::sync::Arc::new(MemoryStorage::new());
    let server = Server::with_interface(storage, BrokerConfig { shards: 1, ..BrokerConfig::default() }, axum::Router::new(), &interface);
    let named = |client: &'static str, path: &str| Request::post(path).header("x-client-id", client);
    let create = named("operator", "/v1/topics").header("content-type", "application/json").body(Body::from(r#"{"name":"orders"}"#));
    server.send(create.expect("a request")).await;
    let bytes = body(&[(Some(0), &[record(None, &"x".repeat(500), -1)])]);
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(bytes))]);
    let request = named("a", RECORDS).header("content-type", APPLICATION_BATCH).body(Body::from_stream(chunks));
    server.send(request.expect("a request")).await.ok();
    let again = named("a", "/v1/topics").header("content-type", "application/json").body(Body::from(r#"{"name":"more"}"#));
    assert_eq!(server.send(again.expect("a request")).await.code(), ErrorCode::QuotaExceeded);
}
