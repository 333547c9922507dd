//! The consumer: settles in batches, keeps leases, bounds what runs, stops without hiding a record, rides out a server that is away.

use crate::group::{Group, Settled};
use crate::support::{Answer, LIMIT, Server, quick, soon, until};
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::api::pipeline::ProduceTo;
use sagamq_sdk::api::record::ProduceRecord;
use sagamq_sdk::{CancellationToken, Client, ClientError, ConsumerBuilder, HandlerError};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Short enough to wait for its first extension, at half of it; long enough that a machine that stands still for ten seconds loses none.
/// When leases are extended, and when they are over, is tested without waiting (`sdk/src/consumer/lease_book.rs`).
const LEASE: Duration = Duration::from_secs(20);

pub(crate) fn consumer(server: &Server) -> ConsumerBuilder {
    server.client().consumer("orders".parse().expect("legal"), "billing".parse().expect("legal"))
}

pub(crate) fn numbers(count: usize) -> Vec<serde_json::Value> {
    (0..count).map(|n| json!(n)).collect()
}

/// Stops the consumer and waits for its end.
pub(crate) async fn stop(shutdown: &CancellationToken, running: JoinHandle<Result<(), ClientError>>) {
    shutdown.cancel();
    soon(running).await.expect("no panic").expect("a clean stop");
}

#[tokio::test]
async fn every_record_is_handled_and_acknowledgements_travel_together() {
    let group = Group::default();
    group.put(numbers(500));
    let server = group.serve().await;
    let (shutdown, handled) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&handled);
    let running = tokio::spawn(consumer(&server).prefetch(200).run(shutdown.clone(), move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    }));
    until("all are acknowledged", || group.settled().len() == 500).await;
    stop(&shutdown, running).await;
    assert_eq!(handled.load(Ordering::SeqCst), 500);
    assert!(group.settled().values().all(|settled| *settled == Settled::Acked));
    let acks = server.verbs("ack").len();
    assert!(acks < 250, "{acks} requests for 500 acknowledgements");
}

#[tokio::test]
async fn acknowledgements_gather_while_one_request_is_in_flight() {
    let group = Group::default();
    let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (answering, open, counter) = (group.clone(), Arc::clone(&gate), Arc::clone(&asked));
    let server = Server::start(move |seen| {
        let (group, gate, asked) = (answering.clone(), Arc::clone(&gate), Arc::clone(&counter));
        async move {
            if seen.verb() == "ack" {
                asked.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.expect("open").forget();
            }
            group.answer(seen).await
        }
    })
    .await;
    let (shutdown, handled) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let done = Arc::clone(&handled);
    let running = tokio::spawn(consumer(&server).run(shutdown.clone(), move |_| {
        done.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    }));
    group.put(numbers(1));
    until("the first is in flight", || asked.load(Ordering::SeqCst) == 1).await;
    group.put(numbers(50));
    until("all are handled", || handled.load(Ordering::SeqCst) == 51).await;
    open.add_permits(1);
    until("the next request", || asked.load(Ordering::SeqCst) == 2).await;
    open.add_permits(100);
    until("all are settled", || group.settled().len() == 51).await;
    stop(&shutdown, running).await;
    let sizes: Vec<usize> = server.verbs("ack").iter().map(|seen| seen.json["receipts"].as_array().expect("receipts").len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 51);
    assert!(sizes.len() <= 4, "one, then what gathered: {sizes:?}");
}

#[tokio::test]
async fn a_handler_s_error_decides_what_becomes_of_the_record() {
    let group = Group::default();
    group.put(numbers(5));
    let server = group.serve().await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(consumer(&server).run(shutdown.clone(), |delivery| async move {
        match delivery.record.offset.0 {
            0 => Err(HandlerError::retry_after(Duration::from_secs(7), "later")),
            1 => Err(HandlerError::terminate("never")),
            2 => Err("x".parse::<u32>().expect_err("no number").into()),
            3 => panic!("a bug"),
            _ => Ok(()),
        }
    }));
    until("all are settled", || group.settled().len() == 5).await;
    stop(&shutdown, running).await;
    let settled = group.settled();
    assert_eq!(settled["r0"], Settled::Nacked { delay_ms: Some(7_000), reason: Some("later".into()) });
    assert_eq!(settled["r1"], Settled::Terminated { reason: "never".into() });
    assert_eq!(settled["r2"], Settled::Nacked { delay_ms: None, reason: Some("invalid digit found in string".into()) });
    assert_eq!(settled["r3"], Settled::Nacked { delay_ms: None, reason: Some("the handler panicked: a bug".into()) });
    assert_eq!(settled["r4"], Settled::Acked);
}

async fn what_runs_and_what_waits_in_the_queue_is_extended_each_in_one_request() {
    let group = Group::default();
    group.put(numbers(3));
    let server = group.serve().await;
    let (shutdown, gate) = (CancellationToken::new(), Arc::new(Semaphore::new(0)));
    let open = Arc::clone(&gate);
    // One runs, two wait in the queue: all three are held, so all three are extended.
    let running = tokio::spawn(consumer(&server).concurrency(1).prefetch(2).lease(LEASE).run(shutdown.clone(), move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(())
        }
    }));
    until("each lease is extended", || (0..3).all(|n| group.extended(&format!("r{n}")) >= 1)).await;
    let extends = server.verbs("extend");
    let receipts = |at: usize| extends[at].json["receipts"].as_array().map(Vec::len);
    assert_eq!((&extends[0].json["lease_ms"], receipts(0), extends[0].json.get("begun")), (&json!(20_000), Some(2), None));
    assert_eq!((receipts(1), &extends[1].json["begun"]), (Some(1), &json!(true)), "only what runs is begun");
    open.add_permits(3);
    until("all are acknowledged", || group.settled().len() == 3).await;
    stop(&shutdown, running).await;
}

async fn a_lease_that_is_lost_in_the_queue_is_not_begun() {
    let group = Group::default();
    group.put(numbers(2));
    let server = group.serve().await;
    let (shutdown, gate) = (CancellationToken::new(), Arc::new(Semaphore::new(0)));
    let (open, begun) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&begun);
    for _ in ["the one that runs", "the one that waits"] {
        group.fail_next("extend", Answer::Problem(ErrorCode::ReceiptExpired));
    }
    let builder = consumer(&server).concurrency(1).prefetch(1).lease(LEASE);
    let running = tokio::spawn(builder.run(shutdown.clone(), move |_| {
        let gate = Arc::clone(&gate);
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(())
        }
    }));
    until("both are held", || begun.load(Ordering::SeqCst) == 1 && group.waiting() == 0).await;
    group.put(numbers(1));
    // The first is cut off when both leases are lost; then the place is free for the next one in the queue.
    until("another one has begun", || begun.load(Ordering::SeqCst) == 2).await;
    open.add_permits(10);
    until("the third record is acknowledged", || group.settled().contains_key("r2")).await;
    stop(&shutdown, running).await;
    assert_eq!(begun.load(Ordering::SeqCst), 2, "the first had begun, the second is somebody else's now, the third is ours");
    assert_eq!(group.settled().keys().collect::<Vec<_>>(), ["r2"]);
}

/// Each waits for the half of a lease; they wait together.
#[tokio::test]
async fn what_is_held_is_extended_and_what_is_lost_in_the_queue_is_not_begun() {
    tokio::join!(what_runs_and_what_waits_in_the_queue_is_extended_each_in_one_request(), a_lease_that_is_lost_in_the_queue_is_not_begun());
}

#[tokio::test]
async fn no_more_handlers_run_than_allowed_and_no_more_records_are_held() {
    let group = Group::default();
    group.put(numbers(100));
    let server = group.serve().await;
    let (shutdown, gate) = (CancellationToken::new(), Arc::new(Semaphore::new(0)));
    let (now, most, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::clone(&gate));
    let (running_now, high) = (Arc::clone(&now), Arc::clone(&most));
    let running = tokio::spawn(consumer(&server).concurrency(4).prefetch(6).run(shutdown.clone(), move |_| {
        let (now, most, gate) = (Arc::clone(&running_now), Arc::clone(&high), Arc::clone(&gate));
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.acquire().await.expect("open").forget();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    }));
    until("four run", || now.load(Ordering::SeqCst) == 4).await;
    assert!(group.waiting() >= 90, "4 run and 6 are prefetched, {} are left", group.waiting());
    open.add_permits(100);
    until("all are acknowledged", || group.settled().len() == 100).await;
    stop(&shutdown, running).await;
    assert_eq!(most.load(Ordering::SeqCst), 4);
    assert!(server.verbs("receive").iter().all(|seen| seen.json["max_records"].as_u64().expect("a number") <= 10));
}

#[tokio::test]
async fn a_stop_finishes_what_runs_and_gives_back_what_was_not_begun() {
    let group = Group::default();
    group.put(numbers(10));
    let server = group.serve().await;
    let (shutdown, gate) = (CancellationToken::new(), Arc::new(Semaphore::new(0)));
    let (open, begun) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&begun);
    let running = tokio::spawn(consumer(&server).concurrency(2).prefetch(20).run(shutdown.clone(), move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(())
        }
    }));
    until("two run, eight wait", || begun.load(Ordering::SeqCst) == 2 && group.waiting() == 0).await;
    shutdown.cancel();
    until("eight are given back", || group.settled().len() == 8).await;
    assert!(!running.is_finished(), "the two that run are waited for");
    open.add_permits(2);
    soon(running).await.expect("no panic").expect("a clean stop");
    let settled = group.settled();
    assert_eq!(settled.values().filter(|settled| **settled == Settled::Acked).count(), 2);
    assert_eq!(settled.values().filter(|settled| **settled == Settled::GivenBack).count(), 8);
    assert_eq!(begun.load(Ordering::SeqCst), 2, "nothing was begun after the stop");
}

#[tokio::test]
async fn a_handler_that_does_not_end_is_cut_off_and_its_record_given_back() {
    let group = Group::default();
    group.put(numbers(1));
    let server = group.serve().await;
    let (shutdown, begun) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&begun);
    let running = tokio::spawn(consumer(&server).stop_timeout(Duration::from_millis(20)).run(shutdown.clone(), move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    }));
    until("it runs", || begun.load(Ordering::SeqCst) == 1).await;
    shutdown.cancel();
    tokio::time::timeout(LIMIT, running).await.expect("it ends").expect("no panic").expect("a clean stop");
    until("it is given back", || !group.settled().is_empty()).await;
    assert!(matches!(&group.settled()["r0"], Settled::Nacked { delay_ms: None, reason: Some(reason) } if reason.contains("stopped")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_does_not_hold_the_stop() {
    let group = Group::default();
    group.put(numbers(1));
    let server = group.serve().await;
    let (shutdown, begun) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (counter, blocked) = (Arc::clone(&begun), Arc::new(Mutex::new(blocked)));
    let running = tokio::spawn(consumer(&server).stop_timeout(Duration::from_millis(20)).run(shutdown.clone(), move |_| {
        let (counter, blocked) = (Arc::clone(&counter), Arc::clone(&blocked));
        async move {
            counter.fetch_add(1, Ordering::SeqCst);
            // Deaf to every cancellation, until the test is over.
            let _ = blocked.lock().expect("no panic").recv_timeout(LIMIT * 2);
            Ok(())
        }
    }));
    until("it runs", || begun.load(Ordering::SeqCst) == 1).await;
    stop(&shutdown, running).await;
    assert!(group.settled().is_empty(), "it may still be at work: its lease runs out");
    drop(release);
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_cut_off() {
    let group = Group::default();
    group.put(numbers(1));
    let server = group.serve().await;
    let shutdown = CancellationToken::new();
    let slow = consumer(&server).handler_timeout(Duration::from_millis(20));
    let running = tokio::spawn(slow.run(shutdown.clone(), |_| std::future::pending()));
    until("it is given back", || !group.settled().is_empty()).await;
    assert!(matches!(&group.settled()["r0"], Settled::Nacked { reason: Some(reason), .. } if reason.contains("20 ms")));
    stop(&shutdown, running).await;
}

async fn handler_with_a_lost_lease(outlives: bool) {
    let group = Group::default();
    group.put(numbers(1));
    let server = group.serve().await;
    group.fail_next("extend", Answer::Problem(ErrorCode::ReceiptExpired));
    let (shutdown, told) = (CancellationToken::new(), Arc::new(Mutex::new(None)));
    let (keeper, ended) = (Arc::clone(&told), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&ended);
    let builder = consumer(&server).concurrency(1).lease(LEASE).outlive_lease(outlives);
    let running = tokio::spawn(builder.run(shutdown.clone(), move |delivery| {
        let (keeper, counter) = (Arc::clone(&keeper), Arc::clone(&counter));
        async move {
            if delivery.record.offset.0 == 0 {
                let lost = sagamq_sdk::lease_lost();
                *keeper.lock().expect("no panic") = Some(lost.clone());
                lost.cancelled().await;
                tokio::task::yield_now().await;
            }
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }));
    let is_told = || told.lock().expect("no panic").as_ref().is_some_and(CancellationToken::is_cancelled);
    until("it is told", is_told).await;
    group.put(numbers(1));
    until("the next record has the place", || group.settled().contains_key("r1")).await;
    stop(&shutdown, running).await;
    assert_eq!(ended.load(Ordering::SeqCst), if outlives { 2 } else { 1 });
    assert_eq!(group.settled().contains_key("r0"), outlives, "what is somebody else's is not settled here");
}

#[tokio::test]
async fn a_handler_whose_lease_is_lost_is_told_and_cut_off_unless_it_outlives_it() {
    tokio::join!(handler_with_a_lost_lease(false), handler_with_a_lost_lease(true));
    assert!(!sagamq_sdk::lease_lost().is_cancelled(), "outside of a handler nothing is lost");
}

#[tokio::test]
async fn a_consumer_that_is_dropped_gives_back_what_it_had_not_begun() {
    let group = Group::default();
    group.put(numbers(3));
    let server = group.serve().await;
    let begun = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&begun);
    let running = tokio::spawn(consumer(&server).concurrency(1).prefetch(2).lease(LEASE).run(CancellationToken::new(), move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    }));
    // What is extended has arrived: an answer that is still on its way when the consumer is dropped is nobody's to give back.
    until("one runs, two wait", || begun.load(Ordering::SeqCst) == 1 && (0..3).all(|n| group.extended(&format!("r{n}")) >= 1)).await;
    running.abort();
    until("all are settled", || group.settled().len() == 3).await;
    let settled = group.settled();
    assert_eq!(settled.values().filter(|settled| **settled == Settled::GivenBack).count(), 2, "{settled:?}");
    assert_eq!(begun.load(Ordering::SeqCst), 1);
}

async fn nothing_is_prefetched_beside(group: Group) {
    let server = group.serve().await;
    let (shutdown, gate) = (CancellationToken::new(), Arc::new(Semaphore::new(0)));
    let (open, begun) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&begun);
    let running = tokio::spawn(consumer(&server).concurrency(2).prefetch(4).run(shutdown.clone(), move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok(())
        }
    }));
    until("it runs", || begun.load(Ordering::SeqCst) == 1).await;
    until("it asks again", || server.verbs("receive").len() == 2).await;
    let asked: Vec<_> = server.verbs("receive").iter().map(|seen| seen.json["max_records"].clone()).collect();
    assert_eq!(asked, [2, 1], "a crash now would count for one record more at most");
    open.add_permits(2);
    until("it is acknowledged", || group.settled().len() == 1).await;
    group.put(numbers(1));
    until("the next one is acknowledged", || group.settled().len() == 2).await;
    until("it asks for as many as before", || {
        server.verbs("receive").last().is_some_and(|seen| seen.json["max_records"].as_u64() >= Some(5))
    })
    .await;
    stop(&shutdown, running).await;
}

#[tokio::test]
async fn beside_a_record_that_was_delivered_often_or_came_back_unbegun_nothing_is_prefetched() {
    let (often, returned) = (Group::default(), Group::default());
    often.put_with_attempt(3, numbers(1));
    returned.put_returned(1, numbers(1));
    for group in [often, returned] {
        nothing_is_prefetched_beside(group).await;
    }
}

#[tokio::test]
async fn by_default_no_more_is_prefetched_than_handlers_may_run() {
    let group = Group::default();
    let server = group.serve().await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(consumer(&server).concurrency(3).run(shutdown.clone(), |_| async { Ok(()) }));
    until("it asks", || !server.verbs("receive").is_empty()).await;
    assert_eq!(
        server.verbs("receive")[0].json["max_records"],
        3,
        "before it has heard anything it asks for no more than it can begin with"
    );
    group.put(numbers(1));
    until("it asks again", || server.verbs("receive").iter().any(|seen| seen.json["max_records"].as_u64() >= Some(5))).await;
    assert!(server.verbs("receive").iter().all(|seen| seen.json["max_records"].as_u64() <= Some(6)));
    stop(&shutdown, running).await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_ends_the_consumer_instead_of_leasing_records_again() {
    let group = Group::default();
    group.fail_next("receive", Answer::Json(200, json!({"deliveries": [{"receipt": "x", "from": "a newer server"}]})));
    let server = group.serve().await;
    let error = soon(consumer(&server).run(CancellationToken::new(), |_| async { Ok(()) })).await.expect_err("unreadable");
    assert!(matches!(error.last(), ClientError::Decode { .. }), "{error:?}");
    assert_eq!(group.settled()["x"], Settled::GivenBack);
    assert_eq!(server.verbs("receive").len(), 1);
}

#[tokio::test]
async fn a_server_that_is_away_does_not_end_the_consumer() {
    let group = Group::default();
    for answer in [Answer::Break, Answer::Problem(ErrorCode::ShuttingDown), Answer::Text(502, ""), Answer::Problem(ErrorCode::Internal)] {
        group.fail_next("receive", answer);
    }
    group.fail_next("ack", Answer::Break);
    group.put(numbers(1));
    let server = group.serve().await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(consumer(&server).run(shutdown.clone(), |_| async { Ok(()) }));
    until("the record is acknowledged", || group.settled().len() == 1).await;
    stop(&shutdown, running).await;
}

#[tokio::test]
async fn a_topic_that_does_not_exist_ends_the_consumer_unless_it_is_waited_for() {
    let server = Server::with_answers(vec![Answer::Problem(ErrorCode::TopicNotFound)]).await;
    let error = soon(consumer(&server).run(CancellationToken::new(), |_| async { Ok(()) })).await.expect_err("no topic");
    assert_eq!(error.code(), Some(ErrorCode::TopicNotFound));

    let group = Group::default();
    group.fail_next("receive", Answer::Problem(ErrorCode::TopicNotFound));
    group.put(numbers(1));
    let server = group.serve().await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(consumer(&server).wait_for_topic(true).run(shutdown.clone(), |_| async { Ok(()) }));
    until("the record is acknowledged", || group.settled().len() == 1).await;
    stop(&shutdown, running).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_long_poll() {
    // No answer ever comes, and it would be waited for until the test is over.
    let server = Server::start(|_| std::future::pending::<Answer>()).await;
    let client = Client::builder(&server.url).request_timeout(LIMIT * 10).retry(quick(1)).build().expect("an address");
    let consumer = client.consumer("orders".parse().expect("legal"), "g".parse().expect("legal")).wait(Duration::from_secs(20));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(consumer.run(shutdown.clone(), |_| async { Ok(()) }));
    until("it polls", || !server.verbs("receive").is_empty()).await;
    stop(&shutdown, running).await;
}

#[tokio::test]
async fn a_record_whose_output_is_not_taken_now_is_given_back_and_not_counted() {
    let group = Group::default();
    group.put(numbers(1));
    let answering = group.clone();
    let server = Server::start(move |seen| {
        let group = answering.clone();
        async move {
            // Nothing of it is stored, and that may pass.
            let is_output = seen.text.contains("\"produce\"");
            if is_output { Answer::Problem(ErrorCode::DiskLow) } else { group.answer(seen).await }
        }
    })
    .await;
    let shutdown = CancellationToken::new();
    let client = server.client().with_retry(quick(3));
    let consumer = client.consumer("orders".parse().expect("legal"), "billing".parse().expect("legal")).wait(Duration::from_secs(5));
    let running = tokio::spawn(consumer.build().process(shutdown.clone(), |delivery| async move {
        let record = ProduceRecord::text(delivery.record.offset.to_string());
        Ok(vec![ProduceTo { topic: "bills".parse().expect("legal"), records: vec![record] }])
    }));
    until("it is given back", || server.verbs("nack").iter().any(|seen| seen.json["not_begun"] == true)).await;
    stop(&shutdown, running).await;
    assert!(server.verbs("nack").iter().all(|seen| seen.json["not_begun"] == true), "no attempt was counted");
}
