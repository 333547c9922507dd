//! Sagas of four steps over two command topics; the workers do nothing, so what is left is the orchestrator and the disk.

use crate::ServerProcess;
use crate::bench::{Latency, now};
use sagamq_api::saga::{Call, SagaState, StartSaga};
use sagamq_sdk::{CallError, Client, SagaWorker};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Four steps, each a durable commit.
pub(crate) const DEFINITION: &str = "\
saga: bench
version: 1
key: ${ input.id }
services:
  a: { topic: bench.a.commands }
  b: { topic: bench.b.commands }
steps:
  - { id: one, call: a.do, with: { id: \"${ input.id }\" }, compensate: a.undo }
  - { id: two, call: b.do, with: { id: \"${ input.id }\" }, compensate: b.undo }
  - { id: three, call: a.pay, pivot: true, with: { id: \"${ input.id }\" } }
  - { id: four, call: b.ship, with: { id: \"${ input.id }\" } }
";

/// What a round gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SagaRate {
    pub(crate) completed_per_second: f64,
    /// From the start request to the last event, as a client that watches sees it.
    pub(crate) saga: Latency,
}

/// `concurrency` clients start a saga each, wait until it is completed, and start the next.
pub(crate) async fn measure(server: &ServerProcess, concurrency: u32, count: u32) -> SagaRate {
    let client = server.client();
    client.sagas().publish(DEFINITION).await.expect("published");
    let stop = CancellationToken::new();
    let workers: Vec<_> =
        ["bench.a.commands", "bench.b.commands"].map(|topic| tokio::spawn(worker(&client, topic).run(stop.clone()))).into();
    let (next, began) = (Arc::new(AtomicU32::new(0)), now());
    let clients: Vec<_> = (0..concurrency)
        .map(|_| {
            let (client, next) = (server.client(), Arc::clone(&next));
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return latencies;
                    }
                    latencies.push(one(&client, &format!("{concurrency}-{number}")).await);
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await.expect("no panic"));
    }
    let completed_per_second = f64::from(count) / began.elapsed().as_secs_f64();
    stop.cancel();
    for worker in workers {
        worker.await.expect("no panic").expect("ends well");
    }
    SagaRate { completed_per_second, saga: Latency::of(&mut latencies) }
}

async fn one(client: &Client, id: &str) -> Duration {
    let request = StartSaga { saga: "bench".parse().expect("legal"), version: None, mode: None, input: json!({ "id": id }).into() };
    let started = client.sagas().start(&request).await.expect("started");
    let saga = client.sagas().wait(started.id, Duration::from_secs(120)).await.expect("ends");
    assert_eq!(saga.summary.state, SagaState::Completed);
    // The server's own times: the client's polling would blur them.
    Duration::from_millis(saga.summary.updated_at_ms - saga.summary.started_at_ms)
}

fn worker(client: &Client, topic: &str) -> SagaWorker {
    let mut builder = SagaWorker::builder(client.clone(), topic.parse().expect("legal")).concurrency(64);
    for name in ["do", "undo", "pay", "ship"] {
        builder = builder.on(name, |_: Call| async { Ok::<Value, CallError>(json!({})) });
    }
    builder.build()
}
