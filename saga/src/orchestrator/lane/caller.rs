//! Calls to HTTP participants: each in a task of its own, whose outcome comes back to the lane as an input.

use super::input::{LaneHandle, LaneInput};
use crate::participant::Word;
use crate::participant::http::{HttpParticipants, Progress};
use crate::participant::http_calls::HttpCalls;
use crate::participant::topic::AttemptId;
use crate::protocol::{CallCommand, UnseenCall};
use sagamq_api::saga::CompleteCall;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Calls HTTP participants for a lane; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct HttpCaller {
    pub(crate) http: HttpParticipants,
    pub(crate) calls: HttpCalls,
    pub(crate) lane: LaneHandle,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl HttpCaller {
    /// Takes a call in: from now on it is known that it was not sent, or may have been sent by an earlier process.
    pub(crate) fn enter(&self, command: &CallCommand, is_in_doubt: bool) -> CancellationToken {
        self.calls.enter(AttemptId::of(&command.call), is_in_doubt, self.http.now_ms())
    }

    /// Begins a call that was taken in. It ends with the participant's word, with its attempt, or with the orchestrator.
    pub(crate) fn call(&self, command: CallCommand, over: CancellationToken) {
        let Self { http, calls, lane, shutdown, .. } = self.clone();
        self.tasks.spawn(async move {
            let (lane, call) = (&lane, &command.call);
            let report = async |progress| {
                let (instance, step, operation, epoch) = (call.instance, call.step.clone(), call.operation, call.epoch);
                let input = match progress {
                    Progress::Word { reply, note } => {
                        LaneInput::Outcome(Word { call: CompleteCall { instance, step, operation, epoch, reply }, note })
                    }
                    Progress::NotSent(failure) => LaneInput::NotSent { instance, call: UnseenCall { step, operation, epoch }, failure },
                };
                // A lane that is gone is shutting down; the call is made again after the restart.
                let _ = lane.send(input).await;
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = over.cancelled() => {}
                () = http.perform(&command, &calls, report) => {}
            }
        });
    }
}
