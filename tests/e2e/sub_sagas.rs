//! Sagas that start sagas over real processes: `kill -9` of the broker in the middle, and books that balance for both.

use sagamq_api::saga::{Call, Operation, SagaQuery, SagaState, StartSaga};
use sagamq_sdk::{CallError, Client, RetryPolicy, SagaWorker};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::binary;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest time for anything here: generous, because this is no test of speed.
const PATIENCE: Duration = Duration::from_secs(120);

const PAYMENT: &str = "\
saga: payment
version: 1
key: ${ input.order }
defaults: { retry: { initial: 20ms, max: 200ms, attempts: 100 }, compensate_retry: { initial: 20ms, max: 200ms, attempts: 100 } }
services: { money: { topic: money.commands } }
steps:
  - { id: authorize, call: money.authorize, with: \"${ input }\", compensate: money.void }
  - { id: book, call: money.book, with: \"${ input }\", compensate: money.unbook }
";

const ORDER: &str = "\
saga: order
version: 1
key: ${ input.order }
defaults: { retry: { initial: 20ms, max: 200ms, attempts: 100 }, compensate_retry: { initial: 20ms, max: 200ms, attempts: 100 } }
services: { stock: { topic: stock.commands } }
steps:
  - { id: reserve, call: stock.reserve, with: \"${ input }\", compensate: stock.release }
  - { id: pay, saga: payment, with: \"${ input }\" }
  - { id: ship, call: stock.ship, with: \"${ input }\", compensate: stock.recall }
";

/// What the services have done, by order and step: how often the effect came, less how often it was undone.
#[derive(Clone, Debug, Default)]
struct Books(Arc<Mutex<Done>>);

/// The calls that had their effect, and what stands by order and step.
type Done = (HashSet<String>, BTreeMap<(String, String), i32>);

impl Books {
    fn serve(&self, call: &Call) -> Result<Value, CallError> {
        let arguments = call.arguments.to_value();
        let order = arguments["order"].as_str().expect("an order").to_owned();
        if arguments["refuse"] == call.call.as_str() {
            return Err(CallError::refused("NO", "as the test asks"));
        }
        let mut books = self.0.lock().expect("no panic");
        if books.0.insert(call.idempotency_key.clone()) {
            let change = if call.attempt.operation == Operation::Action { 1 } else { -1 };
            *books.1.entry((order, call.attempt.step.to_string())).or_default() += change;
        }
        Ok(json!({}))
    }

    fn stands(&self, order: &str) -> Vec<i32> {
        let books = self.0.lock().expect("no panic");
        let of = |step: &str| books.1.get(&(order.to_owned(), step.to_owned())).copied().unwrap_or(0);
        ["reserve", "authorize", "book", "ship"].map(of).to_vec()
    }
}

fn worker(client: &Client, service: &str, books: &Books, calls: &[&str]) -> SagaWorker {
    let topic = format!("{service}.commands").parse().expect("legal");
    let mut builder = SagaWorker::builder(client.clone(), topic).concurrency(16).wait_for_topic(true);
    for &name in calls {
        let books = books.clone();
        builder = builder.on(name, move |call: Call| {
            let result = books.serve(&call);
            async move { result }
        });
    }
    builder.build()
}

fn start(number: u32) -> StartSaga {
    let refuse = match number % 3 {
        0 => "book",
        1 => "ship",
        _ => "",
    };
    let input = json!({ "order": format!("o-{number}"), "refuse": refuse });
    StartSaga { saga: "order".parse().expect("legal"), version: None, mode: None, input: input.into() }
}

/// The command lists whose sub-saga each is, for people and for programs.
fn check_list(server: &ServerProcess, order: Uuid) {
    let key = format!("{order}/pay/action#1");
    let listed = |format: &str| {
        let url = server.url();
        let arguments = ["saga", "list", "--saga", "payment", "--key", &key, "--output", format, "--server", &url];
        let output = Command::new(binary("sagamq")).args(arguments).output().expect("the command runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let table = listed("table");
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().expect("a header").split_whitespace().collect();
    assert_eq!(header[header.len() - 2..], ["PARENT", "WAITS"], "{table}");
    let row: Vec<&str> = lines.next().expect("one row").split_whitespace().collect();
    assert_eq!(row[row.len() - 2], order.to_string(), "{table}");
    let json: Value = serde_json::from_str(&listed("json")).expect("JSON");
    assert_eq!(json["sagas"][0]["parent"], json!({ "id": order, "saga": "order", "step": "pay", "attempt": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_and_their_sub_sagas_end_as_one_whenever_the_broker_is_killed() {
    const ORDERS: u32 = 90;
    let mut server = ServerProcess::start().await;
    let patient = RetryPolicy { attempts: 1000, deadline: Duration::from_secs(100), ..RetryPolicy::default() };
    let client = server.client().with_retry(patient);
    client.sagas().publish(PAYMENT).await.expect("published");
    client.sagas().publish(ORDER).await.expect("published");
    let (books, stop) = (Books::default(), CancellationToken::new());
    let stock = tokio::spawn(worker(&client, "stock", &books, &["reserve", "release", "ship", "recall"]).run(stop.clone()));
    let money = tokio::spawn(worker(&client, "money", &books, &["authorize", "void", "book", "unbook"]).run(stop.clone()));
    let starter = tokio::spawn({
        let client = client.clone();
        async move {
            let mut ids = Vec::new();
            for number in 0..ORDERS {
                ids.push((number, client.sagas().start(&start(number)).await.expect("started in the end").id));
            }
            ids
        }
    });
    let ended = async || {
        let query = |state| SagaQuery {
            state: Some(state),
            saga: Some("order".parse().expect("legal")),
            limit: Some(1000),
            ..SagaQuery::default()
        };
        let mut ended = 0;
        for state in [SagaState::Completed, SagaState::Compensated] {
            ended += client.sagas().list(&query(state)).await.map_or(0, |list| list.sagas.len());
        }
        ended
    };
    for part in 1..=3 {
        let enough = async {
            while ended().await < (ORDERS as usize) * part / 5 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("the sagas go on");
        server.kill();
        server.restart().await;
    }
    for (number, id) in starter.await.expect("no panic") {
        let order = client.sagas().wait(id, PATIENCE).await.expect("ends");
        let expected = if number % 3 == 2 { SagaState::Completed } else { SagaState::Compensated };
        let payment = order.steps[1].child.as_ref().and_then(|child| child.state);
        assert_eq!((order.summary.state, payment), (expected, Some(expected)), "{order:?}");
        let stands = i32::from(expected == SagaState::Completed);
        assert_eq!(books.stands(&order.summary.key), [stands; 4], "of {}", order.summary.key);
        if number == 0 {
            check_list(&server, id);
        }
    }
    stop.cancel();
    stock.await.expect("no panic").expect("ends well");
    money.await.expect("no panic").expect("ends well");
}
