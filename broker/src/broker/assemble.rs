//! A queue group in memory: its half that everybody sees, and the slots that its shards own.

use crate::group::queue::{QueuePolicy, QueueState, QueueView};
use crate::ids::{GroupId, GroupKey};
use crate::log::work::WorkSet;
use crate::metrics::GroupLabel;
use crate::shard::queues::slot::{DeadLetterTarget, Slot};
use crate::topic::{Group, GroupEntry, GroupPartition, Topic};
use sagamq_api::Offset;
use std::sync::Arc;

/// Builds a group and its slots. `state` gives the state of a group in a partition, or the one that begins at an offset.
pub(super) fn assemble_group<E>(
    entry: &GroupEntry,
    topic: &Topic,
    letters: &Topic,
    state: &mut dyn FnMut(GroupKey, Offset) -> Result<QueueState, E>,
) -> Result<(Group, Vec<(GroupKey, Slot)>), E> {
    let config = &topic.config;
    let policy = QueuePolicy {
        delivery_limit: config.delivery_limit,
        backoff_initial_ms: config.backoff_initial_ms,
        backoff_max_ms: config.backoff_max_ms,
    };
    let label = GroupLabel { topic: topic.name.to_string(), group: entry.name.to_string() };
    let work = Arc::new(WorkSet::new(topic.partitions.len()));
    let (mut partitions, mut slots) = (Vec::new(), Vec::new());
    for index in 0..topic.partitions.len() {
        let (partition, letter_partition) = (topic.partitions.at(index), letters.partitions.at(index));
        let key = GroupKey { partition: partition.key, group: GroupId(entry.id) };
        let redrive = GroupKey { partition: letter_partition.key, group: GroupId(entry.redrive) };
        let start = Offset(entry.start.get(index).copied().unwrap_or(0));
        let delivered = state(key, start)?;
        let view = Arc::new(QueueView::of(&delivered, &work, index));
        let slot = |partition, state, view, dead_letters| Slot {
            partition: Arc::clone(partition),
            state,
            policy,
            view,
            label: label.clone(),
            dead_letters,
        };
        let counter = state(redrive, Offset(0))?;
        let counter_view = Arc::new(QueueView::of(&counter, &work, index));
        let target = DeadLetterTarget { partition: Arc::clone(letter_partition), redrive };
        slots.push((key, slot(partition, delivered, Arc::clone(&view), Some(target))));
        slots.push((redrive, slot(letter_partition, counter, counter_view, None)));
        partitions.push(GroupPartition { key, redrive, partition: Arc::clone(partition), view });
    }
    Ok((Group::new(entry.clone(), partitions, letters.as_dead_letters(), work), slots))
}
