//! What happened to a saga: its log. These events are the truth; everything else is their fold.
//!
//! Their JSON is stored and shown by the history route as it is. Rules for changes: a field may be added with a default, a kind may be
//! added, nothing is renamed, removed or given another meaning; anything else needs a new [`EVENT_FORMAT`](crate::protocol::EVENT_FORMAT).

mod occurrence;
#[cfg(test)]
mod tests;

use crate::protocol::decision::Parent;
use sagamq_api::saga::{AttemptId, Failure, StepAttempt, StepOutcomeName};
use sagamq_api::{JsonText, SagaName, SignalName, StepId, TraceContext};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// One thing that happened. Every event about a step has the same address: step, item, operation, epoch.
///
/// The tag stands in front of the fields and beside them, not among them: then payloads are read without a buffer, and keep their text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
pub enum SagaEvent {
    /// The instance exists. Always the first event and never another.
    SagaStarted {
        /// Name of the definition.
        saga: SagaName,
        /// Version of the definition: the instance keeps it for life.
        version: u32,
        /// Business key.
        key: String,
        /// How many instances the key has started, with this one.
        generation: u64,
        /// What it works on.
        input: JsonText,
        /// When it is compensated if it has not passed its pivot, in milliseconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        timeout_at_ms: Option<u64>,
        /// The step of another instance whose sub-saga it is.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        parent: Option<Box<Parent>>,
        /// The span that started it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        trace: Option<Box<TraceContext>>,
    },
    /// Whether the step is done at all: its condition was asked, once, when its turn had come. If it does not hold, the step is left out, and
    /// gives no output.
    StepCondition {
        /// The action, which was not called: epoch 0.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// Whether it holds.
        holds: bool,
    },
    /// The step fans out: each of these is called for on its own, and has attempts of its own. An empty list is done at once.
    StepFannedOut {
        /// The action, which was not called: epoch 0.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// The list, as it was when the step's turn had come.
        items: JsonText,
    },
    /// A participant is about to be called: the intent, written before the effect.
    StepCalled {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// When the attempt is given up if it is handed out at once, in milliseconds since 1970. Absent: never, as a sub-saga takes as long
        /// as it takes.
        #[serde(skip_serializing_if = "is_never", default = "never")]
        deadline_ms: u64,
        /// When the attempt is given up if it was not handed out by then.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        queue_deadline_ms: Option<u64>,
        /// The arguments; every attempt of the operation has those of the first.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
        arguments: Option<JsonText>,
    },
    /// The call was handed to the participant later than it was decided; its time counts from then. Written only if that matters.
    StepHandedOut {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// When the attempt is given up, in milliseconds since 1970.
        deadline_ms: u64,
    },
    /// The participant cannot be reached: nothing was sent, and sending is tried on within the same attempt. Written once an attempt.
    StepNotSent {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What went wrong.
        failure: Failure,
    },
    /// The participant works on; written once an attempt.
    StepOngoing {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
    },
    /// The attempt ended without success and another one follows.
    StepAttemptFailed {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What went wrong.
        failure: Failure,
        /// Whether the participant refused. If not, the outcome is unknown.
        refused: bool,
        /// When the next attempt is due, in milliseconds since 1970. Absent: when an operator wants it.
        #[serde(skip_serializing_if = "is_never", default = "never")]
        retry_at_ms: u64,
    },
    /// A step that cannot be undone has used its attempts; it is tried on and on at the longest backoff. Written once a step.
    StepAttemptsExceeded {
        /// The last attempt of the action.
        #[serde(flatten)]
        attempt: StepAttempt,
    },
    /// The action took effect.
    StepSucceeded {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What it returned.
        output: JsonText,
        /// Why the output is not what the participant returned: that could not be kept.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        note: Option<Failure>,
    },
    /// The step calls nobody: it sleeps, or waits for a signal.
    StepAsleep {
        /// The step; its epoch is 0.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// Until when, in milliseconds since 1970; absent: until the signal comes.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        until_ms: Option<u64>,
    },
    /// The step has slept, or has its signal.
    StepWoke {
        /// The step; its epoch is 0.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// The number of the signal that it took; absent: its time is over.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        signal: Option<u64>,
    },
    /// The step begins under a lock, and asks for it: its turn has come. If the instance has the lock already, that is all.
    LockAsked {
        /// The step; its epoch is 0.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// The key of the lock.
        key: String,
        /// Until when the step waits, in milliseconds since 1970; absent: as long as the saga may take.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        until_ms: Option<u64>,
    },
    /// The instance has the lock, until it is at its end.
    LockGranted {
        /// The key.
        key: String,
        /// The fencing token: larger than that of every holder before.
        token: u64,
    },
    /// An operator took the lock away.
    LockBroken {
        /// The key.
        key: String,
        /// The token with which it was held.
        token: u64,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// Somebody sent a signal. The step that takes it, if one waits for it, is the next event; else it is kept.
    SignalReceived {
        /// Its name.
        signal: SignalName,
        /// Its number among the signals of the instance, from 0.
        number: u64,
        /// What makes it the same when it comes again.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        id: Option<String>,
        /// What the step that takes it returns.
        payload: JsonText,
        /// Who sent it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// The action took no effect and never will; or the step that slept need not any more.
    StepFailed {
        /// The attempt of the action; epoch 0 if it was never called.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// Why.
        failure: Failure,
    },
    /// Whether the action took effect will not be known.
    StepUnknown {
        /// The last attempt of the action.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What went wrong last.
        failure: Failure,
    },
    /// The effect of the action is undone.
    StepCompensated {
        /// The attempt of the compensation.
        #[serde(flatten)]
        attempt: StepAttempt,
    },
    /// The compensation will not be tried again: an operator has to look at it.
    StepCompensationFailed {
        /// The last attempt of the compensation; epoch 0 if it was never called.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What went wrong last.
        failure: Failure,
    },
    /// The saga is to be compensated, but its pivot is in flight: its outcome decides.
    SagaStopRequested {
        /// Why.
        failure: Failure,
        /// The operator who wants it, if one does.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
    },
    /// The saga's time is over, but it has passed its pivot and goes on. Written once.
    SagaTimeoutPassed,
    /// The call of this name, of its parent, wants it undone: what becomes of that is its answer. Of a completed instance too, which is
    /// compensated from here on.
    SagaUndoRequested {
        /// The attempt of the parent's compensation.
        attempt: AttemptId,
    },
    /// Its parent is at its end, and will not want it undone. Written once, also of an instance at its end.
    SagaParentEnded,
    /// From here on, effects are undone.
    SagaCompensating {
        /// Why.
        failure: Failure,
        /// The operator who wants it, if one does.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
    },
    /// Every step succeeded. Final.
    SagaCompleted {
        /// What the saga returns.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
        output: Option<JsonText>,
        /// Why it returns nothing although the definition has an output: its expression had no value.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        failure: Option<Failure>,
    },
    /// Every effect is undone. Final.
    SagaCompensated,
    /// It was given up, and there is nothing that a compensation would have to undo. Final.
    SagaFailed,
    /// What blocked the instance is done after all, or an operator mends it: it goes on in its direction.
    SagaUnblocked,
    /// Nothing can go on without an operator.
    SagaBlocked {
        /// Why.
        failure: Failure,
    },
    /// An operator pauses it: from here on nobody is called.
    SagaPaused {
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// An operator lets it go on.
    SagaResumed {
        /// When it is compensated if it has not passed its pivot: later by the pause, in milliseconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        timeout_at_ms: Option<u64>,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// It ends, and effects stand that nobody undoes: an operator wants it so, or left a compensation out. Final.
    SagaTerminated {
        /// The operator who ended it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// An operator gives it another input: what is rendered from now on sees that.
    SagaInputEdited {
        /// The new input.
        input: JsonText,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// An operator had it rerun: another instance goes on from here, with the effects of these steps and the right to undo them. Only an
    /// instance at its end is handed over, and nothing follows.
    SagaHandedOver {
        /// The rerun.
        to: Uuid,
        /// The step that it goes on with.
        from: StepId,
        /// The input that was given for it.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
        input: Option<JsonText>,
        /// The steps that it took over.
        steps: Vec<StepId>,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// It is the rerun of another instance. Directly behind the start, and before what is taken over.
    SagaRerun {
        /// The instance.
        of: Uuid,
        /// The step that it goes on with.
        from: StepId,
        /// Its input, if it is not the one that the key was started with.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
        input: Option<JsonText>,
        /// What was called that it takes over and undoes with it, where that is not its own input: each once, however many steps and items it
        /// is of.
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        inputs: Vec<JsonText>,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// An earlier instance did this step: it is done, and to be undone in the name of that instance.
    StepCopied {
        /// The last attempt of the action there.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What it returned.
        output: JsonText,
        /// The instance that called the action.
        origin: Uuid,
        /// When that one started, in milliseconds since 1970.
        started_at_ms: u64,
        /// Whether it was left out there, and has no effect.
        #[serde(skip_serializing_if = "core::ops::Not::not", default)]
        skipped: bool,
        /// Whether the saga went on without it there: it is optional, and had no effect. Then it gives no output here either.
        #[serde(skip_serializing_if = "core::ops::Not::not", default)]
        absent: bool,
        /// What its action was called with: which of the `inputs` of `saga_rerun`, counted from 0, or the rerun's own input.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        input: Option<u32>,
        /// Its items, if it fans out; `output` has what each of them returned.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        items: Option<Box<CopiedItems>>,
    },
    /// An operator wants it tried again: its attempts are counted from here, the next one is due now, and what failed for good is as it was
    /// before it was called.
    StepRetried {
        /// The last attempt; epoch 0 if it was never called.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// An operator leaves the operation out: the action is not called any more, or the effect stands.
    StepSkipped {
        /// The last attempt; epoch 0 if it was never called.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
    /// An operator says what is true of the operation. Of an instance at its end as well: then nothing follows from it.
    StepResolved {
        /// The last attempt; epoch 0 if it was never called.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What is true.
        outcome: StepOutcomeName,
        /// What the action would have returned, if it took effect.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
        output: Option<JsonText>,
        /// Who.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        reason: Option<String>,
    },
}

/// The time that never comes.
const fn never() -> u64 {
    u64::MAX
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it looks at by reference")]
const fn is_never(at_ms: &u64) -> bool {
    *at_ms == never()
}

/// The items of a step that was taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedItems {
    /// The list that it fanned out over.
    pub values: JsonText,
    /// The items that were left out there, and have no effect.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub skipped: Vec<u32>,
    /// What items were called with, if that is not what the step says: said as there, the own input as `null`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub inputs: BTreeMap<u32, Option<u32>>,
}

/// A field that is there, be it `null`: a saga that returns `null` returned something.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    JsonText::deserialize(deserializer).map(Some)
}
