//! One scenario over one way, and what became of the orders.

use crate::chain::Chain;
use crate::queue::Queue;
use crate::scenario::{Scenario, Times};
use crate::service::Service;
use hdrhistogram::Histogram;
use sagamq_sdk::ClientError;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long accepted orders may take to be completed after the last one was sent.
const DRAIN_MAX: Duration = Duration::from_secs(300);

/// How orders go from service to service.
#[derive(Clone, Debug)]
pub enum Way {
    /// Each calls the next.
    Chain,
    /// Over topics of a server at this address; the name is part of theirs.
    Queue {
        /// Address of the server.
        url: String,
        /// Part of the topics' names.
        run: String,
    },
}

/// Why a run came to no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The servers of the chain.
    #[error("the chain cannot be set up: {0}")]
    Io(#[from] io::Error),
    /// The queue.
    #[error("the queue: {0}")]
    Client(#[from] ClientError),
}

/// What became of the orders.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fate {
    /// Orders that were sent.
    pub offered: u64,
    /// Orders whose sender was told that they are taken (chain: that they are done).
    pub accepted: u64,
    /// Orders that all four services have done.
    pub completed: u64,
    /// Orders that were accepted and not completed.
    pub lost: u64,
    /// Orders that the first service has done and the last has not: somebody has to look.
    pub half_done: u64,
    /// Quantiles from when an order was due until it was completed.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// From the end of the trouble until everything that was due by then and accepted was completed.
    pub drain_seconds: f64,
}

impl Fate {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "offered": self.offered,
            "accepted": self.accepted,
            "completed": self.completed,
            "lost": self.lost,
            "half_done": self.half_done,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "drain_seconds": self.drain_seconds,
        })
    }
}

enum Road {
    Chain(Chain),
    Queue(Queue),
}

impl Road {
    async fn order(&self, order: u64) -> bool {
        match self {
            Self::Chain(chain) => chain.order(order).await,
            Self::Queue(queue) => queue.order(order).await,
        }
    }
}

/// Sends orders when they are due, makes the trouble, and waits until what was accepted is completed.
///
/// # Errors
/// When it cannot be set up, or a consumer cannot go on.
pub async fn run(way: &Way, scenario: Scenario, times: &Times, rate: f64) -> Result<Fate, RunError> {
    let services: Vec<Arc<Service>> = (0..4).map(|_| Arc::new(Service::default())).collect();
    let road = Arc::new(match way {
        Way::Chain => Road::Chain(Chain::start(&services).await?),
        Way::Queue { url, run } => Road::Queue(Queue::start(url, run, &services).await?),
    });
    let orders = scenario.orders(times, rate);
    let began = Instant::now();
    let troubled = Arc::clone(&services[2]);
    let (begin, end) = (began + times.before, began + times.before + scenario.trouble(times));
    let trouble = tokio::spawn(async move {
        tokio::time::sleep_until(begin).await;
        scenario.begin(&troubled);
        tokio::time::sleep_until(end).await;
        scenario.end(&troubled);
    });
    let mut sending = JoinSet::new();
    for (number, due) in (0_u64..).zip(&orders) {
        tokio::time::sleep_until(began + *due).await;
        let road = Arc::clone(&road);
        sending.spawn(async move { (number, road.order(number).await) });
    }
    let mut accepted = BTreeSet::new();
    while let Some(sent) = sending.join_next().await {
        let (number, is_accepted) = sent.expect("a sender does not panic");
        if is_accepted {
            accepted.insert(number);
        }
    }
    trouble.await.expect("the trouble does not panic");
    let give_up = Instant::now() + DRAIN_MAX;
    while Instant::now() < give_up && !accepted.iter().all(|order| services[3].done().contains_key(order)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let fate = judge(&services, &orders, &accepted, began, end);
    if let Some(Road::Queue(queue)) = Arc::into_inner(road) {
        queue.stop().await?;
    }
    Ok(fate)
}

fn judge(services: &[Arc<Service>], orders: &[Duration], accepted: &BTreeSet<u64>, began: Instant, end: Instant) -> Fate {
    let (first, last) = (services[0].done().clone(), services[3].done().clone());
    let mut latencies = Histogram::<u64>::new_with_max(3_600_000_000, 3).expect("an hour of microseconds, with legal digits");
    let mut drained = end;
    for (number, at) in &last {
        let due = began + orders[usize::try_from(*number).expect("it was sent from this list")];
        latencies.saturating_record(u64::try_from(at.saturating_duration_since(due).as_micros()).unwrap_or(u64::MAX));
        if due <= end && accepted.contains(number) {
            drained = drained.max(*at);
        }
    }
    Fate {
        offered: orders.len() as u64,
        accepted: accepted.len() as u64,
        completed: last.len() as u64,
        lost: accepted.iter().filter(|order| !last.contains_key(order)).count() as u64,
        half_done: first.keys().filter(|order| !last.contains_key(order)).count() as u64,
        p50_ms: latencies.value_at_quantile(0.5) as f64 / 1e3,
        p99_ms: latencies.value_at_quantile(0.99) as f64 / 1e3,
        drain_seconds: drained.saturating_duration_since(end).as_secs_f64(),
    }
}
