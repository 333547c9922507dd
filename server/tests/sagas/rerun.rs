//! Reruns over real HTTP and over crashes: services count what they are called with, and every effect is there once or undone once.

use crate::common::stage::{MOST_LEFT, Play, at_every_write};
use crate::common::{Books, LIMIT, Node, call_of, reply_to};
use crate::verbs::World;
use core::time::Duration;
use sagamq_api::queue::ReceiveRequest;
use sagamq_api::saga::{EVENT_TOPIC, OperateSaga, Retention, SagaQuery, SagaState, SagaVerb, StepOutcome, StepState};
use sagamq_broker::env::{ManualClock, SystemClock};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_saga::protocol::lane_of;
use sagamq_saga::{InstanceError, OrchestratorConfig};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TRIP: &str = r#"
saga: trip
version: 1
key: ${ input.trip }
services: { agency: { http: "AGENCY" } }
defaults:
  retry: { initial: 1h, max: 1h, attempts: 5 }
  compensate_retry: { initial: 1ms, max: 2ms, attempts: 2 }
steps:
  - { id: flight, call: agency.fly, with: { for: "${ input.account }" }, compensate: agency.unfly }
  - { id: hotel, call: agency.stay, compensate: agency.leave }
  - { id: pay, call: agency.pay, with: { from: "${ input.account }" }, compensate: agency.refund }
output: { paid: "${ steps.pay.output.by }" }
"#;

impl World {
    /// A trip whose payment did not happen, and which was ended with its flight and its hotel.
    async fn unpaid(&self, trip: &str) -> Uuid {
        self.service.answers("pay", 503);
        let id = self.node.start("trip", json!({"trip": trip, "account": "old"})).await.expect("started").id;
        self.until(id, SagaState::Waiting).await;
        self.done(id, "pause", json!({})).await;
        self.done(id, "resolve", json!({"step": "pay", "outcome": "failed", "reason": "the bank says so"})).await;
        let ended = self.done(id, "terminate", json!({"reason": "to be rerun"})).await;
        assert_eq!(ended["standing"], json!([{"step": "flight", "in_doubt": false}, {"step": "hotel", "in_doubt": false}]));
        id
    }

    async fn rerun(&self, id: Uuid, from: &str) -> Uuid {
        let saga = self.done(id, "rerun", json!({"from": from, "reason": "again", "actor": "ann"})).await;
        saga["rerun_as"].as_str().expect("its rerun").parse().expect("an id")
    }
}

#[tokio::test]
async fn a_rerun_goes_on_with_what_stands_and_its_preview_says_how_and_calls_nobody() {
    let world = World::open(TRIP).await;
    let id = world.unpaid("1").await;
    let (called, before) = (world.service.count(), world.api.get(&format!("/v1/sagas/{id}/history")).await);
    let (status, foreseen) = world.verb(id, "preview", json!({"verb": "rerun", "from": "pay"})).await;
    assert_eq!((status, &foreseen["state"], &foreseen["end"]), (200, &json!("RUNNING"), &json!("COMPLETED")), "{foreseen}");
    let copied = |step: &str| json!({"step": step, "origin": id, "compensation_key": format!("{id}/{step}/compensation")});
    assert_eq!(foreseen["rerun"]["copied"], json!([copied("flight"), copied("hotel")]));
    assert_eq!(foreseen["calls"].as_array().map(|calls| calls.iter().map(|call| &call["call"]).collect()), Some(vec![&json!("pay")]));
    let (status, refused) = world.verb(id, "preview", json!({"verb": "rerun", "from": "hotel"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SAGA_EFFECT_STANDS")), "as the verb itself: {refused}");
    assert_eq!((world.service.count(), world.api.get(&format!("/v1/sagas/{id}/history")).await), (called, before), "nothing has happened");

    world.service.answers("pay", 200);
    let rerun = world.rerun(id, "pay").await;
    assert_eq!(json!(rerun), foreseen["rerun"]["id"]);
    let saga = world.until(rerun, SagaState::Completed).await;
    assert_eq!((&saga["rerun_of"], &saga["output"]), (&json!(id), &json!({"paid": "pay"})));
    assert_eq!((&saga["steps"][0]["state"], &saga["steps"][0]["origin"]), (&json!("SUCCEEDED"), &json!(id)));
    assert_eq!((world.service.calls("fly").len(), world.service.calls("stay").len()), (1, 1), "what stands is not done again");
    assert_eq!(world.service.keys("pay"), [format!("{id}/pay/action"), format!("{rerun}/pay/action")]);

    let (_, origin) = world.api.get(&format!("/v1/sagas/{id}")).await;
    assert_eq!((&origin["state"], &origin["rerun_as"], origin.get("standing")), (&json!("TERMINATED"), &json!(rerun), None));
    assert_eq!((&origin["steps"][1]["handed_over"], origin["steps"][2].get("handed_over")), (&json!(true), None));
    let (_, history) = world.api.get(&format!("/v1/sagas/{id}/history")).await;
    let handed = history["events"].as_array().and_then(|events| events.last()).expect("events");
    assert_eq!((&handed["type"], &handed["data"]["to"]), (&json!("saga_handed_over"), &json!(rerun)));
    assert_eq!((&handed["data"]["actor"], &handed["data"]["reason"]), (&json!("ann"), &json!("again")));
    for (verb, body) in [("cancel", json!({})), ("terminate", json!({})), ("retry", json!({})), ("rerun", json!({"from": "flight"}))] {
        let (status, refused) = world.verb(id, verb, body).await;
        assert_eq!((status, &refused["code"]), (409, &json!("SAGA_HANDED_OVER")), "{verb}: {refused}");
    }
    let (status, again) = world.verb(id, "rerun", json!({"from": "pay"})).await;
    assert_eq!((status, &again["duplicate"], &again["saga"]["rerun_as"]), (200, &json!(true), &json!(rerun)));
    let (_, same) = world.api.post("/v1/sagas", json!({"saga": "trip", "input": {"trip": "1", "account": "old"}}).to_string()).await;
    assert_eq!((&same["duplicate"], &same["id"]), (&json!(true), &json!(rerun)), "the key's last one answers for a start");
    let (_, list) = world.api.get("/v1/sagas?key=1").await;
    let listed: Vec<(&Value, &Value)> = list["sagas"].as_array().expect("rows").iter().map(|saga| (&saga["id"], &saga["state"])).collect();
    assert!(listed.contains(&(&json!(id), &json!("TERMINATED"))) && listed.contains(&(&json!(rerun), &json!("COMPLETED"))), "{list}");
    world.node.close().await;
}

#[tokio::test]
async fn what_a_rerun_took_over_it_undoes_once_under_the_first_key_also_over_generations() {
    let world = World::open(TRIP).await;
    let id = world.unpaid("1").await;
    // The first rerun comes no further, and is rerun itself.
    let second = world.rerun(id, "pay").await;
    world.until(second, SagaState::Waiting).await;
    world.done(second, "pause", json!({})).await;
    world.done(second, "resolve", json!({"step": "pay", "outcome": "failed"})).await;
    world.done(second, "terminate", json!({})).await;
    world.service.answers("pay", 409);
    let (status, answer) = world.verb(second, "rerun", json!({"from": "pay", "input": {"trip": "2", "account": "new"}})).await;
    assert_eq!((status, &answer["code"]), (400, &json!("INVALID_SAGA_INPUT")), "another key");
    let answer = world.done(second, "rerun", json!({"from": "pay", "input": {"trip": "1", "account": "new"}})).await;
    let third: Uuid = answer["rerun_as"].as_str().expect("its rerun").parse().expect("an id");
    world.until(third, SagaState::Compensated).await;
    for (operation, step) in [("unfly", "flight"), ("leave", "hotel")] {
        assert_eq!(world.service.keys(operation), [format!("{id}/{step}/compensation")]);
        assert_eq!(world.service.calls(operation)[0]["instance"], json!(id));
    }
    assert_eq!(world.service.calls("refund").len(), 0, "the payment was refused");
    assert_eq!(world.service.arguments("pay").last().expect("called"), &json!({"from": "new"}), "called with what it was given");
    assert_eq!(world.service.arguments("unfly"), [json!({"for": "old"})], "undone with what it was done with");
    assert_eq!(*world.service.keys("pay").last().expect("called"), format!("{third}/pay/action"));
    // Everything is undone, so all of it can be done anew.
    world.service.answers("pay", 200);
    let fourth = world.rerun(third, "flight").await;
    world.until(fourth, SagaState::Completed).await;
    assert_eq!(world.service.keys("fly"), [id, fourth].map(|id| format!("{id}/flight/action")));
    let (status, refused) = world.verb(fourth, "rerun", json!({"from": "flight"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SAGA_EFFECT_STANDS")), "{refused}");
    world.node.close().await;
}

#[tokio::test]
async fn what_is_in_doubt_or_not_done_is_not_rerun() {
    let world = World::open(TRIP).await;
    world.service.answers("pay", 503);
    let id = world.node.start("trip", json!({"trip": "1", "account": "a"})).await.expect("started").id;
    world.until(id, SagaState::Waiting).await;
    let (status, refused) = world.verb(id, "rerun", json!({"from": "pay"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SAGA_STATE_CONFLICT")), "it is not at rest");
    world.done(id, "terminate", json!({})).await;
    let (status, refused) = world.verb(id, "rerun", json!({"from": "pay"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SAGA_EFFECT_IN_DOUBT")));
    assert!(refused["detail"].as_str().expect("a detail").contains("`pay`"), "{refused}");
    world.service.answers("stay", 409);
    let id = world.node.start("trip", json!({"trip": "2", "account": "a"})).await.expect("started").id;
    world.until(id, SagaState::Compensated).await;
    let (status, refused) = world.verb(id, "rerun", json!({"from": "hotel"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("SAGA_STEP_NOT_DONE")), "{refused}");
    assert!(refused["detail"].as_str().expect("a detail").contains("`flight`"), "{refused}");
    let (status, _) = world.verb(id, "rerun", json!({})).await;
    assert_eq!(status, 400, "from where?");
    world.node.close().await;
}

#[tokio::test]
async fn many_are_rerun_by_one_repair() {
    let world = World::open(TRIP).await;
    let mut ids = Vec::new();
    for trip in 0..3 {
        ids.push(world.unpaid(&trip.to_string()).await);
    }
    world.service.answers("pay", 200);
    let request = json!({"filter": {"saga": "trip", "state": "TERMINATED"}, "operate": {"verb": "rerun", "from": "pay"}});
    let (status, repair) = world.api.post("/v1/saga-repairs", request.to_string()).await;
    assert!(status < 300, "{repair}");
    let repair = repair["repair"]["id"].as_str().expect("an id").to_owned();
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            let (_, now) = world.api.get(&format!("/v1/saga-repairs/{repair}")).await;
            if now["state"] == "DONE" {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let ended = waited.await.expect("it ends");
    assert_eq!(ended["results"]["done"], 3, "{ended}");
    let (_, results) = world.api.get(&format!("/v1/saga-repairs/{repair}/results")).await;
    for id in ids {
        let origin = world.node.sagas.get(id).await.expect("it is there");
        let rerun = origin.summary.rerun_as.expect("rerun");
        world.until(rerun, SagaState::Completed).await;
        let result = results["results"].as_array().and_then(|results| results.iter().find(|result| result["saga"] == json!(id)));
        assert_eq!(result.map(|result| (&result["rerun_as"], &result["state"])), Some((&json!(rerun), &json!("COMPLETED"))), "{results}");
    }
    assert_eq!(world.service.calls("fly").len(), 3);
    world.node.close().await;
}

/// Three services; the last step is the pivot.
const PURCHASE: &str = r#"
saga: purchase
version: 1
key: ${ input.order }
defaults:
  timeout: 2s
  retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 10 }
  compensate_retry: { initial: 5ms, factor: 2, max: 40ms, attempts: 50 }
services:
  stock: { topic: stock.commands }
  cards: { topic: cards.commands }
  money: { topic: money.commands }
steps:
  - id: reserve
    call: stock.reserve
    with: { order: "${ input.order }", behave: "${ input.behave }" }
    compensate: stock.release
  - id: authorize
    call: cards.authorize
    with: { order: "${ input.order }", behave: "${ input.behave }" }
    compensate: cards.void
  - id: capture
    call: money.capture
    with: { order: "${ input.order }", behave: "${ input.behave }" }
    pivot: true
"#;

const TOPICS: [&str; 3] = ["stock.commands", "cards.commands", "money.commands"];

/// Orders, how each behaves, and what becomes of its rerun.
const ORDERS: [(&str, &str, SagaState); 2] = [("o-good", "", SagaState::Completed), ("o-bad", "refuse capture", SagaState::Compensated)];

/// A worker of one service, until the token ends it.
fn work(node: &Node, books: &Books, topic: &'static str, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let (node, books, stop) = (node.clone(), books.clone(), stop.clone());
    tokio::spawn(async move {
        let request = ReceiveRequest { max_records: Some(16), wait_ms: Some(50), ..ReceiveRequest::default() };
        let (topic, group) = (topic.parse().expect("legal"), "workers".parse().expect("legal"));
        while !stop.is_cancelled() {
            let Ok(received) = node.broker.receive(&topic, &group, &request).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            for delivery in received.deliveries {
                let call = call_of(&delivery);
                let outcome = books.answer(&call).expect("nobody is silent here");
                drop(node.sagas.complete(reply_to(&call, outcome)).await);
            }
        }
    })
}

async fn operate(node: &Node, id: Uuid, verb: SagaVerb) -> Option<()> {
    node.sagas.operate(id, OperateSaga { verb, reason: None, actor: None }).await.ok().map(drop)
}

/// Ends the order where it stands and has it rerun, from wherever an earlier process came to.
async fn rerun(node: &Node, id: Uuid) -> Option<Uuid> {
    let saga = node.sagas.get(id).await.ok()?;
    if saga.summary.rerun_of.is_some() {
        return Some(id);
    }
    let authorize = || "authorize".parse().expect("legal");
    if !saga.summary.state.is_final() {
        node.until_or_failed(id, |saga| saga.steps[0].state == StepState::Succeeded).await?;
        operate(node, id, SagaVerb::Pause).await?;
        operate(node, id, SagaVerb::Resolve { item: None, step: authorize(), outcome: StepOutcome::Failed }).await?;
        operate(node, id, SagaVerb::Terminate).await?;
    }
    operate(node, id, SagaVerb::Rerun { from: authorize(), input: None }).await?;
    node.sagas.get(id).await.ok()?.summary.rerun_as
}

/// The orders, with what the services did.
#[derive(Clone, Debug, Default)]
struct Orders(Books);

impl Play for Orders {
    async fn run(&self, node: &Node, stop: &CancellationToken) -> Option<()> {
        node.sagas.publish(PURCHASE).await.ok()?;
        let mut workers = vec![work(node, &self.0, TOPICS[0], stop)];
        let mut reruns = Vec::new();
        for (order, behave, _) in ORDERS {
            let id = node.start("purchase", json!({"order": order, "behave": behave})).await.ok()?.id;
            reruns.push(rerun(node, id).await?);
        }
        workers.extend(TOPICS[1..].iter().map(|topic| work(node, &self.0, topic, stop)));
        for id in reruns {
            node.until_or_failed(id, |saga| saga.summary.state.is_final()).await?;
        }
        stop.cancel();
        for worker in workers {
            worker.await.ok()?;
        }
        Some(())
    }

    async fn check(&self, node: &Node, case: &str) {
        for (order, behave, expected) in ORDERS {
            let again = node.start("purchase", json!({"order": order, "behave": behave})).await.expect("the key is known");
            let saga = node.sagas.get(again.id).await.expect("it is there");
            assert_eq!((again.duplicate, saga.summary.state), (true, expected), "{case}: {order}: {saga:?}");
            let origin = node.sagas.get(saga.summary.rerun_of.expect("a rerun")).await.expect("it is there");
            assert_eq!((origin.summary.state, origin.summary.rerun_as), (SagaState::Terminated, Some(again.id)), "{case}: {order}");
            assert!(origin.standing.is_empty() && origin.steps[0].handed_over, "{case}: {order}: {origin:?}");
            let effects = if expected == SagaState::Completed { 3 } else { 0 };
            assert_eq!(self.0.effects(order), effects, "{case}: the books of {order}");
            assert_eq!(saga.steps[0].origin, Some(origin.summary.id), "{case}: {order}");
        }
        assert_eq!(self.0.runs_max(), 1, "{case}: no action took effect twice");
        for topic in TOPICS {
            assert_eq!(node.lag(topic).await, 0, "{case}: every command of {topic} is settled");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_at_any_write_of_a_rerun_hands_over_whole_or_not_at_all() {
    at_every_write(async || Orders::default(), 21, |_| MOST_LEFT).await;
}

async fn open(storage: &CrashStorage, clock: &ManualClock) -> Node {
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    Node::open_with(Arc::new(storage.clone()), Arc::new(clock.clone()), config).await.expect("it opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rerun_outlives_the_one_it_is_of_and_undoes_what_that_did() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let node = open(&storage, &clock).await;
    node.sagas.publish(PURCHASE).await.expect("legal");
    let keep = Retention { keep_ms: Some(60_000), keep_count: None };
    node.sagas.set_retention(None, Some(keep)).await.expect("set");
    let (books, stop) = (Books::default(), CancellationToken::new());
    let id = node.start("purchase", json!({"order": "1", "behave": "refuse authorize"})).await.expect("started").id;
    let stock = work(&node, &books, TOPICS[0], &stop);
    let second = rerun(&node, id).await.expect("rerun");
    stop.cancel();
    stock.await.expect("no panic");
    assert_eq!((books.effects("1"), node.lag("cards.commands").await), (1, 1));
    clock.advance(Duration::from_secs(120));
    let waited = tokio::time::timeout(LIMIT, async {
        while node.sagas.get(id).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("it is removed");
    node.close().await;
    let storage = storage.after_kill();
    let node = open(&storage, &clock).await;
    assert!(matches!(node.sagas.get(id).await, Err(InstanceError::NotFound(_))));
    let (cards, _) = node.next_command("cards.commands").await;
    node.sagas.complete(reply_to(&cards, books.answer(&cards).expect("refused"))).await.expect("it waits for it");
    let (release, _) = node.next_command("stock.commands").await;
    assert_eq!(release.idempotency_key, format!("{id}/reserve/compensation"));
    assert_eq!((release.attempt.instance, release.started_at_ms), (id, 1_000_000), "as its barrier knows it");
    let reply = reply_to(&release, books.answer(&release).expect("done"));
    let completed = node.sagas.complete(reply.clone()).await.expect("the rerun hears it");
    assert_eq!((completed.state, completed.duplicate, books.effects("1")), (SagaState::Compensated, false, 0));
    assert!(node.sagas.complete(reply).await.expect("heard before").duplicate);
    assert_eq!(node.sagas.get(second).await.expect("there").summary.state, SagaState::Compensated);
    node.close().await;
}

#[tokio::test]
async fn a_late_word_on_what_was_handed_on_reaches_the_last_that_took_it_over_when_it_left_memory() {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
    node.sagas.publish(PURCHASE).await.expect("legal");
    let (books, stop) = (Books::default(), CancellationToken::new());
    let id = node.start("purchase", json!({"order": "1", "behave": "refuse authorize"})).await.expect("started").id;
    let worker = work(&node, &books, TOPICS[0], &stop);
    let second = rerun(&node, id).await.expect("rerun");
    stop.cancel();
    worker.await.expect("no panic");
    let (cards, _) = node.next_command("cards.commands").await;
    node.sagas.complete(reply_to(&cards, books.answer(&cards).expect("refused"))).await.expect("it waits for it");
    let (release, _) = node.next_command("stock.commands").await;
    let reply = reply_to(&release, books.answer(&release).expect("done"));
    node.sagas.complete(reply.clone()).await.expect("the rerun hears it");
    node.until(second, |saga| saga.summary.state == SagaState::Compensated).await;
    // So many others end that these leave memory.
    let stop = CancellationToken::new();
    let worker = work(&node, &books, TOPICS[0], &stop);
    let mut last = id;
    for order in 0..700 {
        last = node.start("purchase", json!({"order": format!("x-{order}"), "behave": "refuse reserve"})).await.expect("started").id;
    }
    node.at_rest(last).await;
    stop.cancel();
    worker.await.expect("no panic");
    let again = node.sagas.complete(reply).await.expect("it is known");
    assert_eq!((again.duplicate, again.state), (true, SagaState::Compensated));
    // And what is long at its end can be rerun from the disk.
    let third = node.operate(second, SagaVerb::Rerun { from: "reserve".parse().expect("legal"), input: None }).await.expect("possible");
    assert_eq!((third.duplicate, third.state), (false, SagaState::Compensated));
    let described = node.sagas.get(second).await.expect("there");
    let third = described.summary.rerun_as.expect("its rerun");
    assert_eq!(node.sagas.get(third).await.expect("there").summary.state, SagaState::Running);
    node.close().await;
}

#[tokio::test]
async fn lists_say_of_both_what_they_are_of_each_other_also_after_a_restart() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let node = open(&storage, &clock).await;
    node.sagas.publish(PURCHASE).await.expect("legal");
    let (books, stop) = (Books::default(), CancellationToken::new());
    let worker = work(&node, &books, TOPICS[0], &stop);
    let id = node.start("purchase", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let second = rerun(&node, id).await.expect("rerun");
    stop.cancel();
    worker.await.expect("no panic");
    node.close().await;
    let node = open(&storage.after_kill(), &clock).await;
    let query = SagaQuery { key: Some("1".to_owned()), saga: Some("purchase".parse().expect("legal")), ..SagaQuery::default() };
    let list = node.sagas.list(query).await.expect("a page").sagas;
    let mut listed: Vec<_> = list.into_iter().map(|saga| (saga.id, saga.rerun_of, saga.rerun_as)).collect();
    listed.sort_by_key(|(of, _, _)| *of != id);
    assert_eq!(listed, [(id, None, Some(second)), (second, Some(id), None)]);
    node.close().await;
}

#[tokio::test]
async fn a_rerun_is_told_as_a_start_that_says_of_which() {
    let config = OrchestratorConfig { restart_grace: Duration::ZERO, lifecycle_events: true, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(CrashStorage::new()), Arc::new(SystemClock), config).await.expect("it opens");
    node.sagas.publish(PURCHASE).await.expect("legal");
    let (books, stop) = (Books::default(), CancellationToken::new());
    let worker = work(&node, &books, TOPICS[0], &stop);
    let id = node.start("purchase", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let second = rerun(&node, id).await.expect("rerun");
    stop.cancel();
    worker.await.expect("no panic");
    let embedder = node.broker.embedder(lane_of(id));
    let topic = EVENT_TOPIC.parse().expect("legal");
    let records = embedder.read(&topic, sagamq_api::Offset(0), 100).await.expect("the topic is there").expect("it reads");
    let told: Vec<(Value, String, Value)> = records
        .iter()
        .map(|record| {
            let value: Value = serde_json::from_slice(record.payload.value.as_deref().expect("a value")).expect("JSON");
            let turn = record.payload.headers.get("ce_type").expect("a type").to_owned();
            (value["id"].clone(), turn, value["rerun_of"].clone())
        })
        .collect();
    let last = told.last().expect("turns");
    assert_eq!(last, &(json!(second), "sagamq.saga.started".to_owned(), json!(id)), "{told:?}");
    let of_origin: Vec<&str> = told.iter().filter(|(of, _, _)| *of == json!(id)).map(|(_, turn, _)| turn.as_str()).collect();
    assert_eq!(of_origin, ["sagamq.saga.started", "sagamq.saga.paused", "sagamq.saga.terminated"], "it ends once");
    node.close().await;
}
