//! Topics and groups come and go: what their shards own of them, and the rows of the catalogue itself.

use crate::ids::{GroupKey, PartitionKey, TopicId};
use crate::log::owned::OwnedLog;
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::queues::Queues;
use crate::shard::queues::slot::Slot;
use crate::storage::{Family, Mutation};
use std::collections::BTreeSet;
use tokio::sync::oneshot;

type Reply = oneshot::Sender<Result<(), WriteError>>;

/// Topics and groups come and go.
pub(crate) enum CatalogueOp {
    /// Write keys of the catalogue, on shard 0.
    Write { mutations: Vec<Mutation>, reply: Reply },
    /// Own these partitions from now on.
    AddPartitions { logs: Vec<OwnedLog> },
    /// Own these groups from now on.
    AddSlots { slots: Vec<(GroupKey, Slot)> },
    /// Forget partitions and groups, and delete what is stored of them.
    Remove { partitions: Vec<PartitionKey>, groups: Vec<GroupKey>, reply: Reply },
}

pub(super) fn handle(core: &mut Core, queues: &mut Queues, op: CatalogueOp) {
    match op {
        CatalogueOp::Write { mutations, reply } => write(core, mutations, reply),
        CatalogueOp::AddPartitions { logs } => {
            for log in logs {
                core.add_log(log);
            }
        }
        CatalogueOp::AddSlots { slots } => queues.add(slots),
        CatalogueOp::Remove { partitions, groups, reply } => remove(core, queues, &partitions, &groups, reply),
    }
}

fn write(core: &mut Core, mutations: Vec<Mutation>, reply: Reply) {
    for mutation in mutations {
        core.commit.push(mutation);
    }
    core.commit.require_sync();
    core.answer(move |written| {
        let _ = reply.send(written);
    });
}

fn remove(core: &mut Core, queues: &mut Queues, partitions: &[PartitionKey], groups: &[GroupKey], reply: Reply) {
    let topics: BTreeSet<TopicId> = partitions.iter().map(|key| key.topic).collect();
    for &key in groups {
        queues.remove(key);
        if !topics.contains(&key.partition.topic) {
            core.commit.push(Mutation::Delete { family: Family::Group, key: key.partition.group(key.group) });
        }
    }
    for &key in partitions {
        core.remove_log(key);
    }
    // A topic goes as a whole: one range a family, however many partitions it has.
    for topic in topics {
        for family in [Family::Log, Family::TimeIndex, Family::Group] {
            core.commit.push(Mutation::DeleteRange { family, range: core.id.topic(topic) });
        }
    }
    write(core, Vec::new(), reply);
}
