//! Calls to HTTP participants: each in a task of its own, whose outcome comes back to the lane as an input.

use super::input::{LaneHandle, LaneInput};
use crate::participant::http::HttpParticipants;
use crate::protocol::CallCommand;
use sagamq_api::saga::CompleteCall;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Calls HTTP participants for a lane; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct HttpCaller {
    pub(crate) http: HttpParticipants,
    pub(crate) lane: LaneHandle,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl HttpCaller {
    /// Begins a call. It ends with the participant's word, with the attempt's deadline, or with the orchestrator.
    pub(crate) fn call(&self, command: CallCommand) {
        let Self { http, lane, shutdown, .. } = self.clone();
        self.tasks.spawn(async move {
            let (lane, call) = (&lane, &command.call);
            let report = async |reply| {
                let (instance, step, operation, epoch) = (call.instance, call.step.clone(), call.operation, call.epoch);
                let outcome = LaneInput::Outcome(CompleteCall { instance, step, operation, epoch, reply });
                // A lane that is gone is shutting down; the call is made again after the restart.
                let _ = lane.send(outcome).await;
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = http.perform(&command, report) => {}
            }
        });
    }
}
