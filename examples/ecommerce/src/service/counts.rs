//! What a service tells of itself: whether it is there, and what its calls went through.

use super::answers::answer;
use crate::store::{Database, Noticed, Oddity, Store, StoreError};
use axum::Router;
use axum::routing::get;
use sagamq_sdk::branch::ResolverHealth;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a service's calls went through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCounts {
    /// Calls since it was started.
    pub calls: u64,
    /// Those among them that were known from before: the barrier gave the first answer again, or prevented the effect.
    pub repeated: u64,
    /// How often the embedded database was synced.
    #[serde(default)]
    pub syncs: u64,
    /// Rare ways that calls took, ever.
    pub noticed: BTreeMap<Oddity, u64>,
    /// What calls of transactions went through.
    pub branches: BranchCounts,
}

/// What a service's calls of transactions went through since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchCounts {
    /// Calls.
    pub calls: u64,
    /// Answers that were lost on purpose.
    pub lost: u64,
    /// Branches in doubt that were ended because the coordinator was asked.
    pub resolved: u64,
}

/// Counts what calls of transactions go through. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct BranchCounter(Arc<Counting>);

#[derive(Debug)]
struct Counting {
    calls: AtomicU64,
    lost: AtomicU64,
    resolver: ResolverHealth,
}

impl BranchCounter {
    pub(super) fn new(resolver: ResolverHealth) -> Self {
        Self(Arc::new(Counting { calls: AtomicU64::new(0), lost: AtomicU64::new(0), resolver }))
    }

    pub(super) fn called(&self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self) {
        self.0.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> BranchCounts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BranchCounts { calls: count(&self.0.calls), lost: count(&self.0.lost), resolved: self.0.resolver.resolved() }
    }
}

/// Whether the service is there, and its counts.
pub(super) fn routes(store: Store, branches: BranchCounter) -> Router {
    let counts = move || async move { answer(store.with(move |database| counts(database, &branches)).await) };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/calls", get(counts))
}

fn counts(database: &Database, branches: &BranchCounter) -> Result<CallCounts, StoreError> {
    let mut noticed = BTreeMap::new();
    for (_, row) in database.all::<Noticed, Vec<_>>()? {
        *noticed.entry(row.oddity).or_default() += 1;
    }
    let (calls, repeated) = database.counts();
    Ok(CallCounts { calls, repeated, syncs: database.syncs(), noticed, branches: branches.counts() })
}
