//! How what happens is said.

use super::call::{Call, Side};
use super::model::Model;
use crate::protocol::saga::SagaEvent;
use sagamq_api::saga::{Operation, StepAttempt};

/// An attempt of a call: `` `reserve` (stock.reserve), attempt 2 ``.
pub(super) fn attempt(model: &Model<'_>, call: Call, epoch: u32) -> String {
    let (called, step) = (model.called(call), &model.definition.steps[call.place.index()].id);
    let what = if call.side == Side::Action { "" } else { "undo of " };
    let item = call.place.item.checked_sub(1).map(|item| format!("[{item}]")).unwrap_or_default();
    let which = if epoch > 1 { format!(", attempt {epoch}") } else { String::new() };
    format!("{what}`{step}{item}` ({}.{}){which}", called.service, called.name)
}

/// What an event means to its reader; `None` if another line says it.
pub(super) fn event(event: &SagaEvent) -> Option<String> {
    let text = match event {
        SagaEvent::StepCondition { attempt, holds: false } => format!("leaves {} out: its condition does not hold", of(attempt)),
        SagaEvent::StepFannedOut { attempt, items } => format!("{} fans out over {items}", of(attempt)),
        SagaEvent::StepAsleep { attempt, .. } => format!("waits in {}", of(attempt)),
        SagaEvent::StepWoke { attempt, .. } => format!("{} is over", of(attempt)),
        SagaEvent::LockAsked { attempt, key, .. } => format!("{} asks for the lock `{key}`", of(attempt)),
        SagaEvent::LockGranted { key, .. } => format!("has the lock `{key}` until it is at its end"),
        SagaEvent::StepNotSent { attempt, .. } => format!("{} was not sent, and waits", of(attempt)),
        SagaEvent::StepAttemptFailed { attempt, failure, refused, .. } => {
            let what = if *refused { "was refused" } else { "has an unknown outcome" };
            format!("attempt {} of {} {what} ({}); another one follows", attempt.epoch, of(attempt), failure.code)
        }
        SagaEvent::StepSucceeded { attempt, .. } => format!("{} succeeded", of(attempt)),
        SagaEvent::StepFailed { attempt, failure } => format!("{} failed: {}: {}", of(attempt), failure.code, failure.message),
        SagaEvent::StepUnknown { attempt, failure } => format!("whether {} is done will not be known ({})", of(attempt), failure.code),
        SagaEvent::StepCompensated { attempt } => {
            let item = attempt.item.map(|item| format!("[{item}]")).unwrap_or_default();
            format!("`{}{item}` is undone, as far as the saga knows", attempt.step)
        }
        SagaEvent::StepCompensationFailed { attempt, failure } => {
            format!("{} is given up: {}: {}", of(attempt), failure.code, failure.message)
        }
        SagaEvent::SagaStopRequested { failure, .. } => {
            format!("is to be undone ({}) once its pivot is known not to be done", failure.code)
        }
        SagaEvent::SagaTimeoutPassed => "its time is over, but it is past its pivot and goes on".to_owned(),
        SagaEvent::SagaCompensating { failure, .. } => format!("begins to undo what was done ({})", failure.code),
        SagaEvent::SagaCompleted { failure: None, .. } => "is COMPLETED".to_owned(),
        SagaEvent::SagaCompleted { failure: Some(failure), .. } => format!("is COMPLETED, without an output: {}", failure.message),
        SagaEvent::SagaCompensated => "is COMPENSATED".to_owned(),
        SagaEvent::SagaFailed => "is FAILED".to_owned(),
        SagaEvent::SagaUnblocked => "goes on: what blocked it is done after all".to_owned(),
        SagaEvent::SagaBlocked { failure } => format!("is BLOCKED: {}", failure.message),
        SagaEvent::SagaTerminated { .. } => "is TERMINATED".to_owned(),
        _ => return None,
    };
    Some(text)
}

fn of(attempt: &StepAttempt) -> String {
    let StepAttempt { step, item, .. } = attempt;
    let item = item.map(|item| format!("[{item}]")).unwrap_or_default();
    match attempt.operation {
        Operation::Compensation => format!("undo of `{step}{item}`"),
        _ => format!("`{step}{item}`"),
    }
}
