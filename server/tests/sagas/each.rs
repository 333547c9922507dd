//! Steps that fan out, over real topics and real HTTP: a crash at every write, a restart in the middle, and what is seen and mended.

use crate::api::Api;
use crate::common::stage::{MOST_LEFT, Play, at_every_write};
use crate::common::{Books, LIMIT, Node, refused, reply_to, run_all, succeeded};
use crate::service::Service;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{Call, LockQuery, SagaDescription, SagaState, SagaVerb, StepState, WaitCode};
use sagamq_broker::storage::crash::CrashStorage;
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

/// The orders, with what the services did.
#[derive(Clone, Debug, Default)]
struct Orders(Books);

impl Play for Orders {
    async fn run(&self, node: &Node, stop: &CancellationToken) -> Option<()> {
        node.sagas.publish(PICKS).await.ok()?;
        run_all(node, &self.0, stop, "picks", ORDERS.map(|(order, behave, ..)| input(order, behave))).await
    }

    async fn check(&self, node: &Node, case: &str) {
        for (order, behave, expected, picked) in ORDERS {
            let again = node.start("picks", input(order, behave)).await.expect("the key is known");
            assert!(again.duplicate, "{case}: {order} was started once");
            let saga = node.sagas.get(again.id).await.expect("it is there");
            assert_eq!(saga.summary.state, expected, "{case}: {order}: {saga:?}");
            let in_effect: usize = ["a", "b", "c"].iter().map(|line| self.0.effects(&format!("{order}/{line}"))).sum();
            let labels: usize = (0..3).map(|line| self.0.effects(&format!("{order}/{line}"))).sum();
            assert_eq!((in_effect, labels), (picked, picked), "{case}: the books of {order}");
            assert!(saga.standing.is_empty() || expected == SagaState::Completed, "{case}: {saga:?}");
            if expected == SagaState::Completed {
                assert_eq!(saga.output.as_ref().map(|output| output.as_str()), Some(r#"{"labels":3}"#), "{case}: {order}");
            }
        }
        assert_eq!(self.0.runs_max(), 1, "{case}: no item took effect twice");
        for topic in ["stock.commands", "money.commands"] {
            assert_eq!(node.lag(topic).await, 0, "{case}: every command of {topic} is settled");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_loses_no_item_and_does_none_twice() {
    at_every_write(async || Orders::default(), 21, |_| MOST_LEFT).await;
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
    let items = |saga: &SagaDescription| -> Vec<StepState> { saga.steps[2].items.iter().map(|item| item.state).collect() };
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

const SHELVES: &str = r#"
saga: shelves
version: 1
key: ${ input.order }
timeout: 1h
defaults: { timeout: 30s }
services: { stock: { topic: stock.commands } }
steps:
  - id: pick
    call: stock.pick
    for_each: ${ input.lines }
    max_parallel: 2
    lock: "shelf/${ input.shelf }"
    with: { order: "${ input.order }/${ item }" }
    compensate: stock.back
  - id: sell
    call: stock.sell
    pivot: true
  - id: label
    call: stock.label
    for_each: ${ input.lines }
    lock: "shelf/${ input.shelf }"
"#;

/// The next call of the service, with the saga, the step, the item and the token that it comes with.
async fn called(node: &Node) -> (Call, (Uuid, String, Option<u32>, Option<u64>)) {
    let (call, _) = node.next_command("stock.commands").await;
    let of = &call.attempt;
    let seen = (of.instance, of.step.to_string(), of.item.map(|item| item.0), call.lock.as_ref().map(|lock| lock.token));
    (call, seen)
}

#[tokio::test]
async fn all_items_and_what_undoes_them_are_called_under_the_lock_of_their_step_and_none_before_it_is_there() {
    let storage = CrashStorage::new();
    let open = |storage: CrashStorage| async move {
        let node = Node::open(Arc::new(storage)).await.expect("it opens");
        node.sagas.publish(SHELVES).await.expect("legal");
        node
    };
    let node = open(storage.clone()).await;
    let begin = |order: &'static str, lines: Value| json!({"order": order, "shelf": "s", "lines": lines});
    let first = node.start("shelves", begin("1", json!(["a", "b", "c"]))).await.expect("started").id;
    let (one, (_, _, _, token)) = called(&node).await;
    let token = token.expect("it comes with a token");
    let second = node.start("shelves", begin("2", json!(["d", "e"]))).await.expect("started").id;
    let waits = |saga: &SagaDescription| saga.summary.waits.as_ref().is_some_and(|waits| waits.code == WaitCode::AwaitsLock);
    let waiting = node.until(second, waits).await;
    assert_eq!((waiting.steps[0].state, waiting.steps[0].items.len()), (StepState::Scheduled, 0), "it has no items before it has its lock");
    let (two, seen) = called(&node).await;
    assert_eq!(seen, (first, "pick".to_owned(), Some(1), Some(token)));
    node.close().await;
    let node = open(storage.after_kill()).await;
    node.sagas.complete(reply_to(&one, succeeded())).await.expect("the current attempt");
    let (three, seen) = called(&node).await;
    assert_eq!(seen, (first, "pick".to_owned(), Some(2), Some(token)), "after a restart as well");
    node.sagas.complete(reply_to(&two, succeeded())).await.expect("the current attempt");
    node.sagas.complete(reply_to(&three, refused())).await.expect("the current attempt");
    for item in [1, 0] {
        let (back, seen) = called(&node).await;
        assert_eq!((back.call.as_str(), seen), ("back", (first, "pick".to_owned(), Some(item), Some(token))));
        node.until(second, waits).await;
        node.sagas.complete(reply_to(&back, succeeded())).await.expect("the current attempt");
    }
    assert_eq!(node.at_rest(first).await.summary.state, SagaState::Compensated);
    let mut tokens = BTreeSet::new();
    for (step, item) in [("pick", Some(0)), ("pick", Some(1)), ("sell", None), ("label", Some(0)), ("label", Some(1))] {
        let (call, (id, of, at, token)) = called(&node).await;
        assert_eq!((id, of.as_str(), at), (second, step, item));
        tokens.extend(token);
        assert_eq!(token.is_none(), step == "sell", "the pivot has no lock");
        node.sagas.complete(reply_to(&call, succeeded())).await.expect("the current attempt");
    }
    assert!(tokens.len() == 1 && tokens.first().is_some_and(|next| *next > token), "one lock over both steps: {tokens:?}");
    assert_eq!(node.at_rest(second).await.summary.state, SagaState::Completed);
    let none = node.start("shelves", begin("3", json!([]))).await.expect("started").id;
    let (sell, seen) = called(&node).await;
    assert_eq!((seen.0, seen.1.as_str()), (none, "sell"));
    let held = node.sagas.locks(LockQuery::default()).await.expect("a page").locks;
    assert_eq!(
        held.iter().map(|lock| (lock.key.as_str(), lock.held_by)).collect::<Vec<_>>(),
        [("shelf/s", none)],
        "a list of none has the lock as well"
    );
    node.sagas.complete(reply_to(&sell, succeeded())).await.expect("the current attempt");
    assert_eq!(node.at_rest(none).await.summary.state, SagaState::Completed);
    node.close().await;
}
