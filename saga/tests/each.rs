//! Steps that fan out, over real topics and real HTTP: a crash at every write, a restart in the middle, and what is seen and mended.

mod common;

use common::api::Api;
use common::service::Service;
use common::{Books, LIMIT, Node, spawn_workers};
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{SagaState, SagaVerb, StepState};
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Lines that are picked, a payment, and a label for each that was picked. The books know items by the order that their arguments name.
const PICKS: &str = r#"
saga: picks
version: 1
key: ${ input.order }
timeout: 1m
defaults:
  timeout: 2s
  retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 10 }
  compensate_retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 50 }
services:
  stock: { topic: stock.commands }
  money: { topic: money.commands }
steps:
  - id: pick
    call: stock.pick
    for_each: ${ input.lines }
    max_parallel: 2
    with: { order: "${ input.order }/${ item }", behave: "${ item == 'c' ? input.behave : '' }" }
    compensate: stock.put_back
    emit: { topic: pick.events, value: "${ steps.pick.output }" }
  - id: pay
    call: money.pay
    with: { order: "${ input.order }" }
    pivot: true
  - id: label
    call: money.label
    for_each: ${ steps.pick.output }
    with: { order: "${ input.order }/${ index }", by: "${ item.by }" }
output: { labels: "${ size(steps.label.output) }" }
"#;

/// Orders, what becomes of each, and how many of its three lines stay picked.
const ORDERS: [(&str, &str, SagaState, usize); 4] = [
    ("good", "", SagaState::Completed, 3),
    ("refused", "refuse pick", SagaState::Compensated, 0),
    ("lost", "lose pick", SagaState::Completed, 3),
    ("silent", "silent", SagaState::Completed, 3),
];

fn input(order: &str, behave: &str) -> Value {
    json!({"order": order, "behave": behave, "lines": ["a", "b", "c"]})
}

/// Runs as far as the storage allows. True if everything was accepted and is at its end.
async fn run(storage: CrashStorage, books: &Books) -> bool {
    let Ok(node) = Node::open(Arc::new(storage)).await else { return false };
    let stop = CancellationToken::new();
    let is_done = async {
        node.sagas.publish(PICKS).await.ok()?;
        let workers = spawn_workers(&node, books, &stop);
        let mut started = Vec::new();
        for (order, behave, ..) in ORDERS {
            started.push(node.start("picks", input(order, behave)).await.ok()?.id);
        }
        for id in started {
            node.until_or_failed(id, |saga| saga.summary.state.is_final()).await?;
        }
        stop.cancel();
        for worker in workers {
            worker.await.ok()?;
        }
        node.broker.writes_stopped().is_none().then_some(())
    };
    let is_done = tokio::time::timeout(LIMIT, is_done).await.expect("every saga ends, or a write fails").is_some();
    stop.cancel();
    node.close().await;
    is_done
}

async fn check(storage: CrashStorage, books: &Books, case: &str) {
    let node = Node::open(Arc::new(storage)).await.expect("what a run left can be opened");
    for (order, behave, expected, picked) in ORDERS {
        let again = node.start("picks", input(order, behave)).await.expect("the key is known");
        assert!(again.duplicate, "{case}: {order} was started once");
        let saga = node.sagas.get(again.id).await.expect("it is there");
        assert_eq!(saga.summary.state, expected, "{case}: {order}: {saga:?}");
        let in_effect: usize = ["a", "b", "c"].iter().map(|line| books.effects(&format!("{order}/{line}"))).sum();
        let labels: usize = (0..3).map(|line| books.effects(&format!("{order}/{line}"))).sum();
        assert_eq!((in_effect, labels), (picked, picked), "{case}: the books of {order}");
        assert!(saga.standing.is_empty() || expected == SagaState::Completed, "{case}: {saga:?}");
        if expected == SagaState::Completed {
            assert_eq!(saga.output.as_ref().map(|output| output.as_str()), Some(r#"{"labels":3}"#), "{case}: {order}");
        }
    }
    assert_eq!(books.runs_max(), 1, "{case}: no item took effect twice");
    for topic in ["stock.commands", "money.commands"] {
        assert_eq!(node.lag(topic).await, 0, "{case}: every command of {topic} is settled");
    }
    node.close().await;
}

async fn crash_at(write: u64, leaves: FailedWrite, is_power_cut: bool) {
    let case = format!("write {write} leaves {leaves:?}, power cut {is_power_cut}");
    let (storage, books) = (CrashStorage::new(), Books::default());
    storage.fail_write(write, leaves);
    let is_done = run(storage.clone(), &books).await;
    let left = if is_power_cut { storage.after_power_cut() } else { storage.after_kill() };
    if !is_done {
        assert!(run(left.clone(), &books).await, "{case}: after the restart everything comes to its end");
    }
    check(left, &books, &case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_loses_no_item_and_does_none_twice() {
    let (storage, books) = (CrashStorage::new(), Books::default());
    assert!(run(storage.clone(), &books).await, "without a crash everything comes to its end");
    let writes = storage.writes();
    check(storage.after_power_cut(), &books, "no crash").await;
    assert!(writes > 20, "there are writes to crash at: {writes}");
    let left_behind = [(FailedWrite::NothingApplied, true), (FailedWrite::Applied, false)];
    // A few at a time, so that the attempts' deadlines are not met by slowness alone.
    let mut running = tokio::task::JoinSet::new();
    for write in 1..=writes {
        for (leaves, is_power_cut) in left_behind {
            if running.len() >= 8 {
                running.join_next().await.expect("one runs").expect("no case fails");
            }
            running.spawn(crash_at(write, leaves, is_power_cut));
        }
    }
    while let Some(case) = running.join_next().await {
        case.expect("no case fails");
    }
}

const MAILS: &str = r#"
saga: mails
version: 1
input: { schema: { required: [id, to], properties: { id: { type: string }, to: { type: array, maxItems: 100 } } } }
key: ${ input.id }
defaults:
  timeout: 5s
  retry: { initial: 1ms, max: 20ms, attempts: 3 }
  compensate_retry: { initial: 1ms, max: 20ms, attempts: 3 }
services: { svc: { http: "SERVICE" } }
steps:
  - id: mail
    call: svc.mail
    for_each: ${ input.to }
    max_parallel: 3
    with: { trip: "${ item }", number: "${ index }" }
    compensate: { call: svc.recall, with: { trip: "${ item }", by: "${ steps.mail.?output.by.orValue('nobody') }" } }
  - id: close
    call: svc.close
    pivot: true
  - id: note
    call: svc.note
    for_each: ${ input.to }
    max_parallel: 2
    with: { trip: "${ item }" }
output: ${ steps.note.output }
"#;

fn names(count: usize) -> Value {
    (0..count).map(|number| format!("n{number}")).collect()
}

async fn mails(storage: &CrashStorage, service: &str) -> Node {
    let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
    node.sagas.publish(&MAILS.replace("SERVICE", service)).await.expect("legal");
    node
}

#[tokio::test]
async fn a_restart_in_the_middle_goes_on_with_the_items_that_are_left() {
    let (service, storage) = (Service::default(), CrashStorage::new());
    let base = service.serve().await;
    let node = mails(&storage, &base).await;
    // Behind the pivot one item is refused again and again; the others are done beside it.
    service.is_stubborn("note", "n1");
    let id = node.start("mails", json!({"id": "1", "to": names(5)})).await.expect("started").id;
    let items =
        |saga: &sagamq_api::saga::SagaDescription| -> Vec<StepState> { saga.steps[2].items.iter().map(|item| item.state).collect() };
    let left = node.until(id, |saga| items(saga).iter().filter(|state| **state == StepState::Succeeded).count() == 4).await;
    assert_eq!(items(&left)[1], StepState::InProgress);
    assert_eq!(left.steps[0].output.as_ref().expect("done").as_str(), format!("[{}]", [r#"{"by":"mail"}"#; 5].join(",")));
    node.close().await;
    let before = service.keys("note").into_iter().filter(|key| !key.contains("note[1]")).count();
    let node = mails(&storage, &base).await;
    let waits = node.until(id, |saga| saga.steps[2].items[1].due_at_ms.is_some()).await;
    assert_eq!(waits.summary.waits.expect("it waits").item, Some(ItemIndex(1)));
    // It waits for its next attempt now and then: then it can be left out.
    let skipped = async {
        while node.operate(id, SagaVerb::Skip { step: "note".parse().expect("legal"), item: Some(ItemIndex(1)) }).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, skipped).await.expect("it waits at times");
    let done = node.at_rest(id).await;
    assert_eq!(done.summary.state, SagaState::Completed, "{done:?}");
    let by = r#"{"by":"note"}"#;
    assert_eq!(done.output.as_ref().expect("it returned something").as_str(), format!("[{by},null,{by},{by},{by}]"));
    let after = service.keys("note").into_iter().filter(|key| !key.contains("note[1]")).count();
    assert_eq!(before, after, "what was done is not called again");
    let keys: BTreeSet<String> = service.keys("mail").into_iter().collect();
    assert_eq!(keys, (0..5).map(|item| format!("{id}/mail[{item}]/action")).collect(), "each item has its own key");
    assert!(service.calls("mail").iter().all(|call| call["item"] == call["arguments"]["number"]), "and says which it is");
    node.close().await;
}

#[tokio::test]
async fn items_are_seen_and_what_was_done_is_undone_one_by_one() {
    let (service, storage) = (Service::default(), CrashStorage::new());
    let node = mails(&storage, &service.serve().await).await;
    let api = Api::of(&node).await;
    // Too many for the schema, and none.
    let refused = node.start("mails", json!({"id": "0", "to": names(101)})).await;
    assert!(refused.is_err(), "the schema bounds it: {refused:?}");
    let none = node.start("mails", json!({"id": "none", "to": []})).await.expect("started").id;
    let none = node.at_rest(none).await;
    assert_eq!((none.summary.state, none.output.as_ref().map(|output| output.as_str())), (SagaState::Completed, Some("[]")));
    service.is_stubborn("mail", "n4");
    service.is_stubborn("recall", "n1");
    let id = node.start("mails", json!({"id": "1", "to": names(9)})).await.expect("started").id;
    let blocked = node.at_rest(id).await;
    assert_eq!((blocked.summary.state, blocked.steps[0].state), (SagaState::Blocked, StepState::CompensationFailed), "{blocked:?}");
    let state = |item: usize| blocked.steps[0].items[item].state;
    assert_eq!(
        [state(0), state(1), state(4), state(8)],
        [StepState::Compensated, StepState::CompensationFailed, StepState::Failed, StepState::Scheduled]
    );
    let standing: Vec<_> = blocked.standing.iter().map(|effect| (effect.item, effect.in_doubt)).collect();
    assert_eq!(standing, [(Some(ItemIndex(1)), true)]);
    let (_, seen) = api.get(&format!("/v1/sagas/{id}")).await;
    assert_eq!(seen["steps"][0]["items"][1]["state"], "COMPENSATION_FAILED");
    assert_eq!(seen["steps"][0]["items"][0]["compensation_attempts"], 1);
    let (_, history) = api.get(&format!("/v1/sagas/{id}/history")).await;
    let fanned = history["events"].as_array().expect("a list").iter().find(|event| event["type"] == "step_fanned_out").expect("one");
    assert_eq!(fanned["data"]["items"].as_array().map(Vec::len), Some(9));
    assert!(service.arguments("recall").contains(&json!({"trip": "n0", "by": "mail"})), "with what the item returned");
    // Wrong, and then right.
    let verb = |body: Value| {
        let api = &api;
        async move { api.post(&format!("/v1/sagas/{id}:resolve"), body.to_string()).await }
    };
    let (status, said) = verb(json!({"step": "mail", "item": 77, "outcome": "compensated"})).await;
    assert_eq!((status, &said["code"]), (409, &json!("SAGA_STATE_CONFLICT")), "{said}");
    assert!(said["detail"].as_str().is_some_and(|detail| detail.contains("no item 77")), "{said}");
    let (status, said) = verb(json!({"step": "mail", "item": 1, "outcome": "compensated"})).await;
    assert_eq!((status, &said["saga"]["state"]), (200, &json!("COMPENSATED")), "{said}");
    node.close().await;
}

#[tokio::test]
async fn a_preview_shows_the_calls_of_items_and_one_for_a_list_that_is_not_known() {
    let (service, storage) = (Service::default(), CrashStorage::new());
    let node = mails(&storage, &service.serve().await).await;
    let api = Api::of(&node).await;
    service.answers("mail", 500);
    let id: Uuid = node.start("mails", json!({"id": "1", "to": names(2)})).await.expect("started").id;
    // Nobody knows of any item: all of them are undone.
    let saga = node.at_rest(id).await;
    assert_eq!(saga.summary.state, SagaState::Compensated, "{saga:?}");
    assert_eq!(service.arguments("recall"), [json!({"trip": "n1", "by": "nobody"}), json!({"trip": "n0", "by": "nobody"})]);
    let (status, seen) = api.post(&format!("/v1/sagas/{id}:preview"), json!({"verb": "rerun", "from": "mail"}).to_string()).await;
    assert_eq!(status, 200, "{seen}");
    let calls: Vec<_> = seen["calls"].as_array().expect("a list").iter().map(|call| (&call["step"], &call["item"])).collect();
    let (mail, close, note) = (json!("mail"), json!("close"), json!("note"));
    let null = Value::Null;
    assert_eq!(calls, [(&mail, &json!(0)), (&mail, &json!(1)), (&close, &null), (&note, &json!(0)), (&note, &json!(1))], "{seen}");
    node.close().await;
}
