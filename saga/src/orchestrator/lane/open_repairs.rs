//! The repairs of a lane that are not at their end, as the lane holds them.

use crate::protocol::repair::{PageWanted, Repair};
use sagamq_api::repair::RepairFilter;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Sagas that are to be looked for, for a repair of a lane.
#[derive(Debug)]
pub(in crate::orchestrator) struct Search {
    pub(in crate::orchestrator) repair: Uuid,
    pub(in crate::orchestrator) filter: RepairFilter,
    pub(in crate::orchestrator) page: PageWanted,
}

/// Where searches are sent.
pub(in crate::orchestrator) type Searches = mpsc::UnboundedSender<Search>;

/// The repairs of a lane that are not at their end.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    pub(super) open: BTreeMap<Uuid, Repair>,
    /// Those for which sagas are being looked for.
    pub(super) searching: BTreeSet<Uuid>,
}

impl Repairs {
    pub(super) fn new(open: Vec<Repair>) -> Self {
        Self { open: open.into_iter().map(|repair| (repair.id(), repair)).collect(), searching: BTreeSet::new() }
    }

    /// When the first of them is due, in milliseconds since 1970.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.open.values().filter_map(Repair::due_ms).min()
    }
}
