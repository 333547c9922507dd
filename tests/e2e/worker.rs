//! A saga worker before a real server: long work under a short lease, a lease that is lost, an attempt that is over, and a stop.

use sagamq_api::TopicName;
use sagamq_api::saga::{Call, SagaState, StartSaga};
use sagamq_sdk::{CallError, CancellationToken, Client, ClientError, SagaWorker, SagaWorkerBuilder, lease_lost};
use sagamq_tests::ServerProcess;
use sagamq_tests::server::{eventually, wait_until};
use serde_json::{Value, json};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Far beyond what a test needs: only a hang meets it.
const LIMIT: Duration = Duration::from_secs(120);

/// The shortest lease there is.
const SHORT: Duration = Duration::from_secs(1);

/// Longer than any test: what is leased for so long and not given back is not seen again.
const LONG: Duration = Duration::from_secs(3_600);

fn topic() -> TopicName {
    "press.commands".parse().expect("legal")
}

/// A saga of one call, `press.print`, whose attempts may take so long.
async fn publish(client: &Client, timeout: &str) {
    let definition = format!(
        "saga: print\nversion: 1\nkey: ${{ input.id }}\nservices: {{ press: {{ topic: press.commands }} }}\nsteps:\n  - id: print\n    \
         call: press.print\n    timeout: {timeout}\n    retry: {{ initial: 10m, max: 10m }}\n    compensate: none\noutput: ${{ steps.print.output }}\n"
    );
    client.sagas().publish(&definition).await.expect("published");
}

async fn start(client: &Client, id: u32) -> Uuid {
    let start =
        StartSaga { saga: "print".parse().expect("legal"), version: None, mode: None, input: json!({ "id": id.to_string() }).into() };
    client.sagas().start(&start).await.expect("started").id
}

/// How the saga ended, and with what.
async fn end(client: &Client, id: Uuid) -> (SagaState, Value) {
    let saga = client.sagas().wait(id, LIMIT).await.expect("it ends");
    (saga.summary.state, saga.output.map_or(Value::Null, |output| output.to_value()))
}

/// A counter that handlers share with the test.
#[derive(Clone, Debug, Default)]
struct Count(Arc<AtomicU32>);

impl Count {
    /// Counts one more; how many it are now.
    fn add(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    async fn reaches(&self, wanted: u32) {
        wait_until("the count", || (self.get() >= wanted).then_some(())).await;
    }
}

/// Counts when it is dropped before it was let go.
struct Guard(Option<Count>);

impl Guard {
    fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(count) = self.0.take() {
            count.add();
        }
    }
}

fn worker<H, F>(client: &Client, lease: Duration, handler: H) -> SagaWorkerBuilder
where
    H: Fn(Call) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Value, CallError>> + Send + 'static,
{
    SagaWorker::builder(client.clone(), topic()).lease(lease).on("print", handler)
}

/// A worker that runs, and what stops it.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), ClientError>>,
}

impl Running {
    fn start(worker: SagaWorkerBuilder) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.build().run(stop.clone()));
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.task).await.expect("a stop ends").expect("no panic").expect("a clean stop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_takes_many_leases_is_done_once_beside_workers_that_wait_for_it() {
    // Not as short as elsewhere.
    let lease = 4 * SHORT;
    let server = ServerProcess::start().await;
    let client = server.client();
    publish(&client, "1m").await;
    // A busy machine may stand still for longer than a lease: then it is lost, and it is right that another worker gets the call. Not
    // each time.
    for id in 1..=10 {
        let (runs, lost) = (Count::default(), Count::default());
        let workers: Vec<Running> = (0..2)
            .map(|_| {
                let (runs, lost) = (runs.clone(), lost.clone());
                Running::start(worker(&client, lease, move |_| {
                    let (run, guard) = (runs.add(), Guard(Some(lost.clone())));
                    async move {
                        // The work: it takes three leases.
                        tokio::time::sleep(3 * lease).await;
                        guard.let_go();
                        Ok(json!(run))
                    }
                }))
            })
            .collect();
        let saga = start(&client, id).await;
        let (state, run) = end(&client, saga).await;
        assert_eq!(state, SagaState::Completed);
        for worker in workers {
            worker.end().await;
        }
        if lost.get() == 0 {
            assert_eq!((run, runs.get()), (json!(1), 1), "its lease was kept");
            return;
        }
    }
    panic!("a lease was lost each time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_lease_is_lost_is_told_and_cut_off_and_its_call_is_handled_again() {
    let mut server = ServerProcess::start().await;
    let client = server.client();
    publish(&client, "1m").await;
    let (runs, told, cut) = (Count::default(), Count::default(), Count::default());
    let handler = {
        let (runs, told, cut) = (runs.clone(), told.clone(), cut.clone());
        move |_| {
            let (run, told, cut) = (runs.add(), told.clone(), cut.clone());
            async move {
                if run > 1 {
                    return Ok(json!(run));
                }
                let lost = lease_lost();
                // A part of the work that does not end with the handler.
                tokio::spawn(async move {
                    lost.cancelled().await;
                    told.add();
                });
                let _guard = Guard(Some(cut));
                pending().await
            }
        }
    };
    let running = Running::start(worker(&client, SHORT, handler));
    let saga = start(&client, 1).await;
    runs.reaches(1).await;
    // Nobody is there to extend it.
    server.kill();
    told.reaches(1).await;
    cut.reaches(1).await;
    server.restart().await;
    assert_eq!(end(&client, saga).await, (SagaState::Completed, json!(2)));
    assert_eq!((runs.get(), told.get(), cut.get()), (2, 1, 1));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_told_when_its_attempt_is_over_and_what_it_then_returns_still_counts() {
    let server = ServerProcess::start().await;
    let client = server.client();
    publish(&client, "1s").await;
    let (first, over) = (Count::default(), Arc::new(Semaphore::new(0)));
    let handler = move |_| {
        let (run, over) = (first.add(), Arc::clone(&over));
        async move {
            if run == 1 {
                lease_lost().cancelled().await;
                over.add_permits(1_000);
            }
            // A later attempt knows nothing before the first one has ended.
            drop(over.acquire().await);
            if run == 1 { Ok(json!("late")) } else { Err(CallError::unknown("NOT_NOW", "the first attempt is at it")) }
        }
    };
    let running = Running::start(worker(&client, SHORT, handler));
    let saga = start(&client, 1).await;
    assert_eq!(end(&client, saga).await, (SagaState::Completed, json!("late")));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_was_begun_and_gives_back_what_was_not() {
    const SAGAS: u32 = 4;
    let server = ServerProcess::start().await;
    let client = server.client();
    publish(&client, "10m").await;
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Count::default());
    let first = {
        let (gate, begun) = (Arc::clone(&gate), begun.clone());
        move |_| {
            let gate = Arc::clone(&gate);
            begun.add();
            async move {
                drop(gate.acquire().await);
                Ok(json!("first"))
            }
        }
    };
    let stopped = Running::start(worker(&client, LONG, first).concurrency(1).prefetch(SAGAS as usize).stop_timeout(LIMIT));
    let mut sagas = Vec::new();
    for id in 0..SAGAS {
        sagas.push(start(&client, id).await);
    }
    let group = "workers".parse().expect("legal");
    eventually("all are leased", async || {
        let group = client.describe_group(&topic(), &group).await.ok()?;
        (group.in_flight == u64::from(SAGAS)).then_some(())
    })
    .await;
    assert_eq!(begun.get(), 1);
    let stopping = tokio::spawn(stopped.end());
    let second = Running::start(worker(&client, LONG, |_| async { Ok(json!("second")) }));
    // Those that were not begun are done while the first still runs.
    let mut ended = Vec::new();
    eventually("the others are done", async || {
        ended.clear();
        for saga in &sagas {
            ended.push(client.sagas().get(*saga).await.ok()?.summary.state);
        }
        (ended.iter().filter(|state| **state == SagaState::Completed).count() == SAGAS as usize - 1).then_some(())
    })
    .await;
    gate.add_permits(1);
    tokio::time::timeout(LIMIT, stopping).await.expect("it ends").expect("no panic");
    let mut outputs = Vec::new();
    for saga in sagas {
        let (state, output) = end(&client, saga).await;
        assert_eq!(state, SagaState::Completed);
        outputs.push(output);
    }
    outputs.sort_by_key(|output| output.as_str().map(str::to_owned));
    assert_eq!(outputs, ["first", "second", "second", "second"].map(Value::from));
    second.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_bounded_and_hands_a_call_that_hangs_to_another_worker() {
    let server = ServerProcess::start().await;
    let client = server.client();
    publish(&client, "10m").await;
    let begun = Count::default();
    let hangs = {
        let begun = begun.clone();
        move |_| {
            begun.add();
            pending()
        }
    };
    let stopped = Running::start(worker(&client, LONG, hangs).stop_timeout(Duration::from_millis(100)));
    let saga = start(&client, 1).await;
    begun.reaches(1).await;
    stopped.end().await;
    let second = Running::start(worker(&client, LONG, |_| async { Ok(json!("second")) }));
    assert_eq!(end(&client, saga).await, (SagaState::Completed, json!("second")), "long before the lease would have run out");
    second.end().await;
}
