//! Commits of the embedder: its own keys, records for its topics, settled commands, and messages to other shards, in one write of one shard.

use crate::audit::Note;
use crate::group::queue::HandOut;
use crate::ids::{GroupKey, ShardId};
use crate::log::batch::{NewBatch, StoredRecord};
use crate::log::partition::Partition;
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::outbox::owner::{NotNext, Outbox};
use crate::shard::queues::Queues;
use crate::storage::Mutation;
use crate::topic::{Group, Handed, Place};
use sagamq_api::Offset;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why a commit was not taken. Nothing of it happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// A record that must not have been handed out was. Decide again.
    #[error("a record of the commit was handed out meanwhile")]
    HandedOut,
    /// A message is not the next one to be taken. One that was taken before needs nothing more.
    #[error(transparent)]
    NotNext(#[from] NotNext),
    /// The broker takes no writes.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What the embedder wants written together.
pub(crate) struct EmbeddedCommit {
    pub(crate) mutations: Vec<Mutation>,
    pub(crate) appends: Vec<EmbeddedAppend>,
    pub(crate) settles: Vec<(GroupKey, Offset)>,
    /// Records that must never have been handed out; else nothing of the commit happens.
    pub(crate) unseen: Vec<(GroupKey, Offset)>,
    /// Records that are due again at a time of the embedder's, in milliseconds since 1970.
    pub(crate) postpones: Vec<(GroupKey, Offset, u64)>,
    /// Messages of other shards that are taken, in this order; else nothing of the commit happens.
    pub(crate) takes: Vec<(ShardId, u64)>,
    /// Messages to other shards.
    pub(crate) messages: Vec<(ShardId, Vec<u8>)>,
    /// Who made the changes, for the audit log.
    pub(crate) notes: Vec<Note>,
    /// Whether it asks for a sync of its own.
    pub(crate) is_forced: bool,
    /// The offsets, as soon as they are given: before anything is durable; none for a record whose topic is deleted. An error: nothing of the
    /// commit is staged.
    pub(crate) placed: oneshot::Sender<Result<Vec<Option<Offset>>, SubmitError>>,
    /// When everything is durable, or written, if no sync was asked for.
    pub(crate) durable: oneshot::Sender<Result<(), WriteError>>,
}

/// A record of the embedder's.
#[derive(Debug)]
pub(crate) struct EmbeddedAppend {
    pub(crate) partition: Arc<Partition>,
    pub(crate) batch: NewBatch,
    /// The group for which it is appended, and the record: one of its consumers that waits gets it at once.
    pub(crate) group: Option<(Arc<Group>, StoredRecord)>,
}

pub(super) fn handle(core: &mut Core, queues: &mut Queues, outbox: &mut Outbox, commit: EmbeddedCommit) {
    if commit.unseen.iter().any(|&(key, offset)| queues.hand_out(key, offset) != HandOut::Never) {
        // The embedder decides again. It may have stopped to listen, as at a shutdown.
        let _ = commit.placed.send(Err(SubmitError::HandedOut));
        return;
    }
    if let Err(not_next) = outbox.check(&commit.takes) {
        let _ = commit.placed.send(Err(not_next.into()));
        return;
    }
    for mutation in commit.mutations {
        core.commit.push(mutation);
    }
    let mut offsets = Vec::with_capacity(commit.appends.len());
    let mut handed = Vec::new();
    for EmbeddedAppend { partition, batch, group } in commit.appends {
        // A topic that was deleted meanwhile costs the commit its record and nothing else.
        if !core.owns(&partition) {
            offsets.push(None);
            continue;
        }
        let bytes = batch.len();
        let offset = core.stage_batches(partition, [batch]);
        offsets.push(Some(offset));
        handed.extend(group.and_then(|(group, record)| queues.hand_appended(core, &group, StoredRecord { offset, ..record }, bytes)));
    }
    for note in commit.notes {
        core.note(note);
    }
    for (key, offset) in commit.settles {
        queues.settle_record(key, offset);
    }
    for (key, offset, due_ms) in commit.postpones {
        queues.postpone_record(key, offset, due_ms);
    }
    // Before the embedder is answered: who hears that it is durable can find what was sent.
    outbox.exchange(core, &commit.takes, commit.messages);
    if commit.is_forced {
        core.commit.require_sync();
    }
    // The embedder may have stopped to listen, as at a shutdown; the commit goes on.
    let _ = commit.placed.send(Ok(offsets));
    let durable = commit.durable;
    core.answer(move |written| {
        if written.is_ok() {
            hand_over(handed);
        }
        let _ = durable.send(written);
    });
}

fn hand_over(all: Vec<(Place, Handed)>) {
    for (place, handed) in all {
        place.hand(handed);
    }
}
