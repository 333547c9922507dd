//! Sagas that sleep and that wait for signals, over real processes: `kill -9` while they do, signals kept and sent twice, and the example
//! of the guide.

use sagamq_api::TopicName;
use sagamq_api::saga::{Call, SagaDescription, SagaState, SendSignal, SentSignal, StartSaga, StepState, WaitCode};
use sagamq_sdk::{CallError, Client, SagaWorker};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, eventually};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(120);

const NAP: &str = "\
saga: nap
version: 1
key: ${ input.order_id }
services: { payments: { topic: payments.commands } }
steps:
  - { id: authorize, call: payments.authorize, compensate: payments.void }
  - { id: rest, sleep: 2s }
  - { id: settle, call: payments.settle, pivot: true }
";

/// The example of the guide that waits for a signal.
fn example() -> String {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sagas.md")).expect("the guide");
    let begin = guide.find("saga: guarded-checkout").expect("the guide has the example");
    let end = guide[begin..].find("```").expect("it ends");
    guide[begin..begin + end].to_owned()
}

fn worker(client: &Client) -> SagaWorker {
    let topic: TopicName = "payments.commands".parse().expect("legal");
    let mut builder = SagaWorker::builder(client.clone(), topic).wait_for_topic(true);
    for name in ["authorize", "settle", "void"] {
        builder =
            builder.on(name, move |call: Call| async move { Ok::<_, CallError>(json!({ "did": call.call, "with": call.arguments })) });
    }
    builder.build()
}

async fn start(client: &Client, saga: &str, order: &str) -> Uuid {
    let input = json!({ "order_id": order, "total": 7 }).into();
    let start = StartSaga { saga: saga.parse().expect("legal"), version: None, mode: None, input };
    client.sagas().start(&start).await.expect("started").id
}

async fn waits(client: &Client, id: Uuid, code: WaitCode) -> SagaDescription {
    eventually("the saga waits", async || {
        let saga = client.sagas().get(id).await.ok()?;
        let is_so = saga.summary.state == SagaState::Waiting && saga.summary.waits.as_ref().is_some_and(|waits| waits.code == code);
        is_so.then_some(saga)
    })
    .await
}

/// As the command line does it.
fn send(server: &ServerProcess, arguments: &[&str]) -> Value {
    let sent =
        Command::new(binary("sagamq")).args(["--output", "json", "--server", &server.url(), "saga", "signal"]).args(arguments).output();
    let sent = sent.expect("it runs");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    serde_json::from_slice(&sent.stdout).expect("one JSON document")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_was_killed_while_it_slept_wakes_at_its_time() {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(NAP).await.expect("published");
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker(&client).run(stop.clone()));
    let id = start(&client, "nap", "o-1").await;
    let asleep = eventually("it sleeps", async || {
        let history = client.sagas().history(id).await.ok()?;
        history.events.into_iter().find(|event| event.r#type == "step_asleep")
    })
    .await;
    let until_ms = asleep.data.to_value()["until_ms"].as_u64().expect("a sleep has an end");
    server.kill();
    server.restart().await;
    let ended = client.sagas().wait(id, PATIENCE).await.expect("ends");
    assert_eq!((ended.summary.state, ended.steps[1].state), (SagaState::Completed, StepState::Succeeded));
    let history = client.sagas().history(id).await.expect("it has one");
    let woken: Vec<_> = history.events.iter().filter(|event| event.r#type == "step_woke").collect();
    assert_eq!(woken.len(), 1, "once: {history:?}");
    assert!(woken[0].at_ms >= until_ms, "and not before its time");
    stop.cancel();
    working.await.expect("no panic").expect("ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_guide_waits_for_a_person_over_kills_and_hears_each_signal_once() {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(&example()).await.expect("the example is legal");
    let (early, late) = (start(&client, "guarded-checkout", "o-1").await, start(&client, "guarded-checkout", "o-2").await);
    // Nobody works yet, so no step waits.
    let said = json!({ "name": "reviewed", "payload": { "by": "ann" } }).to_string();
    let post = async |server: &ServerProcess| -> SentSignal {
        let request = reqwest::Client::new().post(format!("{}/v1/sagas/{early}:signal", server.url())).body(said.clone());
        let answer =
            request.header("content-type", "application/json").header("idempotency-key", "review-1").send().await.expect("answered");
        serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("it has the signal")
    };
    assert!(!post(&server).await.duplicate);
    server.kill();
    server.restart().await;
    assert!(post(&server).await.duplicate, "the key of the request is the id of the signal, after a kill too");
    assert_eq!(client.sagas().get(early).await.expect("it is there").signals.len(), 1, "it is kept");
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker(&client).run(stop.clone()));
    let ended = client.sagas().wait(early, PATIENCE).await.expect("ends");
    assert_eq!((ended.summary.state, &ended.steps[1].output), (SagaState::Completed, &Some(json!({ "by": "ann" }).into())));
    let waiting = waits(&client, late, WaitCode::AwaitsSignal).await;
    assert!(waiting.steps[1].due_at_ms.is_some(), "it waits for two days at the most");
    server.kill();
    server.restart().await;
    let by_key = ["--saga", "guarded-checkout", "--key", "o-2", "reviewed", "--payload", r#"{"by": "bob"}"#, "--signal-id", "review-2"];
    let sent = send(&server, &by_key);
    assert_eq!((&sent["id"], &sent["duplicate"]), (&json!(late), &json!(false)), "{sent}");
    let ended = client.sagas().wait(late, PATIENCE).await.expect("ends");
    assert_eq!(ended.summary.state, SagaState::Completed);
    let settled = ended.steps[2].output.as_ref().expect("it has one").to_value();
    assert_eq!(settled["with"], json!({ "reviewed_by": "bob" }), "what was said is passed on");
    let id = late.to_string();
    let again = send(&server, &[&id, "reviewed", "--payload", r#"{"by": "bob"}"#, "--signal-id", "review-2"]);
    assert_eq!((&again["duplicate"], &again["state"]), (&json!(true), &json!("COMPLETED")), "{again}");
    let signal =
        SendSignal { name: "reviewed".parse().expect("legal"), payload: json!(1).into(), signal_id: None, actor: None, reason: None };
    let refused = client.sagas().signal(late, &signal).await.expect_err("it is at its end");
    assert_eq!(refused.code().map(|code| code.as_str()), Some("SAGA_STATE_CONFLICT"), "{refused}");
    stop.cancel();
    working.await.expect("no panic").expect("ends well");
}
