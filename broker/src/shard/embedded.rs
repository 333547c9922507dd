//! Commits of the embedder: its own keys, records for its topics, and settled commands, in one write of one shard.

use crate::log::batch::Batch;
use crate::log::partition::Partition;
use crate::shard::Shard;
use crate::shard::commit::WriteError;
use crate::shard::queue::GroupKey;
use crate::storage::Mutation;
use sagamq_api::Offset;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What the embedder wants written together.
pub(crate) struct EmbeddedCommit {
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) appends: Vec<(Arc<Partition>, Batch)>,
    pub(crate) settles: Vec<(GroupKey, Offset)>,
    /// The offsets, as soon as they are given: before anything is durable.
    pub(crate) placed: oneshot::Sender<Vec<Offset>>,
    /// When everything is durable.
    pub(crate) durable: oneshot::Sender<Result<(), WriteError>>,
}

impl Shard {
    pub(crate) fn embedded(&mut self, commit: EmbeddedCommit) {
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
        self.commit.require_sync();
        // The embedder may have stopped to listen, as at a shutdown; the commit goes on.
        let _ = commit.placed.send(offsets);
        let durable = commit.durable;
        self.answer(move |written| {
            let _ = durable.send(written);
        });
    }
}
