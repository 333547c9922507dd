//! Calls to HTTP participants: each in a task of its own, whose outcome comes back as an input of its instance.

use super::held::Held;
use super::participants::HttpParticipants;
use super::progress::Progress;
use super::register::HttpCalls;
use crate::definition::HttpTarget;
use crate::participant::hold::Hold;
use crate::protocol::{CallCommand, HandOut, Input};
use futures_util::future::BoxFuture;
use sagamq_api::TraceContext;
use sagamq_api::saga::AttemptId;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Where outcomes go: to the lane of the instance. One that is gone is shutting down; the call is made again after the restart.
pub(crate) type Report = Arc<dyn Fn(Uuid, Input) -> BoxFuture<'static, ()> + Send + Sync>;

/// Calls HTTP participants for a lane; clones are the same.
#[derive(Clone)]
pub(crate) struct HttpCaller {
    http: HttpParticipants,
    calls: HttpCalls,
    report: Report,
    hold: Hold,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A call that was taken in and is not begun.
pub(in crate::participant) struct Entered {
    target: HttpTarget,
    command: CallCommand,
    /// The span that it is made by.
    cause: Option<TraceContext>,
    over: CancellationToken,
}

impl HttpCaller {
    pub(crate) fn new(http: HttpParticipants, report: Report, hold: Hold, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { http, calls: HttpCalls::default(), report, hold, tasks, shutdown }
    }

    /// Takes a call in: from now on it is known that it was not sent, or may have been sent by an earlier process.
    pub(in crate::participant) fn enter(
        &self,
        target: HttpTarget,
        command: CallCommand,
        cause: Option<TraceContext>,
        may_be_sent: bool,
    ) -> Entered {
        let over = self.calls.enter(command.call.attempt.clone(), may_be_sent);
        Entered { target, command, cause, over }
    }

    /// Begins a call that was taken in. It ends with the participant's word, with its attempt, or with the orchestrator.
    pub(in crate::participant) fn begin(&self, Entered { target, command, cause, over }: Entered) {
        let Self { http, calls, report, hold, shutdown, .. } = self.clone();
        self.tasks.spawn(async move {
            let CallCommand { call, retry, .. } = command;
            let tell = |progress| {
                let attempt = call.attempt.clone();
                report(
                    attempt.instance,
                    match progress {
                        Progress::Word { reply, note, branch_address } => Input::Reply { attempt, outcome: reply, note, branch_address },
                        Progress::NotSent { failure, was_never_sent } => Input::NotSent { attempt, failure, was_never_sent },
                    },
                )
            };
            let perform = async {
                hold.released().await;
                http.perform(&target, (&call, cause.as_ref()), &retry, &calls, tell).await;
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = over.cancelled() => {}
                () = perform => {}
            }
        });
    }

    /// Takes a call back that was not sent. `false`: it may be on its way.
    pub(in crate::participant) fn withdraw(&self, attempt: &AttemptId) -> bool {
        self.calls.withdraw(attempt)
    }

    /// What took a call back did not come about: it is made after all.
    pub(in crate::participant) fn restore(&self, attempt: &AttemptId) {
        self.calls.restore(attempt);
    }

    /// The attempt is over: its task ends.
    pub(in crate::participant) fn end(&self, attempt: &AttemptId) {
        self.calls.end(attempt);
    }

    /// What holds it back, if a bound of its service does.
    pub(in crate::participant) fn held(&self, attempt: &AttemptId) -> Option<Held> {
        self.calls.held(attempt)
    }

    /// Whether the call was sent; unknown for one that was not taken in.
    pub(in crate::participant) fn hand_out(&self, attempt: &AttemptId) -> HandOut {
        self.calls.hand_out(attempt)
    }
}
