//! Topics and groups come and go: the rows of the catalogue, and what its shards own of them.

use crate::ids::{GroupKey, ShardId, TopicId};
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::queues::Queues;
use crate::shard::queues::slot::Slot;
use crate::storage::{Family, Mutation};
use tokio::sync::oneshot;

type Reply = oneshot::Sender<Result<(), WriteError>>;

/// Topics and groups come and go.
pub(crate) enum CatalogueOp {
    /// Write keys of the catalogue, on the control shard.
    Write { mutations: Vec<Mutation>, reply: Reply },
    /// Own these groups from now on.
    AddSlots { slots: Vec<(GroupKey, Slot)> },
    /// Forget topics and groups, and delete what is stored of them. They are closed: nothing is stored of them any more.
    Remove { topics: Vec<TopicId>, groups: Vec<GroupKey>, reply: Reply },
}

pub(super) fn handle(core: &mut Core, queues: &mut Queues, op: CatalogueOp) {
    match op {
        CatalogueOp::Write { mutations, reply } => write(core, mutations, reply),
        CatalogueOp::AddSlots { slots } => queues.add(slots),
        CatalogueOp::Remove { topics, groups, reply } => remove(core, queues, &topics, &groups, reply),
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

fn remove(core: &mut Core, queues: &mut Queues, topics: &[TopicId], groups: &[GroupKey], reply: Reply) {
    for &key in groups {
        queues.remove(key);
        if !topics.contains(&key.partition.topic) {
            core.commit.push(Mutation::Delete { family: Family::Group, key: key.partition.group(key.group) });
        }
    }
    for &topic in topics {
        core.remove_logs(topic);
    }
    write(core, topics.iter().flat_map(|&topic| topic_deletion(core.id, topic)).collect(), reply);
}

/// What deletes a topic from its shard: one range a family, however many partitions it has.
pub(crate) fn topic_deletion(shard: ShardId, topic: TopicId) -> [Mutation; 4] {
    let range = |family, range| Mutation::DeleteRange { family, range };
    [
        range(Family::Log, shard.topic(topic)),
        range(Family::TimeIndex, shard.topic(topic)),
        range(Family::Group, shard.topic(topic)),
        range(Family::Meta, shard.topic_positions(topic)),
    ]
}
