//! `sagamq bench`: load on a server, and what it took, with latencies from when a request was meant to start.
//!
//! The way of a run: `payload` makes the requests and `schedule` says when each is due; `load` sends them over so many connections;
//! `board` counts what came of each; `report` is the result, `plot` draws it. `produce`, `consume`, `latency` and `sagas` are
//! what is sent. `access` is how a server is reached. It is a library, so that longer runs are made of the same parts.

pub mod access;
pub mod board;
pub mod consume;
pub mod disk;
pub mod latency;
pub mod load;
pub mod payload;
pub mod plot;
pub mod produce;
pub mod report;
pub mod sagas;
pub mod schedule;

use access::Access;
use load::{Loaded, Plan, Watch};
use report::Measured;
use sagamq_api::TopicName;
use sagamq_sdk::Client;
use tokio_util::sync::CancellationToken;

/// What a run is made with.
#[derive(Clone)]
pub struct Bench {
    /// How the server is reached.
    pub access: Access,
    /// A client that repeats what can be repeated, for what lies before and after the measurement.
    pub client: Client,
    /// The name of the run: topics begin with it.
    pub run: String,
    /// How requests are sent.
    pub plan: Plan,
    /// Over so many connections.
    pub connections: usize,
    /// Ends the run early.
    pub stop: CancellationToken,
    /// Is told how it goes.
    pub watch: Watch,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("access", &self.access).field("run", &self.run).field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Bench {
    /// A topic of this run.
    ///
    /// # Panics
    /// When the run's name cannot be that of a topic.
    #[must_use]
    pub fn topic(&self) -> TopicName {
        self.run.parse().expect("the name of a run is a legal name of a topic")
    }
}

/// What a run came to.
#[derive(Debug)]
pub struct Done {
    /// What was measured; the first is what was sent.
    pub results: Vec<Measured>,
    /// How the sending went.
    pub loaded: Loaded,
    /// What does not add up.
    pub faults: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
}
