//! Sagas of four steps over two command topics, with participants in this process that do nothing: what is left is the orchestrator and
//! the disk.

use super::access::code;
use super::board::{Board, Outcome};
use super::load::{Operation, Start};
use super::report::Measured;
use super::{Bench, Done, load};
use sagamq_api::SagaName;
use sagamq_api::saga::{Call, Retention, SagaState, StartSaga};
use sagamq_sdk::{CallError, ClientError, SagaClient, SagaWorker};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Name of the definition. It is published once and for all, so every run has the same one.
pub const NAME: &str = "sagamq-bench";

/// Topics of the participants.
const TOPICS: [&str; 2] = ["sagamq-bench.a", "sagamq-bench.b"];

/// Two steps that can be undone, a pivot, and one behind it: five synced commits one after the other.
const DEFINITION: &str = "\
saga: sagamq-bench
version: 1
key: ${ input.id }
services:
  a: { topic: sagamq-bench.a }
  b: { topic: sagamq-bench.b }
steps:
  - { id: one, call: a.do, with: { id: \"${ input.id }\" }, compensate: a.undo }
  - { id: two, call: b.do, with: { id: \"${ input.id }\" }, compensate: b.undo }
  - { id: three, call: a.pay, pivot: true, with: { id: \"${ input.id }\" } }
  - { id: four, call: b.ship, with: { id: \"${ input.id }\" } }
";

/// How long a request waits for the end of its saga.
const WAIT: Duration = Duration::from_secs(20);

/// How long sagas of the benchmark are kept after their end, in milliseconds.
const KEEP_MS: u64 = 60_000;

/// Calls that a participant works on at a time.
const CONCURRENCY: usize = 64;

/// Starts a saga and waits for its end, with a connection of its own.
#[derive(Debug)]
pub struct Sagas {
    sagas: SagaClient,
    name: SagaName,
    run: String,
}

impl Operation for Sagas {
    async fn run(&mut self, start: Start) -> Outcome {
        let input = json!({ "id": format!("{}-{}", self.run, start.index) });
        let request = StartSaga { saga: self.name.clone(), version: None, mode: None, input: input.into() };
        match self.sagas.start_waiting(&request, WAIT).await {
            Ok(started) if started.state == SagaState::Completed => Outcome::Done { records: 1, bytes: 0 },
            Ok(started) if !started.state.is_final() => Outcome::Failed("SAGA_NOT_AT_ITS_END"),
            Ok(_) => Outcome::Failed("SAGA_NOT_COMPLETED"),
            Err(error) => Outcome::Failed(code(error)),
        }
    }
}

/// Publishes the definition, lets participants work until `stop`, and gives one starter for each connection.
///
/// # Errors
/// When the definition cannot be published.
pub async fn starters(bench: &Bench, connections: usize) -> Result<Vec<Sagas>, ClientError> {
    let name: SagaName = NAME.parse().expect("a legal name");
    let sagas = bench.client.sagas();
    sagas.publish(DEFINITION).await?;
    sagas.set_retention(Some(&name), &Retention { keep_ms: Some(KEEP_MS), keep_count: None }).await?;
    let starter = |_| Ok(Sagas { sagas: bench.access.client()?.sagas(), name: name.clone(), run: bench.run.clone() });
    (0..connections).map(starter).collect()
}

/// Participants that do nothing, until `stop`.
///
/// # Errors
/// What a worker cannot go on from.
pub async fn participate(bench: &Bench, stop: CancellationToken) -> Result<(), ClientError> {
    let worker = |topic: &str| {
        let mut builder = SagaWorker::builder(bench.client.clone(), topic.parse().expect("a legal name")).concurrency(CONCURRENCY);
        for call in ["do", "undo", "pay", "ship"] {
            builder = builder.on(call, |_: Call| async { Ok::<Value, CallError>(json!({})) });
        }
        builder.build().run(stop.clone())
    };
    let [a, b] = TOPICS.map(worker);
    let (a, b) = tokio::join!(a, b);
    a.and(b)
}

/// Starts sagas and waits for each one's end.
///
/// # Errors
/// When the definition cannot be published. What fails later is counted.
pub async fn run(bench: &Bench) -> Result<Done, ClientError> {
    let plan = &bench.plan;
    let starters = starters(bench, bench.connections).await?;
    let stop = CancellationToken::new();
    let participants = tokio::spawn({
        let (bench, stop) = (bench.clone(), stop.clone());
        async move { participate(&bench, stop).await }
    });
    let board = Arc::new(Board::new(plan.warmup));
    let loaded = load::run(*plan, Instant::now(), starters, &[Arc::clone(&board)], &bench.stop, &bench.watch).await;
    stop.cancel();
    let ended = participants.await.expect("a worker does not panic");
    let faults = ended.err().map(|error| format!("the participants ended: {error}")).into_iter().collect();
    let notes = vec![format!(
        "the definition `{NAME}` and its two topics stay: a published definition never goes; sagas go a minute after their end"
    )];
    Ok(Done { results: vec![Measured::of("saga", "sagas", &board, plan, &loaded)], loaded, faults, notes })
}
