//! What goes along with the decision about an instance, in its commit.

use crate::protocol::repair::Watch;
use sagamq_api::Offset;
use sagamq_broker::audit::Note;

/// What goes along.
#[derive(Debug, Default)]
pub(super) struct Along {
    /// The reply record before this offset led to the decision.
    pub(super) cursor: Option<Offset>,
    /// The message that led to it.
    pub(super) taking: Option<Taking>,
    /// A watch over what becomes of the instance.
    pub(super) watch: Option<Watch>,
    /// A watch over what becomes of the rerun that is decided with it.
    pub(super) rerun_watch: Option<Watch>,
    /// Who made it, for the audit log.
    pub(super) note: Note,
}

impl Along {
    /// Whether it makes the decision a commit of its own: what is taken comes in its turn, and is looked at with what is in memory.
    pub(super) fn is_alone(&self) -> bool {
        self.taking.is_some() || self.watch.is_some()
    }
}

/// A message that is taken with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taking {
    pub(super) from: u16,
    pub(super) sequence: u64,
}
