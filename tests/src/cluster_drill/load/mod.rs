//! The load of the drill, from clients that know all nodes, and what is looked at when the load rests or while it goes on.
//!
//! `producers.rs` sends records, `group.rs` works on them, `counter.rs` follows a counter on each node by itself, `tickets.rs` sells tickets.

mod counter;
mod group;
mod office;
mod producers;
mod tickets;
mod topics;

pub(super) use producers::late;
pub(super) use tickets::Sale;

use super::audit::{Ledger, changed, look_at_group};
use super::crew::Crew;
use super::ground::NODES;
use super::wrong::{Findings, Wrong};
use sagamq_sdk::{CancellationToken, Client, ClientError, RetryPolicy};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use topics::Topic;

/// How long clients try: longer than the longest event takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a request may take. One to a node that is stopped is given up then, and goes to the next node.
const REQUEST: Duration = Duration::from_secs(3);

/// A request to one node alone may find it stopped, and waits until it goes on.
const REQUEST_OF_ONE: Duration = Duration::from_secs(90);

/// How long what is left may take when the load has ended.
const REST: Duration = Duration::from_secs(300);

/// Records that are produced and worked on, and the effects of that.
const ORDERS: &str = "orders";
const EFFECTS: &str = "effects";

/// What all parts of the load share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Goes to whichever node serves, and does not give up.
    pub(super) client: Client,
    /// Each asks one node, once.
    pub(super) direct: Vec<Client>,
    pub(super) findings: Findings,
    stop: CancellationToken,
    ledger: Mutex<Ledger>,
    /// How often each record was handed on.
    handled: Mutex<BTreeMap<String, u32>>,
    /// How many numbers of the counter were acknowledged.
    counted: AtomicU64,
    pulse: Mutex<Pulse>,
}

/// When a record was acknowledged last, and how long none was at most.
#[derive(Debug)]
struct Pulse {
    last: Instant,
    longest: Duration,
}

impl Shared {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handled(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.handled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beats(&self) {
        let mut pulse = self.pulse();
        let now = Instant::now();
        pulse.longest = pulse.longest.max(now.duration_since(pulse.last));
        pulse.last = now;
    }

    /// A client has given up: it must not, as long as the load goes on.
    fn gave_up(&self, who: &str, error: &ClientError) {
        if !self.stop.is_cancelled() {
            self.findings.wrong(Wrong::Other(format!("{who} gave up: {error}")));
        }
    }
}

/// The load, as long as it goes on.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// What was read when it was looked last.
    orders: Topic,
    effects: Topic,
}

impl Load {
    /// Makes what it needs, and begins.
    pub(super) async fn begin(crew: &Crew, findings: Findings) -> Result<Self, ClientError> {
        let initial = Duration::from_millis(50);
        let patient = RetryPolicy { attempts: u32::MAX, initial, max: initial * 8, deadline: PATIENCE, ..RetryPolicy::default() };
        let client = Client::builder(crew.ground.urls()).request_timeout(REQUEST).retry(patient).build()?;
        let direct = |node| Client::builder(crew.ground.url(node)).request_timeout(REQUEST_OF_ONE).retry(RetryPolicy::none()).build();
        let shared = Arc::new(Shared {
            direct: (0..NODES.len()).map(direct).collect::<Result<_, _>>()?,
            client,
            findings,
            stop: CancellationToken::new(),
            ledger: Mutex::default(),
            handled: Mutex::default(),
            counted: AtomicU64::new(0),
            pulse: Mutex::new(Pulse { last: Instant::now(), longest: Duration::ZERO }),
        });
        for (topic, partitions) in [(ORDERS, 8), (EFFECTS, 8), (counter::TOPIC, 1)] {
            topics::make(&shared.client, topic, partitions).await?;
        }
        let mut tasks = JoinSet::new();
        for number in 0..producers::SINGLES {
            tasks.spawn(producers::singles(Arc::clone(&shared), number));
        }
        tasks.spawn(producers::batches(Arc::clone(&shared)));
        for _ in 0..group::WORKERS {
            tasks.spawn(group::work(Arc::clone(&shared)));
        }
        tasks.spawn(counter::count(Arc::clone(&shared)));
        for node in 0..NODES.len() {
            tasks.spawn(counter::follow(Arc::clone(&shared), node));
        }
        Ok(Self { shared, tasks, orders: Topic::new(ORDERS), effects: Topic::new(EFFECTS) })
    }

    /// How many records were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.shared.ledger().len()
    }

    /// From here on counts what [`Load::longest_gap`] gives.
    pub(super) fn listen(&self) {
        let mut pulse = self.shared.pulse();
        *pulse = Pulse { last: Instant::now(), longest: Duration::ZERO };
    }

    /// The longest time in which no record was acknowledged.
    pub(super) fn longest_gap(&self) -> Duration {
        let pulse = self.shared.pulse();
        pulse.longest.max(pulse.last.elapsed())
    }

    /// Looks whether everything is there that was acknowledged by now, while the load goes on.
    pub(super) async fn look(&mut self) -> Result<(), ClientError> {
        // What is acknowledged from here on may come behind what is read.
        let early = self.shared.ledger().clone();
        self.orders.read_on(&self.shared.client).await?;
        self.effects.read_on(&self.shared.client).await?;
        let ledger = early.with_sent_of(&self.shared.ledger());
        self.shared.findings.all_wrong(ledger.look(ORDERS, &self.orders.stored));
        let none = std::iter::empty();
        self.shared.findings.all_wrong(look_at_group(none, &BTreeMap::new(), &self.effects.stored));
        Ok(())
    }

    /// Ends it, waits until all work is done, and looks at everything, from the beginning. How many records were acknowledged.
    pub(super) async fn settle(mut self) -> Result<usize, ClientError> {
        self.shared.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                self.shared.findings.wrong(Wrong::Other(format!("a part of the load panicked: {error}")));
            }
        }
        let (client, findings) = (&self.shared.client, &self.shared.findings);
        if tokio::time::timeout(REST, group::drain(&self.shared)).await.is_err() {
            findings.wrong(Wrong::Other(format!("the group has not worked off everything within {} s", REST.as_secs())));
        }
        for before in [self.orders, self.effects] {
            let mut now = Topic::new(before.name);
            now.read_on(client).await?;
            findings.all_wrong(changed(before.name, &before.stored, &now.stored));
            if before.name == ORDERS {
                findings.all_wrong(self.shared.ledger().look(ORDERS, &now.stored));
            } else {
                findings.all_wrong(look_at_group(self.shared.ledger().values(), &self.shared.handled(), &now.stored));
                findings.add("effects of records", now.stored.len() as u64);
            }
        }
        counter::look(&self.shared).await?;
        let again = self.shared.handled().values().map(|times| u64::from(times - 1)).sum();
        findings.add("records handed on again", again);
        findings.add("numbers counted", self.shared.counted.load(Ordering::SeqCst));
        let records = self.shared.ledger().len();
        findings.add("records acknowledged", records as u64);
        Ok(records)
    }
}
