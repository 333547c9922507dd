//! The load: transactions are started and watched to their end.
//!
//! *Open*: they arrive at a rate of their own, whatever the system does, and their time counts from when they should have been started; so
//! a system that stalls is seen to stall. *Closed*: so many clients start one each, wait for its end, and start the next; so the system is
//! as busy as it can be. *At once*: all are started together.

mod ended;

pub use ended::{End, Ended};

use crate::form::NAME;
use crate::work::Inputs;
use ended::settle;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sagamq_api::saga::{SagaState, StartSaga};
use sagamq_sdk::{Client, ClientError};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

/// How transactions arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    /// At a rate a second, at random times.
    Open(f64),
    /// By so many clients, one after the other each.
    Closed(usize),
    /// This many together.
    Once(usize),
}

impl Arrival {
    /// What tables say about it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Open(rate) => format!("open, {rate}/s"),
            Self::Closed(clients) => format!("closed, {clients} clients"),
            Self::Once(count) => format!("{count} at once"),
        }
    }
}

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How transactions arrive.
    pub arrival: Arrival,
    /// What is sent and not counted, to begin with.
    pub warm: Duration,
    /// For how long after that.
    pub span: Duration,
    /// Most transactions.
    pub count_max: usize,
    /// How long after that everything may take to end.
    pub drain: Duration,
}

/// Why a load came to no end.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The coordinator.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Transactions that do not end.
    #[error("transaction {key} ({id}) is {state:?} after {waited:?} and does not end")]
    Endless {
        /// Which.
        key: String,
        /// Its id.
        id: Uuid,
        /// Where it stands, if that is known.
        state: Option<SagaState>,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// What a load came to.
#[derive(Debug)]
pub struct Loaded {
    /// Every transaction, in no order.
    pub ended: Vec<Ended>,
    /// When what counts began and ended, in microseconds since 1970.
    pub window_us: (u64, u64),
}

/// A transaction that was started.
#[derive(Clone, Debug)]
struct Started {
    key: String,
    id: Uuid,
    /// When it should have been started, in microseconds since 1970.
    due_us: u64,
}

/// Sends a load and waits until every transaction of it has ended.
///
/// # Errors
/// [`LoadError`].
pub async fn run(client: &Client, load: Load, inputs: Inputs) -> Result<Loaded, LoadError> {
    let began_us = wall_us();
    let window_us = (began_us + micros(load.warm), began_us + micros(load.warm + load.span));
    let last = Instant::now() + load.warm + load.span;
    let inputs = Arc::new(Mutex::new(inputs));
    let ended = match load.arrival {
        Arrival::Open(rate) => open(client, load, rate, &inputs, last).await?,
        Arrival::Closed(clients) => closed(client, load, clients, &inputs, last).await?,
        Arrival::Once(count) => once(client, load, count, &inputs).await?,
    };
    Ok(Loaded { ended: settle(client, ended).await?, window_us })
}

async fn open(client: &Client, load: Load, rate: f64, inputs: &Arc<Mutex<Inputs>>, last: Instant) -> Result<Vec<Ended>, LoadError> {
    let mut random = StdRng::seed_from_u64(17);
    let (mut due, mut due_us) = (Instant::now(), wall_us());
    let mut tasks = JoinSet::new();
    let limit = last + load.drain;
    while tasks.len() < load.count_max {
        // Times between arrivals of a Poisson process.
        let gap = Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / rate);
        due += gap;
        due_us += micros(gap);
        if due > last {
            break;
        }
        tokio::time::sleep_until(due).await;
        let (key, input) = next(inputs);
        let client = client.clone();
        tasks.spawn(async move { one(&client, key, input, due_us, limit).await });
    }
    all(tasks).await
}

async fn closed(client: &Client, load: Load, clients: usize, inputs: &Arc<Mutex<Inputs>>, last: Instant) -> Result<Vec<Ended>, LoadError> {
    let mut tasks = JoinSet::new();
    let each = load.count_max.div_ceil(clients);
    let limit = last + load.drain;
    for _ in 0..clients {
        let (client, inputs) = (client.clone(), Arc::clone(inputs));
        tasks.spawn(async move {
            let mut ended = Vec::new();
            while ended.len() < each && Instant::now() < last {
                let (key, input) = next(&inputs);
                ended.push(one(&client, key, input, wall_us(), limit).await?);
            }
            Ok::<_, LoadError>(ended)
        });
    }
    Ok(all(tasks).await?.into_iter().flatten().collect())
}

async fn once(client: &Client, load: Load, count: usize, inputs: &Arc<Mutex<Inputs>>) -> Result<Vec<Ended>, LoadError> {
    let limit = Instant::now() + load.span + load.drain;
    let mut tasks = JoinSet::new();
    let due_us = wall_us();
    for _ in 0..count.min(load.count_max) {
        let (key, input) = next(inputs);
        let client = client.clone();
        tasks.spawn(async move { one(&client, key, input, due_us, limit).await });
    }
    all(tasks).await
}

async fn all<T: 'static>(mut tasks: JoinSet<Result<T, LoadError>>) -> Result<Vec<T>, LoadError> {
    let mut done = Vec::new();
    while let Some(task) = tasks.join_next().await {
        done.push(task.expect("a client does not panic")?);
    }
    Ok(done)
}

async fn one(client: &Client, key: String, input: Value, due_us: u64, limit: Instant) -> Result<Ended, LoadError> {
    let request = StartSaga { saga: NAME.parse().expect("a legal name"), version: None, mode: None, input: input.clone().into() };
    let started = client.sagas().start(&request).await?;
    // The server answers when it is at its end, and to one that is already there at once.
    let description = match client.sagas().wait(started.id, limit.saturating_duration_since(Instant::now())).await {
        Err(ClientError::WaitElapsed { id, state, waited }) => return Err(LoadError::Endless { key, id, state, waited }),
        waited => waited?,
    };
    Ok(Ended::new(Started { key, id: started.id, due_us }, input, &description, wall_us()))
}

fn next(inputs: &Mutex<Inputs>) -> (String, Value) {
    inputs.lock().unwrap_or_else(PoisonError::into_inner).next_input()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970: the coordinator dates its events by the same clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a comparison measures time")]
pub fn wall_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    micros(since)
}
