//! The protocol's one function: what an input means for a saga.

use super::event::SagaEvent;
use super::planner::Planner;
use super::state::{InstanceState, Phase};
use crate::definition::Definition;
use crate::expression::metered;
use crate::protocol::decision::{Decision, Input, Parent, Rejection};
use sagamq_api::saga::AttemptId;
use sagamq_api::{JsonText, TraceContext};

/// Decides what the input means. Pure: the same arguments, and the same numbers drawn from `jitter` (each in 0..=1), give the same
/// decision. All of its expressions together are bounded in steps and bytes; what takes more has no value.
///
/// # Errors
/// When the input changes nothing and its sender should know why.
pub fn decide(
    definition: &Definition,
    state: &InstanceState,
    input: Input,
    now_ms: u64,
    jitter: &mut dyn FnMut() -> f64,
) -> Result<Decision<InstanceState, SagaEvent>, Rejection> {
    metered(|| plan(definition, state, input, now_ms, jitter))
}

fn plan(
    definition: &Definition,
    state: &InstanceState,
    input: Input,
    now_ms: u64,
    jitter: &mut dyn FnMut() -> f64,
) -> Result<Decision<InstanceState, SagaEvent>, Rejection> {
    match (&input, state.phase) {
        (Input::Start { .. }, Phase::New) => {}
        (Input::Start { .. }, _) => return Err(Rejection::AlreadyStarted),
        (_, Phase::New) => return Err(Rejection::NotStarted),
        _ => {}
    }
    let require_own = |attempt: &AttemptId| {
        let is_own = state.is_own(attempt);
        assert!(is_own || state.rerun_of.is_some(), "an input goes to the instance that it names");
        if is_own { Ok(()) } else { Err(foreign(state, attempt)) }
    };
    let mut planner = Planner::new(definition, state, now_ms, jitter);
    let duplicate = match input {
        Input::Start { parent, key, generation, input, cluster: _, trace } => {
            planner.start(key, generation, input, parent, trace);
            false
        }
        Input::Reply { attempt, outcome, note, branch_address: _ } => {
            require_own(&attempt)?;
            planner.reply(attempt.within(), outcome, note)?
        }
        Input::NotSent { attempt, failure, was_never_sent } => {
            require_own(&attempt)?;
            planner.not_sent(attempt.within(), failure, was_never_sent)?
        }
        Input::Timer { hand_outs } => {
            planner.time_passed(&hand_outs);
            false
        }
        // What was in flight is asked again, and what was done stays done.
        Input::Recovered => {
            planner.ask_for_locks_again();
            true
        }
        Input::Operate { verb, by } => planner.operate(verb, by)?,
        Input::Signal(signal) => planner.signal(*signal)?,
        Input::Undo(attempt) => planner.undo(attempt),
        Input::ParentAsks => planner.parent_asks(),
        Input::ParentEnded => planner.parent_ended(),
        Input::Lock { key, number, said } => planner.lock_said(&key, number, said),
    };
    planner.advance();
    planner.tell();
    planner.tell_relatives(state);
    planner.tell_locks(&state.claims);
    Ok(planner.finish(duplicate))
}

/// Calls that undo what was taken over bear the name of the instance that did it, and no other.
fn foreign(state: &InstanceState, attempt: &AttemptId) -> Rejection {
    let reason = format!("saga {} makes no call of this name", state.head.id);
    Rejection::Fenced { attempt: attempt.clone().within(), reason }
}

impl Planner<'_> {
    pub(super) fn start(
        &mut self,
        key: String,
        generation: u64,
        input: JsonText,
        parent: Option<Box<Parent>>,
        trace: Option<Box<TraceContext>>,
    ) {
        let timeout_at_ms = self.definition.timeout.map(|timeout| self.after(timeout));
        let (saga, version) = (self.definition.name.clone(), self.definition.version);
        self.emit(SagaEvent::SagaStarted { saga, version, key, generation, input, timeout_at_ms, parent, trace });
    }

    /// Does whatever can be done now, until nothing can. While it is paused, what was said is written down, and nothing is begun.
    pub(super) fn advance(&mut self) {
        while !self.state.is_paused() {
            let before = self.state.head.events;
            match self.state.phase {
                Phase::Running => self.advance_forward(),
                Phase::Compensating => self.advance_compensation(),
                Phase::New | Phase::Completed | Phase::Compensated | Phase::Failed | Phase::Blocked | Phase::Terminated => {}
            }
            if self.state.head.events == before {
                return;
            }
        }
    }
}
