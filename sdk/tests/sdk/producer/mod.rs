//! The producer: batches without waiting, order, each batch once, bounded memory, a bad record alone.

mod fates;
mod limit;
mod log;
mod partitions;
mod sequences;
mod superseded;

use self::log::Log;
use crate::support::{Answer, Seen, Server, quick, soon, until};
use bytes::BytesMut;
use futures_util::future::join_all;
use sagamq_sdk::api::batch::{Batch, Stamp, StoredRecord, sequence_after, take_framed};
use sagamq_sdk::api::headers::APPLICATION_BATCH;
use sagamq_sdk::api::partitioner::partition_of;
use sagamq_sdk::api::record::ProduceRecord;
use sagamq_sdk::api::{ErrorCode, PartitionId};
use sagamq_sdk::{Client, ClientError, Compression, Encoding, Producer};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The one batch of a request, with its partition.
fn batch(seen: &Seen) -> (PartitionId, Batch) {
    let mut body = BytesMut::from(&seen.bytes[..]);
    let (partition, bytes) = take_framed(&mut body).expect("a whole batch").expect("one");
    assert!(body.is_empty(), "a batch with a sequence is alone in its request");
    (partition.expect("it names its partition"), Batch::parse(bytes.freeze()).expect("a sound batch"))
}

fn stamp(seen: &Seen) -> Stamp {
    batch(seen).1.header().stamp.expect("it says who sent it")
}

fn stored_records(seen: &Seen) -> Vec<StoredRecord> {
    batch(seen).1.records().expect("a sound batch")
}

/// How each batch of a request is compressed.
fn compressions(seen: &Seen) -> Vec<Compression> {
    let mut body = BytesMut::from(&seen.bytes[..]);
    let mut found = Vec::new();
    while let Some((_, bytes)) = take_framed(&mut body).expect("whole batches") {
        found.push(Batch::parse(bytes.freeze()).and_then(|batch| batch.header().compression()).expect("a known one"));
    }
    found
}

fn is_binary(seen: &Seen) -> bool {
    seen.header("content-type") == APPLICATION_BATCH
}

/// The values of a request's records.
fn values(seen: &Seen) -> Vec<String> {
    if is_binary(seen) {
        let value = |record: StoredRecord| String::from_utf8(record.payload.value.expect("a value").into()).expect("text");
        return stored_records(seen).into_iter().map(value).collect();
    }
    let records = seen.json["records"].as_array().expect("records");
    records.iter().map(|record| record["value"].as_str().expect("text").to_owned()).collect()
}

/// The requests that produce.
fn posts(server: &Server) -> Vec<Seen> {
    server.seen().into_iter().filter(|seen| seen.method == "POST").collect()
}

/// The answer to whoever asks how many partitions there are.
fn described(partitions: u64) -> Answer {
    Answer::Json(200, json!({"name": "orders", "config": {"partitions": partitions}, "created_at_ms": 0, "partitions": []}))
}

/// The answer to a request: its records are stored one behind the other from here on.
fn places(seen: &Seen, first: u64) -> Answer {
    if seen.method == "GET" {
        return described(1);
    }
    if is_binary(seen) {
        let (partition, batch) = batch(seen);
        let told =
            json!({"partition": partition, "offset": first, "records": batch.records_count(), "timestamp_ms": 0, "duplicate": false});
        return Answer::Json(200, json!({"batches": [told]}));
    }
    let of = |n: usize| json!({"partition": 0, "offset": first + n as u64, "timestamp_ms": 0, "duplicate": false});
    Answer::Json(200, json!({"records": (0..values(seen).len()).map(of).collect::<Vec<Value>>()}))
}

/// What the server recognises a request by.
fn key_of(seen: &Seen) -> String {
    if is_binary(seen) && seen.header("idempotency-key").is_empty() {
        format!("{:?}", stamp(seen))
    } else {
        seen.header("idempotency-key").to_owned()
    }
}

fn records(range: std::ops::Range<usize>) -> impl Iterator<Item = ProduceRecord> {
    range.map(|n| ProduceRecord::text(n.to_string()))
}

fn producer(client: &Client) -> Producer {
    client.producer("orders".parse().expect("legal")).build()
}

#[tokio::test]
async fn batches_are_compressed_as_the_producer_is_told_and_where_it_helps() {
    let log = Arc::new(Log::default());
    let server = Server::start({
        let log = Arc::clone(&log);
        move |seen| {
            let log = Arc::clone(&log);
            async move { log.store(&seen) }
        }
    })
    .await;
    let client = server.client();
    let builder = || client.producer("orders".parse().expect("legal"));
    let alike: String = "the same again and again, ".repeat(100);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: String = core::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + (state >> 32) as u8 % 95)
    })
    .take(3_000)
    .collect();
    // Above what is compressed at once, beside the producer's task.
    let large = alike.repeat(100);
    let cases = [
        (builder(), alike.clone(), Compression::Lz4),
        (builder(), large, Compression::Lz4),
        (builder().compression(Compression::Zstd), alike.clone(), Compression::Zstd),
        (builder().compression(Compression::None), alike.clone(), Compression::None),
        (builder(), noise, Compression::None),
        (builder(), "short".to_owned(), Compression::None),
    ];
    let mut texts = Vec::new();
    for (number, (builder, text, expected)) in cases.into_iter().enumerate() {
        texts.push(text.clone());
        soon(builder.build().send(ProduceRecord::text(text))).await.expect("stored");
        let seen = server.seen();
        let sent = seen.iter().filter(|seen| is_binary(seen)).nth(number).expect("it was sent");
        assert_eq!(compressions(sent), [expected], "case {number}");
    }
    assert_eq!(log.stored(), texts, "whoever reads them does not notice");
}

#[tokio::test]
async fn while_one_request_is_in_flight_the_next_batch_fills() {
    let gate = Arc::new(Semaphore::new(0));
    let (log, open) = (Arc::new(Log::default()), Arc::clone(&gate));
    let server = Server::start(move |seen| {
        let (log, gate) = (Arc::clone(&log), Arc::clone(&gate));
        async move {
            if seen.method == "POST" {
                gate.acquire().await.expect("open").forget();
            }
            log.store(&seen)
        }
    })
    .await;
    let producer = server.client().producer("orders".parse().expect("legal")).max_in_flight(1).build();
    let first = producer.enqueue(ProduceRecord::text("0")).await.expect("room");
    until("the first record travels alone", || posts(&server).len() == 1).await;
    let mut rest = Vec::new();
    for record in records(1..101) {
        rest.push(producer.enqueue(record).await.expect("room"));
    }
    open.add_permits(2);
    assert_eq!(soon(first).await.expect("stored").offset.expect("not later").0, 0);
    for (index, place) in soon(join_all(rest)).await.into_iter().enumerate() {
        assert_eq!(place.expect("stored").offset.expect("not later").0, index as u64 + 1);
    }
    let seen = posts(&server);
    assert_eq!(seen.len(), 2, "100 records that came meanwhile are one request");
    assert_eq!(values(&seen[1]), (1..101).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn batches_are_bounded_by_records_and_by_bytes() {
    let log = Arc::new(Log::default());
    let stored = Arc::clone(&log);
    let server = Server::start(move |seen| std::future::ready(log.store(&seen))).await;
    let topic: sagamq_sdk::api::TopicName = "orders".parse().expect("legal");
    let by_count = server.client().producer(topic.clone()).batch_records_max(7).build();
    soon(by_count.send_all(records(0..50))).await.expect("stored");
    assert!(posts(&server).iter().all(|seen| values(seen).len() <= 7));
    let before = posts(&server).len();
    let by_bytes = server.client().producer(topic).batch_bytes_max(100).build();
    let large = ProduceRecord::text("x".repeat(500));
    soon(by_bytes.send_all(records(50..60).chain([large]).chain(records(60..70)))).await.expect("stored");
    let batches: Vec<usize> = posts(&server)[before..].iter().map(|seen| values(seen).len()).collect();
    assert!(posts(&server)[before..].iter().all(|seen| seen.bytes.len() <= 100 + 65 || values(seen).len() == 1), "{batches:?}");
    assert_eq!(stored.stored().len(), 71);
}

#[tokio::test]
async fn no_retry_stores_twice_and_the_order_of_the_sends_stays() {
    for encoding in [Encoding::Binary, Encoding::Json] {
        no_retry_stores_twice(encoding).await;
    }
}

async fn no_retry_stores_twice(encoding: Encoding) {
    // Every answer is lost twice after its records were stored, and every third request is refused for now.
    let log = Arc::new(Log::default());
    let stored = Arc::clone(&log);
    let posted = AtomicU64::new(0);
    let server = Server::start(move |seen| {
        let answer = match posted.fetch_add(u64::from(seen.method == "POST"), Ordering::SeqCst) % 4 {
            _ if seen.method == "GET" => described(1),
            0 | 1 => {
                log.store(&seen);
                Answer::Break
            }
            2 => Answer::Problem(ErrorCode::Overloaded),
            _ => log.store(&seen),
        };
        async move { answer }
    })
    .await;
    let client = server.client().with_retry(quick(1_000));
    let producer = client.producer("orders".parse().expect("legal")).batch_records_max(9).encoding(encoding).build();
    let places = soon(producer.send_all(records(0..200))).await.expect("stored");
    assert_eq!(stored.stored(), (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(places.iter().map(|place| place.offset.expect("not later").0).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    let mut keys = HashMap::new();
    for seen in posts(&server) {
        assert_eq!(is_binary(&seen), encoding == Encoding::Binary);
        let body = keys.entry(key_of(&seen)).or_insert_with(|| seen.bytes.clone());
        assert_eq!(*body, seen.bytes, "a key stands for the same bytes each time");
    }
}

#[tokio::test]
async fn records_with_keys_of_their_own_travel_in_order_and_without_a_key_of_the_request() {
    let server = Server::start(|seen| std::future::ready(places(&seen, 0))).await;
    let producer = server.client().producer("orders".parse().expect("legal")).max_in_flight(1).build();
    let own = |n: usize| ProduceRecord::text(n.to_string()).with_idempotency_key(format!("k{n}"));
    soon(producer.send_all(records(0..5).chain((5..10).map(own)).chain(records(10..15)))).await.expect("stored");
    let mut order = Vec::new();
    for seen in posts(&server) {
        let own = seen.json["records"].as_array().into_iter().flatten().filter(|record| record["idempotency_key"].is_string()).count();
        let all = values(&seen);
        let expected = if is_binary(&seen) { 0 } else { all.len() };
        assert_eq!((own, seen.header("idempotency-key")), (expected, ""), "the batch has a sequence or each record a key: {}", seen.text);
        order.extend(all);
    }
    assert_eq!(order, (0..15).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_buffer_makes_the_sender_wait() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let server = Server::start(move |seen| {
        let gate = Arc::clone(&gate);
        async move {
            if seen.method == "POST" {
                gate.acquire().await.expect("open").forget();
            }
            places(&seen, 0)
        }
    })
    .await;
    let producer = server.client().producer("orders".parse().expect("legal")).buffer_bytes_max(200).build();
    let enqueued = Arc::new(AtomicU64::new(0));
    let task = tokio::spawn({
        let (producer, enqueued) = (producer.clone(), Arc::clone(&enqueued));
        async move {
            let mut pending = Vec::new();
            for record in records(0..100) {
                pending.push(producer.enqueue(record).await.expect("room at last"));
                enqueued.fetch_add(1, Ordering::SeqCst);
            }
            join_all(pending).await
        }
    });
    until("the first batch is in flight", || !posts(&server).is_empty()).await;
    // A record counts at least 13 bytes, so at most 15 fit, however long the sender tries.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(enqueued.load(Ordering::SeqCst) <= 15, "{}", enqueued.load(Ordering::SeqCst));
    open.add_permits(1_000);
    let results = soon(task).await.expect("no panic");
    assert!(results.into_iter().all(|result| result.is_ok()));
    assert!(posts(&server).iter().all(|seen| seen.bytes.len() <= 200 + 65));
}

#[tokio::test]
async fn a_record_that_is_larger_than_the_buffer_or_a_batch_travels_alone() {
    let server = Server::start(|seen| std::future::ready(places(&seen, 0))).await;
    let producer = server.client().producer("orders".parse().expect("legal")).buffer_bytes_max(100).batch_bytes_max(50).build();
    soon(producer.send(ProduceRecord::text("x".repeat(10_000)))).await.expect("stored");
    let error = soon(producer.send(ProduceRecord::text("x".repeat(33 * 1024 * 1024)))).await.expect_err("no request can hold it");
    assert!(matches!(error, ClientError::InvalidRequest { .. }), "{error}");
    assert_eq!(posts(&server).len(), 1);
}

#[tokio::test]
async fn flush_and_close_wait_for_what_was_put_in_before() {
    let log = Arc::new(Log::default());
    let stored = Arc::clone(&log);
    let server = Server::start(move |seen| std::future::ready(log.store(&seen))).await;
    let producer = producer(&server.client());
    let mut pending = Vec::new();
    for record in records(0..10) {
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    soon(producer.flush()).await.expect("open");
    assert_eq!(stored.stored().len(), 10);
    for record in records(10..20) {
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    let clone = producer.clone();
    soon(producer.close()).await.expect("open");
    assert_eq!(stored.stored().len(), 20);
    assert!(soon(join_all(pending)).await.into_iter().all(|result| result.is_ok()));
    assert!(matches!(soon(clone.send(ProduceRecord::text("late"))).await, Err(ClientError::Closed)));
    assert!(matches!(soon(clone.flush()).await, Err(ClientError::Closed)));
    assert!(matches!(soon(clone.close()).await, Err(ClientError::Closed)));
}

#[tokio::test]
async fn dropping_the_last_producer_sends_what_is_buffered() {
    let log = Arc::new(Log::default());
    let stored = Arc::clone(&log);
    let server = Server::start(move |seen| std::future::ready(log.store(&seen))).await;
    let producer = producer(&server.client());
    for record in records(0..10) {
        drop(producer.enqueue(record).await.expect("room"));
    }
    drop(producer);
    until("all are stored", || stored.stored().len() == 10).await;
}
