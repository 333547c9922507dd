//! Semantic locks over real topics and HTTP: one saga at a time, in the order in which they came, over kills and power cuts.

use crate::api::{Api, serve};
use crate::common::{LIMIT, Node, SHELF, refused, reply_to, succeeded};
use axum::http::HeaderMap;
use axum::{Router, routing::post};
use core::time::Duration;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sagamq_api::saga::{BreakLock, Call, LockList, LockQuery, SagaState, SagaVerb, StepState, WaitCode};
use sagamq_broker::env::{ManualClock, Random, SystemClock};
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::protocol::lock::lane_of_lock;
use sagamq_saga::store::keys::SagaKey;
use sagamq_saga::{BreakError, NotTaken, Orchestrator, OrchestratorConfig};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// Two accounts, locked in the order in which they are given.
const MOVE: &str = r#"
saga: move
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: from, call: stock.from, compensate: stock.from_back, lock: "account/${ input.from }" }
  - { id: to, call: stock.to, compensate: stock.to_back, lock: "account/${ input.to }" }
"#;

async fn open(storage: &CrashStorage) -> Node {
    let node = Node::open(Arc::new(storage.clone())).await.expect("it opens");
    for definition in [SHELF, MOVE] {
        node.sagas.publish(definition).await.expect("a legal definition");
    }
    node
}

async fn start(node: &Node, order: &str, sku: &str) -> Uuid {
    node.start("shelf", json!({"order": order, "sku": sku})).await.expect("started").id
}

async fn complete(node: &Node, call: &Call) {
    node.sagas.complete(reply_to(call, succeeded())).await.expect("the current attempt");
}

/// The next call, which is of this saga and this operation.
async fn call(node: &Node, id: Uuid, operation: &str) -> Call {
    let (call, _) = node.next_command("stock.commands").await;
    assert_eq!((call.attempt.instance, call.call.as_str()), (id, operation));
    call
}

/// Waits until the saga waits for its lock.
async fn waits(node: &Node, id: Uuid) {
    node.until(id, |saga| saga.summary.waits.as_ref().is_some_and(|waits| waits.code == WaitCode::AwaitsLock)).await;
}

async fn locks(node: &Node) -> LockList {
    node.sagas.locks(LockQuery::default()).await.expect("a page")
}

/// Waits until so many are held and wait.
async fn until_locks(node: &Node, held: usize, waiting: u64) {
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            let found = locks(node).await.locks;
            if (found.len(), found.iter().map(|lock| lock.waiting).sum::<u64>()) == (held, waiting) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "{:?}", locks(node).await);
}

fn token(call: &Call) -> u64 {
    call.lock.as_ref().expect("it is called under a lock").token
}

#[tokio::test]
async fn sagas_with_one_key_run_one_after_the_other_in_their_order_and_others_beside_them() {
    let node = open(&CrashStorage::new()).await;
    let mut queue = Vec::new();
    for order in ["1", "2", "3"] {
        queue.push(start(&node, order, "a").await);
        until_locks(&node, 1, queue.len() as u64 - 1).await;
    }
    let first = call(&node, queue[0], "take").await;
    let other = start(&node, "other", "b").await;
    let beside = call(&node, other, "take").await;
    waits(&node, queue[2]).await;
    let told = node.sagas.get(queue[2]).await.expect("it is there");
    let said = told.summary.waits.expect("it says why it does not move").message;
    assert!(said.contains("waits at `take` for the lock `sku/a`") && said.contains(&format!("which saga {} holds", queue[0])), "{said}");
    assert!(said.contains("1 others get it before"), "{said}");
    assert_eq!((told.steps[0].state, told.summary.state), (StepState::Scheduled, SagaState::Waiting));
    assert_eq!(told.steps[0].lock.as_ref().map(|lock| (lock.key.as_str(), lock.token)), Some(("sku/a", None)));
    let found = locks(&node).await.locks;
    let shown: Vec<_> = found.iter().map(|lock| (lock.key.as_str(), lock.held_by, lock.waiting)).collect();
    assert_eq!(shown, [("sku/a", queue[0], 2), ("sku/b", other, 0)]);
    let contended = LockQuery { contended: Some(true), ..LockQuery::default() };
    let contended = node.sagas.locks(contended).await.expect("a page").locks;
    assert_eq!(contended.iter().map(|lock| lock.key.as_str()).collect::<Vec<_>>(), ["sku/a"], "where somebody waits");
    assert_eq!(found[0].waiters.iter().map(|waiter| waiter.saga_id).collect::<Vec<_>>(), queue[1..]);
    let mut tokens = vec![token(&first)];
    let mut taken = first;
    for (at, id) in queue.iter().enumerate() {
        complete(&node, &taken).await;
        let sold = call(&node, *id, "sell").await;
        assert_eq!(token(&sold), token(&taken), "it has one lock for both steps");
        complete(&node, &sold).await;
        assert_eq!(node.at_rest(*id).await.summary.state, SagaState::Completed);
        if let Some(next) = queue.get(at + 1) {
            taken = call(&node, *next, "take").await;
            tokens.push(token(&taken));
        }
    }
    assert!(tokens.is_sorted_by(|before, after| before < after), "{tokens:?}");
    complete(&node, &beside).await;
    let sold = call(&node, other, "sell").await;
    complete(&node, &sold).await;
    until_locks(&node, 0, 0).await;
    node.close().await;
}

#[tokio::test]
async fn what_is_undone_is_undone_under_the_lock_and_whoever_is_cancelled_leaves_the_queue() {
    let node = open(&CrashStorage::new()).await;
    let (first, second, third) = (start(&node, "1", "a").await, start(&node, "2", "a").await, start(&node, "3", "a").await);
    until_locks(&node, 1, 2).await;
    let taken = call(&node, first, "take").await;
    complete(&node, &taken).await;
    let sold = call(&node, first, "sell").await;
    waits(&node, second).await;
    node.operate(second, SagaVerb::Cancel).await.expect("it waits");
    assert_eq!(node.at_rest(second).await.summary.state, SagaState::Failed);
    until_locks(&node, 1, 1).await;
    node.sagas.complete(reply_to(&sold, refused())).await.expect("the current attempt");
    let back = call(&node, first, "back").await;
    assert_eq!((token(&back), locks(&node).await.locks[0].held_by), (token(&taken), first));
    complete(&node, &back).await;
    assert_eq!(node.at_rest(first).await.summary.state, SagaState::Compensated);
    let next = call(&node, third, "take").await;
    assert!(token(&next) > token(&taken));
    node.operate(third, SagaVerb::Terminate).await.expect("it runs");
    until_locks(&node, 0, 0).await;
    node.close().await;
}

#[tokio::test]
async fn of_two_that_wait_for_each_other_the_younger_is_undone_and_the_other_completes() {
    let node = open(&CrashStorage::new()).await;
    let begin = |order: &'static str, from: &'static str, to: &'static str| {
        let node = node.clone();
        async move { node.start("move", json!({"order": order, "from": from, "to": to})).await.expect("started").id }
    };
    let old = begin("1", "a", "b").await;
    let of_old = call(&node, old, "from").await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    let young = begin("2", "b", "a").await;
    let of_young = call(&node, young, "from").await;
    complete(&node, &of_old).await;
    waits(&node, old).await;
    complete(&node, &of_young).await;
    let undone = call(&node, young, "from_back").await;
    complete(&node, &undone).await;
    let young = node.at_rest(young).await;
    let failure = young.summary.failure.expect("it says why");
    assert_eq!((young.summary.state, failure.code.as_str()), (SagaState::Compensated, "LOCK_DEADLOCK"));
    assert!(
        failure.message.contains("`account/a`") && failure.message.contains("`account/b`") && failure.message.contains(&old.to_string()),
        "{failure:?}"
    );
    let last = call(&node, old, "to").await;
    complete(&node, &last).await;
    assert_eq!(node.at_rest(old).await.summary.state, SagaState::Completed);
    until_locks(&node, 0, 0).await;
    node.close().await;
}

#[tokio::test]
async fn locks_that_are_held_and_waited_for_are_there_after_a_kill_and_after_a_power_cut() {
    let storage = CrashStorage::new();
    let node = open(&storage).await;
    let (first, second, third) = (start(&node, "1", "a").await, start(&node, "2", "a").await, start(&node, "3", "a").await);
    until_locks(&node, 1, 2).await;
    let taken = call(&node, first, "take").await;
    let before = locks(&node).await;
    for is_power_cut in [false, true] {
        let left = if is_power_cut { storage.after_power_cut() } else { storage.after_kill() };
        let node = open(&left).await;
        assert_eq!(locks(&node).await, before, "nothing of it is lost");
        waits(&node, second).await;
        complete(&node, &taken).await;
        let mut last = token(&taken);
        for (id, operation) in [(first, "sell"), (second, "take"), (second, "sell"), (third, "take"), (third, "sell")] {
            // What was handed out before the crash comes again when its lease is over, and is settled meanwhile.
            let next = call(&node, id, operation).await;
            assert!(token(&next) >= last, "tokens never go back");
            last = token(&next);
            complete(&node, &next).await;
        }
        until_locks(&node, 0, 0).await;
        let again = start(&node, "4", "a").await;
        assert!(token(&call(&node, again, "take").await) > last, "nor when nobody knows of the lock any more");
        node.close().await;
    }
    node.close().await;
}

#[tokio::test]
async fn an_operator_breaks_a_lock_and_the_history_says_who_and_why() {
    let node = open(&CrashStorage::new()).await;
    let api = Api::of(&node).await;
    let (first, second) = (start(&node, "1", "a").await, start(&node, "2", "a").await);
    until_locks(&node, 1, 1).await;
    let taken = call(&node, first, "take").await;
    let (status, listed) = api.get("/v1/saga-locks?contended=true&limit=1").await;
    assert_eq!((status, &listed["locks"][0]["key"], &listed["locks"][0]["waiting"]), (200, &json!("sku/a"), &json!(1)), "{listed}");
    assert_eq!(listed["locks"][0]["waiters"][0]["saga_id"], json!(second));
    for (query, count) in [("key=sku/a", 1), ("key=sku/b", 0), ("after=sku/a", 0)] {
        let (_, found) = api.get(&format!("/v1/saga-locks?{query}")).await;
        assert_eq!(found["locks"].as_array().map(Vec::len), Some(count), "{query}: {found}");
    }
    for (id, count) in [(first, 1), (second, 1), (Uuid::nil(), 0)] {
        let (_, found) = api.get(&format!("/v1/saga-locks?saga_id={id}")).await;
        assert_eq!(found["locks"].as_array().map(Vec::len), Some(count), "{found}");
    }
    assert_eq!(api.get("/v1/saga-locks?limit=0").await.0, 400);
    for (request, status, code) in [
        (json!({"key": "sku/b", "reason": "why"}), 404, "LOCK_NOT_HELD"),
        (json!({"key": "", "reason": "why"}), 404, "LOCK_NOT_HELD"),
        (json!({"key": "sku/a", "token": token(&taken) + 100, "reason": "why"}), 404, "LOCK_NOT_HELD"),
        (json!({"key": "sku/a", "reason": ""}), 400, "INVALID_REQUEST"),
        (json!({"key": "sku/a"}), 400, "INVALID_REQUEST"),
    ] {
        let (found, problem) = api.post("/v1/saga-locks:break", request.to_string()).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{request}: {problem}");
    }
    let request = json!({"key": "sku/a", "token": token(&taken), "actor": "ann", "reason": "counted by hand"});
    let (status, broken) = api.post("/v1/saga-locks:break", request.to_string()).await;
    assert_eq!((status, &broken["taken_from"], &broken["held_by"]), (200, &json!(first), &json!(second)), "{broken}");
    let next = call(&node, second, "take").await;
    assert!(token(&next) > token(&taken), "who had it bears a smaller token");
    let history = || async { api.get(&format!("/v1/sagas/{first}/history")).await.1 };
    let waited = tokio::time::timeout(LIMIT, async {
        loop {
            let events = history().await;
            if let Some(event) = events["events"].as_array().and_then(|events| events.iter().find(|event| event["type"] == "lock_broken")) {
                return event["data"].clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let event = waited.await.expect("it is in the history of who lost it");
    assert_eq!(event, json!({"key": "sku/a", "token": token(&taken), "actor": "ann", "reason": "counted by hand"}));
    // It asks anew for its next step, behind the other one.
    complete(&node, &taken).await;
    waits(&node, first).await;
    complete(&node, &next).await;
    let sold = call(&node, second, "sell").await;
    complete(&node, &sold).await;
    assert!(token(&call(&node, first, "sell").await) > token(&sold));
    let gone = node.sagas.break_lock(BreakLock { key: "sku/x".to_owned(), token: None, actor: None, reason: "why".to_owned() }).await;
    assert!(matches!(gone, Err(BreakError::Lane(NotTaken::NotHeld(_)))), "{gone:?}");
    node.close().await;
}

#[tokio::test]
async fn publishing_tells_of_locks_that_another_definition_takes_in_the_opposite_order() {
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
    let text = |name: &str, first: &str, second: &str| {
        format!(
            "saga: {name}\nversion: 1\nkey: ${{ input.order }}\ntimeout: 1m\nservices: {{ a: {{ topic: a.commands }} }}\nsteps:\n  \
             - {{ id: one, call: a.one, compensate: none, lock: \"{first}\" }}\n  - {{ id: between, call: a.between, compensate: none }}\n  \
             - {{ id: two, call: a.two, compensate: none, lock: \"{second}\" }}\n"
        )
    };
    let (sku, account) = ("sku/${ input.sku }", "${ 'account/' + input.account }");
    for (name, first, second, expected) in [
        ("first", sku, account, None),
        ("same", sku, account, None),
        ("other", account, sku, Some("`account/…`")),
        ("apart", account, "mail/${ input.order }", None),
    ] {
        let (published, _) = node.sagas.publish(&text(name, first, second)).await.expect("a legal definition");
        let told: Vec<_> = published.warnings.iter().map(|fault| (fault.code.as_str(), fault.line)).collect();
        assert_eq!(told, expected.map_or(Vec::new(), |_| vec![("lock_order", 9)]), "{name}: {:?}", published.warnings);
        if let Some(expected) = expected {
            let message = &published.warnings[0].message;
            assert!(message.contains(expected) && message.contains("version 1 of saga `first`"), "{message}");
        }
    }
    node.close().await;
}

/// What a participant over HTTP was told of the lock, by operation.
type Told = Arc<Mutex<Vec<(String, Option<String>, Option<String>, Value)>>>;

#[tokio::test]
async fn a_participant_over_http_is_told_key_and_token_in_headers_and_in_the_body() {
    let told: Told = Arc::default();
    let seen = Arc::clone(&told);
    let answer = move |path: axum::extract::Path<String>, headers: HeaderMap, body: axum::Json<Value>| {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let entry = (path.0, header("saga-lock-key"), header("saga-lock-token"), body.0["lock"].clone());
        seen.lock().expect("no panic while it is held").push(entry);
        core::future::ready(axum::Json(json!({})))
    };
    let base = serve(Router::new().route("/{operation}", post(answer))).await;
    let node = Node::open(Arc::new(CrashStorage::new())).await.expect("it opens");
    let text = format!(
        "saga: http\nversion: 1\nkey: ${{ input.order }}\ntimeout: 1m\nservices: {{ a: {{ http: \"{base}\" }} }}\nsteps:\n  \
         - {{ id: free, call: a.free, compensate: none }}\n  - {{ id: held, call: a.held, compensate: none, lock: \"k/${{ input.order }}\" }}\n"
    );
    node.sagas.publish(&text).await.expect("a legal definition");
    let id = node.start("http", json!({"order": 7})).await.expect("started").id;
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    let told = told.lock().expect("no panic while it is held").clone();
    assert_eq!(told[0], ("free".to_owned(), None, None, Value::Null));
    let token: u64 = told[1].2.as_ref().and_then(|token| token.parse().ok()).expect("a number");
    assert_eq!(told[1], ("held".to_owned(), Some("k/7".to_owned()), Some(token.to_string()), json!({"key": "k/7", "token": token})));
    node.close().await;
}

#[tokio::test]
async fn a_step_whose_time_to_wait_is_over_fails_and_leaves_the_queue() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let config = || OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(storage), Arc::new(clock.clone()), config()).await.expect("it opens");
    node.sagas
        .publish(&SHELF.replace("\"sku/${ input.sku }\", with", "{ key: \"sku/${ input.sku }\", timeout: 10s }, with"))
        .await
        .expect("legal");
    let (first, second) = (start(&node, "1", "a").await, start(&node, "2", "a").await);
    until_locks(&node, 1, 1).await;
    call(&node, first, "take").await;
    waits(&node, second).await;
    clock.advance(Duration::from_millis(10_000));
    let late = node.at_rest(second).await;
    let failure = late.summary.failure.expect("it says why");
    assert_eq!((late.summary.state, failure.code.as_str()), (SagaState::Failed, "LOCK_TIMEOUT"));
    assert!(failure.message.contains("`sku/a`"), "{failure:?}");
    until_locks(&node, 1, 0).await;
    node.close().await;
}

#[tokio::test]
async fn a_lock_whose_holder_is_gone_is_let_go_when_somebody_has_waited_for_long() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let config = || OrchestratorConfig { restart_grace: Duration::ZERO, ..OrchestratorConfig::default() };
    let key = "sku/a";
    {
        // A holder that nobody knows of: as after the loss of an instance.
        let mut registry = Registry::default();
        let settings = BrokerConfig { shards: 2, ..BrokerConfig::default() };
        let broker = Broker::open(Arc::new(storage.clone()), settings, Arc::new(SystemClock), Random::from_seed(5), &mut registry)
            .expect("it opens");
        let shard = broker.embedder(lane_of_lock(key, 2));
        let mut commit = shard.begin();
        let gone = format!("{{\"by\":{{\"instance\":\"{}\",\"number\":1}},\"token\":41,\"since_ms\":5}}", Uuid::nil());
        commit.put(&SagaKey::Lock(key).encode(), [&[sagamq_saga::protocol::EVENT_FORMAT][..], gone.as_bytes()].concat());
        commit.put(&SagaKey::LockNumber.encode(), 41_u64.to_be_bytes().to_vec());
        let submitted = shard.submit(commit).await.expect("it is taken");
        submitted.durable().await.expect("it is durable");
        broker.shutdown().await;
    }
    let node = Node::open_with(Arc::new(storage), Arc::new(clock.clone()), config()).await.expect("it opens");
    node.sagas.publish(SHELF).await.expect("a legal definition");
    let id = start(&node, "1", "a").await;
    until_locks(&node, 1, 1).await;
    waits(&node, id).await;
    clock.advance(Duration::from_millis(29_000));
    assert_eq!(locks(&node).await.locks[0].token, 41);
    clock.advance(Duration::from_millis(32_000));
    assert!(token(&call(&node, id, "take").await) > 41);
    node.close().await;
}

#[tokio::test]
async fn metrics_tell_how_many_are_held_and_wait_and_for_how_long_they_did() {
    let mut registry = Registry::default();
    let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
    let storage = CrashStorage::new();
    let broker = Broker::open(Arc::new(storage), config, Arc::new(SystemClock), Random::from_seed(7), &mut registry).expect("it opens");
    let sagas = Orchestrator::open(broker.clone(), OrchestratorConfig::default(), &mut registry).await.expect("it opens");
    let node = Node { broker, sagas };
    node.sagas.publish(SHELF).await.expect("a legal definition");
    let value = |name: &str| {
        let mut text = String::new();
        encode(&mut text, &registry).expect("it is written");
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned)).unwrap_or_default()
    };
    let (first, second) = (start(&node, "1", "a").await, start(&node, "2", "a").await);
    until_locks(&node, 1, 1).await;
    assert_eq!((value("sagamq_saga_locks_held"), value("sagamq_saga_locks_waiting")), ("1".to_owned(), "1".to_owned()));
    node.operate(first, SagaVerb::Terminate).await.expect("it runs");
    call(&node, second, "take").await;
    until_locks(&node, 1, 0).await;
    assert_eq!((value("sagamq_saga_locks_waiting"), value("sagamq_saga_lock_wait_seconds_count")), ("0".to_owned(), "2".to_owned()));
    node.sagas
        .break_lock(BreakLock { key: "sku/a".to_owned(), token: None, actor: None, reason: "why".to_owned() })
        .await
        .expect("it is held");
    assert_eq!((value("sagamq_saga_locks_held"), value("sagamq_saga_locks_broken_total")), ("0".to_owned(), "1".to_owned()));
    node.close().await;
}

/// A saga with a lock starts another one as its pivot, which locks what it is told to.
const FAMILY: [&str; 2] = [
    r#"
saga: child
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: first, call: stock.first, pivot: true, lock: "account/${ input.account }" }
  - { id: second, call: stock.second, lock: "account/${ input.account }", with: { to: "${ input.to.name }" } }
"#,
    r#"
saga: parent
version: 1
key: ${ input.order }
timeout: 1h
services: { stock: { topic: stock.commands } }
steps:
  - { id: hold, call: stock.hold, compensate: stock.free, lock: "account/a" }
  - { id: sub, saga: child, pivot: true, with: { order: "${ input.order }", account: other } }
"#,
];

#[tokio::test]
async fn a_circle_is_found_that_goes_through_the_rerun_of_a_sub_saga() {
    let mut registry = Registry::default();
    let config = BrokerConfig { shards: 2, ..BrokerConfig::default() };
    let storage = Arc::new(CrashStorage::new());
    let broker = Broker::open(storage, config, Arc::new(SystemClock), Random::from_seed(11), &mut registry).expect("it opens");
    let sagas = Orchestrator::open(broker.clone(), OrchestratorConfig::default(), &mut registry).await.expect("it opens");
    let node = Node { broker, sagas };
    for definition in FAMILY {
        node.sagas.publish(definition).await.expect("a legal definition");
    }
    let parent = node.start("parent", json!({"order": "1"})).await.expect("started").id;
    complete(&node, &call(&node, parent, "hold").await).await;
    let (first, _) = node.next_command("stock.commands").await;
    complete(&node, &first).await;
    let child = first.attempt.instance;
    assert_eq!(node.at_rest(child).await.summary.state, SagaState::Blocked, "it has no address");
    let input = json!({"order": "1", "account": "a", "to": {"name": "here"}}).into();
    let rerun = SagaVerb::Rerun { from: "second".parse().expect("legal"), input: Some(input) };
    let rerun = node.operate(child, rerun).await.expect("it is blocked");
    until_locks(&node, 1, 1).await;
    let waited = tokio::time::timeout(LIMIT, async {
        let found = || {
            let mut text = String::new();
            encode(&mut text, &registry).expect("it is written");
            text.lines().any(|line| line.starts_with("sagamq_saga_lock_deadlocks_total ") && !line.ends_with(" 0"))
        };
        while !found() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "its parent waits for the rerun, which waits for what its parent holds: {rerun:?}");
    // Neither can be undone: an operator ends it.
    let broken = BreakLock { key: "account/a".to_owned(), token: None, actor: None, reason: "they wait for each other".to_owned() };
    node.sagas.break_lock(broken).await.expect("it is held");
    let (second, _) = node.next_command("stock.commands").await;
    assert_eq!(second.call, "second");
    complete(&node, &second).await;
    assert_eq!(node.at_rest(parent).await.summary.state, SagaState::Completed);
    node.close().await;
}
