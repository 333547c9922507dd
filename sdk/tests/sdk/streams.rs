//! A member of a stream group, before a scripted server.

use crate::support::{Answer, LIMIT, Seen, Server, soon};
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::{Client, Rebalance, StreamConsumer};
use serde_json::json;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a partition answers in which nothing comes.
async fn nothing_new() -> Answer {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Answer::Json(200, json!({ "records": [], "next_offset": 0, "log_start_offset": 0, "high_watermark": 0 }))
}

/// The member has one partition for a second.
fn assigned() -> Answer {
    let assigned = json!([{ "topic": "t", "partition": 0, "epoch": 1, "offset": 0 }]);
    Answer::Json(200, json!({ "epoch": 1, "assigned": assigned, "awaited": 0, "heartbeat_ms": 100, "session_ms": 1_000 }))
}

async fn poll_until(consumer: &mut StreamConsumer, what: &str, is_so: impl Fn(&StreamConsumer) -> bool) {
    let polls = async {
        while !is_so(consumer) {
            consumer.poll(Duration::from_millis(20)).await.expect("polled");
        }
    };
    tokio::time::timeout(LIMIT, polls).await.unwrap_or_else(|_| panic!("it never came: {what}"));
}

#[tokio::test]
async fn a_member_whose_heartbeats_get_no_answer_holds_nothing_when_its_session_is_over_however_long_it_would_wait_for_one() {
    let beats = AtomicUsize::new(0);
    let server = Server::start(move |seen: Seen| {
        let beat = (seen.verb() == "heartbeat").then(|| beats.fetch_add(1, Ordering::SeqCst));
        async move {
            match beat {
                None => nothing_new().await,
                Some(0) => assigned(),
                // The connection stands, and nothing comes of it.
                Some(_) => pending().await,
            }
        }
    })
    .await;
    let client = Client::builder(&server.url).request_timeout(Duration::from_secs(3_600)).build().expect("a client");
    let told: Arc<Mutex<Vec<Rebalance>>> = Arc::default();
    let tell = Arc::clone(&told);
    let listen = move |change| {
        tell.lock().expect("no panic").push(change);
        std::future::ready(())
    };
    let mut consumer = client.stream_consumer("g".parse().expect("legal"), vec!["t".parse().expect("legal")]).on_rebalance(listen).build();
    // By what it is told: on a machine that stands still the session may be over before anybody has looked.
    poll_until(&mut consumer, "it has had the partition and lost it", |_| told.lock().expect("no panic").len() == 2).await;
    assert_eq!(consumer.assigned().count(), 0);
    assert!(matches!(&told.lock().expect("no panic")[..], [Rebalance::Assigned(_), Rebalance::Lost(_)]), "{told:?}");
    // And it asks for its place again.
    let joins = || server.verbs("heartbeat").iter().filter(|seen| seen.json["epoch"] == 0).count();
    poll_until(&mut consumer, "it joins again", |_| joins() == 2).await;
}

#[tokio::test]
async fn a_member_with_more_partitions_than_it_fetches_at_a_time_reads_the_last_of_them_while_the_first_are_quiet() {
    const MANY: u32 = 40;
    let server = Server::start(|seen: Seen| async move {
        if seen.verb() == "heartbeat" {
            let of = |partition| json!({ "topic": "t", "partition": partition, "epoch": 1, "offset": 0 });
            let assigned: Vec<_> = (0..MANY).map(of).collect();
            return Answer::Json(
                200,
                json!({ "epoch": 1, "assigned": assigned, "awaited": 0, "heartbeat_ms": 5_000, "session_ms": 45_000 }),
            );
        }
        if !seen.path.contains(&format!("/partitions/{}/records?offset=0", MANY - 1)) {
            return nothing_new().await;
        }
        let record = json!({ "partition": MANY - 1, "offset": 0, "timestamp_ms": 1, "value": "x" });
        Answer::Json(200, json!({ "records": [record], "next_offset": 1, "log_start_offset": 0, "high_watermark": 1 }))
    })
    .await;
    let mut consumer = server.client().stream_consumer("g".parse().expect("legal"), vec!["t".parse().expect("legal")]).build();
    let read = async {
        loop {
            if let Some(batch) = consumer.poll(Duration::from_millis(20)).await.expect("polled") {
                return batch.of.partition.0;
            }
        }
    };
    assert_eq!(soon(read).await, MANY - 1);
}

#[tokio::test]
async fn a_member_that_was_replaced_ends_although_it_is_not_told_at_once_by_whom() {
    let (beats, looks) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::start(move |seen: Seen| {
        let beat = (seen.verb() == "heartbeat").then(|| beats.fetch_add(1, Ordering::SeqCst));
        let is_look = seen.method == "GET" && seen.path == "/v1/stream-groups/g";
        let look = is_look.then(|| looks.fetch_add(1, Ordering::SeqCst));
        async move {
            match (beat, look) {
                (Some(0), _) => assigned(),
                (Some(_), _) => Answer::Problem(ErrorCode::Fenced),
                (None, Some(0)) => Answer::Problem(ErrorCode::Overloaded),
                (None, Some(1)) => Answer::Break,
                (None, Some(_)) => {
                    let member = json!({
                        "member_id": "another", "instance_id": "i", "epoch": 2, "topics": ["t"], "away": false,
                        "held": 1, "revoked": 0, "awaited": 0, "session_left_ms": 1_000,
                    });
                    let group = json!({
                        "name": "g", "epoch": 2, "lag_records": 0, "lag_seconds": 0.0, "trimmed_unsettled": 0, "members": [member], "partitions": [],
                    });
                    Answer::Json(200, group)
                }
                (None, None) => nothing_new().await,
            }
        }
    })
    .await;
    let consumer = server.client().stream_consumer("g".parse().expect("legal"), vec!["t".parse().expect("legal")]);
    let mut consumer = consumer.instance("i".parse().expect("legal")).build();
    let ended = async {
        loop {
            if let Err(error) = consumer.poll(Duration::from_millis(20)).await {
                return error;
            }
        }
    };
    let error = soon(ended).await;
    assert_eq!(error.code(), Some(ErrorCode::Fenced), "{error:?}");
    let joins = server.verbs("heartbeat").iter().filter(|seen| seen.json["epoch"] == 0).count();
    assert_eq!(joins, 1, "it does not take the place back");
}
