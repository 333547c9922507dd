//! [`Wrong`]: what must not be, and where it is gathered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// Something was acknowledged and is not there.
    Lost(String),
    /// Something had its effect more than once.
    Doubled(String),
    /// A node answered what was not true any more.
    Stale(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(what) => write!(f, "LOST: {what}"),
            Self::Doubled(what) => write!(f, "DOUBLED: {what}"),
            Self::Stale(what) => write!(f, "STALE: {what}"),
            Self::Other(what) => write!(f, "WRONG: {what}"),
        }
    }
}

/// What was seen to be wrong, and what occurred how often. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings(Arc<Mutex<Found>>);

#[derive(Debug, Default)]
struct Found {
    wrong: Vec<Wrong>,
    occurred: BTreeMap<String, u64>,
}

impl Findings {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is wrong: it is told at once, because a run takes long.
    pub(super) fn wrong(&self, wrong: Wrong) {
        eprintln!("{wrong}");
        self.found().wrong.push(wrong);
    }

    pub(super) fn all_wrong(&self, wrong: impl IntoIterator<Item = Wrong>) {
        wrong.into_iter().for_each(|wrong| self.wrong(wrong));
    }

    /// Something occurred.
    pub(super) fn occurred(&self, what: impl Into<String>) {
        self.add(what, 1);
    }

    pub(super) fn add(&self, what: impl Into<String>, times: u64) {
        *self.found().occurred.entry(what.into()).or_default() += times;
    }

    /// Everything that is wrong.
    pub(super) fn list(&self) -> Vec<Wrong> {
        self.found().wrong.clone()
    }

    /// How often what occurred.
    pub(super) fn occurrences(&self) -> BTreeMap<String, u64> {
        self.found().occurred.clone()
    }
}
