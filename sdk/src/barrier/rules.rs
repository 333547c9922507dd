//! What a barrier does with a call, by what is recorded of it: pure, and the same for every database.
//!
//! The database locks and reads the rows, asks here, lets the business run, asks again, and writes what was said.

use super::known::Known;
use super::recorded::{Recorded, Row};
use super::{COMPENSATED, IN_DOUBT, NOT_OF_A_SAGA, SWEPT};
use crate::worker::CallError;
use sagamq_api::JsonText;
use sagamq_api::saga::{Call, Failure, Operation};
use uuid::Uuid;

/// Whether the business may have effects outside of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Local,
    Outside,
}

/// What comes before an action that may have effects outside.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Its answer is known already.
    Known,
    /// It is recorded that it is in doubt from now on; `is_first` says that nothing was begun before.
    Mark { is_first: bool, unless_swept: bool },
}

/// Whether the call is an action, else a compensation.
///
/// # Errors
/// When it is neither, but asks for a vote or tells a decision: no barrier can answer that.
pub(super) fn is_action(call: &Call) -> Result<bool, CallError> {
    match call.attempt.operation {
        Operation::Action => Ok(true),
        Operation::Compensation => Ok(false),
        Operation::Prepare | Operation::Commit | Operation::Rollback | Operation::CommitOnePhase => {
            Err(CallError::unknown(NOT_OF_A_SAGA, format!("the saga barrier cannot answer {}", call.attempt)))
        }
    }
}

pub(super) fn begin(action: Option<&Recorded>, call: &Call) -> Begin {
    match action {
        None => Begin::Mark { is_first: true, unless_swept: true },
        Some(Recorded::Refused(_)) if call.must_succeed => Begin::Mark { is_first: true, unless_swept: false },
        Some(Recorded::InDoubt { .. }) => Begin::Mark { is_first: false, unless_swept: false },
        Some(Recorded::Succeeded(_) | Recorded::Refused(_) | Recorded::Prevented) => Begin::Known,
    }
}

/// What a call comes to before any business runs.
#[derive(Debug)]
pub(super) enum Entry {
    /// This, and nothing is written.
    Answer(Result<JsonText, CallError>),
    /// A compensation of nothing: that is recorded. `unless_swept`: only if no row can have been swept.
    Empty { unless_swept: bool },
    /// The business runs.
    Run {
        known: Known,
        /// The row says *in doubt*, and has to be taken back if nothing took effect.
        is_marked: bool,
        unless_swept: bool,
    },
}

/// An action. `begun` is the run that its call began, if it was the first.
pub(super) fn action(action: Option<Recorded>, call: &Call, begun: Option<Uuid>) -> Entry {
    let run = |known, is_marked| Entry::Run { known, is_marked, unless_swept: false };
    match action {
        Some(Recorded::Succeeded(output)) => Entry::Answer(Ok(output)),
        Some(Recorded::Refused(failure)) if !call.must_succeed => Entry::Answer(Err(CallError::Refused(failure))),
        Some(Recorded::Prevented) => {
            let message = format!("`{}` is compensated; its action must not take effect any more", call.attempt.step);
            Entry::Answer(Err(CallError::refused(COMPENSATED, message)))
        }
        Some(Recorded::InDoubt { run: last }) if begun != Some(last) => run(Known::in_doubt(), true),
        Some(Recorded::InDoubt { .. }) => run(Known::first(), true),
        Some(Recorded::Refused(_)) => run(Known::first(), false),
        // A compensation that finds no row of its action writes one, so this row alone decides.
        None => Entry::Run { known: Known::first(), is_marked: false, unless_swept: true },
    }
}

/// A compensation, by the rows of its action and of its own.
pub(super) fn compensation(action: Option<Recorded>, own: Option<Recorded>, reach: Reach) -> Entry {
    if let Some(Recorded::Succeeded(output)) = own {
        return Entry::Answer(Ok(output));
    }
    let run = |known| Entry::Run { known, is_marked: false, unless_swept: false };
    match action {
        Some(Recorded::Succeeded(output)) => run(Known::succeeded(output)),
        Some(Recorded::Refused(_) | Recorded::Prevented) => Entry::Empty { unless_swept: false },
        Some(Recorded::InDoubt { .. }) if reach == Reach::Local => {
            let message = "the action may have had an effect outside of the database, and this compensation is for one that had none";
            Entry::Answer(Err(CallError::unknown(IN_DOUBT, message)))
        }
        Some(Recorded::InDoubt { .. }) => run(Known::in_doubt()),
        None => Entry::Empty { unless_swept: true },
    }
}

/// What is written of a call whose business has run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// What the business wrote, with this output. A compensation prevents its action as well.
    Succeed(JsonText),
    /// Nothing of the business, and this refusal.
    Refuse(Failure),
    /// Nothing of the business, and the mark *in doubt* is taken back: the next attempt is a first one.
    Forget(Failure),
    /// Nothing at all.
    RollBack(CallError),
}

pub(super) fn action_exit(result: Result<JsonText, CallError>, call: &Call, known: &Known, is_marked: bool) -> Exit {
    match result {
        Ok(output) => Exit::Succeed(output),
        Err(CallError::Refused(failure)) if !known.may_refuse() => {
            let message = format!("refused, while an earlier attempt is in doubt: {}", failure.message);
            Exit::RollBack(CallError::unknown(failure.code, message))
        }
        Err(CallError::Refused(failure)) if !call.must_succeed => Exit::Refuse(failure),
        Err(CallError::Refused(failure)) if is_marked => Exit::Forget(failure),
        Err(error) => Exit::RollBack(error),
    }
}

pub(super) fn compensation_exit(result: Result<JsonText, CallError>) -> Exit {
    result.map_or_else(Exit::RollBack, Exit::Succeed)
}

/// A call without a row whose row may have been swept: nobody here can say what came of it. The watermark is read behind the lock on the
/// missing row, and written before any row is deleted: so a row that is missing because it was swept is never seen with an old one.
pub(super) fn refuse_swept(call: &Call, watermark_ms: u64) -> Result<(), CallError> {
    if call.started_at_ms >= watermark_ms {
        return Ok(());
    }
    let message = format!(
        "rows from before {watermark_ms} were swept and the saga started at {}: whether the {} of `{}` took effect is not known; \
         somebody has to look and to `resolve` it",
        call.started_at_ms, call.attempt.operation, call.attempt.step
    );
    Err(CallError::unknown(SWEPT, message))
}

/// When what a call writes is recorded: a clock that was set back must not have it swept before its saga began, or before its action.
pub(super) fn recorded_at_ms(now_ms: u64, call: &Call, action: Option<&Row>) -> u64 {
    now_ms.max(call.started_at_ms).max(action.map_or(0, |row| row.at_ms))
}

#[expect(clippy::disallowed_methods, reason = "the time is only a mark for sweeping old rows; the order of calls is never decided by it")]
pub(super) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
