//! What senders are told when something goes wrong.

use super::*;
use crate::support::nobody;

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
    let (_held, nobody) = nobody();
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
async fn an_answer_of_the_wrong_length_is_an_unknown_outcome() {
    let three = json!({"partition": 0, "offset": 0, "records": 3, "timestamp_ms": 0, "duplicate": false});
    let server = Server::start(move |seen| {
        std::future::ready(if seen.method == "GET" { described(1) } else { Answer::Json(200, json!({"batches": [three]})) })
    })
    .await;
    let error = soon(producer(&server.client()).send(ProduceRecord::text("a"))).await.expect_err("three places for one record");
    assert!(matches!(error.last(), ClientError::Decode { .. }) && error.is_outcome_unknown(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_task_went_with_its_runtime_is_in_doubt_and_keeps_its_key() {
    for key in [None, Some("order-1")] {
        let server = Server::start(|seen| async move {
            match seen.method.as_str() {
                "GET" => described(1),
                _ => std::future::pending::<Answer>().await,
            }
        })
        .await;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let producer = {
            let _inside = runtime.enter();
            producer(&server.client())
        };
        let record = ProduceRecord { idempotency_key: key.map(str::to_owned), ..ProduceRecord::text("1") };
        let pending = soon(producer.enqueue(record)).await.expect("room");
        until("the record is on its way", || !posts(&server).is_empty()).await;
        runtime.shutdown_background();
        let error = soon(pending).await.expect_err("nobody knows");
        assert!(error.is_outcome_unknown() && matches!(error.last(), ClientError::Abandoned), "it may be stored: {error:?}");
        assert_eq!((error.idempotency_key(), error.is_retryable()), (key, false));
        // One that comes while the runtime still takes its tasks away goes with them, and is in doubt as well.
        let later = soon(async {
            loop {
                match producer.send(ProduceRecord::text("2")).await.expect_err("nobody sends it") {
                    error if matches!(error.last(), ClientError::Abandoned) => tokio::task::yield_now().await,
                    error => return error,
                }
            }
        });
        let later = later.await;
        assert!(matches!(later, ClientError::Closed) && !later.is_outcome_unknown(), "that one was not sent: {later:?}");
    }
}
