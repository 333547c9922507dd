//! Sagas of a lane whose repairs wait for what becomes of them. Each watch has a row; here they are by saga and by time.

use crate::protocol::Instance;
use crate::protocol::repair::{Judged, Watch};
use crate::store::{AnsweredRepair, LaneMessage, delete_watch, put_watch};
use sagamq_api::repair::Repaired;
use sagamq_broker::ShardCommit;
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

/// The watches of a lane.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_saga: HashMap<Uuid, Vec<Watch>>,
    /// When the time of each is over, with its saga.
    due: BTreeSet<(u64, Uuid)>,
}

/// What a commit changes of the watches of one saga.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// A watch that begins with it and goes on.
    begun: Option<Watch>,
    /// Those that end with it: whether each has a row, and what became of the saga.
    ended: Vec<(Watch, bool, Repaired)>,
}

impl Watches {
    pub(super) fn begin(&mut self, saga: Uuid, watch: Watch) {
        self.due.insert((watch.until_ms, saga));
        self.by_saga.entry(saga).or_default().push(watch);
    }

    /// What the watches see of the saga after a decision, and a watch that begins with it.
    pub(super) fn look(&self, saga: Uuid, instance: &Instance, begins: Option<Watch>, now_ms: u64) -> Seen {
        let mut seen = Seen::default();
        for watch in self.by_saga.get(&saga).into_iter().flatten() {
            if let Judged::Is(repaired) = watch.judge(instance, now_ms) {
                seen.ended.push((watch.clone(), true, repaired));
            }
        }
        if let Some(watch) = begins {
            match watch.judge(instance, now_ms) {
                Judged::Is(repaired) => seen.ended.push((watch, false, repaired)),
                Judged::Waits => seen.begun = Some(watch),
            }
        }
        seen
    }

    /// All watches of a saga end so.
    pub(super) fn end_all(&self, saga: Uuid, repaired: &Repaired) -> Seen {
        let ended = self.by_saga.get(&saga).into_iter().flatten().map(|watch| (watch.clone(), true, repaired.clone()));
        Seen { begun: None, ended: ended.collect() }
    }

    /// What the commit that was placed has changed.
    pub(super) fn apply(&mut self, saga: Uuid, seen: Seen) {
        for (ended, is_kept, _) in seen.ended {
            if !is_kept {
                continue;
            }
            let Some(of_saga) = self.by_saga.get_mut(&saga) else { continue };
            of_saga.retain(|watch| watch.repair != ended.repair);
            if !of_saga.iter().any(|watch| watch.until_ms == ended.until_ms) {
                self.due.remove(&(ended.until_ms, saga));
            }
            if of_saga.is_empty() {
                self.by_saga.remove(&saga);
            }
        }
        if let Some(begun) = seen.begun {
            self.begin(saga, begun);
        }
    }

    /// When the time of the first one is over.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|&(until_ms, _)| until_ms)
    }

    /// A saga of which the time of a watch is over.
    pub(super) fn due(&self, now_ms: u64) -> Option<Uuid> {
        self.due.first().filter(|&&(until_ms, _)| until_ms <= now_ms).map(|&(_, saga)| saga)
    }
}

impl Seen {
    /// A watch that ends where it would begin.
    pub(super) fn ended(watch: Watch, repaired: Repaired) -> Self {
        Self { begun: None, ended: vec![(watch, false, repaired)] }
    }

    /// Adds it to the commit, with what the repairs are told.
    pub(super) fn put(&self, saga: Uuid, lane_of: impl Fn(Uuid) -> u16, commit: &mut ShardCommit) {
        if let Some(begun) = &self.begun {
            put_watch(commit, saga, begun);
        }
        for (watch, is_kept, repaired) in &self.ended {
            if *is_kept {
                delete_watch(commit, saga, watch);
            }
            let told = AnsweredRepair { repair: watch.repair, number: watch.number, repaired: repaired.clone() };
            commit.send(lane_of(watch.repair), LaneMessage::Repaired(told).encode());
        }
    }
}
