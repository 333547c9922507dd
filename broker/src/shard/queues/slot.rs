//! A group in one partition, as its shard owns it.

use crate::group::queue::{QueuePolicy, QueueState, QueueView};
use crate::ids::GroupKey;
use crate::log::partition::Partition;
use crate::metrics::GroupLabel;
use std::sync::Arc;

/// Where the dead letters of a group go: the partition of the same number, so on the same shard.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterTarget {
    pub(crate) partition: Arc<Partition>,
    /// The group whose settled records are the dead letters that are done with: redriven or discarded.
    pub(crate) redrive: GroupKey,
}

/// A group in one partition, as its shard owns it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) partition: Arc<Partition>,
    pub(crate) state: QueueState,
    pub(crate) policy: QueuePolicy,
    pub(crate) view: Arc<QueueView>,
    pub(crate) label: GroupLabel,
    /// `None` for the group that counts the dead letters that are done with.
    pub(crate) dead_letters: Option<DeadLetterTarget>,
}

impl Slot {
    /// What the embedder set in the meantime.
    pub(super) fn take_over_settings(&mut self) {
        if self.view.marks_hand_outs() {
            self.state.mark_hand_outs();
        }
    }
}
