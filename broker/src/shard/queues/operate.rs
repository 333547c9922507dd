//! What operators do to a queue: skip all that is there, or begin anew somewhere.

use crate::audit::Note;
use crate::group::queue::Sought;
use crate::ids::GroupKey;
use crate::shard::core::Core;
use crate::shard::queues::queue_set::QueueSet;
use crate::shard::queues::request::QueueError;
use sagamq_api::Offset;
use serde_json::json;

/// Settles every record below the high watermark. How many were not settled.
pub(super) fn purge(core: &mut Core, queues: &mut QueueSet, key: GroupKey, note: Note) -> Result<u64, QueueError> {
    let queue = queues.get_mut(key)?;
    let end = queue.of().high_watermark();
    let purged = queue.state.forget_below(end);
    tracing::info!(topic = queue.group.label.topic, group = queue.group.label.group, partition = %key.partition.partition, %end, purged, "queue purged");
    core.note(note.result(&json!({ "purged": purged })));
    written(core, queues, key);
    Ok(purged)
}

/// Sets where the group stands.
pub(super) fn seek(core: &mut Core, queues: &mut QueueSet, key: GroupKey, to: Offset, note: Note) -> Result<Sought, QueueError> {
    let queue = queues.get_mut(key)?;
    queue.forget_edits();
    let sought = queue.state.seek(to.max(queue.of().cut_at()));
    let Sought { offset, skipped, again } = sought;
    tracing::info!(topic = queue.group.label.topic, group = queue.group.label.group, partition = %key.partition.partition, %offset, skipped, again, "queue moved");
    core.note(note.result(&json!({ "offset": offset, "skipped": skipped, "again": again })));
    written(core, queues, key);
    Ok(sought)
}

fn written(core: &mut Core, queues: &mut QueueSet, key: GroupKey) {
    if let Ok(queue) = queues.get_mut(key) {
        queue.show();
        queue.wake();
    }
    core.commit.require_sync();
    queues.touch(key);
}
