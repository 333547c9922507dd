//! The outage drill: participants that are away, pause, or are far behind. Because of that alone no instance may be BLOCKED, compensated or
//! done twice. The clock is the test's own, so hours pass in seconds; `make drill-outage` runs it and prints a line a case.

use crate::common::{Books, LIMIT, Node, ORDER, call_of, reply_to};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Json, Router, routing::post};
use core::time::Duration;
use sagamq_api::saga::{Call, CallOutcome, SagaDescription, SagaState};
use sagamq_api::service::PutService;
use sagamq_broker::env::ManualClock;
use sagamq_broker::storage::memory::MemoryStorage;
use sagamq_saga::OrchestratorConfig;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// The most that the attempts of a compensation may span by the defaults: 70, with pauses of up to 60 s.
const SPAN: Duration = Duration::from_secs(70 * 60);

/// The drill's node with its clock.
struct Drill {
    node: Node,
    clock: ManualClock,
    books: Books,
    started: Vec<(Uuid, String, SagaState)>,
}

impl Drill {
    async fn new(definition: &str) -> Self {
        let clock = ManualClock::at(1_000_000);
        let node = Node::open_with(Arc::new(MemoryStorage::new()), Arc::new(clock.clone()), OrchestratorConfig::default()).await;
        let drill = Self { node: node.expect("it opens"), clock, books: Books::default(), started: Vec::new() };
        drill.node.sagas.publish(definition).await.expect("a legal definition");
        drill
    }

    async fn start(&mut self, orders: usize, behave: &str, expected: SagaState) {
        for _ in 0..orders {
            let order = format!("o-{}", self.started.len());
            let id = self.node.start("order", json!({"order": order, "behave": behave})).await.expect("started").id;
            self.started.push((id, order, expected));
        }
    }

    /// Lets time pass in steps; after each, every lane has looked at its instances.
    async fn pass(&self, time: Duration, steps: u32) {
        for _ in 0..steps {
            self.clock.advance(time / steps);
            // A lane handles what came in, then looks at the time: who was answered twice has seen one whole look between.
            for _ in 0..2 {
                for (id, ..) in &self.started {
                    let saga = self.node.sagas.get(*id).await.expect("it is there");
                    assert_ne!(saga.summary.state, SagaState::Blocked, "{saga:?}");
                }
            }
        }
    }

    /// Commands of a service that are there now, handed out to a worker.
    async fn take(&self, topic: &str, most: u32) -> Vec<Call> {
        let request = sagamq_api::queue::ReceiveRequest { max_records: Some(most), ..Default::default() };
        let (topic, group) = (topic.parse().expect("legal"), "workers".parse().expect("legal"));
        let received = self.node.broker.receive(&topic, &group, &request).await.expect("the topic is there");
        received.deliveries.iter().map(call_of).collect()
    }

    async fn answer(&self, calls: Vec<Call>) {
        for call in calls {
            if let Some(outcome) = self.books.answer(&call) {
                // A fenced one was settled when its attempt ended.
                let _ = self.node.sagas.complete(reply_to(&call, outcome)).await;
            }
        }
    }

    /// Serves these services until nothing comes any more, and the sagas are at rest if they have to be.
    async fn serve(&self, topics: &[&str], until: impl Fn(&SagaDescription) -> bool) {
        let served = tokio::time::timeout(LIMIT, async {
            loop {
                for topic in topics {
                    self.answer(self.take(topic, 100).await).await;
                }
                self.pass(Duration::from_millis(50), 1).await;
                let mut is_done = true;
                for (id, ..) in &self.started {
                    is_done &= until(&self.node.sagas.get(*id).await.expect("it is there"));
                }
                if is_done {
                    return;
                }
            }
        });
        served.await.expect("the sagas go on");
    }

    /// Lets the sagas come to rest whose services serve by themselves. The clock goes slower than the machine's: no call that is under way
    /// is taken for lost.
    async fn until_at_rest(&self) {
        let rests = async {
            for (id, ..) in &self.started {
                while !at_rest(&self.node.sagas.get(*id).await.expect("it is there")) {
                    self.pass(Duration::from_millis(10), 1).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(2 * LIMIT, rests).await.expect("the sagas go on");
    }

    /// Waits until so many connections to the first service were refused.
    async fn until_refused(&self, count: u64) {
        let tried = || u64::from(self.node.sagas.service(&"stock".parse().expect("legal")).expect("it was put").endpoints[0].failures);
        let refused = async {
            while tried() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, refused).await.unwrap_or_else(|_| panic!("{} of {count} were refused", tried()));
    }

    async fn check(self, case: &str) {
        for (id, order, expected) in &self.started {
            let saga = self.node.sagas.get(*id).await.expect("it is there");
            assert_eq!(saga.summary.state, *expected, "{case}: {order}: {saga:?}");
            let effects = if *expected == SagaState::Completed { 3 } else { 0 };
            assert_eq!(self.books.effects(order), effects, "{case}: the books of {order}");
        }
        assert!(self.books.runs_max() <= 1, "{case}: nothing took effect twice");
        println!("ok  {case}: {} sagas, none blocked, compensated or done twice because of it", self.started.len());
        self.node.close().await;
    }
}

fn at_rest(saga: &SagaDescription) -> bool {
    saga.summary.state.is_final() || saga.summary.state == SagaState::Blocked
}

fn without_saga_timeout() -> String {
    ORDER.replace("timeout: 1m\n", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_away_for_ten_times_the_attempts_span_while_sagas_go_forward_and_back() {
    let mut drill = Drill::new(&without_saga_timeout()).await;
    drill.start(20, "", SagaState::Completed).await;
    drill.start(20, "refuse capture", SagaState::Compensated).await;
    // Nobody is there at all.
    drill.pass(SPAN * 10, 100).await;
    drill.serve(&["stock.commands"], |saga| saga.steps[0].output.is_some()).await;
    // Nobody does the second step.
    drill.pass(SPAN * 10, 100).await;
    // Nobody undoes the first one.
    drill.serve(&["money.commands"], |saga| at_rest(saga) || saga.steps[0].compensation_attempts > 0).await;
    drill.pass(SPAN * 10, 100).await;
    drill.serve(&["stock.commands", "money.commands"], at_rest).await;
    drill.check("workers away for ten times the attempts' span").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_pause_for_half_an_hour_with_calls_in_hand() {
    let mut drill = Drill::new(&without_saga_timeout()).await;
    drill.start(20, "", SagaState::Completed).await;
    for topic in ["stock.commands", "money.commands", "money.commands"] {
        let in_hand = drill.take(topic, 5).await;
        assert_eq!(in_hand.len(), 5);
        drill.pass(Duration::from_secs(30 * 60), 60).await;
        // They go on where they were: late, and of attempts that are over.
        drill.answer(in_hand).await;
        let calls = drill.take(topic, 100).await;
        drill.answer(calls).await;
    }
    drill.serve(&["stock.commands", "money.commands"], at_rest).await;
    drill.check("workers pause for 30 minutes with calls in hand").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_five_times_the_timeout_drains() {
    let mut drill = Drill::new(&without_saga_timeout()).await;
    // One worker a service, 200 ms a call: 50 calls wait for up to 10 s, and a call may take 2 s.
    drill.start(50, "", SagaState::Completed).await;
    for _ in 0..2 * 50 + 10 {
        for topic in ["stock.commands", "money.commands"] {
            let calls = drill.take(topic, 1).await;
            drill.answer(calls).await;
        }
        drill.pass(Duration::from_millis(200), 1).await;
    }
    drill.serve(&["stock.commands", "money.commands"], at_rest).await;
    for (id, ..) in &drill.started {
        let saga = drill.node.sagas.get(*id).await.expect("it is there");
        assert!(saga.steps.iter().all(|step| step.attempts == 1), "the backlog drains without a call made twice: {saga:?}");
    }
    drill.check("a backlog of five times the timeout").await;
}

async fn participant(State(books): State<Books>, Json(call): Json<Call>) -> (StatusCode, Json<Value>) {
    match books.answer(&call) {
        Some(CallOutcome::Succeeded { output }) => (StatusCode::OK, Json(output.to_value())),
        Some(CallOutcome::Refused { .. }) => (StatusCode::CONFLICT, Json(json!({"code": "NO"}))),
        _ => (StatusCode::SERVICE_UNAVAILABLE, Json(Value::Null)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_refuse_connections_for_ten_times_the_attempts_span() {
    // Bound, so that nobody else gets the port, and not listening: connections are refused.
    let place = tokio::net::TcpSocket::new_v4().expect("a socket");
    place.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = place.local_addr().expect("bound");
    let http = |topic: &str| (format!("topic: {topic}"), format!("http: \"http://{address}\""));
    let (stock, money) = (http("stock.commands"), http("money.commands"));
    let mut drill = Drill::new(&without_saga_timeout().replace(&stock.0, &stock.1).replace(&money.0, &money.1)).await;
    // Where they are already, so that it is told how often they were tried there. No endpoint is left alone, as none of a definition is.
    for name in ["stock", "money"] {
        let put = PutService { endpoints: vec![format!("http://{address}")], eject_after: Some(0), ..PutService::default() };
        drill.node.sagas.put_service(name.parse().expect("legal"), put).await.expect("legal");
    }
    drill.start(10, "", SagaState::Completed).await;
    drill.start(10, "refuse capture", SagaState::Compensated).await;
    let mut refused = 20;
    drill.until_refused(refused).await;
    for _ in 0..100 {
        drill.pass(SPAN / 10, 1).await;
        // A clock that jumped over a connection that is being tried would end that attempt in doubt: each is refused once more first.
        refused += 20;
        drill.until_refused(refused).await;
    }
    for (id, ..) in &drill.started {
        let saga = drill.node.sagas.get(*id).await.expect("it is there");
        assert_eq!(saga.summary.state, SagaState::Waiting, "every saga waits for the service: {saga:?}");
        assert!(saga.failures.iter().any(|failure| failure.failure.code == "NOT_SENT"), "{saga:?}");
        assert_eq!(saga.steps[0].attempts, 1, "an outage does not use up the attempts: {saga:?}");
    }
    let service = Router::new().route("/{call}", post(participant)).with_state(drill.books.clone());
    let listener = place.listen(1_024).expect("it is ours");
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    drill.until_at_rest().await;
    server.abort();
    drill.check("services refuse connections for ten times the attempts' span").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_whose_time_is_over_in_an_outage_fails_without_undoing_what_was_never_sent() {
    let mut drill = Drill::new(ORDER).await;
    drill.start(10, "", SagaState::Failed).await;
    drill.pass(Duration::from_secs(3_600), 10).await;
    drill.serve(&["stock.commands", "money.commands"], at_rest).await;
    assert!(drill.take("stock.commands", 10).await.is_empty(), "no worker gets what was given up");
    drill.check("the saga's timeout while nobody is there").await;
}
