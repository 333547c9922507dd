//! The outbox on a real PostgreSQL, before a scripted broker: what is committed is produced, in order, under one key, by one pump.

use crate::server::{Database, database, soon};
use crate::support::{Answer, Seen, Server, until};
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::outbox::postgres::{PostgresOutbox, PostgresOutboxPump};
use sagamq_sdk::postgres::tokio_postgres::Client;
use sagamq_sdk::{CancellationToken, ProduceRecord};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a broker says that has stored the records of a request.
fn stored(seen: &Seen) -> Answer {
    let records = seen.json["records"].as_array().cloned().unwrap_or_default();
    let places = (0..records.len()).map(|n| json!({ "partition": 0, "offset": n, "timestamp_ms": 1, "duplicate": false }));
    Answer::Json(200, json!({ "records": places.collect::<Vec<_>>() }))
}

/// The values of all records that were asked to be produced to this topic, in order.
fn values(server: &Server, topic: &str) -> Vec<String> {
    let path = format!("/v1/topics/{topic}/records");
    let requests = server.seen().into_iter().filter(|seen| seen.path == path);
    requests.flat_map(|seen| records(&seen)).map(|record| record["value"].as_str().unwrap_or_default().to_owned()).collect()
}

fn records(seen: &Seen) -> Vec<Value> {
    seen.json["records"].as_array().cloned().unwrap_or_default()
}

async fn add(db: &Client, outbox: &PostgresOutbox, topic: &str, value: &str) {
    outbox.add(db, &topic.parse().expect("legal"), ProduceRecord::text(value).with_key("k")).await.expect("written");
}

async fn waiting(db: &Client) -> i64 {
    db.query_one("SELECT count(*) FROM sagamq.outbox", &[]).await.expect("readable").get(0)
}

async fn emptied(db: &Client) {
    soon(async {
        while waiting(db).await > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

fn pump(database: &Database, outbox: &PostgresOutbox, server: &Server) -> PostgresOutboxPump {
    outbox.pump(database.pool(2), server.client()).poll_interval(Duration::from_millis(5))
}

#[tokio::test]
async fn only_what_is_committed_is_produced_in_its_order_and_each_record_has_a_key() {
    let Some(database) = database().await else { return };
    let server = Server::start(|seen| async move { stored(&seen) }).await;
    let (mut db, outbox, shutdown) = (database.client().await, PostgresOutbox::default(), CancellationToken::new());
    let running = tokio::spawn(pump(&database, &outbox, &server).run(shutdown.clone()));
    for n in 0..30 {
        let txn = db.transaction().await.expect("begun");
        outbox.add(&txn, &"orders".parse().expect("legal"), ProduceRecord::text(format!("{n}")).with_key("k")).await.expect("written");
        // Every third transaction is rolled back.
        if n % 3 == 0 { txn.rollback().await.expect("rolled back") } else { txn.commit().await.expect("committed") }
    }
    emptied(&db).await;
    let expected: Vec<String> = (0..30).filter(|n| n % 3 != 0).map(|n| n.to_string()).collect();
    assert_eq!(values(&server, "orders"), expected);
    let all: Vec<Value> = server.seen().iter().flat_map(records).collect();
    let keys: BTreeSet<&str> = all.iter().filter_map(|record| record["idempotency_key"].as_str()).collect();
    assert_eq!(keys.len(), expected.len(), "each has one of its own");
    assert!(all.iter().all(|record| record["key"] == "k"));
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn a_record_whose_answer_was_lost_is_produced_again_under_its_key() {
    let Some(database) = database().await else { return };
    // The first ten answers are lost: more than one turn of the pump, whose client asks six times.
    let server = Server::start(|seen| async move { if seen.index < 10 { Answer::Break } else { stored(&seen) } }).await;
    let (db, outbox, shutdown) = (database.client().await, PostgresOutbox::default(), CancellationToken::new());
    let own = ProduceRecord { idempotency_key: Some("mine".into()), ..ProduceRecord::text("1") };
    outbox.add(&db, &"orders".parse().expect("legal"), own).await.expect("written");
    add(&db, &outbox, "orders", "2").await;
    let running = tokio::spawn(pump(&database, &outbox, &server).run(shutdown.clone()));
    emptied(&db).await;
    let bodies: BTreeSet<String> = server.seen().into_iter().map(|seen| seen.text).collect();
    assert_eq!((server.seen().len(), bodies.len()), (11, 1), "the very same request: {bodies:?}");
    assert!(bodies.iter().all(|body| body.contains("\"mine\"")));
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn a_record_that_can_never_be_stored_is_set_aside_and_the_others_go_on() {
    let Some(database) = database().await else { return };
    let is_bad = |seen: &Seen| records(seen).iter().any(|record| record["value"] == "bad");
    let server =
        Server::start(move |seen| async move { if is_bad(&seen) { Answer::Problem(ErrorCode::RecordTooLarge) } else { stored(&seen) } })
            .await;
    let (db, outbox, shutdown) = (database.client().await, PostgresOutbox::default(), CancellationToken::new());
    for value in ["1", "bad", "2"] {
        add(&db, &outbox, "orders", value).await;
    }
    db.execute("INSERT INTO sagamq.outbox (topic, record) VALUES ('no topic!', '{}'), ('notes', 'no record')", &[]).await.expect("damaged");
    let running = tokio::spawn(pump(&database, &outbox, &server).run(shutdown.clone()));
    soon(async {
        while outbox.refused(&db).await.expect("readable").len() < 3 || waiting(&db).await > 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let refused = outbox.refused(&db).await.expect("readable");
    assert!(refused[0].reason.contains("RECORD_TOO_LARGE") || refused[0].reason.contains("too large"), "{refused:?}");
    assert!(refused[0].record.contains("bad") && refused[1].topic == "no topic!" && refused[2].record == "no record", "{refused:?}");
    let good: Vec<String> = values(&server, "orders").into_iter().filter(|value| value != "bad").collect();
    // With the bad one in one request first, then one by one.
    assert_eq!(good, ["1", "2", "1", "2"]);
    db.execute("DELETE FROM sagamq.outbox WHERE topic = 'no topic!' OR record = 'no record'", &[]).await.expect("given up");
    db.execute("UPDATE sagamq.outbox SET record = replace(record, 'bad', 'good')", &[]).await.expect("mended");
    assert_eq!(outbox.retry_refused(&db).await.expect("written"), 1);
    emptied(&db).await;
    assert_eq!(values(&server, "orders").last().map(String::as_str), Some("good"));
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn a_topic_that_is_not_there_holds_up_no_other() {
    let Some(database) = database().await else { return };
    let (made, is_made) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::SeqCst);
    let broker = std::sync::Arc::clone(&made);
    let server = Server::start(move |seen| {
        let is_missing = seen.path.contains("missing") && !broker.load(is_made);
        async move { if is_missing { Answer::Problem(ErrorCode::TopicNotFound) } else { stored(&seen) } }
    })
    .await;
    let (db, outbox, shutdown) = (database.client().await, PostgresOutbox::default(), CancellationToken::new());
    for n in 0..20 {
        add(&db, &outbox, if n % 2 == 0 { "missing" } else { "orders" }, &n.to_string()).await;
    }
    let running = tokio::spawn(pump(&database, &outbox, &server).run(shutdown.clone()));
    until("the other topic's records are produced", || values(&server, "orders").len() == 10).await;
    assert!(outbox.refused(&db).await.expect("readable").is_empty(), "what waits is not refused");
    made.store(true, is_made);
    emptied(&db).await;
    let evens: Vec<String> = (0..20).filter(|n| n % 2 == 0).map(|n| n.to_string()).collect();
    assert!(values(&server, "missing").ends_with(&evens), "{:?}", values(&server, "missing"));
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn one_pump_works_and_another_takes_over_when_its_connection_is_gone() {
    let Some(database) = database().await else { return };
    let server = Server::start(|seen| async move { stored(&seen) }).await;
    let (db, outbox, shutdown) = (database.client().await, PostgresOutbox::default(), CancellationToken::new());
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(tokio::spawn(pump(&database, &outbox, &server).run(shutdown.clone())));
    }
    for round in 0..5 {
        add(&db, &outbox, "orders", &round.to_string()).await;
        emptied(&db).await;
        let leaders = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = \
                       (SELECT oid FROM pg_database WHERE datname = current_database())";
        let leaders = db.query(leaders, &[]).await.expect("readable");
        assert!(leaders.len() <= 1, "at most one leads");
        for leader in leaders {
            db.execute("SELECT pg_terminate_backend($1)", &[&leader.get::<_, i32>(0)]).await.expect("ended");
        }
    }
    assert_eq!(values(&server, "orders"), ["0", "1", "2", "3", "4"], "none twice, none missing");
    shutdown.cancel();
    for task in running {
        soon(task).await.expect("it ends");
    }
}
