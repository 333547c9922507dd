//! The outbox on a real RocksDB, before a scripted broker: what is committed is produced, in order, under one key, by one pump.

use crate::support::{Answer, Seen, Server, soon, until};
use rocksdb::{MultiThreaded, Options, TransactionDB, TransactionDBOptions};
use sagamq_sdk::api::ErrorCode;
use sagamq_sdk::outbox::rocks::{RocksOutbox, RocksOutboxPump};
use sagamq_sdk::{CancellationToken, ProduceRecord};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

type Db = TransactionDB<MultiThreaded>;
type Outbox = RocksOutbox<MultiThreaded>;

fn open(dir: &tempfile::TempDir) -> (Arc<Db>, Outbox) {
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = Arc::new(Db::open(&options, &TransactionDBOptions::default(), dir.path()).expect("a database"));
    let outbox = RocksOutbox::open(Arc::clone(&db)).expect("an outbox");
    (db, outbox)
}

fn add(db: &Db, outbox: &Outbox, topic: &str, value: &str) {
    let txn = db.transaction();
    outbox.add(&txn, &topic.parse().expect("legal"), ProduceRecord::text(value).with_key("k")).expect("written");
    txn.commit().expect("committed");
}

/// What a broker says that has stored the records of a request.
fn stored(seen: &Seen) -> Answer {
    let places = (0..records(seen).len()).map(|n| json!({ "partition": 0, "offset": n, "timestamp_ms": 1, "duplicate": false }));
    Answer::Json(200, json!({ "records": places.collect::<Vec<_>>() }))
}

fn records(seen: &Seen) -> Vec<Value> {
    seen.json["records"].as_array().cloned().unwrap_or_default()
}

/// The values of all records that were asked to be produced to this topic, in order.
fn values(server: &Server, topic: &str) -> Vec<String> {
    let path = format!("/v1/topics/{topic}/records");
    let requests = server.seen().into_iter().filter(|seen| seen.path == path);
    requests.flat_map(|seen| records(&seen)).map(|record| record["value"].as_str().unwrap_or_default().to_owned()).collect()
}

fn waiting(db: &Db) -> usize {
    db.prefix_iterator(b"\0outbox/\x01").take_while(|row| row.as_ref().is_ok_and(|(key, _)| key.starts_with(b"\0outbox/\x01"))).count()
}

fn pump(outbox: &Outbox, server: &Server) -> RocksOutboxPump<MultiThreaded> {
    outbox.pump(server.client()).poll_interval(Duration::from_millis(5))
}

fn numbers(range: impl Iterator<Item = usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn only_what_is_committed_is_produced_in_its_order_and_each_record_has_a_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, outbox) = open(&dir);
    let server = Server::start(|seen| async move { stored(&seen) }).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(pump(&outbox, &server).run(shutdown.clone()));
    for n in 0..30 {
        let txn = db.transaction();
        outbox.add(&txn, &"orders".parse().expect("legal"), ProduceRecord::text(n.to_string()).with_key("k")).expect("written");
        // Every third transaction is rolled back.
        if n % 3 == 0 {
            txn.rollback().expect("rolled back")
        } else {
            txn.commit().expect("committed")
        }
        outbox.wake();
    }
    until("all is produced", || waiting(&db) == 0).await;
    assert_eq!(values(&server, "orders"), numbers((0..30).filter(|n| n % 3 != 0)));
    let all: Vec<Value> = server.seen().iter().flat_map(records).collect();
    let keys: BTreeSet<&str> = all.iter().filter_map(|record| record["idempotency_key"].as_str()).collect();
    assert_eq!(keys.len(), 20, "each has one of its own");
    assert!(all.iter().all(|record| record["key"] == "k"));
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn a_record_whose_answer_was_lost_is_produced_again_under_its_key_in_another_process_too() {
    let dir = tempfile::tempdir().expect("a directory");
    // The first ten answers are lost: more than one turn of the pump, whose client asks six times.
    let server = Server::start(|seen| async move { if seen.index < 10 { Answer::Break } else { stored(&seen) } }).await;
    {
        let (db, outbox) = open(&dir);
        let txn = db.transaction();
        let own = ProduceRecord { idempotency_key: Some("mine".into()), ..ProduceRecord::text("1") };
        outbox.add(&txn, &"orders".parse().expect("legal"), own).expect("written");
        txn.commit().expect("committed");
        add(&db, &outbox, "orders", "2");
        // This one ends after the broker has heard of it.
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(pump(&outbox, &server).run(shutdown.clone()));
        until("it was asked for", || !server.seen().is_empty()).await;
        shutdown.cancel();
        soon(running).await.expect("it ends");
    }
    let (db, outbox) = open(&dir);
    assert_eq!(waiting(&db), 2);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(pump(&outbox, &server).run(shutdown.clone()));
    until("all is produced", || waiting(&db) == 0).await;
    let bodies: BTreeSet<String> = server.seen().into_iter().map(|seen| seen.text).collect();
    assert_eq!((server.seen().len(), bodies.len()), (11, 1), "the very same request: {bodies:?}");
    assert!(bodies.iter().all(|body| body.contains("\"mine\"")));
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn a_record_that_can_never_be_stored_is_set_aside_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, outbox) = open(&dir);
    let (mended, is_mended) = (Arc::new(AtomicBool::new(false)), Ordering::SeqCst);
    let broker = Arc::clone(&mended);
    let server = Server::start(move |seen| {
        let is_bad = records(&seen).iter().any(|record| record["value"] == "bad") && !broker.load(is_mended);
        async move { if is_bad { Answer::Problem(ErrorCode::RecordTooLarge) } else { stored(&seen) } }
    })
    .await;
    for value in ["1", "bad", "2"] {
        add(&db, &outbox, "orders", value);
    }
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(pump(&outbox, &server).run(shutdown.clone()));
    until("the others are produced", || waiting(&db) == 0).await;
    let refused = outbox.refused().expect("readable");
    assert_eq!((refused.len(), refused[0].topic.as_str()), (1, "orders"));
    assert!(refused[0].record.contains("bad") && refused[0].reason.contains("scripted"), "{refused:?}");
    mended.store(true, is_mended);
    assert_eq!(outbox.retry_refused().expect("written"), 1);
    until("it is produced", || waiting(&db) == 0).await;
    assert_eq!(values(&server, "orders").last().map(String::as_str), Some("bad"));
    assert!(outbox.refused().expect("readable").is_empty());
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn a_topic_that_is_not_there_holds_up_no_other_and_keeps_its_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, outbox) = open(&dir);
    let (made, is_made) = (Arc::new(AtomicBool::new(false)), Ordering::SeqCst);
    let broker = Arc::clone(&made);
    let server = Server::start(move |seen| {
        let is_missing = seen.path.contains("missing") && !broker.load(is_made);
        async move { if is_missing { Answer::Problem(ErrorCode::TopicNotFound) } else { stored(&seen) } }
    })
    .await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(pump(&outbox, &server).run(shutdown.clone()));
    // Old ones wait while new ones of both topics come: none of the missing topic's may overtake another.
    for n in 0..40 {
        add(&db, &outbox, if n % 2 == 0 { "missing" } else { "orders" }, &n.to_string());
        outbox.wake();
        tokio::task::yield_now().await;
    }
    until("the other topic's records are produced", || values(&server, "orders").len() == 20).await;
    assert_eq!(values(&server, "orders"), numbers((0..40).filter(|n| n % 2 == 1)));
    made.store(true, is_made);
    add(&db, &outbox, "missing", "40");
    outbox.wake();
    until("all is produced", || waiting(&db) == 0).await;
    let all = values(&server, "missing");
    assert!(all.ends_with(&numbers((0..41).filter(|n| n % 2 == 0))), "{all:?}");
    assert!(outbox.refused().expect("readable").is_empty());
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn what_was_committed_late_is_found_and_one_pump_works_at_a_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, outbox) = open(&dir);
    let server = Server::start(|seen| async move { stored(&seen) }).await;
    let shutdown = CancellationToken::new();
    let late = db.transaction();
    outbox.add(&late, &"orders".parse().expect("legal"), ProduceRecord::text("late")).expect("written");
    let pumps: Vec<_> = (0..3).map(|_| tokio::spawn(pump(&outbox, &server).run(shutdown.clone()))).collect();
    for n in 0..50 {
        add(&db, &outbox, "orders", &n.to_string());
        outbox.wake();
    }
    until("the others are produced", || waiting(&db) == 0).await;
    late.commit().expect("committed");
    until("it is found behind what is gone", || values(&server, "orders").last().is_some_and(|last| last == "late")).await;
    let mut all = values(&server, "orders");
    all.pop();
    assert_eq!(all, numbers(0..50), "each once and in order: one pump produced them");
    shutdown.cancel();
    for pump in pumps {
        soon(pump).await.expect("it ends");
    }
}

/// A broker that answers records whose value begins with `held` when the test lets it.
async fn holding(gate: &Arc<Semaphore>) -> Server {
    let gate = Arc::clone(gate);
    Server::start(move |seen| {
        let gate = Arc::clone(&gate);
        async move {
            let is_held = records(&seen).iter().any(|record| record["value"].as_str().is_some_and(|value| value.starts_with("held")));
            if is_held {
                gate.acquire().await.expect("it is open").forget();
            }
            stored(&seen)
        }
    })
    .await
}

/// Commits a record that the pump produces; while that is under way `meanwhile` happens.
async fn while_held(db: &Db, outbox: &Outbox, server: &Server, gate: &Semaphore, value: &str, meanwhile: impl FnOnce()) {
    let txn = db.transaction();
    outbox.add(&txn, &"orders".parse().expect("legal"), ProduceRecord::text(value).with_key("other")).expect("written");
    txn.commit().expect("committed");
    outbox.wake();
    until("it is asked for", || values(server, "orders").last().is_some_and(|last| last == value)).await;
    meanwhile();
    gate.add_permits(1);
    until("all is produced", || waiting(db) == 0).await;
}

#[tokio::test]
async fn who_has_seen_what_another_transaction_committed_comes_behind_it_however_late_that_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, outbox) = open(&dir);
    let gate = Arc::new(Semaphore::new(0));
    let server = holding(&gate).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(outbox.pump(server.client()).poll_interval(Duration::from_secs(3_600)).run(shutdown.clone()));
    for round in 0..3 {
        let (rolled_back, late) = (db.transaction(), db.transaction());
        outbox.add(&rolled_back, &"orders".parse().expect("legal"), ProduceRecord::text("never").with_key("k")).expect("written");
        outbox.add(&late, &"orders".parse().expect("legal"), ProduceRecord::text(format!("first {round}")).with_key("k")).expect("written");
        let meanwhile = || {
            rolled_back.rollback().expect("rolled back");
            late.commit().expect("committed");
            add(&db, &outbox, "orders", &format!("second {round}"));
        };
        while_held(&db, &outbox, &server, &gate, &format!("held {round}"), meanwhile).await;
        let all = values(&server, "orders");
        assert!(all.ends_with(&[format!("held {round}"), format!("first {round}"), format!("second {round}")]), "{all:?}");
    }
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

#[tokio::test]
async fn so_it_is_of_one_that_was_prepared_by_the_process_before() {
    let dir = tempfile::tempdir().expect("a directory");
    {
        let (db, outbox) = open(&dir);
        let prepared = db.transaction();
        prepared.set_name(b"branch").expect("named");
        outbox.add(&prepared, &"orders".parse().expect("legal"), ProduceRecord::text("first").with_key("k")).expect("written");
        prepared.prepare().expect("prepared");
    }
    let (db, outbox) = open(&dir);
    let gate = Arc::new(Semaphore::new(0));
    let server = holding(&gate).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(outbox.pump(server.client()).poll_interval(Duration::from_secs(3_600)).run(shutdown.clone()));
    let meanwhile = || {
        let prepared = db.prepared_transactions().pop().expect("it is there");
        prepared.commit().expect("committed");
        add(&db, &outbox, "orders", "second");
    };
    while_held(&db, &outbox, &server, &gate, "held", meanwhile).await;
    assert_eq!(values(&server, "orders"), ["held", "first", "second"]);
    shutdown.cancel();
    soon(running).await.expect("it ends");
}

/// A topic whose records are refused for now, and another one behind it.
#[tokio::test]
async fn records_of_one_topic_that_have_to_wait_hold_up_no_other_topic() {
    let dir = tempfile::tempdir().expect("a directory");
    let (db, outbox) = open(&dir);
    let server = Server::start(|seen: Seen| async move {
        if seen.path.starts_with("/v1/topics/a-later/") { Answer::Problem(ErrorCode::ScheduleLimit) } else { stored(&seen) }
    })
    .await;
    add(&db, &outbox, "a-later", "x");
    add(&db, &outbox, "b-now", "y");
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(pump(&outbox, &server).run(shutdown.clone()));
    until("the other one is produced", || values(&server, "b-now") == ["y"]).await;
    assert_eq!(values(&server, "a-later").len(), 1, "it was asked for once, and not again and again before the other's turn");
    shutdown.cancel();
    soon(running).await.expect("no panic");
    assert_eq!(waiting(&db), 1);
}
