//! A crash at every write of a run: whatever is left behind, every saga ends and the participants' books fit its outcome.

mod common;

use common::{Books, LIMIT, Node, ORDER, spawn_workers};
use sagamq_api::Offset;
use sagamq_api::headers::saga as headers;
use sagamq_api::saga::SagaState;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Orders, what becomes of each, and what its steps tell others, in order.
const ORDERS: [(&str, &str, SagaState, &[&str]); 4] = [
    ("o-good", "", SagaState::Completed, &["reserve action", "capture action"]),
    ("o-refused", "refuse capture", SagaState::Compensated, &["reserve action", "reserve compensation"]),
    ("o-lost", "lose authorize", SagaState::Completed, &["reserve action", "capture action"]),
    ("o-poor", "refuse reserve", SagaState::Failed, &[]),
];

/// The order, whose first step tells others what it did and that it was undone, and whose pivot tells that it succeeded.
fn telling() -> String {
    let told = "emit: { topic: order.events, value: { order: \"${ input.order }\" } }";
    let undone = "emit: { topic: order.events, value: { order: \"${ input.order }\", why: \"${ failure.code }\" } }";
    ORDER
        .replace("compensate: stock.release", &format!("compensate: {{ call: stock.release, {undone} }}\n    {told}"))
        .replace("pivot: true", &format!("pivot: true\n    {told}"))
}

/// What was told of each order, by business key, as a reader of the topic finds it.
async fn told(node: &Node) -> std::collections::BTreeMap<String, Vec<String>> {
    let mut told = std::collections::BTreeMap::<String, Vec<String>>::new();
    for lane in 0..node.broker.shards() {
        let read = node.broker.embedder(lane).read(&"order.events".parse().expect("legal"), Offset(0), 1_000).await;
        for record in read.expect("the topic is there").expect("it reads") {
            let header = |name: &str| record.payload.headers.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_owned();
            assert_eq!(record.payload.key.as_deref(), Some(header(headers::KEY).as_bytes()), "the key of the record is the order's");
            let value: Value = serde_json::from_slice(record.payload.value.as_deref().expect("it has a value")).expect("JSON");
            assert_eq!(value["order"], header(headers::KEY).as_str());
            told.entry(header(headers::KEY)).or_default().push(format!("{} {}", header(headers::STEP), header(headers::OPERATION)));
        }
    }
    told
}

fn input(order: &str, behave: &str) -> Value {
    json!({"order": order, "behave": behave})
}

/// Runs as far as the storage allows. True if everything was accepted and is at its end.
async fn run(storage: CrashStorage, books: &Books) -> bool {
    let Ok(node) = Node::open(Arc::new(storage)).await else { return false };
    let stop = CancellationToken::new();
    let is_done = async {
        node.sagas.publish(&telling()).await.ok()?;
        let workers = spawn_workers(&node, books, &stop);
        let mut started = Vec::new();
        for (order, behave, ..) in ORDERS {
            started.push(node.start("order", input(order, behave)).await.ok()?.id);
        }
        for id in started {
            node.until_or_failed(id, |saga| saga.summary.state.is_final()).await?;
        }
        stop.cancel();
        for worker in workers {
            worker.await.ok()?;
        }
        // After a failed write the storage may show what that write left behind and a power cut takes away: its outcome is unknown.
        node.broker.writes_stopped().is_none().then_some(())
    };
    let is_done = tokio::time::timeout(LIMIT, is_done).await.expect("every saga ends, or a write fails").is_some();
    stop.cancel();
    node.close().await;
    is_done
}

async fn check(storage: CrashStorage, books: &Books, case: &str) {
    let node = Node::open(Arc::new(storage)).await.expect("what a run left can be opened");
    let told = told(&node).await;
    for (order, behave, expected, tells) in ORDERS {
        assert_eq!(told.get(order).map_or(&[][..], Vec::as_slice), tells, "{case}: what {order} tells, once each and in order");
        let again = node.start("order", input(order, behave)).await.expect("the key is known");
        assert!(again.duplicate, "{case}: {order} was started once");
        let saga = node.sagas.get(again.id).await.expect("it is there");
        assert_eq!(saga.summary.state, expected, "{case}: {order}: {saga:?}");
        let effects = if expected == SagaState::Completed { 3 } else { 0 };
        assert_eq!(books.effects(order), effects, "{case}: the books of {order}");
    }
    assert_eq!(books.runs_max(), 1, "{case}: no action took effect twice");
    for topic in ["stock.commands", "money.commands"] {
        assert_eq!(node.lag(topic).await, 0, "{case}: every command of {topic} is settled");
    }
    node.close().await;
}

#[derive(Clone, Copy, Debug)]
enum Restart {
    Kill,
    PowerCut,
}

async fn crash_at(write: u64, leaves: FailedWrite, restart: Restart) {
    let case = format!("write {write} leaves {leaves:?}, {restart:?}");
    let (storage, books) = (CrashStorage::new(), Books::default());
    storage.fail_write(write, leaves);
    let is_done = run(storage.clone(), &books).await;
    let left = match restart {
        Restart::Kill => storage.after_kill(),
        Restart::PowerCut => storage.after_power_cut(),
    };
    if !is_done {
        assert!(run(left.clone(), &books).await, "{case}: after the restart everything comes to its end");
    }
    check(left, &books, &case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_loses_nothing_and_does_nothing_twice() {
    let (storage, books) = (CrashStorage::new(), Books::default());
    assert!(run(storage.clone(), &books).await, "without a crash everything comes to its end");
    let writes = storage.writes();
    check(storage.after_power_cut(), &books, "no crash").await;
    assert!(writes > 20, "there are writes to crash at: {writes}");
    let left_behind = [
        (FailedWrite::NothingApplied, Restart::PowerCut),
        (FailedWrite::Applied, Restart::Kill),
        (FailedWrite::AppliedNotSynced, Restart::PowerCut),
        (FailedWrite::AppliedNotSynced, Restart::Kill),
    ];
    // A few at a time, so that the attempts' deadlines are not met by slowness alone.
    let mut running = tokio::task::JoinSet::new();
    for write in 1..=writes {
        for (leaves, restart) in left_behind {
            if running.len() >= 8 {
                running.join_next().await.expect("one runs").expect("no case fails");
            }
            running.spawn(crash_at(write, leaves, restart));
        }
    }
    while let Some(case) = running.join_next().await {
        case.expect("no case fails");
    }
}
