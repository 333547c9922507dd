//! Decisions that may take long run beside the tasks that must not wait for them: neither a thread that serves requests nor one that other
//! lanes need. A lane waits for its own decision, which is bounded in steps, bytes and time.

use super::places::Places;
use crate::definition::Definition;
use crate::expression::{DECISION_TIME_MAX, metered_until};
use crate::protocol::{Input, Instance, Verb};
use sagamq_api::saga::{CallOutcome, SagaVerb, StepOutcome};

/// Payloads of this size together are looked through in a moment: expressions without loops over them are evaluated in place.
pub(super) const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Decisions that run beside their lanes at a time, of all lanes: bounds what the values of all of them take.
pub(super) const DECISIONS_BESIDE_MAX: usize = 2;

static PLACES: Places = Places::new(DECISIONS_BESIDE_MAX, DECISION_TIME_MAX);

/// Inputs up to this size are judged by a schema in place: each of their values may meet many schemas.
const JUDGED_BYTES_MAX: usize = 4 * 1024;

/// Steps of judging an input in place, at most.
const JUDGED_STEPS_MAX: u64 = 1_000_000;

/// Runs work with expressions on a thread that may block, under a meter of its own. When its time is over, what it evaluates has no value.
pub(super) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    PLACES.run(|stop| metered_until(Some(stop), work)).await
}

/// Whether judging an input of so many bytes may take more than a moment.
pub(super) fn is_judged_long(definition: &Definition, bytes: usize) -> bool {
    definition.input.as_ref().is_some_and(|schema| bytes > JUDGED_BYTES_MAX || schema.steps(bytes) > JUDGED_STEPS_MAX)
}

/// Whether deciding this input may take more than a moment.
pub(super) fn may_take_long(definition: &Definition, instance: &Instance, input: &Input) -> bool {
    let is_input_edited =
        matches!(input, Input::Operate { verb: Verb::Saga(SagaVerb::EditInput { .. } | SagaVerb::Rerun { input: Some(_), .. }), .. });
    let added = match input {
        Input::Start { input, .. } | Input::Reply { outcome: CallOutcome::Succeeded { output: input }, .. } => input.len(),
        Input::Operate { verb: Verb::Saga(SagaVerb::EditInput { input } | SagaVerb::Rerun { input: Some(input), .. }), .. } => input.len(),
        Input::Operate { verb: Verb::Saga(SagaVerb::Resolve { outcome: StepOutcome::Succeeded { output }, .. }), .. } => output.len(),
        Input::Reply { .. } | Input::NotSent { .. } | Input::Timer { .. } | Input::Recovered | Input::Operate { .. } => 0,
        Input::Undo(_) | Input::ParentAsks | Input::ParentEnded | Input::Lock { .. } => 0,
        Input::Signal(signal) => signal.payload.len(),
    };
    added + instance.payload_bytes() > INLINE_BYTES_MAX
        || definition.is_long()
        || (is_input_edited && (definition.key.is_long() || is_judged_long(definition, added)))
}
