//! Topics and groups come and go: the rows of the catalogue, and what its shards own of them.

use crate::audit::Note;
use crate::ids::{GroupId, ShardId, TopicId};
use crate::shard::commit::WriteError;
use crate::shard::core::Core;
use crate::shard::log::Log;
use crate::shard::queues::Queues;
use crate::shard::streams::Streams;
use crate::storage::{Family, Mutation};
use crate::topic::{Group, StreamGroup};
use sagamq_api::topic::TopicDurability;
use std::sync::Arc;
use tokio::sync::oneshot;

type Reply = oneshot::Sender<Result<(), WriteError>>;

/// Topics and groups come and go.
pub(crate) enum CatalogueOp {
    /// Write keys of the catalogue, on the control shard.
    Write { mutations: Vec<Mutation>, note: Note, reply: Reply },
    /// Write down what is no change, on any shard: nobody waits for it, and it is synced with whatever comes next.
    Note { note: Note },
    /// Own the queues of this group from now on.
    AddGroup { group: Arc<Group> },
    /// Partitions were added to the topic of this group: show how far it has come. Answered when it is shown.
    ShowSettled { group: GroupId, reply: Reply },
    /// Own this stream group from now on: the shard is its home.
    AddStream { group: Arc<StreamGroup> },
    /// Forget this stream group, and delete what is stored of it. It is closed.
    RemoveStream { group: GroupId, reply: Reply },
    /// Forget topics and groups, and delete what is stored of them. They are closed: nothing is stored of them any more.
    Remove { topics: Vec<TopicId>, groups: Vec<GroupId>, reply: Reply },
}

pub(super) fn handle(core: &mut Core, log: &mut Log, queues: &mut Queues, streams: &mut Streams, op: CatalogueOp) {
    match op {
        CatalogueOp::Write { mutations, note, reply } => write(core, mutations, note, reply),
        CatalogueOp::Note { note } => core.note_as(TopicDurability::Interval, note),
        CatalogueOp::AddGroup { group } => queues.add_group(group),
        CatalogueOp::ShowSettled { group, reply } => {
            queues.show_settled(group);
            write(core, Vec::new(), Note::nothing(), reply);
        }
        CatalogueOp::AddStream { group } => streams.add(core, group, None),
        CatalogueOp::RemoveStream { group, reply } => {
            streams.remove(core, group);
            write(core, Vec::new(), Note::nothing(), reply);
        }
        CatalogueOp::Remove { topics, groups, reply } => remove(core, log, queues, &topics, &groups, reply),
    }
}

fn write(core: &mut Core, mutations: Vec<Mutation>, note: Note, reply: Reply) {
    for mutation in mutations {
        core.commit.push(mutation);
    }
    core.note(note);
    core.commit.require_sync();
    core.answer(move |written| {
        let _ = reply.send(written);
    });
}

fn remove(core: &mut Core, log: &mut Log, queues: &mut Queues, topics: &[TopicId], groups: &[GroupId], reply: Reply) {
    for &group in groups {
        queues.remove_group(core, group, topics);
    }
    for &topic in topics {
        core.remove_logs(topic);
        log.forget(topic);
    }
    let deletions = topics.iter().flat_map(|&topic| topic_deletion(core.id, topic)).collect();
    write(core, deletions, Note::nothing(), reply);
}

/// What deletes a topic from its shard: one range a family, however many partitions it has.
pub(crate) fn topic_deletion(shard: ShardId, topic: TopicId) -> [Mutation; 7] {
    let range = |family, range| Mutation::DeleteRange { family, range };
    [
        range(Family::Log, shard.topic(topic)),
        range(Family::TimeIndex, shard.topic(topic)),
        range(Family::Group, shard.topic(topic)),
        range(Family::Schedule, shard.topic(topic)),
        range(Family::Producer, shard.topic(topic)),
        range(Family::Meta, shard.topic_positions(topic)),
        range(Family::Meta, shard.topic_compacted(topic)),
    ]
}
