//! Partitions that know as many producers as may be: a producer without a name does without being known.

use super::*;

/// A topic of one partition that knows no more producers, as long as it is said so; requests under an idempotency key are stored once each.
struct Full {
    log: Arc<Log>,
    is_full: Arc<AtomicU64>,
}

impl Full {
    async fn server(&self) -> Server {
        let (log, is_full) = (Arc::clone(&self.log), Arc::clone(&self.is_full));
        Server::start(move |seen| {
            let has_key = !seen.header("idempotency-key").is_empty();
            std::future::ready(match &seen.path[..] {
                "/v1/producers" => {
                    Answer::Json(200, json!({"name": "billing", "producer_id": "4611686018427387904", "registered_at_ms": 0}))
                }
                _ if seen.method == "POST" && !has_key && is_full.load(Ordering::SeqCst) == 1 => {
                    Answer::RetryAfter(ErrorCode::ProducerLimit, "60")
                }
                _ => log.store(&seen),
            })
        })
        .await
    }
}

#[tokio::test]
async fn where_no_more_producers_are_known_batches_travel_under_idempotency_keys_one_at_a_time_and_in_order() {
    let full = Full { log: Arc::default(), is_full: Arc::new(AtomicU64::new(1)) };
    let server = full.server().await;
    let producer = server.client().producer("orders".parse().expect("legal")).batch_records_max(4).build();
    let places = soon(producer.send_all(records(0..50))).await.expect("stored all the same");
    assert_eq!(full.log.stored(), (0..50).map(|n| n.to_string()).collect::<Vec<_>>(), "once and in order");
    assert_eq!(places.iter().map(|place| place.offset.expect("not later").0).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    let plain: Vec<Seen> = posts(&server).into_iter().filter(|seen| !seen.header("idempotency-key").is_empty()).collect();
    assert!(plain.iter().all(|seen| batch(seen).1.header().stamp.is_none()), "what has a key says no producer");
    let refused = posts(&server).len() - plain.len();
    assert!((1..=5).contains(&refused), "it is not asked for each batch again: {refused}");
}

#[tokio::test]
async fn what_travels_under_a_key_is_stored_once_whatever_answers_are_lost() {
    let full = Full { log: Arc::default(), is_full: Arc::new(AtomicU64::new(1)) };
    let (log, posted) = (Arc::clone(&full.log), Arc::new(AtomicU64::new(0)));
    let server = Server::start(move |seen| {
        let lost = seen.method == "POST" && posted.fetch_add(1, Ordering::SeqCst) % 2 == 0;
        let answer = match seen.header("idempotency-key") {
            "" if seen.method == "POST" => Answer::Problem(ErrorCode::ProducerLimit),
            _ => log.store(&seen),
        };
        std::future::ready(if lost && !seen.header("idempotency-key").is_empty() { Answer::Break } else { answer })
    })
    .await;
    let producer = server.client().producer("orders".parse().expect("legal")).batch_records_max(4).build();
    soon(producer.send_all(records(0..30))).await.expect("stored all the same");
    assert_eq!(full.log.stored(), (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_producer_with_a_name_is_not_stored_without_it() {
    let full = Full { log: Arc::default(), is_full: Arc::new(AtomicU64::new(1)) };
    let server = full.server().await;
    let client = Client::builder(&server.url).retry(quick(1)).build().expect("an address");
    let producer = client.producer("orders".parse().expect("legal")).name("billing".parse().expect("legal")).build();
    let refused = soon(producer.send(ProduceRecord::text("x"))).await.expect_err("nobody would be kept from storing it twice");
    assert_eq!((refused.code(), refused.is_retryable()), (Some(ErrorCode::ProducerLimit), true));
    assert!(full.log.stored().is_empty());
    full.is_full.store(0, Ordering::SeqCst);
    soon(producer.send(ProduceRecord::text("x"))).await.expect("stored when there is room");
    assert_eq!(full.log.stored(), ["x"]);
}
