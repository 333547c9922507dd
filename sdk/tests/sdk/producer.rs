//! The producer: batches without waiting, order, each batch once, bounded memory, a bad record alone.

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

/// A topic of one partition: each key and each sequence stores its records once, and is answered the same again; sequences come in order, and only
/// the last five batches are remembered.
#[derive(Default)]
struct Log {
    stored: Mutex<Vec<String>>,
    by_key: Mutex<HashMap<String, (u64, usize)>>,
    /// By producer: its epoch, and what is next.
    next: Mutex<HashMap<u64, (u16, u32)>>,
    /// The last batches, the oldest first.
    last: Mutex<VecDeque<String>>,
}

impl Log {
    fn store(&self, seen: &Seen) -> Answer {
        if seen.method == "GET" {
            return described(1);
        }
        let mut stored = self.stored.lock().expect("no panic");
        let mut by_key = self.by_key.lock().expect("no panic");
        let key = key_of(seen);
        if is_binary(seen) && !by_key.contains_key(&key) {
            let Stamp { producer, epoch, sequence } = stamp(seen);
            let mut next = self.next.lock().expect("no panic");
            let known = next.get(&producer).copied();
            let (_, expected) = known.filter(|(of, _)| *of == epoch).unwrap_or((epoch, 0));
            match known {
                Some((newest, _)) if epoch < newest => return Answer::Problem(ErrorCode::ProducerFenced),
                None if sequence > 0 => return Answer::Problem(ErrorCode::UnknownProducer),
                _ if sequence != expected => return Answer::Problem(ErrorCode::OutOfOrderSequence),
                _ => {}
            }
            let records = u32::try_from(values(seen).len()).expect("few");
            next.insert(producer, (epoch, sequence_after(sequence, records)));
            let mut last = self.last.lock().expect("no panic");
            last.push_back(key.clone());
            if last.len() > 5 {
                last.pop_front().map(|forgotten| by_key.remove(&forgotten));
            }
        }
        let (first, count) = *by_key.entry(key).or_insert_with(|| {
            let first = stored.len() as u64;
            let new = values(seen);
            let count = new.len();
            stored.extend(new);
            (first, count)
        });
        assert_eq!(values(seen).len(), count, "a key stands for the same records");
        places(seen, first)
    }

    fn stored(&self) -> Vec<String> {
        self.stored.lock().expect("no panic").clone()
    }
}

/// What the server recognises a request by.
fn key_of(seen: &Seen) -> String {
    if is_binary(seen) { format!("{:?}", stamp(seen)) } else { seen.header("idempotency-key").to_owned() }
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
async fn a_bad_record_fails_alone() {
    let log = Arc::new(Log::default());
    let stored = Arc::clone(&log);
    let server = Server::start(move |seen| {
        let is_bad = seen.method == "POST" && values(&seen).iter().any(|value| value == "13" || value == "77");
        let answer = if is_bad { Answer::Problem(ErrorCode::RecordTooLarge) } else { log.store(&seen) };
        async move { answer }
    })
    .await;
    let producer = producer(&server.client());
    let mut pending = Vec::new();
    for record in records(0..100) {
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    for (index, result) in soon(join_all(pending)).await.into_iter().enumerate() {
        match result {
            Ok(_) => assert!(index != 13 && index != 77),
            Err(error) => {
                assert!(index == 13 || index == 77, "{index}: {error}");
                assert_eq!(error.code(), Some(ErrorCode::RecordTooLarge));
            }
        }
    }
    let expected: Vec<String> = (0..100).filter(|n| ![13, 77].contains(n)).map(|n: usize| n.to_string()).collect();
    assert_eq!(stored.stored(), expected, "the others are stored, once and in order");
}

#[tokio::test]
async fn a_record_that_a_binary_batch_cannot_have_fails_alone() {
    let log = Arc::new(Log::default());
    let stored = Arc::clone(&log);
    let server = Server::start(move |seen| {
        let is_bad = seen.method == "POST" && values(&seen).iter().any(|value| value == "13");
        let answer = if is_bad { Answer::Problem(ErrorCode::InvalidBatch) } else { log.store(&seen) };
        async move { answer }
    })
    .await;
    let producer = producer(&server.client());
    let mut pending = Vec::new();
    for (index, mut record) in records(0..40).enumerate() {
        // No batch holds these two.
        record.timestamp_ms =
            [(20, i64::MIN), (21, i64::MAX)].into_iter().find(|(bad, _)| *bad == index).map(|(_, at_ms)| at_ms).or(Some(1));
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    let failed: Vec<usize> =
        soon(join_all(pending)).await.into_iter().enumerate().filter(|(_, result)| result.is_err()).map(|(index, _)| index).collect();
    assert_eq!(failed, [13], "what cannot travel together travels one behind the other");
    let expected: Vec<String> = (0..40).filter(|n| *n != 13).map(|n: usize| n.to_string()).collect();
    assert_eq!(stored.stored(), expected, "the others are stored, once and in order");
}

#[tokio::test]
async fn send_all_sends_what_lies_behind_a_record_that_no_request_can_hold_and_tells_of_each() {
    let log = Arc::new(Log::default());
    let stored = Arc::clone(&log);
    let server = Server::start(move |seen| std::future::ready(log.store(&seen))).await;
    let too_large = ProduceRecord::text("x".repeat(33 * 1024 * 1024));
    let all = records(0..3).chain([too_large]).chain(records(3..6));
    let error = soon(producer(&server.client()).send_all(all)).await.expect_err("one is too large");
    assert_eq!(stored.stored().len(), 6);
    let failed: Vec<usize> = error.results.iter().enumerate().filter(|(_, result)| result.is_err()).map(|(index, _)| index).collect();
    assert_eq!(failed, [3]);
    assert!(error.to_string().contains("1 of 7") && error.to_string().contains("record 3"), "{error}");
}

#[tokio::test]
async fn a_record_s_time_counts_from_when_it_was_put_in_and_flush_and_close_end_with_it() {
    let nobody = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    // The policy alone would try for ever.
    let policy = sagamq_sdk::RetryPolicy { attempts: u32::MAX, deadline: Duration::from_secs(86_400), ..quick(2) };
    let client = Client::builder(nobody).retry(policy).build().expect("an address");
    let producer =
        client.producer("orders".parse().expect("legal")).batch_records_max(1).delivery_timeout(Duration::from_millis(200)).build();
    let mut pending = Vec::new();
    // A time for each batch from its own beginning would be more than three minutes.
    for record in records(0..1_000) {
        pending.push(producer.enqueue(record.with_partition(PartitionId(0))).await.expect("room"));
    }
    soon(producer.flush()).await.expect("all are answered");
    let errors: Vec<_> = soon(join_all(pending)).await.into_iter().map(|result| result.expect_err("nobody there")).collect();
    assert!(errors.iter().all(|error| !error.is_outcome_unknown() && error.is_retryable()), "none was sent: {errors:?}");
    assert!(matches!(errors[999], ClientError::Expired { .. }), "its time was over before its turn: {:?}", errors[999]);
    // Nor does it wait for ever to hear how many partitions there are.
    let error = soon(producer.send(ProduceRecord::text("a"))).await.expect_err("nobody there");
    assert!(!error.is_outcome_unknown() && error.is_retryable(), "{error:?}");
    soon(producer.close()).await.expect("open");
}

#[tokio::test]
async fn flush_and_close_wait_no_longer_than_they_are_told() {
    let server = Server::start(|_| std::future::pending::<Answer>()).await;
    let producer = producer(&server.client());
    let pending = producer.enqueue(ProduceRecord::text("a")).await.expect("room");
    let error = soon(producer.flush_within(Duration::from_millis(20))).await.expect_err("it hangs");
    assert!(matches!(error, ClientError::FlushElapsed { .. }) && error.is_outcome_unknown(), "{error}");
    soon(producer.close_within(Duration::from_millis(20))).await.expect_err("it hangs");
    drop(pending);
}

/// A server that says how many partitions there are, and nothing else.
async fn losing_answers() -> Server {
    Server::start(|seen| std::future::ready(if seen.method == "GET" { described(1) } else { Answer::Break })).await
}

#[tokio::test]
async fn a_record_of_unknown_outcome_can_be_repeated_alone_when_it_has_a_key() {
    let server = losing_answers().await;
    let client = Client::builder(&server.url).retry(quick(1)).build().expect("an address");
    let producer = client.producer("orders".parse().expect("legal")).record_keys(true).build();
    let pending = producer.enqueue(ProduceRecord::text("a")).await.expect("room");
    let key = pending.idempotency_key().expect("drawn").to_owned();
    let error = soon(pending).await.expect_err("lost");
    assert_eq!(error.idempotency_key(), Some(key.as_str()));
    assert_eq!(server.seen()[0].json["records"][0]["idempotency_key"], key);
    let error = soon(client.producer("orders".parse().expect("legal")).build().send(ProduceRecord::text("a"))).await.expect_err("lost");
    assert!(error.is_outcome_unknown() && error.idempotency_key().is_none(), "a sequence is the producer's own: {error}");
}

#[tokio::test]
async fn an_unknown_outcome_is_told_to_every_sender_and_is_not_split() {
    let server = losing_answers().await;
    let client = Client::builder(&server.url).retry(quick(2)).build().expect("an address");
    let producer = client.producer("orders".parse().expect("legal")).build();
    let mut pending = Vec::new();
    for record in records(0..5) {
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    for result in soon(join_all(pending)).await {
        assert!(result.expect_err("no answer").is_outcome_unknown());
    }
    let keys: std::collections::BTreeSet<String> = posts(&server).iter().map(key_of).collect();
    assert!(posts(&server).len() <= 2 * keys.len(), "each batch is tried twice, with its one sequence");
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

#[tokio::test]
async fn an_answer_of_the_wrong_length_is_an_unknown_outcome() {
    let three = json!({"partition": 0, "offset": 0, "records": 3, "timestamp_ms": 0, "duplicate": false});
    let server = Server::start(move |seen| {
        std::future::ready(if seen.method == "GET" { described(1) } else { Answer::Json(200, json!({"batches": [three]})) })
    })
    .await;
    let error = soon(producer(&server.client()).send(ProduceRecord::text("a"))).await.expect_err("three places for one record");
    assert!(matches!(error.last(), ClientError::Decode { .. }) && error.is_outcome_unknown(), "{error}");
}

/// A server with one topic of so many partitions, which stores everything from offset 10 on.
fn topic_of(partitions: Arc<AtomicU64>) -> impl Fn(Seen) -> std::future::Ready<Answer> + Send + Sync + 'static {
    move |seen: Seen| {
        let count = partitions.load(Ordering::SeqCst);
        std::future::ready(match &seen.method[..] {
            "GET" => described(count),
            _ if seen.path.split_once("?partitions=").is_some_and(|(_, said)| said != count.to_string()) => {
                Answer::Problem(ErrorCode::PartitionsChanged)
            }
            _ if u64::from(batch(&seen).0.0) >= count => Answer::Problem(ErrorCode::PartitionNotFound),
            _ => places(&seen, 10),
        })
    }
}

#[tokio::test]
async fn binary_records_go_where_their_keys_hash_to_and_keep_their_order() {
    let partitions = Arc::new(AtomicU64::new(7));
    let server = Server::start(topic_of(Arc::clone(&partitions))).await;
    let producer = server.client().producer("orders".parse().expect("legal")).max_in_flight(1).build();
    let key = |n: usize| format!("k{}", n % 5);
    let keyed = records(0..40).enumerate().map(|(n, record)| record.with_key(key(n)));
    let named = ProduceRecord::text("named").with_key("k0").with_partition(PartitionId(6));
    let free = ProduceRecord { timestamp_ms: Some(77), ..ProduceRecord::text("free") };
    soon(producer.send_all(keyed.chain([named, free]))).await.expect("stored");
    let mut by_partition: HashMap<PartitionId, Vec<StoredRecord>> = HashMap::new();
    for seen in posts(&server) {
        by_partition.entry(batch(&seen).0).or_default().extend(stored_records(&seen));
    }
    let text = |record: &StoredRecord| String::from_utf8(record.payload.value.clone().expect("a value").into()).expect("text");
    let (free, keyed): (Vec<StoredRecord>, Vec<StoredRecord>) =
        by_partition.values().flatten().cloned().partition(|record| record.payload.key.is_none());
    assert_eq!(free.iter().map(|record| (text(record), record.timestamp_ms)).collect::<Vec<_>>(), [("free".to_owned(), 77)]);
    assert!(keyed.iter().all(|record| record.timestamp_ms == -1), "the broker gives the time");
    for partition in 0..7 {
        let is_its_own = |n: &usize| partition_of(key(*n).as_bytes(), 7).0 == partition;
        let mut expected: Vec<String> = (0..40).filter(is_its_own).map(|n| n.to_string()).collect();
        expected.extend((partition == 6).then(|| "named".to_owned()));
        let of = by_partition.get(&PartitionId(partition)).map(Vec::as_slice).unwrap_or_default();
        let found: Vec<String> = of.iter().filter(|record| record.payload.key.is_some()).map(text).collect();
        assert_eq!(found, expected, "partition {partition}");
    }
    assert_eq!(server.seen().iter().filter(|seen| seen.method == "GET").count(), 1, "asked once how many partitions there are");
    // Partitions are added, or the topic is made anew with fewer: the producer hears of it, asks again and sends the same records elsewhere.
    for count in [9, 2] {
        partitions.store(count, Ordering::SeqCst);
        let before = server.seen().len();
        let stored = soon(producer.send_all((0..5).map(|n| ProduceRecord::text("again").with_key(key(n))))).await.expect("stored");
        assert!(stored.iter().all(|place| place.offset.is_some_and(|offset| offset.0 >= 10)));
        let asked = server.seen().split_off(before);
        assert_eq!(asked.iter().filter(|seen| seen.method == "GET").count(), 1, "{count}");
        let sent: Vec<Seen> = asked.into_iter().filter(|seen| seen.path.ends_with(&format!("?partitions={count}"))).collect();
        assert_eq!(sent.iter().map(|seen| values(seen).len()).sum::<usize>(), 5, "{count}");
        for seen in sent {
            let home =
                |record: &StoredRecord| partition_of(record.payload.key.as_deref().expect("a key"), u32::try_from(count).expect("few"));
            assert!(stored_records(&seen).iter().all(|record| home(record) == batch(&seen).0), "{count}");
        }
    }
    // Whoever has named a partition that is not there is told so.
    let named = soon(producer.send(ProduceRecord::text("named").with_partition(PartitionId(6)))).await.expect_err("it is gone");
    assert_eq!(named.code(), Some(ErrorCode::PartitionNotFound));
}

#[tokio::test]
async fn each_record_of_a_binary_batch_hears_its_own_place_and_time() {
    let server = Server::start(|seen| std::future::ready(places(&seen, 10))).await;
    let producer = producer(&server.client());
    let timed = |n: usize| ProduceRecord { timestamp_ms: Some(n as i64), ..ProduceRecord::text(n.to_string()) };
    // The first travels alone, the others together: timed and timeless ones in turn, so in batches of two.
    let all = (0..9).map(|n| if n / 2 % 2 == 0 { timed(n) } else { ProduceRecord::text(n.to_string()) });
    let stored = soon(producer.send_all(all)).await.expect("stored");
    let times: Vec<i64> = stored.iter().map(|place| place.timestamp_ms).collect();
    assert_eq!(times, [0, 1, 0, 0, 4, 5, 0, 0, 8]);
    for seen in posts(&server) {
        let of = stored_records(&seen);
        assert!(of.iter().all(|record| (record.timestamp_ms == -1) == (of[0].timestamp_ms == -1)));
    }
}

#[tokio::test]
async fn five_batches_of_a_partition_are_in_flight_and_no_more() {
    let gate = Arc::new(Semaphore::new(0));
    let (log, open) = (Arc::new(Log::default()), Arc::clone(&gate));
    let stored = Arc::clone(&log);
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
    let producer = server.client().producer("orders".parse().expect("legal")).batch_records_max(1).build();
    let mut pending = Vec::new();
    for record in records(0..20) {
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    until("five are in flight", || posts(&server).len() == 5).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(posts(&server).len(), 5, "the sixth waits for an answer");
    open.add_permits(1_000);
    assert!(soon(join_all(pending)).await.into_iter().all(|result| result.is_ok()));
    assert_eq!(stored.stored(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_more_than_four_follow_one_whose_answer_is_lost() {
    let gate = Arc::new(Semaphore::new(0));
    let (log, open) = (Arc::new(Log::default()), Arc::clone(&gate));
    let stored = Arc::clone(&log);
    let server = Server::start(move |seen| {
        let (log, gate) = (Arc::clone(&log), Arc::clone(&gate));
        async move {
            let is_first = seen.method == "POST" && stamp(&seen).sequence == 0;
            if !is_first {
                return log.store(&seen);
            }
            let is_retry = log.stored().contains(&"0".to_owned());
            if is_retry {
                gate.acquire().await.expect("open").forget();
            }
            let answer = log.store(&seen);
            if is_retry { answer } else { Answer::Break }
        }
    })
    .await;
    let producer = server.client().producer("orders".parse().expect("legal")).batch_records_max(1).build();
    let mut pending = Vec::new();
    for record in records(0..20) {
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    until("four more are stored", || stored.stored().len() == 5).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(stored.stored().len(), 5, "the server would not know the first one again behind a sixth");
    open.add_permits(1_000);
    assert!(soon(join_all(pending)).await.into_iter().all(|result| result.is_ok()));
    assert_eq!(stored.stored(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_partition_that_forgot_the_producer_gets_the_rest_in_a_new_epoch() {
    for code in [ErrorCode::UnknownProducer, ErrorCode::OutOfOrderSequence] {
        let log = Arc::new(Log::default());
        let stored = Arc::clone(&log);
        let server = Server::start(move |seen| {
            let has_forgotten = seen.method == "POST" && stamp(&seen).epoch == 0 && stamp(&seen).sequence > 2;
            std::future::ready(if has_forgotten { Answer::Problem(code) } else { log.store(&seen) })
        })
        .await;
        let producer = server.client().producer("orders".parse().expect("legal")).batch_records_max(3).build();
        soon(producer.send_all(records(0..3))).await.expect("stored");
        soon(producer.send_all(records(3..60))).await.expect("stored in the new epoch");
        assert_eq!(stored.stored(), (0..60).map(|n| n.to_string()).collect::<Vec<_>>(), "{code}");
        let epochs: std::collections::BTreeSet<u16> = posts(&server).iter().map(|seen| stamp(seen).epoch).collect();
        assert_eq!(epochs.len(), 2, "{code}: {epochs:?}");
    }
}

#[tokio::test]
async fn what_is_given_up_leaves_no_hole_for_those_behind_it() {
    let log = Arc::new(Log::default());
    let stored = Arc::clone(&log);
    let server = Server::start(move |seen| {
        let is_lost = seen.method == "POST" && values(&seen).iter().any(|value| value == "7");
        std::future::ready(if is_lost { Answer::Break } else { log.store(&seen) })
    })
    .await;
    let producer = server.client().producer("orders".parse().expect("legal")).batch_records_max(1).build();
    let mut pending = Vec::new();
    for record in records(0..30) {
        pending.push(producer.enqueue(record).await.expect("room"));
    }
    for (n, result) in soon(join_all(pending)).await.into_iter().enumerate() {
        assert_eq!(result.as_ref().is_err_and(ClientError::is_outcome_unknown), n == 7, "{n}: {result:?}");
    }
    let expected: Vec<String> = (0..30).filter(|n| *n != 7).map(|n: usize| n.to_string()).collect();
    assert_eq!(stored.stored(), expected);
}

#[tokio::test]
async fn whatever_is_lost_and_overtaken_records_are_stored_once_and_in_order() {
    for seed in 0..20_u64 {
        // What becomes of a request follows from its number and the seed.
        let log = Arc::new(Log::default());
        let (stored, posted) = (Arc::clone(&log), Arc::new(AtomicU64::new(0)));
        let server = Server::start(move |seen| {
            let (log, n) = (Arc::clone(&log), posted.fetch_add(1, Ordering::SeqCst));
            let fate = n.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            async move {
                if seen.method == "GET" {
                    return described(1);
                }
                tokio::time::sleep(Duration::from_micros(fate % 3_000)).await;
                match fate / 3_000 % 6 {
                    0 => Answer::Break,
                    1 => Answer::Problem(ErrorCode::Overloaded),
                    2 => {
                        log.store(&seen);
                        Answer::Break
                    }
                    _ => log.store(&seen),
                }
            }
        })
        .await;
        let client = server.client().with_retry(quick(10_000));
        let producer = client.producer("orders".parse().expect("legal")).batch_records_max(4).build();
        let places = soon(producer.send_all(records(0..150))).await.expect("stored in the end");
        assert_eq!(stored.stored(), (0..150).map(|n| n.to_string()).collect::<Vec<_>>(), "seed {seed}");
        let offsets = places.iter().map(|place| place.offset.expect("not later").0).collect::<Vec<_>>();
        assert_eq!(offsets, (0..150).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn a_producer_with_a_name_registers_it_first_and_stops_when_it_is_superseded() {
    let log = Arc::new(Log::default());
    let (stored, is_taken) = (Arc::clone(&log), Arc::new(AtomicU64::new(0)));
    let taken = Arc::clone(&is_taken);
    let server = Server::start(move |seen| {
        std::future::ready(match &seen.path[..] {
            "/v1/producers" => Answer::Json(200, json!({"name": "billing", "producer_id": "4611686018427387904", "registered_at_ms": 0})),
            _ if seen.method == "POST" && taken.load(Ordering::SeqCst) == 1 => Answer::Problem(ErrorCode::ProducerFenced),
            _ => log.store(&seen),
        })
    })
    .await;
    let topic = "orders".parse().expect("legal");
    let producer = server.client().producer(topic).name("billing".parse().expect("legal")).batch_records_max(2).build();
    soon(producer.send_all(records(0..10))).await.expect("stored");
    let sent = |server: &Server| posts(server).into_iter().filter(is_binary).collect::<Vec<_>>();
    assert!(sent(&server).iter().all(|seen| stamp(seen).producer == 1 << 62), "under the id that it was given");
    is_taken.store(1, Ordering::SeqCst);
    let refused = soon(producer.send_all(records(10..30))).await.expect_err("another has the name");
    assert!(refused.results.iter().all(|result| result.as_ref().is_err_and(|error| error.code() == Some(ErrorCode::ProducerFenced))));
    let before = sent(&server).len();
    soon(producer.send(ProduceRecord::text("more"))).await.expect_err("it stays so");
    soon(producer.flush()).await.expect("open");
    assert_eq!(sent(&server).len(), before, "nothing more is sent");
    assert_eq!(stored.stored(), (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(posts(&server).iter().filter(|seen| seen.path == "/v1/producers").count(), 1);
}
