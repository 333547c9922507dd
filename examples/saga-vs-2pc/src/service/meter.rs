//! What a service counts: calls by kind, waits for locks, and how long locks were held.

use super::store::now;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use uuid::Uuid;

/// Counters of one service. Every method is short and may be called from any thread.
#[derive(Debug)]
pub struct Meter {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    calls: BTreeMap<String, u64>,
    waits: Histogram<u64>,
    holds: Histogram<u64>,
    /// Branches that hold locks, with the time of the first one.
    branches: HashMap<Uuid, Instant>,
}

/// What a service has counted since its process began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests of the coordinator by what they ask for: `action`, `compensation`, `prepare`, `commit`, `rollback`, `commit_one_phase`.
    pub calls: BTreeMap<String, u64>,
    /// Syncs of the database's log, as the database counts them.
    pub forced_writes: u64,
    /// Waits for locks, in microseconds: value and how often.
    pub waits: Vec<(u64, u64)>,
    /// How long locks were held from the first lock of a local transaction to its end, in microseconds.
    pub holds: Vec<(u64, u64)>,
    /// Branches that hold locks now.
    pub open_branches: usize,
}

impl Default for Meter {
    fn default() -> Self {
        let empty = || Histogram::new(3).expect("three digits are legal");
        Self { inner: Mutex::new(Inner { calls: BTreeMap::new(), waits: empty(), holds: empty(), branches: HashMap::new() }) }
    }
}

impl Meter {
    /// A request of the coordinator.
    pub fn called(&self, kind: &str) {
        let mut inner = self.lock();
        if let Some(count) = inner.calls.get_mut(kind) {
            *count += 1;
        } else {
            inner.calls.insert(kind.to_owned(), 1);
        }
    }

    /// A lock was asked for at `began` and was had, or given up, now.
    pub fn waited(&self, began: Instant) {
        self.lock().waits.record(micros(began)).expect("a time fits");
    }

    /// Locks that were taken at `since` are let go now.
    pub fn held(&self, since: Instant) {
        self.lock().holds.record(micros(since)).expect("a time fits");
    }

    /// A branch has a lock since `at`.
    pub fn branch_locked(&self, branch: Uuid, at: Instant) {
        self.lock().branches.entry(branch).or_insert(at);
    }

    /// A branch has let its locks go.
    pub fn branch_ended(&self, branch: Uuid) {
        let mut inner = self.lock();
        if let Some(since) = inner.branches.remove(&branch) {
            inner.holds.record(micros(since)).expect("a time fits");
        }
    }

    /// Everything that was counted.
    #[must_use]
    pub fn stats(&self, forced_writes: u64) -> Stats {
        let inner = self.lock();
        let values = |histogram: &Histogram<u64>| {
            histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value())).collect()
        };
        Stats {
            calls: inner.calls.clone(),
            forced_writes,
            waits: values(&inner.waits),
            holds: values(&inner.holds),
            open_branches: inner.branches.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(now().saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
}
