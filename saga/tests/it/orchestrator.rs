//! The orchestrator on a broker in memory: workers, start once, fencing, recovery, reply records, listings.

use crate::common::{Books, Node, ORDER, refused, reply_to, spawn_workers, succeeded};
use sagamq_api::headers::saga as headers;
use sagamq_api::saga::{CallOutcome, HistoryQuery, SagaQuery, SagaState, SagaVerb, StepState};
use sagamq_broker::NewRecord;
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::crash::CrashStorage;
use sagamq_broker::storage::{Durability, Family, Mutation, Storage};
use sagamq_saga::protocol::{Rejection, lane_of};
use sagamq_saga::{CallError, DefinitionError, InstanceError, OperateError, OrchestratorConfig, PublishError, QueryError, StartError};
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

async fn open() -> (CrashStorage, Node) {
    let storage = CrashStorage::new();
    let node = Node::open(Arc::new(storage.clone())).await.expect("fresh storage opens");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    (storage, node)
}

#[tokio::test]
async fn workers_run_a_saga_and_its_commands_are_settled() {
    let (_, node) = open().await;
    let (books, stop) = (Books::default(), CancellationToken::new());
    let workers = spawn_workers(&node, &books, &stop);
    let good = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started");
    let bad = node.start("order", json!({"order": "2", "behave": "refuse capture"})).await.expect("started");
    let good = node.at_rest(good.id).await;
    assert_eq!((good.summary.state, good.output), (SagaState::Completed, Some(json!({"captured": "test"}).into())));
    let bad = node.at_rest(bad.id).await;
    assert_eq!(bad.summary.state, SagaState::Compensated);
    assert_eq!(bad.summary.failure.map(|failure| failure.code), Some("NO".to_owned()));
    assert_eq!((books.effects("1"), books.effects("2")), (3, 0));
    let history = node.sagas.history(good.summary.id, HistoryQuery::default()).await.expect("it has one");
    let kinds: Vec<&str> = history.events.iter().map(|event| event.r#type.as_str()).collect();
    let step = ["step_called", "step_succeeded"];
    assert_eq!(kinds, [&["saga_started"][..], &step, &step, &step, &["saga_completed"]].concat());
    assert_eq!((node.lag("stock.commands").await, node.lag("money.commands").await), (0, 0));
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic");
    }
    node.close().await;
}

#[tokio::test]
async fn a_key_starts_one_saga() {
    let (_, node) = open().await;
    let input = json!({"order": "1", "behave": ""});
    let starts = (0..16).map(|_| node.start("order", input.clone()));
    let started = futures_util::future::try_join_all(starts).await.expect("all are answered");
    assert_eq!(started.iter().filter(|started| !started.duplicate).count(), 1);
    assert!(started.iter().all(|again| again.id == started[0].id));
    let other = node.start("order", json!({"order": "1", "behave": "else"})).await;
    assert!(matches!(other, Err(StartError::KeyConflict { .. })), "{other:?}");
    let no_object = node.start("order", json!([1])).await;
    assert!(matches!(no_object, Err(StartError::InvalidInput(_))));
    let no_key = node.start("order", json!({})).await;
    assert!(matches!(no_key, Err(StartError::InvalidInput(_))));
    assert!(matches!(node.start("nothing", json!({})).await, Err(StartError::Definition(DefinitionError::NotFound { .. }))));
    node.close().await;
}

#[tokio::test]
async fn replies_are_fenced_and_duplicates_answered() {
    let (_, node) = open().await;
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    assert_eq!((call.attempt.instance, call.attempt.epoch, call.reply_partition.0), (id, 1, u32::from(lane_of(id))));
    let first = node.sagas.complete(reply_to(&call, succeeded())).await.expect("the current attempt");
    assert!(!first.duplicate);
    assert!(node.sagas.complete(reply_to(&call, succeeded())).await.expect("again").duplicate);
    let other = node.sagas.complete(reply_to(&call, refused())).await;
    assert!(matches!(other, Err(CallError::Rejected(Rejection::Fenced { .. }))), "{other:?}");
    let mut future = reply_to(&call, succeeded());
    future.attempt.epoch = 9;
    assert!(matches!(node.sagas.complete(future).await, Err(CallError::Rejected(Rejection::Fenced { .. }))));
    let mut nobody = reply_to(&call, succeeded());
    nobody.attempt.step = "nobody".parse().expect("legal");
    assert!(matches!(node.sagas.complete(nobody).await, Err(CallError::Rejected(Rejection::NoSuchStep { .. }))));
    let mut nowhere = reply_to(&call, succeeded());
    nowhere.attempt.instance = uuid::Uuid::nil();
    assert!(matches!(node.sagas.complete(nowhere).await, Err(CallError::Instance(InstanceError::NotFound(_)))));
    assert_eq!(node.lag("stock.commands").await, 0, "the reply settled the command");
    node.close().await;
}

#[tokio::test]
async fn a_silent_worker_is_asked_again_and_its_old_command_is_settled() {
    let (_, node) = open().await;
    let text = ORDER.replace("timeout: 2s", "timeout: 50ms").replace("saga: order", "saga: hasty");
    node.sagas.publish(&text).await.expect("a legal definition");
    let id = node.start("hasty", json!({"order": "1", "behave": ""})).await.expect("started").id;
    for epoch in 1..=3 {
        let (call, _) = node.next_command("stock.commands").await;
        assert_eq!(call.attempt.epoch, epoch);
    }
    let saga = node.until(id, |saga| saga.steps[0].attempts >= 4).await;
    assert!(saga.failures.iter().all(|failed| failed.failure.code == "TIMEOUT"));
    let after = node.operate(id, SagaVerb::Cancel).await.expect("before the pivot").state;
    assert_eq!(after, SagaState::Compensating);
    let (books, stop) = (Books::default(), CancellationToken::new());
    let workers = spawn_workers(&node, &books, &stop);
    assert_eq!(node.at_rest(id).await.summary.state, SagaState::Compensated);
    assert_eq!((books.effects("1"), node.lag("stock.commands").await), (0, 0));
    let again = node.operate(id, SagaVerb::Cancel).await;
    assert!(matches!(again, Err(OperateError::Rejected(Rejection::AlreadyFinal(_)))));
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic");
    }
    node.close().await;
}

#[tokio::test]
async fn an_instance_of_a_protocol_of_tomorrow_is_set_aside_by_name_and_the_others_run() {
    let (storage, node) = open().await;
    let mut ids = Vec::new();
    for order in ["1", "2"] {
        ids.push(node.start("order", json!({"order": order, "behave": ""})).await.expect("started").id);
    }
    let left = storage.after_kill();
    node.close().await;
    let mut key = lane_of(ids[0]).to_be_bytes().to_vec();
    key.extend_from_slice(&sagamq_saga::store::keys::SagaKey::Event(ids[0], 0).encode());
    let mut event = left.get(Family::Saga, &key).expect("it reads").expect("it was started").to_vec();
    assert_eq!(event[..2], [sagamq_saga::protocol::EVENT_FORMAT, 1], "the format, and the protocol");
    event[1] = 9;
    left.write(&[Mutation::Put { family: Family::Saga, key, value: event.into() }], Durability::Synced).expect("it writes");
    let node = Node::open(Arc::new(left)).await.expect("one instance does not stop the others");
    let described = node.sagas.get(ids[0]).await.expect_err("it does not run").to_string();
    let history = node.sagas.history(ids[0], HistoryQuery::default()).await.expect_err("nor is it read").to_string();
    for error in [described, history] {
        assert!(error.contains("protocol 9"), "{error}");
    }
    let started = node.start("order", json!({"order": "1", "behave": ""})).await;
    assert!(started.as_ref().is_err_and(|error| error.to_string().contains("protocol 9")), "its key starts no other: {started:?}");
    let (books, stop) = (Books::default(), CancellationToken::new());
    let workers = spawn_workers(&node, &books, &stop);
    assert_eq!(node.at_rest(ids[1]).await.summary.state, SagaState::Completed);
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic");
    }
    node.close().await;
}

#[tokio::test]
async fn after_a_restart_sagas_go_on_and_a_damaged_one_is_set_aside() {
    let (storage, node) = open().await;
    let mut ids = Vec::new();
    for order in ["1", "2", "3"] {
        ids.push(node.start("order", json!({"order": order, "behave": ""})).await.expect("started").id);
    }
    let (call, _) = node.next_command("stock.commands").await;
    let left = storage.after_kill();
    node.close().await;
    let mut key = lane_of(ids[1]).to_be_bytes().to_vec();
    key.extend_from_slice(&sagamq_saga::store::keys::SagaKey::Event(ids[1], 1).encode());
    left.write(&[Mutation::Put { family: Family::Saga, key, value: b"\x01{}"[..].into() }], Durability::Synced).expect("it writes");
    let node = Node::open(Arc::new(left)).await.expect("one damaged saga does not stop the others");
    assert!(matches!(node.sagas.get(ids[1]).await, Err(InstanceError::Quarantined { .. })));
    let aside = SagaQuery { state: Some(SagaState::Quarantined), ..SagaQuery::default() };
    let aside = node.sagas.list(aside).await.expect("a page").sagas;
    assert_eq!(aside.iter().map(|saga| saga.id).collect::<Vec<_>>(), [ids[1]], "it is listed as what it is");
    let running = SagaQuery { state: Some(SagaState::Running), ..SagaQuery::default() };
    assert_eq!(node.sagas.list(running).await.expect("a page").sagas.len(), 2);
    let (books, stop) = (Books::default(), CancellationToken::new());
    if call.attempt.instance != ids[1] {
        node.sagas.complete(reply_to(&call, books.answer(&call).expect("it answers"))).await.expect("the attempt is still the current one");
    }
    let workers = spawn_workers(&node, &books, &stop);
    for id in [ids[0], ids[2]] {
        assert_eq!(node.at_rest(id).await.summary.state, SagaState::Completed);
    }
    assert_eq!(node.lag("stock.commands").await, 0, "no worker is asked for it again and again");
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic");
    }
    node.close().await;
}

#[tokio::test]
async fn reply_records_count_like_replies() {
    let (storage, node) = open().await;
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    let record = |outcome: &str, epoch: u32| {
        let record = NewRecord::of(json!({"by": "record"}).to_string());
        let record = record
            .with_header(headers::INSTANCE, call.attempt.instance.to_string())
            .with_header(headers::STEP, call.attempt.step.to_string());
        let record = record.with_header(headers::OPERATION, "action").with_header(headers::EPOCH, epoch.to_string());
        record.with_header(headers::OUTCOME, outcome).with_partition(call.reply_partition)
    };
    let garbage = NewRecord::of("no reply at all").with_partition(call.reply_partition);
    let records = vec![garbage, record("refused", 7), record("succeeded", 1), record("succeeded", 1)];
    node.broker.produce(&"saga.replies".parse().expect("legal"), records, None).await.expect("stored");
    let saga = node.until(id, |saga| saga.steps[0].state == StepState::Succeeded).await;
    assert_eq!(saga.steps[0].output, Some(json!({"by": "record"}).into()));
    let left = storage.after_kill();
    node.close().await;
    let node = Node::open(Arc::new(left)).await.expect("it opens");
    let saga = node.sagas.get(id).await.expect("it is there");
    assert_eq!((saga.steps[0].state, saga.steps[1].state), (StepState::Succeeded, StepState::InProgress));
    node.close().await;
}

#[tokio::test]
async fn definitions_are_immutable_and_faults_come_all_at_once() {
    let (_, node) = open().await;
    assert!(!node.sagas.publish(ORDER).await.expect("the same text").1);
    let changed = ORDER.replace("attempts: 10", "attempts: 11");
    assert!(matches!(node.sagas.publish(&changed).await, Err(PublishError::VersionExists { .. })));
    node.sagas.publish(&changed.replace("version: 1", "version: 2")).await.expect("a new version");
    let name = "order".parse().expect("legal");
    assert_eq!(node.sagas.definition(&name, None).expect("the newest").version, 2);
    assert_eq!(node.sagas.definition(&name, Some(1)).expect("the old one").source, ORDER);
    assert!(matches!(node.sagas.definition(&name, Some(3)), Err(DefinitionError::NotFound { .. })));
    let Err(PublishError::InvalidDefinition(faults)) = node.sagas.publish("saga: x\nversion: none\nsteps: []\n").await else {
        panic!("faults")
    };
    assert!(faults.len() > 1, "{faults:?}");
    assert!(!node.sagas.lint("saga: x".to_owned()).await.valid);
    node.close().await;
}

#[tokio::test]
async fn listings_filter_and_page() {
    let (_, node) = open().await;
    let mut ids = Vec::new();
    for order in 0..7 {
        ids.push(node.start("order", json!({"order": order.to_string(), "behave": ""})).await.expect("started").id);
    }
    node.operate(ids[3], SagaVerb::Cancel).await.expect("before the pivot");
    let mut found = Vec::new();
    let mut query = SagaQuery { limit: Some(3), ..SagaQuery::default() };
    loop {
        let page = node.sagas.list(query.clone()).await.expect("a page");
        found.extend(page.sagas.into_iter().map(|saga| (saga.started_at_ms, saga.id)));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    assert!(found.is_sorted_by(|a, b| a > b), "those that started last come first: {found:?}");
    let mut listed: Vec<_> = found.into_iter().map(|(_, id)| id).collect();
    listed.sort();
    ids.sort();
    assert_eq!(listed, ids);
    let running = SagaQuery { state: Some(SagaState::Running), ..SagaQuery::default() };
    assert_eq!(node.sagas.list(running).await.expect("a page").sagas.len(), 6);
    // Its call was not handed out to anybody: there is nothing to undo.
    let undone = SagaQuery { state: Some(SagaState::Failed), saga: Some("order".parse().expect("legal")), ..SagaQuery::default() };
    assert_eq!(node.sagas.list(undone).await.expect("a page").sagas.len(), 1);
    let by_key = SagaQuery { key: Some("5".to_owned()), ..SagaQuery::default() };
    assert_eq!(node.sagas.list(by_key).await.expect("a page").sagas[0].key, "5");
    for bad in [SagaQuery { limit: Some(0), ..SagaQuery::default() }, SagaQuery { after: Some("x".to_owned()), ..SagaQuery::default() }] {
        assert!(matches!(node.sagas.list(bad).await, Err(QueryError::Parameter(_))));
    }
    node.close().await;
}

#[tokio::test]
async fn what_waits_in_the_queue_costs_no_attempt_and_is_taken_out_of_it_by_a_cancellation() {
    let (_, node) = open().await;
    let text = ORDER.replace("timeout: 2s", "timeout: 50ms").replace("saga: order", "saga: hasty");
    node.sagas.publish(&text).await.expect("a legal definition");
    let id = node.start("hasty", json!({"order": "1", "behave": ""})).await.expect("started").id;
    // Far more than one attempt's time passes for an order whose worker is there.
    let other = node.start("hasty", json!({"order": "2", "behave": ""})).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    let (taken, waits) = if call.attempt.instance == id { (id, other) } else { (other, id) };
    node.until(taken, |saga| saga.steps[0].attempts >= 2).await;
    let saga = node.sagas.get(waits).await.expect("it is there");
    assert_eq!((saga.steps[0].attempts, saga.failures.len()), (1, 0), "nobody has it");
    node.operate(waits, SagaVerb::Cancel).await.expect("before the pivot");
    let saga = node.at_rest(waits).await;
    assert_eq!((saga.summary.state, saga.steps[0].state), (SagaState::Failed, StepState::Failed), "nothing was done, so nothing is undone");
    assert_eq!(saga.failures[0].failure.code, "NOT_SENT");
    node.close().await;
}

#[tokio::test]
async fn after_a_restart_replies_come_before_deadlines() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let config = OrchestratorConfig { restart_grace: core::time::Duration::from_secs(10), ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(storage.clone()), Arc::new(clock.clone()), config.clone()).await.expect("it opens");
    node.sagas.publish(&ORDER.replace("attempts: 10", "attempts: 1")).await.expect("a legal definition");
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    let left = storage.after_kill();
    node.close().await;
    // The node is away for longer than its one attempt, and the whole saga, may take; the worker finished in time.
    clock.advance(core::time::Duration::from_secs(600));
    let node = Node::open_with(Arc::new(left), Arc::new(clock), config).await.expect("it opens");
    // The lane has looked at the time twice before it answers twice.
    for _ in 0..2 {
        assert_eq!(node.sagas.get(id).await.expect("it is there").steps[0].state, StepState::InProgress);
    }
    node.sagas.complete(reply_to(&call, succeeded())).await.expect("a known success is never thrown away");
    let saga = node.sagas.get(id).await.expect("it is there");
    assert_eq!((saga.steps[0].state, saga.steps[1].state, saga.failures.len()), (StepState::Succeeded, StepState::InProgress, 0));
    node.close().await;
}

#[tokio::test]
async fn a_saga_whose_time_was_over_while_the_server_was_away_may_finish_within_the_grace() {
    let (storage, clock) = (CrashStorage::new(), ManualClock::at(1_000_000));
    let config = OrchestratorConfig { restart_grace: core::time::Duration::from_secs(60), ..OrchestratorConfig::default() };
    let node = Node::open_with(Arc::new(storage.clone()), Arc::new(clock.clone()), config.clone()).await.expect("it opens");
    node.sagas.publish(ORDER).await.expect("a legal definition");
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let late = node.start("order", json!({"order": "2", "behave": ""})).await.expect("started").id;
    let left = storage.after_kill();
    node.close().await;
    // Both sagas' own minute is over by now, as after a restored backup.
    clock.advance(core::time::Duration::from_secs(600));
    let node = Node::open_with(Arc::new(left), Arc::new(clock.clone()), config).await.expect("it opens");
    let mut done = 0;
    while done < 3 {
        let topic = if done == 0 { "stock.commands" } else { "money.commands" };
        let (call, _) = node.next_command(topic).await;
        if call.attempt.instance == id {
            node.sagas.complete(reply_to(&call, succeeded())).await.expect("it is called");
            done += 1;
        }
    }
    assert_eq!(
        node.sagas.get(id).await.expect("it is there").summary.state,
        SagaState::Completed,
        "it is past its pivot before time speaks"
    );
    let saga = node.sagas.get(late).await.expect("it is there");
    assert_eq!((saga.summary.state, saga.failures.len()), (SagaState::Running, 0), "time says nothing about it either");
    clock.advance(core::time::Duration::from_secs(61));
    let saga = node.until(late, |saga| saga.summary.failure.is_some()).await;
    assert_eq!(saga.summary.failure.map(|failure| failure.code).as_deref(), Some("SAGA_TIMEOUT"));
    node.close().await;
}

#[tokio::test]
async fn a_success_whose_output_is_too_large_is_a_success_with_a_note() {
    let (_, node) = open().await;
    let id = node.start("order", json!({"order": "1", "behave": ""})).await.expect("started").id;
    let (call, _) = node.next_command("stock.commands").await;
    let large = CallOutcome::Succeeded { output: json!("x".repeat(3 << 20)).into() };
    node.sagas.complete(reply_to(&call, large)).await.expect("a known success");
    let saga = node.sagas.get(id).await.expect("it is there");
    assert_eq!((saga.steps[0].state, saga.steps[0].output.as_ref().map(|output| output.is_null())), (StepState::Succeeded, Some(true)));
    assert_eq!(saga.failures[0].failure.code, "PAYLOAD_TOO_LARGE", "and it is told");
    node.close().await;
}

#[tokio::test]
async fn a_worker_that_works_on_is_asked_again_in_the_same_attempt() {
    let (_, node) = open().await;
    node.start("order", json!({"order": "1", "behave": ""})).await.expect("started");
    let (call, _) = node.next_command("stock.commands").await;
    node.sagas.complete(reply_to(&call, CallOutcome::Ongoing { retry_after_ms: Some(1) })).await.expect("the current attempt");
    // Long before its lease of 30 s is over.
    let (again, _) = node.next_command("stock.commands").await;
    assert_eq!((again.attempt.instance, again.attempt.step, again.attempt.epoch), (call.attempt.instance, call.attempt.step, 1));
    node.close().await;
}
