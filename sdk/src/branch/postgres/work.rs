//! Running the actions of a branch, and watching over it until it has voted.

use super::Inner;
use super::rows::is_prepared;
use super::session::{PostgresSession, Session};
use super::slot::{Answers, End, Open, Slot, State};
use crate::branch::router::no_transaction;
use crate::branch::{BRANCH_PREPARED, BRANCH_ROLLED_BACK, BRANCH_STORAGE, BranchId};
use crate::consumer::panic_text;
use crate::participant::INVALID_CALL;
use crate::postgres::said;
use crate::worker::{CallError, Handled};
use futures_util::FutureExt as _;
use futures_util::future::try_join;
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

pub(super) type Handler = Box<dyn Fn(PostgresSession, Call) -> Handled + Send + Sync>;

/// The failure code of a call for which no connection was free in time.
const TOO_MANY_BRANCHES: &str = "TOO_MANY_BRANCHES";

/// The failure code of an action that did not come to its end.
const HANDLER_ONGOING: &str = "HANDLER_ONGOING";

/// The failure code of an action whose handler panicked.
const HANDLER_PANICKED: &str = "HANDLER_PANICKED";

/// The failure code of an action whose handler took longer than it may.
const HANDLER_TIMEOUT: &str = "HANDLER_TIMEOUT";

/// The failure code of an action whose handler has given its session away.
const SESSION_KEPT: &str = "SESSION_KEPT";

/// The failure code of a call that the service has no handler for.
const UNKNOWN_CALL: &str = "UNKNOWN_CALL";

impl Inner {
    pub(super) async fn work(self: Arc<Self>, call: Call) -> Result<JsonText, CallError> {
        let (id, done) = self.branch_of(&call)?;
        let slot = self.slot(&id);
        let mut state = slot.state.lock().await;
        match &mut *state {
            State::Ended(end) => return Err(end.call_error()),
            State::Prepared(answers) => {
                let refused = || Err(CallError::refused(BRANCH_PREPARED, "the branch has voted and takes no more work"));
                return answers.of(&call.idempotency_key, &call.call, &call.arguments).unwrap_or_else(refused);
            }
            State::Open(open) => {
                open.heard = Instant::now();
                if let Some(answer) = open.answers.of(&call.idempotency_key, &call.call, &call.arguments) {
                    return answer;
                }
                if open.answers.done() != done {
                    return Err(self.lose(&mut state, done).await.call_error());
                }
            }
            State::Absent if done > 0 => {
                self.forget(&id, &slot);
                let reason = format!("{done} actions of the branch were done and this process has none of them: they are lost");
                return Err(End::Lost(reason).call_error());
            }
            State::Absent => self.watch(&id, &slot),
        }
        let begun = match std::mem::take(&mut *state) {
            State::Open(open) => Ok((open.session, open.answers)),
            _ => tokio::select! {
                begun = self.begin(&id, &call) => begun.map(|session| (session, Answers::default())),
                () = slot.cut.cancelled() => Err(CallError::refused(BRANCH_ROLLED_BACK, "it was rolled back before it began")),
            },
        };
        let worked = match begun {
            Ok((session, answers)) => self.run(&slot, session, &call).await.map(|(session, output)| (session, answers, output)),
            Err(error) => Err(error),
        };
        match worked {
            Ok((session, mut answers, output)) => {
                // Never shorter than a call may take: others of the same transaction are worked on elsewhere in the meantime.
                let patience = self.settings.idle_timeout.max(time_of(&call));
                answers.remember(call.idempotency_key, call.call, call.arguments, output.clone());
                *state = State::Open(Open { session, answers, heard: Instant::now(), patience });
                Ok(output)
            }
            Err(error) => {
                *state = State::Ended(End::RolledBack(format!("`{}` did not succeed: {error}", call.call)));
                // Nothing of the branch takes effect any more, whatever the handler did not know.
                Err(match error {
                    CallError::Refused(failure) | CallError::Unknown { failure, .. } => CallError::Refused(failure),
                    CallError::Ongoing { .. } => {
                        CallError::refused(HANDLER_ONGOING, "an action of a branch must end; the branch was rolled back")
                    }
                })
            }
        }
    }

    /// The branch that a call is of, and how many of its actions were done before.
    fn branch_of(&self, call: &Call) -> Result<(BranchId, u32), CallError> {
        let Some(context) = &call.transaction else { return Err(no_transaction()) };
        if context.branch != self.name {
            let message = format!("the call is of the branch `{}`, and this is `{}`", context.branch, self.name);
            return Err(CallError::refused(INVALID_CALL, message));
        }
        let id = BranchId::new(context.cluster, call.attempt.instance, context.branch.as_str());
        Ok((id.map_err(|error| CallError::refused(INVALID_CALL, error.to_string()))?, context.actions_done))
    }

    /// Rolls an open branch back that has not done what the coordinator says it has.
    pub(super) async fn lose(&self, state: &mut State, done: u32) -> End {
        let mut found = 0;
        if let State::Open(open) = std::mem::take(state) {
            found = open.answers.done();
            open.session.roll_back().await;
        }
        let end = End::Lost(format!("{done} actions of the branch were done and {found} of them are here: the others are lost"));
        *state = State::Ended(end.clone());
        end
    }

    /// Watches over a branch from now on: see [`keep`].
    pub(super) fn watch(self: &Arc<Self>, id: &BranchId, slot: &Arc<Slot>) {
        tokio::spawn(keep(Arc::downgrade(self), id.clone(), Arc::downgrade(slot), self.settings.idle_timeout));
    }

    /// Begins the branch's transaction, unless the database knows of the branch: then the call comes too late.
    async fn begin(&self, id: &BranchId, call: &Call) -> Result<Session, CallError> {
        let refused = |reason: String| CallError::refused(BRANCH_STORAGE, reason);
        let connect = async {
            let permit = Arc::clone(&self.open).acquire_owned().await.expect("the semaphore is never closed");
            self.pool.get().await.map(|object| (object, permit))
        };
        let connected = tokio::time::timeout(time_of(call), connect).await;
        let connected =
            connected.map_err(|_| CallError::refused(TOO_MANY_BRANCHES, "no connection was free within the time of the call"))?;
        let (object, permit) = connected.map_err(|error| refused(format!("no connection could be had: {error}")))?;
        let lock_timeout_ms = self.settings.lock_timeout.as_millis().max(1);
        let session =
            Session::begin(object, permit, id, self.settings.isolation, lock_timeout_ms).await.map_err(|error| refused(said(&error)))?;
        // Sent together: one round trip.
        let end = match try_join(self.rows.is_committed(session.client(), id), is_prepared(session.client(), id)).await {
            Ok((None, false)) => return Ok(session),
            Ok((Some(true), _)) => End::Committed.call_error(),
            Ok((_, true)) => CallError::refused(BRANCH_PREPARED, "the branch has voted and takes no more work"),
            Ok((Some(false), false)) => End::Lost("the branch was given up".to_owned()).call_error(),
            Err(error) => refused(said(&error)),
        };
        session.roll_back().await;
        Err(end)
    }

    /// Runs the handler; the session only if it succeeded. Else it is rolled back, and cut off if the handler did not return.
    async fn run(&self, slot: &Slot, session: Session, call: &Call) -> Result<(Session, JsonText), CallError> {
        let Some(handler) = self.handlers.get(&call.call) else {
            session.roll_back().await;
            let known = self.handlers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(CallError::refused(UNKNOWN_CALL, format!("the branch has no handler for `{}`; it has: {known}", call.call)));
        };
        let (session, lent) = session.lend();
        let time = time_of(call);
        let result = {
            let handled = AssertUnwindSafe(async { handler(session, call.clone()).await }).catch_unwind();
            tokio::select! {
                handled = handled => handled.map_err(|panic| CallError::refused(HANDLER_PANICKED, panic_text(&*panic))),
                () = slot.cut.cancelled() => Err(CallError::refused(BRANCH_ROLLED_BACK, "it was rolled back while its handler ran")),
                () = tokio::time::sleep(time) => {
                    Err(CallError::refused(HANDLER_TIMEOUT, format!("its handler did not finish within {} ms", time.as_millis())))
                }
            }
        };
        match (result, lent.back()) {
            (Ok(Ok(output)), Some(session)) => Ok((session, output)),
            (Ok(Err(error)), Some(session)) => {
                session.roll_back().await;
                Err(error)
            }
            (Err(error), session) => {
                if let Some(session) = session {
                    session.cut(&self.pool).await;
                }
                Err(error)
            }
            // Closed as soon as whoever has it lets go of it.
            (Ok(_), None) => Err(CallError::refused(SESSION_KEPT, "its handler has kept the session beyond its end")),
        }
    }
}

/// How long a call may take.
fn time_of(call: &Call) -> Duration {
    Duration::from_millis(call.timeout_ms)
}

/// Rolls an open branch back that hears nothing for so long, and forgets one that has voted or ended as long ago: then the database answers
/// for it. Holds nothing while it waits: the branches end with their manager.
async fn keep(inner: Weak<Inner>, id: BranchId, slot: Weak<Slot>, idle_timeout: Duration) {
    let mut wait = idle_timeout;
    loop {
        tokio::time::sleep(wait).await;
        let (Some(inner), Some(slot)) = (inner.upgrade(), slot.upgrade()) else { return };
        let mut state = slot.state.lock().await;
        match std::mem::take(&mut *state) {
            State::Open(open) => {
                let silent = open.heard.elapsed();
                wait = open.patience.saturating_sub(silent);
                if silent < open.patience {
                    *state = State::Open(open);
                    continue;
                }
                tracing::warn!(branch = %id, "nothing was heard of an open branch for {} ms: it is rolled back", silent.as_millis());
                open.session.roll_back().await;
                *state = State::Ended(End::Expired);
                wait = idle_timeout;
            }
            over => {
                *state = over;
                inner.forget(&id, &slot);
                return;
            }
        }
    }
}
