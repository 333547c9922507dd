//! The protocol's one function: what an input means for a transaction.

use super::event::TransactionEvent;
use super::planner::Planner;
use super::state::{Phase, TransactionState};
use crate::definition::Definition;
use crate::expression::metered;
use crate::protocol::codes;
use crate::protocol::decision::{Decision, Input, Rejection};
use core::time::Duration;
use sagamq_api::saga::{AttemptId, Failure};
use sagamq_api::{JsonText, TraceContext};
use uuid::Uuid;

/// How long a transaction may stay undecided if its definition does not say.
pub const TRANSACTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Decides what the input means. Pure: the same arguments, and the same numbers drawn from `jitter` (each in 0..=1), give the same
/// decision. All of its expressions together are bounded in steps and bytes; what takes more has no value.
///
/// # Errors
/// When the input changes nothing and its sender should know why.
pub fn decide(
    definition: &Definition,
    state: &TransactionState,
    input: Input,
    now_ms: u64,
    jitter: &mut dyn FnMut() -> f64,
) -> Result<Decision<TransactionState, TransactionEvent>, Rejection> {
    metered(|| plan(definition, state, input, now_ms, jitter))
}

fn plan(
    definition: &Definition,
    state: &TransactionState,
    input: Input,
    now_ms: u64,
    jitter: &mut dyn FnMut() -> f64,
) -> Result<Decision<TransactionState, TransactionEvent>, Rejection> {
    match (&input, state.phase) {
        (Input::Start { .. }, Phase::New) => {}
        (Input::Start { .. }, _) => return Err(Rejection::AlreadyStarted),
        (_, Phase::New) => return Err(Rejection::NotStarted),
        _ => {}
    }
    let is_own = |attempt: &AttemptId| assert_eq!(attempt.instance, state.head.id, "an input goes to the instance that it names");
    let mut planner = Planner::new(definition, state, now_ms, jitter);
    let duplicate = match input {
        Input::Start { parent: _, key, generation, input, cluster, trace } => {
            planner.start(key, generation, input, cluster, trace);
            false
        }
        Input::Reply { attempt, outcome, note, branch_address } => {
            is_own(&attempt);
            planner.reply(attempt.within(), outcome, note, branch_address)?
        }
        // Its calls count from when they are decided.
        Input::NotSent { attempt, failure, was_never_sent: _ } => {
            is_own(&attempt);
            planner.not_sent(attempt.within(), failure)?
        }
        Input::Timer { .. } => {
            planner.time_passed();
            false
        }
        Input::Recovered => planner.recovered(),
        Input::Operate { verb, by } => planner.operate(verb, by)?,
        Input::Signal(_) => return Err(Rejection::NoSignals),
        // No transaction is a sub-saga.
        Input::Undo(_) | Input::ParentAsks | Input::ParentEnded => true,
        // Its branches have locks of their own, at their participants.
        Input::Lock { .. } => true,
    };
    planner.advance();
    Ok(planner.finish(duplicate))
}

impl Planner<'_> {
    /// Forced, because whoever starts a transaction is promised that the business key starts one.
    fn start(&mut self, key: String, generation: u64, input: JsonText, cluster: Uuid, trace: Option<Box<TraceContext>>) {
        let timeout_at_ms = self.after(self.definition.timeout.unwrap_or(TRANSACTION_TIMEOUT_DEFAULT));
        let (saga, version) = (self.definition.name.clone(), self.definition.version);
        self.forced = true;
        self.emit(TransactionEvent::TransactionStarted { saga, version, key, generation, cluster, input, timeout_at_ms, trace });
    }

    /// What was undecided is rolled back: the workers that had its branches open may have let them go, and votes may be lost. Gives whether
    /// nothing is new about it.
    fn recovered(&mut self) -> bool {
        if !self.state.phase.is_undecided() {
            return true;
        }
        let message = "the server was started again before the transaction was decided".to_owned();
        self.abort(Failure { code: codes::COORDINATOR_RESTARTED.to_owned(), message }, None);
        false
    }

    /// Does whatever can be done now, until nothing can.
    fn advance(&mut self) {
        loop {
            let before = self.state.head.events;
            match self.state.phase {
                Phase::Active => self.advance_actions(),
                Phase::Preparing => self.advance_votes(),
                Phase::OnePhase => self.advance_one_phase(),
                Phase::Committing | Phase::Aborting => self.advance_end(),
                Phase::New | Phase::Committed | Phase::Aborted | Phase::Unknown => {}
            }
            if self.state.head.events == before {
                return;
            }
        }
    }
}
