//! What happened to an instance: the saga log. These events are the truth; everything else is their fold.
//!
//! Their JSON is stored and shown by the history route as it is. Rules for changes: a field may be added with a default, a kind may be
//! added, nothing is renamed, removed or given another meaning; anything else needs a new [`EVENT_FORMAT`].

use sagamq_api::saga::{Failure, HistoryEvent, Operation};
use sagamq_api::{SagaName, StepId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// Version of the stored form of events: the byte in front of each.
pub const EVENT_FORMAT: u8 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum SagaEvent {
    /// The instance exists. Always the first event and never another.
    SagaStarted {
        /// Name of the definition.
        saga: SagaName,
        /// Version of the definition: the instance keeps it for life.
        version: u32,
        /// Business key.
        key: String,
        /// What it works on.
        input: Arc<Value>,
        /// When it is compensated if it has not passed its pivot, in milliseconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        timeout_at_ms: Option<u64>,
    },
    /// A participant is about to be called: the intent, written before the effect.
    StepCalled {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt, counted from 1.
        epoch: u32,
        /// When the attempt is given up, in milliseconds since 1970.
        deadline_ms: u64,
    },
    /// The participant works on; written once an attempt.
    StepOngoing {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt.
        epoch: u32,
    },
    /// The attempt ended without success and another one follows.
    StepAttemptFailed {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt.
        epoch: u32,
        /// What went wrong.
        failure: Failure,
        /// Whether the participant refused. If not, the outcome is unknown.
        refused: bool,
        /// When the next attempt is due, in milliseconds since 1970.
        retry_at_ms: u64,
    },
    /// A step that cannot be undone has used its attempts; it is tried on and on at the longest backoff. Written once a step.
    StepAttemptsExceeded {
        /// The step.
        step: StepId,
        /// The attempts so far.
        attempts: u32,
    },
    /// The action took effect.
    StepSucceeded {
        /// The step.
        step: StepId,
        /// The attempt.
        epoch: u32,
        /// What it returned.
        output: Arc<Value>,
    },
    /// The action took no effect and never will.
    StepFailed {
        /// The step.
        step: StepId,
        /// The attempt; 0 if the step was never called.
        epoch: u32,
        /// Why.
        failure: Failure,
    },
    /// Whether the action took effect will not be known.
    StepUnknown {
        /// The step.
        step: StepId,
        /// The last attempt.
        epoch: u32,
        /// What went wrong last.
        failure: Failure,
    },
    /// The effect of the action is undone.
    StepCompensated {
        /// The step.
        step: StepId,
        /// The attempt of the compensation.
        epoch: u32,
    },
    /// The compensation will not be tried again: an operator has to look at it.
    StepCompensationFailed {
        /// The step.
        step: StepId,
        /// The last attempt; 0 if the compensation was never called.
        epoch: u32,
        /// What went wrong last.
        failure: Failure,
    },
    /// The saga is to be compensated, but its pivot is in flight: its outcome decides.
    SagaStopRequested {
        /// Why.
        failure: Failure,
    },
    /// The saga's time is over, but it has passed its pivot and goes on. Written once.
    SagaTimeoutPassed,
    /// From here on, effects are undone.
    SagaCompensating {
        /// Why.
        failure: Failure,
    },
    /// Every step succeeded. Final.
    SagaCompleted {
        /// What the saga returns.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        output: Option<Arc<Value>>,
        /// Why it returns nothing although the definition has an output: its expression had no value.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        failure: Option<Failure>,
    },
    /// Every effect is undone. Final.
    SagaCompensated,
    /// It was given up before anything took effect. Final.
    SagaFailed,
    /// Nothing can go on without an operator.
    SagaBlocked {
        /// Why.
        failure: Failure,
    },
}

/// An event with its time: one entry of the saga log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedEvent {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub event: SagaEvent,
}

impl RecordedEvent {
    /// The event as the history route shows it.
    ///
    /// # Panics
    /// Never: every event is an object with a `type`.
    #[must_use]
    pub fn to_history(&self, sequence: u64) -> HistoryEvent {
        let event = serde_json::to_value(&self.event).expect("an event is JSON");
        let Value::Object(mut data) = event else { unreachable!("a tagged enum is an object") };
        let Some(Value::String(kind)) = data.shift_remove("type") else { unreachable!("a tagged enum has its tag") };
        HistoryEvent { sequence, at_ms: self.at_ms, r#type: kind, data: Value::Object(data) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_stored_form_is_what_the_history_shows() {
        let event =
            SagaEvent::StepSucceeded { step: "pay".parse().expect("legal"), epoch: 2, output: Arc::new(json!({"id": 7, "x": 1.5})) };
        let stored = json!({"type": "step_succeeded", "step": "pay", "epoch": 2, "output": {"id": 7, "x": 1.5}});
        assert_eq!(serde_json::to_value(&event).expect("json"), stored);
        assert_eq!(serde_json::from_value::<SagaEvent>(stored).expect("its own form"), event);
        let shown = RecordedEvent { at_ms: 5, event }.to_history(3);
        assert_eq!(
            (shown.r#type.as_str(), shown.data),
            ("step_succeeded", json!({"step": "pay", "epoch": 2, "output": {"id": 7, "x": 1.5}}))
        );
        let plain = RecordedEvent { at_ms: 5, event: SagaEvent::SagaCompensated }.to_history(0);
        assert_eq!((plain.r#type.as_str(), plain.data), ("saga_compensated", json!({})));
    }

    #[test]
    fn an_event_that_says_more_than_we_know_is_refused_not_misread() {
        assert!(serde_json::from_value::<SagaEvent>(json!({"type": "saga_paused"})).is_err());
        assert!(serde_json::from_value::<SagaEvent>(json!({"type": "step_compensated", "step": "a", "epoch": 1, "more": 1})).is_err());
    }
}
