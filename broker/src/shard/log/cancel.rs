//! Takes a record that waits away before it is due.

use crate::audit::Note;
use crate::shard::core::Core;
use crate::shard::log::append_error::{self, AppendError};
use crate::shard::log::schedules::Schedules;
use crate::topic::Topic;
use sagamq_api::ScheduleId;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Takes a record that waits away.
pub(crate) struct CancelRequest {
    pub(crate) topic: Arc<Topic>,
    pub(crate) id: ScheduleId,
    pub(crate) note: Note,
    /// `false`: no such record waits.
    pub(crate) reply: oneshot::Sender<Result<bool, AppendError>>,
}

pub(super) fn cancel(core: &mut Core, schedules: &mut Schedules, request: CancelRequest) {
    let CancelRequest { topic, id, note, reply } = request;
    let result = schedules.cancel(core, &topic, id).map_err(AppendError::from);
    if matches!(result, Ok(true)) {
        core.note(note);
    }
    // A client that went away does not hear the answer; what he asked for is done all the same.
    append_error::answer(core, None, |result| drop(reply.send(result)), result);
}
