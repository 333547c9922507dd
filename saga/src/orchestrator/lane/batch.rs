//! What a lane decided and has not committed yet: many inputs become durable in one commit.
//!
//! Of an instance there is one decision in it at the most, so that each input is decided on the state before it, which is in memory. Nothing
//! of it is applied, and nobody hears of it, before the shard has taken the commit.

use super::along::Taking;
use super::watches::Seen;
use crate::participant::Dispatch;
use crate::protocol::{Instance, RecordedEvent};
use sagamq_api::Offset;
use sagamq_api::saga::SagaState;
use sagamq_broker::spans::Span;
use sagamq_broker::{ShardCommit, WriteError};
use std::collections::HashSet;
use uuid::Uuid;

/// Bytes from which on a batch is committed before more is decided.
const BYTES_MAX: usize = 1024 * 1024;

/// What is done with the outcome once it is durable.
pub(super) type Answer = Box<dyn FnOnce(Result<Applied, WriteError>) + Send>;

/// What an input did.
pub(super) struct Applied {
    pub(super) duplicate: bool,
    pub(super) state: SagaState,
}

/// A decision that waits for its commit.
pub(super) struct Pending {
    pub(super) id: Uuid,
    /// The instance as it is afterwards.
    pub(super) instance: Instance,
    pub(super) events: Vec<RecordedEvent>,
    pub(super) dispatch: Dispatch,
    /// What it tells tracing systems of.
    pub(super) spans: Vec<Span>,
    /// What it changes of the watches over the instance.
    pub(super) seen: Seen,
    /// The message that led to it.
    pub(super) taking: Option<Taking>,
    pub(super) applied: Applied,
    pub(super) answer: Answer,
}

/// Decisions of different instances, and what is written with them.
pub(super) struct Batch {
    pub(super) commit: ShardCommit,
    pub(super) pending: Vec<Pending>,
    /// Whose decisions they are.
    instances: HashSet<Uuid>,
    /// Behind the last reply record that led to one of them.
    cursor: Option<Offset>,
    is_forced: bool,
}

impl Batch {
    /// Nothing yet, for this commit.
    pub(super) fn new(commit: ShardCommit) -> Self {
        Self { commit, pending: Vec::new(), instances: HashSet::new(), cursor: None, is_forced: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether it is to be committed before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.commit.bytes() >= BYTES_MAX
    }

    /// Whether the instance in memory is behind what is decided here.
    pub(super) fn holds(&self, id: Uuid) -> bool {
        self.instances.contains(&id)
    }

    /// Adds a decision; what it sends is in the commit.
    pub(super) fn add(&mut self, pending: Pending, cursor: Option<Offset>, is_forced: bool) {
        let is_new = self.instances.insert(pending.id);
        assert!(is_new, "an input is decided on the state before it");
        self.cursor = cursor.or(self.cursor);
        self.is_forced |= is_forced;
        self.pending.push(pending);
    }

    /// Where the reply topic is applied up to, with this commit.
    pub(super) fn cursor(&self) -> Option<Offset> {
        self.cursor
    }

    pub(super) fn is_forced(&self) -> bool {
        self.is_forced
    }
}
