//! Semantic locks over real processes and the example of the guide: a queue of sagas over `kill -9`, a lock that an operator takes away, and one whose
//! holder is gone.

use sagamq_api::queue::ReceiveRequest;
use sagamq_api::saga::{
    Call, CallOutcome, CompleteCall, Failure, LockDescription, LockQuery, OperateSaga, SagaState, SagaVerb, StartSaga, WaitCode,
};
use sagamq_broker::env::{Random, SystemClock};
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_saga::protocol::EVENT_FORMAT;
use sagamq_saga::protocol::lock::lane_of_lock;
use sagamq_saga::store::keys::SagaKey;
use sagamq_sdk::Client;
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{binary, eventually, is_left_out_over_a_cluster};
use serde_json::{Value, json};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(120);

const KEY: &str = "account/4711";

/// The example of the guide that locks an account.
fn example() -> String {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sagas.md")).expect("the guide");
    let begin = guide.find("saga: move-money").expect("the guide has the example");
    let end = guide[begin..].find("```").expect("it ends");
    guide[begin..begin + end].to_owned()
}

/// The same that waits for as long as it takes; the guide's gives up after 30 s, which a slow machine may need.
fn patient() -> String {
    let (text, patient) = (example(), example().replace(", timeout: 30s }", " }"));
    assert_ne!(text, patient, "the guide's has that time");
    patient
}

async fn start(client: &Client, order: &str) -> Uuid {
    let input = json!({ "order_id": order, "from": "4711", "amount": 5 }).into();
    let start = StartSaga { saga: "move-money".parse().expect("legal"), version: None, mode: None, input };
    client.sagas().start(&start).await.expect("started").id
}

/// The lock of the account, once it is as wanted.
async fn lock(client: &Client, what: &str, wanted: impl Fn(&LockDescription) -> bool) -> LockDescription {
    let query = LockQuery { key: Some(KEY.to_owned()), ..LockQuery::default() };
    eventually(what, async || client.sagas().locks(&query).await.ok()?.locks.pop().filter(&wanted)).await
}

/// Nobody has any lock.
async fn nothing_is_held(client: &Client) {
    eventually("everything is let go", async || client.sagas().locks(&LockQuery::default()).await.ok()?.locks.is_empty().then_some(()))
        .await;
}

/// The next call of the service, which is this one.
async fn called(client: &Client, id: Uuid, operation: &str) -> Call {
    let (topic, group) = ("accounts.commands".parse().expect("legal"), "workers".parse().expect("legal"));
    let request = ReceiveRequest { max_records: Some(1), wait_ms: Some(1_000), ..ReceiveRequest::default() };
    let call: Call = eventually("a call comes", async || {
        let delivery = client.receive(&topic, &group, &request).await.ok()?.deliveries.pop()?;
        serde_json::from_value(serde_json::to_value(delivery).ok()?["value"].clone()).ok()
    })
    .await;
    assert_eq!((call.attempt.instance, call.call.as_str()), (id, operation));
    assert_eq!(call.lock.as_ref().map(|lock| lock.key.as_str()), Some(KEY), "each call is under the lock");
    call
}

fn token(call: &Call) -> u64 {
    call.lock.as_ref().expect("it is called under the lock").token
}

async fn reply(client: &Client, call: &Call, reply: CallOutcome) {
    client.sagas().complete(&CompleteCall { attempt: call.attempt.clone(), reply }).await.expect("the current attempt");
}

async fn succeed(client: &Client, call: &Call) {
    reply(client, call, CallOutcome::Succeeded { output: json!({}).into() }).await;
}

/// What a participant does as the guide says: it refuses a token that is smaller than the largest that it has seen.
async fn serve(client: &Client, call: &Call, seen: &mut u64) -> bool {
    let is_late = token(call) < *seen;
    *seen = token(call).max(*seen);
    if is_late {
        let failure = Failure { code: "FENCED".to_owned(), message: "somebody newer was here".to_owned() };
        reply(client, call, CallOutcome::Refused { failure }).await;
    } else {
        succeed(client, call).await;
    }
    !is_late
}

async fn is(client: &Client, id: Uuid, state: SagaState) {
    let ended = client.sagas().wait(id, PATIENCE).await.expect("it ends");
    assert_eq!(ended.summary.state, state, "{ended:?}");
}

/// As the command line does it.
fn sagamq(server: &ServerProcess, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary("sagamq"));
    command.args(["--output", "json", "--server", &server.url(), "saga"]).args(arguments);
    command.output().expect("it runs")
}

fn told(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

async fn restart(server: &mut ServerProcess) {
    server.kill();
    server.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_guide_queues_in_order_over_kills_and_tokens_rise() {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(&patient()).await.expect("the example is legal");
    let mut queue = Vec::new();
    for order in 0..5_u64 {
        queue.push(start(&client, &format!("o-{order}")).await);
        lock(&client, "it has the lock or waits", |lock| lock.waiting == order).await;
    }
    let before = lock(&client, "one has it", |_| true).await;
    assert_eq!((before.held_by, before.waiters.iter().map(|waiter| waiter.saga_id).collect::<Vec<_>>()), (queue[0], queue[1..].to_vec()));
    restart(&mut server).await;
    assert_eq!(lock(&client, "one has it", |_| true).await, before, "who has it, with which token, and who waits since when");
    let waiting = client.sagas().get(queue[4]).await.expect("it is there");
    assert_eq!(waiting.summary.waits.map(|waits| waits.code), Some(WaitCode::AwaitsLock));
    let listed = told(&sagamq(&server, &["locks", "--contended"]));
    assert_eq!((&listed["locks"][0]["held_by"], &listed["locks"][0]["waiting"]), (&json!(queue[0]), &json!(4)), "{listed}");
    // One of those that wait gives up its place, and nobody else's changes.
    told(&sagamq(&server, &["cancel", &queue[2].to_string()]));
    is(&client, queue.remove(2), SagaState::Failed).await;
    let mut last = 0;
    for (at, id) in queue.iter().enumerate() {
        let debit = called(&client, *id, "debit").await;
        assert!(token(&debit) > last, "each one's token is larger than that of the one before");
        last = token(&debit);
        succeed(&client, &debit).await;
        // The killed server neither gives the lock away while it is held, nor forgets whose turn is next.
        if at != 1 {
            restart(&mut server).await;
        }
        let note = called(&client, *id, "note").await;
        assert_eq!(token(&note), last, "it has one lock over both steps");
        let held = lock(&client, "it has the lock", |_| true).await;
        assert_eq!((held.held_by, held.waiting), (*id, queue.len() as u64 - 1 - at as u64));
        succeed(&client, &note).await;
        is(&client, *id, SagaState::Completed).await;
    }
    nothing_is_held(&client).await;
    restart(&mut server).await;
    let again = start(&client, "o-9").await;
    assert!(token(&called(&client, again, "debit").await) > last, "also when nobody knows of the lock any more, and after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_an_operator_takes_away_fences_who_had_it() {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(&example()).await.expect("the example is legal");
    let (first, second) = (start(&client, "o-1").await, {
        lock(&client, "the first has it", |_| true).await;
        start(&client, "o-2").await
    });
    let held = lock(&client, "the second waits", |lock| lock.waiting == 1).await;
    // The call of the first is at its participant and hangs there.
    let hanging = called(&client, first, "debit").await;
    assert_eq!((held.held_by, token(&hanging)), (first, held.token));
    let wrong = sagamq(&server, &["lock", "break", KEY, "--lock-token", &(held.token + 1).to_string(), "--reason", "a slip"]);
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("LOCK_NOT_HELD"), "it is not held with that token: {said}");
    assert_eq!(lock(&client, "nothing has happened", |_| true).await, held);
    let right = held.token.to_string();
    let broken = told(&sagamq(&server, &["lock", "break", KEY, "--lock-token", &right, "--reason", "settled by hand", "--actor", "ann"]));
    assert_eq!(
        (&broken["taken_from"], &broken["token"], &broken["held_by"]),
        (&json!(first), &json!(held.token), &json!(second)),
        "{broken}"
    );
    restart(&mut server).await;
    let again = sagamq(&server, &["lock", "break", KEY, "--lock-token", &right, "--reason", "settled by hand"]);
    assert!(!again.status.success(), "and not taken from the one who has it now");
    // Whoever has it now works, and then the call comes through that was on its way all the time.
    let mut seen = 0;
    let debit = called(&client, second, "debit").await;
    assert!(token(&debit) > held.token);
    assert!(serve(&client, &debit, &mut seen).await);
    assert!(!serve(&client, &hanging, &mut seen).await, "who lost the lock is turned away");
    is(&client, first, SagaState::Failed).await;
    let history = client.sagas().history(first).await.expect("it has one").events;
    let event = history.iter().find(|event| event.r#type == "lock_broken").expect("its history says who took the lock").data.to_value();
    assert_eq!(event, json!({ "key": KEY, "token": held.token, "actor": "ann", "reason": "settled by hand" }));
    let note = called(&client, second, "note").await;
    assert!(serve(&client, &note, &mut seen).await);
    is(&client, second, SagaState::Completed).await;
    nothing_is_held(&client).await;
}

/// Behind its pivot nothing gives up.
const SETTLE: &str = "
saga: settle
version: 1
key: ${ input.order_id }
defaults: { retry: { initial: 50ms, factor: 2, max: 200ms } }
services: { accounts: { topic: accounts.commands } }
steps:
  - { id: charge, call: accounts.charge, pivot: true, lock: account/4711 }
  - { id: book, call: accounts.book, lock: account/4711 }
";

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_a_lock_behind_its_pivot_says_why_it_does_not_move_and_what_to_do() {
    let server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(SETTLE).await.expect("a legal definition");
    let input = json!({ "order_id": "o-1" }).into();
    let settle = StartSaga { saga: "settle".parse().expect("legal"), version: None, mode: None, input };
    let id = client.sagas().start(&settle).await.expect("started").id;
    let charge = called(&client, id, "charge").await;
    succeed(&client, &charge).await;
    let book = called(&client, id, "book").await;
    told(&sagamq(&server, &["lock", "break", KEY, "--reason", "counted by hand"]));
    assert!(!serve(&client, &book, &mut (token(&book) + 1)).await, "somebody newer was there");
    let why = format!("the lock `{KEY}` was taken away from it, and what it calls here bears the old token {}", token(&book));
    let waits =
        eventually("it says why", async || client.sagas().get(id).await.ok()?.summary.waits.filter(|waits| waits.message.contains(&why)))
            .await;
    assert!(waits.message.contains("say it with `resolve`"), "{waits:?}");
    let shown = Command::new(binary("sagamq")).args(["--server", &server.url(), "saga", "get", &id.to_string()]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&why), "{}", String::from_utf8_lossy(&shown.stdout));
    told(&sagamq(&server, &["resolve", &id.to_string(), "--step", "book", "--outcome", "succeeded", "--reason", "booked by hand"]));
    is(&client, id, SagaState::Completed).await;
    nothing_is_held(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_is_ended_over_a_kill_lets_the_next_one_in() {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(&example()).await.expect("the example is legal");
    let first = start(&client, "o-1").await;
    let held = lock(&client, "the first has it", |_| true).await;
    let second = start(&client, "o-2").await;
    lock(&client, "the second waits", |lock| lock.waiting == 1).await;
    let terminate = OperateSaga { verb: SagaVerb::Terminate, reason: Some("it hangs".to_owned()), actor: None };
    client.sagas().operate(first, &terminate).await.expect("it runs");
    // What the end of the first leads to is on its way, or not yet.
    restart(&mut server).await;
    let next = lock(&client, "the second has it", |lock| lock.held_by == second).await;
    assert!(next.token > held.token && next.waiting == 0);
    let debit = called(&client, second, "debit").await;
    assert_eq!(token(&debit), next.token);
}

/// Writes that a saga has the lock which nobody knows of: as after a loss of data.
async fn lose_the_holder(data: &std::path::Path, token: u64) {
    let storage = Arc::new(RocksStorage::open(data, &RocksOptions::default()).expect("the server is dead"));
    let broker = Broker::open(storage, BrokerConfig::default(), Arc::new(SystemClock), Random::from_seed(5), &mut Default::default());
    let broker = broker.expect("it opens");
    let shard = broker.embedder(lane_of_lock(KEY, broker.shards()));
    let mut commit = shard.begin();
    let gone = format!(r#"{{"by":{{"instance":"{}","number":1}},"token":{token},"since_ms":5}}"#, Uuid::nil());
    commit.put(&SagaKey::Lock(KEY).encode(), [&[EVENT_FORMAT][..], gone.as_bytes()].concat());
    commit.put(&SagaKey::LockNumber.encode(), token.to_be_bytes().to_vec());
    shard.submit(commit).await.expect("it is taken").durable().await.expect("it is durable");
    broker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_holder_is_lost_is_let_go_when_somebody_has_waited_for_long() {
    if is_left_out_over_a_cluster("it writes into the directory beside the log") {
        return;
    }
    let mut server = ServerProcess::start().await;
    let client = server.client();
    client.sagas().publish(&patient()).await.expect("legal");
    server.kill();
    lose_the_holder(&server.data(), 41).await;
    server.restart().await;
    let (first, second) = (start(&client, "o-1").await, {
        lock(&client, "the first waits", |lock| lock.waiting == 1).await;
        start(&client, "o-2").await
    });
    let held = lock(&client, "both wait", |lock| lock.waiting == 2).await;
    assert_eq!((held.held_by, held.token), (Uuid::nil(), 41));
    let debit = called(&client, first, "debit").await;
    assert!(token(&debit) > 41, "the token is larger than that of whoever is lost");
    succeed(&client, &debit).await;
    let note = called(&client, first, "note").await;
    succeed(&client, &note).await;
    is(&client, first, SagaState::Completed).await;
    let debit = called(&client, second, "debit").await;
    assert!(token(&debit) > token(&note));
}
