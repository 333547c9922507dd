//! Several batches on their way: in order, each once.

use super::*;

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
