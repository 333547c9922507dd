//! Commits of the embedder: its own keys, records for its topics, and settled commands, in one write of one shard.

use crate::embed::SubmitError;
use crate::group::HandOut;
use crate::log::batch::Batch;
use crate::log::partition::Partition;
use crate::shard::Shard;
use crate::shard::commit::WriteError;
use crate::storage::Mutation;
use crate::storage::keys::GroupKey;
use sagamq_api::Offset;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the embedder wants written together.
pub(crate) struct EmbeddedCommit {
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) appends: Vec<(Arc<Partition>, Batch)>,
    pub(crate) settles: Vec<(GroupKey, Offset)>,
    /// Records that must never have been handed out; else nothing of the commit happens.
    pub(crate) unseen: Vec<(GroupKey, Offset)>,
    /// Records that are due again at a time of the embedder's, in milliseconds since 1970.
    pub(crate) postpones: Vec<(GroupKey, Offset, u64)>,
    /// The offsets, as soon as they are given: before anything is durable. An error: nothing of the commit is staged.
    pub(crate) placed: oneshot::Sender<Result<Vec<Offset>, SubmitError>>,
    /// When everything is durable.
    pub(crate) durable: oneshot::Sender<Result<(), WriteError>>,
}

impl Shard {
    pub(crate) fn embedded(&mut self, commit: EmbeddedCommit) {
        if commit.unseen.iter().any(|&(key, offset)| self.hand_out(key, offset) != HandOut::Never) {
            // The embedder decides again. It may have stopped to listen, as at a shutdown.
            let _ = commit.placed.send(Err(SubmitError::HandedOut));
            return;
        }
        if !commit.appends.iter().all(|(partition, _)| self.owns(partition)) {
            let _ = commit.placed.send(Err(WriteError::TopicDeleted.into()));
            return;
        }
        for mutation in commit.mutations {
            self.commit.push(mutation);
        }
        let mut offsets = Vec::with_capacity(commit.appends.len());
        for (partition, batch) in commit.appends {
            offsets.push(self.stage_batches(&partition, vec![batch]));
        }
        for (key, offset) in commit.settles {
            if let Some(slot) = self.slots.get_mut(&key)
                && slot.state.settle(offset)
            {
                self.touch(key);
            }
        }
        for (key, offset, due_ms) in commit.postpones {
            if let Some(slot) = self.slots.get_mut(&key)
                && slot.state.postpone(offset, due_ms)
            {
                self.touch(key);
            }
        }
        self.commit.require_sync();
        // The embedder may have stopped to listen, as at a shutdown; the commit goes on.
        let _ = commit.placed.send(Ok(offsets));
        let durable = commit.durable;
        self.answer(move |written| {
            let _ = durable.send(written);
        });
    }

    /// Whether a record was ever handed out. A group that is gone has nothing to say.
    pub(crate) fn hand_out(&mut self, key: GroupKey, offset: Offset) -> HandOut {
        let Some(slot) = self.slots.get_mut(&key) else { return HandOut::Unknown };
        slot.take_over_settings();
        slot.state.hand_out(offset)
    }
}
