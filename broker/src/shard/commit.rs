//! What a shard's task stages for the committer: one commit of one shard, and what happens once it is durable.

use crate::liveness::Liveness;
use crate::storage::keys::ShardId;
use crate::storage::{Durability, Mutation};

/// Writes are stopped: a durable write failed, and what it left behind is unknown until the next open.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The write that carried this request failed. The request may have taken effect: retry with the same idempotency key.
    #[error("the write failed and writes are stopped until a restart; it may have taken effect: {0}")]
    Failed(String),
    /// An earlier write failed. Nothing of this request was stored.
    #[error("writes are stopped until a restart because an earlier one failed: {0}")]
    Stopped(String),
    /// The broker is shutting down. Nothing of this request was stored.
    #[error("the broker is shutting down")]
    ShuttingDown,
    /// The part of the server that had the request died, or ended before it answered. The request may have taken effect.
    #[error("the request was taken and its answer is lost; it may have taken effect: {0}")]
    Lost(String),
}

impl WriteError {
    /// For a request that was taken and whose answer will not come.
    pub(crate) fn lost(liveness: &Liveness) -> Self {
        Self::Lost(liveness.death().unwrap_or("the broker ended").to_owned())
    }
}

/// Runs on the committer's thread once the commit is durable, or is known not to become so. It must not block.
pub(crate) type Completion = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

/// Changes of one shard that are written together, in the order they were made.
///
/// It is made by the task of a shard and carries that shard's number: there is no way to say that two shards change at once.
pub(crate) struct Commit {
    shard: ShardId,
    mutations: Vec<Mutation>,
    durability: Durability,
    completions: Vec<Completion>,
}

impl Commit {
    pub(crate) fn new(shard: ShardId) -> Self {
        Self { shard, mutations: Vec::new(), durability: Durability::Buffered, completions: Vec::new() }
    }

    pub(crate) fn push(&mut self, mutation: Mutation) {
        if let Mutation::Put { key, .. } | Mutation::Delete { key, .. } = &mutation {
            assert!(key.starts_with(&self.shard.0.to_be_bytes()), "a commit of shard {} holds a key of another", self.shard.0);
        }
        self.mutations.push(mutation);
    }

    /// Asks for a sync before the completions run.
    pub(crate) fn require_sync(&mut self) {
        self.durability = Durability::Synced;
    }

    /// Runs `completion` when the commit is written, after those of all earlier commits of this shard.
    pub(crate) fn on_written(&mut self, completion: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.completions.push(Box::new(completion));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mutations.is_empty() && self.completions.is_empty()
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn bytes(&self) -> usize {
        self.mutations.iter().map(Mutation::len).sum()
    }

    pub(crate) fn into_parts(self) -> (Vec<Mutation>, Vec<Completion>) {
        (self.mutations, self.completions)
    }
}
