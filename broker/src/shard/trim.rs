//! Retention and compaction in the shard's task: the start of a log rises with a commit of the shard, and with it what the groups of its topic make of that.
//!
//! What may go was found before, beside the shard, from storage. Here it is looked at once more: the configuration may have changed, the log
//! may have grown, and what is needed is known only here.

use crate::ids::GroupKey;
use crate::log::compaction::{Compacted, Rewrite};
use crate::log::expiry::Cut;
use crate::log::partition::Partition;
use crate::metrics::TopicLabel;
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::queues::Queues;
use crate::storage::Mutation;
use crate::topic::{Group, Topic};
use sagamq_api::Offset;
use sagamq_api::topic::TopicConfig;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Retention takes records away.
pub(crate) enum TrimOp {
    /// From where on are records of this partition needed?
    Needed { of: Trimmed, reply: oneshot::Sender<Option<Offset>> },
    /// Take the oldest records away, if the configuration is still the one by which they may go. How many there were.
    Cut { of: Trimmed, config: Arc<TopicConfig>, cut: Cut, reply: oneshot::Sender<Result<u64, WriteError>> },
    /// Rewrite a piece of the log by what compaction found, if the configuration is still the one by which it looked.
    Rewrite { of: Trimmed, config: Arc<TopicConfig>, compaction: Box<Compaction>, reply: oneshot::Sender<Result<bool, WriteError>> },
}

/// What compaction makes of a log.
#[derive(Debug)]
pub(crate) enum Compaction {
    /// A piece becomes this.
    Piece(Rewrite, Compacted),
    /// Rows of the index, and how far it is compacted.
    Rows(Vec<Mutation>, Compacted),
}

/// A partition that retention looks at.
#[derive(Clone, Debug)]
pub(crate) struct Trimmed {
    pub(crate) topic: Arc<Topic>,
    pub(crate) partition: Arc<Partition>,
    /// The group whose dead letters the topic holds, if it is such a topic.
    pub(crate) letters_of: Option<Arc<Group>>,
}

impl Trimmed {
    /// Whether something may be needed whatever its age.
    pub(crate) fn has_needs(&self) -> bool {
        self.letters_of.is_some() || self.topic.is_owned()
    }

    fn key_of(&self, group: &Group) -> GroupKey {
        group.queue(self.partition.key.partition.0 as usize).key()
    }

    /// From here on records must stay: dead letters that are not done with, and in a topic of the embedder what its group has not settled,
    /// or, without such a group, what the embedder has not released.
    fn needed_from(&self, queues: &Queues) -> Option<Offset> {
        if let Some(group) = &self.letters_of {
            return queues.letters_needed_from(self.key_of(group));
        }
        if !self.topic.is_owned() {
            return None;
        }
        let groups: Vec<_> = self.topic.groups().into_iter().filter(|group| group.is_owned()).collect();
        if groups.is_empty() {
            return Some(self.partition.released());
        }
        groups.iter().filter_map(|group| queues.needed_from(self.key_of(group))).min()
    }
}

pub(super) fn handle(core: &mut Core, queues: &mut Queues, op: TrimOp) {
    match op {
        TrimOp::Needed { of, reply } => {
            // Who asked may have ended.
            let _ = reply.send(of.needed_from(queues));
        }
        TrimOp::Rewrite { of, config, compaction, reply } => {
            let is_done = rewrite(core, &of, &config, *compaction);
            core.answer(move |written| {
                let _ = reply.send(written.map(|()| is_done));
            });
        }
        TrimOp::Cut { of, config, cut, reply } => {
            let taken = take(core, queues, &of, &config, &cut).unwrap_or(0);
            core.answer(move |written| {
                let _ = reply.send(written.map(|()| taken));
            });
        }
    }
}

/// Whether it was done.
fn rewrite(core: &mut Core, of: &Trimmed, config: &Arc<TopicConfig>, compaction: Compaction) -> bool {
    let Trimmed { topic, partition, .. } = of;
    if !core.owns(partition) || !topic.config.is_still(config) {
        return false;
    }
    match compaction {
        Compaction::Piece(piece, compacted) => {
            if !core.rewrite(partition.key, &piece, &compacted) {
                return false;
            }
            let label = TopicLabel { topic: topic.name.to_string() };
            core.metrics.compacted_records.get_or_create(&label).inc_by(piece.records);
            core.metrics.compacted_bytes.get_or_create(&label).inc_by(piece.saved);
        }
        Compaction::Rows(rows, compacted) => {
            rows.into_iter().for_each(|row| core.commit.push(row));
            core.commit.push(compacted.put(partition.key));
        }
    }
    true
}

fn take(core: &mut Core, queues: &mut Queues, of: &Trimmed, config: &Arc<TopicConfig>, cut: &Cut) -> Option<u64> {
    let Trimmed { topic, partition, .. } = of;
    if !core.owns(partition) || !topic.config.is_still(config) {
        return None;
    }
    if of.needed_from(queues).is_some_and(|needed| cut.log_start > needed) {
        return None;
    }
    let groups: Vec<_> = topic.groups().iter().map(|group| of.key_of(group)).collect();
    // A queue that was never used begins where the log does: before that rises, or what the group loses would not be counted.
    for &key in &groups {
        queues.begin(key);
    }
    let taken = core.trim(partition.key, cut)?;
    for key in groups {
        queues.trim(core, key, cut.log_start);
    }
    core.metrics.trimmed_records.get_or_create(&TopicLabel { topic: topic.name.to_string() }).inc_by(taken);
    Some(taken)
}
