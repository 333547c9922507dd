//! Asks the coordinator what it has decided about branches in doubt, until it says so.

use super::id::BranchId;
use super::manager::{BranchManager, InDoubt};
use crate::client::Client;
use crate::retry::RetryPolicy;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sagamq_api::ErrorCode;
use sagamq_api::transaction::Outcome;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a branch may be in doubt before anybody asks: the decision is on its way.
const GRACE: Duration = Duration::from_secs(5);

/// First and longest wait between two questions about a branch.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How often it is looked for branches in doubt.
const TICK: Duration = Duration::from_secs(1);

/// How long one question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Most questions at the same time.
const ASK_MAX: usize = 16;

/// Ends the branches that are in doubt for longer than a decision takes to arrive: it asks the coordinator, again and again, and never guesses.
/// Every participant runs one beside its routes.
///
/// | the coordinator says | the branch |
/// |---|---|
/// | committed | is committed |
/// | rolled back | is rolled back |
/// | undecided, nothing, or an error | keeps its locks; it is asked for again, with a growing pause |
/// | that it has other data (`WRONG_CLUSTER`) | keeps its locks; this is logged as an error each time, because only a person can help |
///
/// ```no_run
/// use sagamq_sdk::branch::{BranchManager, Resolver};
/// use sagamq_sdk::{CancellationToken, Client};
/// use std::sync::Arc;
///
/// # async fn example(branches: Arc<dyn BranchManager>) -> Result<(), Box<dyn std::error::Error>> {
/// let resolver = Resolver::new(Client::new("http://127.0.0.1:7070")?, branches);
/// let health = resolver.health();
/// let shutdown = CancellationToken::new();
/// tokio::spawn(resolver.run(shutdown.clone()));
/// println!("{} in doubt, the oldest for {:?}", health.in_doubt(), health.oldest());
/// # Ok(()) }
/// ```
#[must_use = "a resolver does nothing until `run`"]
pub struct Resolver {
    client: Client,
    manager: Arc<dyn BranchManager>,
    grace: Duration,
    waits: RetryPolicy,
    health: ResolverHealth,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("grace", &self.grace).field("health", &self.health).finish_non_exhaustive()
    }
}

/// What a [`Resolver`] saw last, for metrics and health checks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct ResolverHealth {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    in_doubt: usize,
    oldest: Option<Duration>,
    strangers: usize,
    resolved: u64,
}

impl ResolverHealth {
    /// How many branches are in doubt.
    #[must_use]
    pub fn in_doubt(&self) -> usize {
        self.with(|seen| seen.in_doubt)
    }

    /// For how long the oldest one has been: by the clock, and never less than the resolver has seen it.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.with(|seen| seen.oldest)
    }

    /// How many of them belong to a coordinator with other data than the one that is asked.
    #[must_use]
    pub fn strangers(&self) -> usize {
        self.with(|seen| seen.strangers)
    }

    /// How many branches the resolver has ended.
    #[must_use]
    pub fn resolved(&self) -> u64 {
        self.with(|seen| seen.resolved)
    }

    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().expect("nobody panics with this lock"))
    }
}

/// When a branch is asked about again.
struct Pause {
    asked: u32,
    until: Instant,
    is_stranger: bool,
}

/// When this resolver has first seen each branch that is in doubt. How long a branch has been so by the clock is a difference of two clocks,
/// one of which may run wrong or be set: a branch that seems to be prepared in the future would not be asked about before then.
type Sights = HashMap<BranchId, Instant>;

/// What came of a question.
enum Heard {
    Ended,
    NotYet,
    Stranger,
}

impl Resolver {
    /// A resolver for the branches of this manager, which asks the coordinator that the client is of.
    #[expect(clippy::needless_pass_by_value, reason = "a client is cheap to clone, and everybody else here takes one")]
    pub fn new(client: Client, manager: Arc<dyn BranchManager>) -> Self {
        let (initial, max) = WAITS;
        let waits = RetryPolicy { initial, max, ..RetryPolicy::default() };
        Self { client: client.with_retry(RetryPolicy::none()), manager, grace: GRACE, waits, health: ResolverHealth::default() }
    }

    /// How long a branch may be in doubt, by the clock or since this resolver has first seen it, before it is asked for (default 5 s).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// First and longest pause between two questions about one branch (default 500 ms and 30 s); it doubles in between, and each is drawn from
    /// its upper half.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        (self.waits.initial, self.waits.max) = (first, longest);
        self
    }

    /// What is in doubt, as the resolver saw it last.
    #[must_use]
    pub fn health(&self) -> ResolverHealth {
        self.health.clone()
    }

    /// Asks until it is told to stop. A branch that is in doubt then is asked for by the next start.
    pub async fn run(self, shutdown: CancellationToken) {
        let (mut pauses, mut sights) = (HashMap::new(), Sights::new());
        let mut random = StdRng::seed_from_u64(Uuid::new_v4().as_u64_pair().0);
        loop {
            let wait = tokio::select! {
                wait = self.round(&mut pauses, &mut sights, &mut random) => wait,
                () = shutdown.cancelled() => return,
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Asks about every branch whose time has come, and says how long to wait then.
    async fn round(&self, pauses: &mut HashMap<BranchId, Pause>, sights: &mut Sights, random: &mut StdRng) -> Duration {
        let in_doubt = match self.manager.in_doubt().await {
            Ok(in_doubt) => in_doubt,
            Err(error) => {
                tracing::warn!(%error, "it cannot be seen which branches are in doubt");
                return TICK;
            }
        };
        let now = Instant::now();
        *sights = in_doubt.iter().map(|branch| (branch.id.clone(), sights.get(&branch.id).copied().unwrap_or(now))).collect();
        pauses.retain(|id, _| sights.contains_key(id));
        let ages: Vec<Duration> = in_doubt.iter().map(|branch| age(branch).max(now.duration_since(sights[&branch.id]))).collect();
        self.see(&ages, pauses);
        let is_due = |id: &BranchId, age: Duration| age >= self.grace && pauses.get(id).is_none_or(|pause| pause.until <= now);
        let due: Vec<&BranchId> =
            in_doubt.iter().zip(ages).filter(|(branch, age)| is_due(&branch.id, *age)).map(|(branch, _)| &branch.id).collect();
        for some in due.chunks(ASK_MAX) {
            let heard = join_all(some.iter().map(|id| self.ask(id))).await;
            for (id, heard) in some.iter().zip(heard) {
                self.note(id, &heard, pauses, random);
            }
        }
        let next = pauses.values().map(|pause| pause.until.saturating_duration_since(Instant::now())).min();
        next.unwrap_or(TICK).clamp(Duration::from_millis(1), TICK.min(self.grace.max(Duration::from_millis(10))))
    }

    fn see(&self, ages: &[Duration], pauses: &HashMap<BranchId, Pause>) {
        self.health.with(|seen| {
            seen.in_doubt = ages.len();
            seen.oldest = ages.iter().max().copied();
            seen.strangers = pauses.values().filter(|pause| pause.is_stranger).count();
        });
    }

    fn note(&self, id: &BranchId, heard: &Heard, pauses: &mut HashMap<BranchId, Pause>, random: &mut StdRng) {
        if matches!(heard, Heard::Ended) {
            pauses.remove(id);
            return self.health.with(|seen| {
                seen.resolved += 1;
                seen.in_doubt = seen.in_doubt.saturating_sub(1);
            });
        }
        let asked = pauses.get(id).map_or(0, |pause| pause.asked).saturating_add(1);
        let bound = self.waits.bound(asked);
        let until = Instant::now() + (bound / 2) + (bound / 2).mul_f64(random.random::<f64>());
        pauses.insert(id.clone(), Pause { asked, until, is_stranger: matches!(heard, Heard::Stranger) });
    }

    async fn ask(&self, id: &BranchId) -> Heard {
        let asked = timeout(ASK_TIMEOUT, self.client.transactions().outcome(id.instance, id.cluster)).await;
        let outcome = match asked {
            Ok(Ok(answer)) => answer.outcome,
            Ok(Err(error)) if error.code() == Some(ErrorCode::WrongCluster) => {
                tracing::error!(branch = %id, %error, "a branch in doubt belongs to a coordinator with other data; it is not touched, and somebody has to look");
                return Heard::Stranger;
            }
            Ok(Err(error)) => {
                tracing::warn!(branch = %id, %error, "a branch is in doubt, and its coordinator does not say what was decided");
                return Heard::NotYet;
            }
            Err(_) => {
                tracing::warn!(branch = %id, "a branch is in doubt, and its coordinator does not answer");
                return Heard::NotYet;
            }
        };
        let ended = match outcome {
            Outcome::Committed => self.manager.commit(id).await,
            Outcome::RolledBack => self.manager.rollback(id).await,
            Outcome::Undecided => return Heard::NotYet,
        };
        match ended {
            Ok(()) => {
                tracing::info!(branch = %id, %outcome, "a branch in doubt was resolved");
                Heard::Ended
            }
            // Somebody else was told meanwhile, or it is asked for again.
            Err(error) => {
                tracing::warn!(branch = %id, %outcome, %error, "a branch in doubt could not be ended");
                Heard::NotYet
            }
        }
    }
}

/// For how long a branch has been in doubt by the clock; nothing if that was set back since.
#[expect(clippy::disallowed_methods, reason = "when it is asked is no decision about the branch")]
fn age(branch: &InDoubt) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(branch.prepared_at_ms))
}
