//! Sagas over real processes: workers through the SDK, `kill -9` of the broker in the middle, and books that balance.

use sagamq_api::TopicName;
use sagamq_api::headers::saga as headers;
use sagamq_api::saga::{Call, SagaQuery, SagaState, StartSaga};
use sagamq_sdk::{CallError, Client, RetryPolicy, SagaWorker};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::binary;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Longest time for anything here: generous, because this is no test of speed.
const PATIENCE: Duration = Duration::from_secs(120);

const DEFINITION: &str = "\
saga: booking
version: 1
key: ${ input.id }
defaults:
  timeout: 5s
  retry: { initial: 20ms, factor: 2, max: 200ms, attempts: 100 }
  compensate_retry: { initial: 20ms, factor: 2, max: 200ms, attempts: 100 }
services:
  hotel: { topic: hotel.commands }
  flight: { topic: flight.commands }
steps:
  - id: room
    call: hotel.reserve
    with: { id: \"${ input.id }\" }
    compensate:
      call: hotel.cancel
      emit: { topic: booking.events, value: { room: \"given back\", why: \"${ failure.code }\" } }
    emit: { topic: booking.events, value: { room: \"${ steps.room.output.room }\" } }
  - id: seat
    call: flight.reserve
    with: { id: \"${ input.id }\", sold_out: \"${ input.sold_out }\" }
    compensate: flight.cancel
  - id: pay
    call: flight.pay
    pivot: true
    with: { id: \"${ input.id }\" }
  - id: confirm
    call: hotel.confirm
    with: { room: \"${ steps.room.output.room }\" }
    emit: { topic: booking.events, value: { room: \"confirmed\" } }
output:
  room: ${ steps.room.output.room }
";

/// Every how many trips the first answer to each call is lost: the effect is there, the call comes again.
const LOST_EVERY: u32 = 7;

/// What the services have done: *by trip*, so that an effect that a trip has twice is seen, under whatever keys it came.
#[derive(Clone, Debug, Default)]
struct Books(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    /// Keys of calls whose effect is there: a call that comes again under the same key has no second one.
    keys: HashSet<String>,
    /// Effects by trip and operation of the service.
    effects: BTreeMap<(String, String), u32>,
    /// Calls that came again.
    repeated: u32,
}

impl Books {
    /// Takes effect unless it did under this key. Whether it did now.
    fn record(&self, trip: &str, call: &Call, name: &str) -> bool {
        let mut written = self.0.lock().expect("no panic");
        let is_new = written.keys.insert(call.idempotency_key.clone());
        if is_new {
            *written.effects.entry((trip.to_owned(), name.to_owned())).or_default() += 1;
        } else {
            written.repeated += 1;
        }
        is_new
    }

    fn effects(&self, trip: &str, name: &str) -> u32 {
        self.0.lock().expect("no panic").effects.get(&(trip.to_owned(), name.to_owned())).copied().unwrap_or(0)
    }

    fn repeated(&self) -> u32 {
        self.0.lock().expect("no panic").repeated
    }
}

/// What was told, by business key and by step and operation: the places of its records, partition and offset.
type Told = Arc<Mutex<BTreeMap<(String, String), BTreeSet<(u32, u64)>>>>;

/// How many records say this of a trip.
fn places(told: &Told, trip: &str, of: &str) -> usize {
    told.lock().expect("no panic").get(&(trip.to_owned(), of.to_owned())).map_or(0, BTreeSet::len)
}

fn worker(client: &Client, service: &'static str, books: &Books, calls: &[&str]) -> SagaWorker {
    let topic: TopicName = format!("{service}.commands").parse().expect("legal");
    let mut builder = SagaWorker::builder(client.clone(), topic).concurrency(16).wait_for_topic(true);
    for &name in calls {
        let books = books.clone();
        builder = builder.on(name, move |call: Call| {
            let result = serve(&books, service, &call);
            async move { result }
        });
    }
    builder.build()
}

fn serve(books: &Books, service: &str, call: &Call) -> Result<Value, CallError> {
    if call.arguments.to_value()["sold_out"] == true && call.call == "reserve" {
        return Err(CallError::refused("SOLD_OUT", "no seat is left"));
    }
    let number: u32 = call.key.strip_prefix("trip-").and_then(|number| number.parse().ok()).expect("a trip");
    let is_new = books.record(&call.key, call, &format!("{service}.{}", call.call));
    if is_new && number.is_multiple_of(LOST_EVERY) {
        return Err(CallError::unknown("LOST", "the effect is there, the answer is lost"));
    }
    Ok(json!({ "room": 12 }))
}

fn start(id: u32) -> StartSaga {
    StartSaga {
        saga: "booking".parse().expect("legal"),
        version: None,
        mode: None,
        input: json!({ "id": format!("trip-{id}"), "sold_out": id.is_multiple_of(5) }).into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_end_completed_or_compensated_whenever_the_broker_is_killed() {
    const SAGAS: u32 = 300;
    let mut server = ServerProcess::start().await;
    let patient = RetryPolicy { attempts: 1000, deadline: Duration::from_secs(100), ..RetryPolicy::default() };
    let client = server.client().with_retry(patient);
    client.sagas().publish(DEFINITION).await.expect("published");
    let (books, stop) = (Books::default(), CancellationToken::new());
    // Whoever listens has a group of its own, and is killed as little as the other clients; what it is told is counted by its place in the topic.
    let told: Told = Arc::default();
    let listener = client.consumer("booking.events".parse().expect("legal"), "listeners".parse().expect("legal"));
    let listener = tokio::spawn(listener.stop_timeout(PATIENCE).run(stop.clone(), {
        let told = Arc::clone(&told);
        move |delivery| {
            let header = |name: &str| delivery.record.headers.get(name).unwrap_or_default().to_owned();
            let of = (header(headers::KEY), format!("{} {}", header(headers::STEP), header(headers::OPERATION)));
            let place = (delivery.record.partition.0, delivery.record.offset.0);
            told.lock().expect("no panic").entry(of).or_default().insert(place);
            async { Ok(()) }
        }
    }));
    let hotel = tokio::spawn(worker(&client, "hotel", &books, &["reserve", "cancel", "confirm"]).run(stop.clone()));
    let flight = tokio::spawn(worker(&client, "flight", &books, &["reserve", "cancel", "pay"]).run(stop.clone()));
    let starter = tokio::spawn({
        let client = client.clone();
        async move {
            let mut ids = Vec::new();
            for id in 0..SAGAS {
                ids.push((id, client.sagas().start(&start(id)).await.expect("started in the end").id));
            }
            ids
        }
    });
    let ended = async || {
        let mut ended = 0;
        for state in [SagaState::Completed, SagaState::Compensated] {
            let query = SagaQuery { state: Some(state), limit: Some(1000), ..SagaQuery::default() };
            ended += client.sagas().list(&query).await.map_or(0, |list| list.sagas.len());
        }
        ended
    };
    for part in 1..=3 {
        let enough = async {
            while ended().await < (SAGAS as usize) * part / 5 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.expect("the sagas go on");
        server.kill();
        server.restart().await;
    }
    let ids = starter.await.expect("no panic");
    for (number, id) in ids {
        let saga = client.sagas().wait(id, PATIENCE).await.expect("ends");
        let expected = if number.is_multiple_of(5) { SagaState::Compensated } else { SagaState::Completed };
        assert_eq!(saga.summary.state, expected, "{saga:?}");
        let completed = u32::from(expected == SagaState::Completed);
        let effects = ["hotel.reserve", "hotel.cancel", "flight.reserve", "flight.cancel", "flight.pay", "hotel.confirm"];
        let done = effects.map(|effect| books.effects(&saga.summary.key, effect));
        assert_eq!(done, [1, 1 - completed, completed, 0, completed, completed], "{effects:?} of {}", saga.summary.key);
        if expected == SagaState::Completed {
            assert_eq!(saga.output, Some(json!({ "room": 12 }).into()));
        } else {
            assert_eq!(saga.summary.failure.as_ref().map(|failure| failure.code.as_str()), Some("SOLD_OUT"));
        }
        let (room, undone, confirmed) = ("room action", "room compensation", "confirm action");
        let expected = if completed == 1 { vec![room, confirmed] } else { vec![room, undone] };
        let all = async {
            while !expected.iter().all(|of| places(&told, &saga.summary.key, of) > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{expected:?} of {} are told", saga.summary.key));
        let count = [room, undone, confirmed].map(|of| places(&told, &saga.summary.key, of));
        assert_eq!(count, [1, 1 - completed as usize, completed as usize], "each is in the topic once, of {}", saga.summary.key);
        let again = client.sagas().start(&start(number)).await.expect("answered");
        assert!(again.duplicate && again.id == id, "one saga a key, after any number of restarts");
    }
    assert!(books.repeated() >= SAGAS / LOST_EVERY, "calls came again, or nothing was shown");
    stop.cancel();
    hotel.await.expect("no panic").expect("ends well");
    flight.await.expect("no panic").expect("ends well");
    listener.await.expect("no panic").expect("ends well");
}

#[test]
fn lint_reports_five_faults_of_a_file_with_line_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("five.yaml");
    let text = "\
saga: order
version: one
key: ${ input.id }
services:
  pay: { topic: pay.commands }
steps:
  - id: a
    call: pay.charge
    compensate: pay.refund
    retires: 3
  - id: a
    call: bank.charge
    compensate: pay.refund
  - id: b
    call: pay.confirm
    with: { x: '${ steps.c.output.x }' }
    timeout: soon
    compensate: pay.refund
";
    std::fs::write(&file, text).expect("written");
    let lint = Command::new(binary("sagamq")).args(["--output", "json", "saga", "lint"]).arg(&file).output().expect("runs");
    assert_eq!(lint.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&lint.stdout).expect("one JSON document");
    let faults = report.pointer("/files/0/faults").and_then(Value::as_array).unwrap_or_else(|| panic!("faults in {report}"));
    let mut places: Vec<(u64, &str)> =
        faults.iter().map(|f| (f["line"].as_u64().expect("a line"), f["code"].as_str().expect("a code"))).collect();
    assert!(faults.iter().all(|fault| fault["column"].as_u64().is_some_and(|column| column > 1)), "{report}");
    places.sort_unstable();
    let lines: Vec<u64> = places.iter().map(|(line, _)| *line).collect();
    for line in [2, 10, 11, 12, 16, 17] {
        assert!(lines.contains(&line), "a fault in line {line}: {places:?}");
    }
}
