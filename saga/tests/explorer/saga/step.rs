//! What can happen in the world of a saga, and how it reads in a trace.

use sagamq_api::StepId;
use sagamq_api::saga::{AttemptId, Operation, SagaVerb};

/// A message. Whoever is called is named by its place among the slots of the world, and so is the instance in whose name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Message {
    Call { of: usize, step: usize, operation: Operation, epoch: u32 },
    Reply { of: usize, step: usize, operation: Operation, epoch: u32, is_done: bool },
}

/// What can happen.
#[derive(Clone)]
pub(crate) enum Step {
    Serve(Message),
    Refuse(Message),
    Hear(Message),
    Unheard(AttemptId),
    Retry,
    TimeOut,
    Cancel,
    Operate(SagaVerb),
    Resolve(usize),
    Rerun(StepId),
    Exchange(AttemptId),
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call { of, step, operation, epoch } => write!(f, "{operation} {of}/s{step}#{epoch}"),
            Self::Reply { of, step, operation, epoch, is_done: true } => write!(f, "success of {operation} {of}/s{step}#{epoch}"),
            Self::Reply { of, step, operation, epoch, is_done: false } => write!(f, "refusal of {operation} {of}/s{step}#{epoch}"),
        }
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serve(call) => write!(f, "participant serves {call:?}"),
            Self::Refuse(call) => write!(f, "participant refuses {call:?}"),
            Self::Hear(reply) => write!(f, "orchestrator hears {reply:?}"),
            Self::Unheard(id) => write!(f, "orchestrator hears nothing of {}", id.clone().within()),
            Self::Retry => f.write_str("pauses are over"),
            Self::TimeOut => f.write_str("the saga's time is over"),
            Self::Cancel => f.write_str("an operator cancels"),
            Self::Operate(verb) => write!(f, "an operator says {verb:?}"),
            Self::Resolve(step) => write!(f, "an operator says what is true of s{step}"),
            Self::Rerun(from) => write!(f, "an operator has it rerun from {from}"),
            Self::Exchange(id) => write!(f, "{} and its answer", id.clone().within()),
        }
    }
}
