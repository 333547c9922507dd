//! What happened to an instance: the saga log. These events are the truth; everything else is their fold.
//!
//! Their JSON is stored and shown by the history route as it is. Rules for changes: a field may be added with a default, a kind may be
//! added, nothing is renamed, removed or given another meaning; anything else needs a new [`EVENT_FORMAT`].

use sagamq_api::saga::{Failure, HistoryEvent, Operation};
use sagamq_api::{JsonText, SagaName, StepId};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

/// Version of the stored form of events: the byte in front of each.
pub const EVENT_FORMAT: u8 = 2;

/// One thing that happened.
///
/// The tag stands in front of the fields and beside them, not among them: then reading needs no buffer, and payloads keep their text.
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
    },
    /// A participant is about to be called: the intent, written before the effect.
    StepCalled {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt, counted from 1.
        epoch: u32,
        /// When the attempt is given up if it is handed out at once, in milliseconds since 1970.
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
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt.
        epoch: u32,
        /// When the attempt is given up, in milliseconds since 1970.
        deadline_ms: u64,
    },
    /// The participant cannot be reached: nothing was sent, and sending is tried on within the same attempt. Written once an attempt.
    StepNotSent {
        /// The step.
        step: StepId,
        /// Action or compensation.
        operation: Operation,
        /// The attempt.
        epoch: u32,
        /// What went wrong.
        failure: Failure,
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
        output: JsonText,
        /// Why the output is not what the participant returned: that could not be kept.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        note: Option<Failure>,
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
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
        output: Option<JsonText>,
        /// Why it returns nothing although the definition has an output: its expression had no value.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        failure: Option<Failure>,
    },
    /// Every effect is undone. Final.
    SagaCompensated,
    /// It was given up before anything took effect. Final.
    SagaFailed,
    /// What blocked the instance is done after all, by a late word of a participant: undoing goes on.
    SagaUnblocked,
    /// Nothing can go on without an operator.
    SagaBlocked {
        /// Why.
        failure: Failure,
    },
}

/// A field that is there, be it `null`: a saga that returns `null` returned something.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    JsonText::deserialize(deserializer).map(Some)
}

/// An event with its time: one entry of the saga log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Never: every event has a `type`, and its payloads are bounded when they are taken.
    #[must_use]
    pub fn to_history(&self, sequence: u64) -> HistoryEvent {
        #[derive(Deserialize)]
        struct Stored {
            r#type: String,
            data: Option<JsonText>,
        }
        let event = serde_json::to_string(&self.event).expect("an event is JSON");
        let Stored { r#type, data } =
            serde_json::from_str(&event).expect("a tagged enum has its tag, and nests little deeper than its payload");
        HistoryEvent { sequence, at_ms: self.at_ms, r#type, data: data.unwrap_or_else(|| json!({}).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sagamq_api::limits::SAGA_JSON_DEPTH_MAX;

    /// Every kind, with this payload where it has one.
    fn every_kind(json: &JsonText, n: u32, at_ms: u64, text: &str) -> Vec<SagaEvent> {
        let (step, operation): (StepId, _) = ("pay".parse().expect("legal"), Operation::Compensation);
        let step = || step.clone();
        let failure = || Failure { code: text.to_owned(), message: text.to_owned() };
        let saga: SagaName = "s".parse().expect("legal");
        let all = vec![
            SagaEvent::SagaStarted {
                saga,
                version: n,
                key: text.to_owned(),
                generation: at_ms,
                input: json.clone(),
                timeout_at_ms: Some(at_ms),
            },
            SagaEvent::StepCalled {
                step: step(),
                operation,
                epoch: n,
                deadline_ms: at_ms,
                queue_deadline_ms: Some(at_ms),
                arguments: Some(json.clone()),
            },
            SagaEvent::StepHandedOut { step: step(), operation, epoch: n, deadline_ms: at_ms },
            SagaEvent::StepNotSent { step: step(), operation, epoch: n, failure: failure() },
            SagaEvent::StepOngoing { step: step(), operation, epoch: n },
            SagaEvent::StepAttemptFailed { step: step(), operation, epoch: n, failure: failure(), refused: true, retry_at_ms: at_ms },
            SagaEvent::StepAttemptsExceeded { step: step(), attempts: n },
            SagaEvent::StepSucceeded { step: step(), epoch: n, output: json.clone(), note: Some(failure()) },
            SagaEvent::StepFailed { step: step(), epoch: n, failure: failure() },
            SagaEvent::StepUnknown { step: step(), epoch: n, failure: failure() },
            SagaEvent::StepCompensated { step: step(), epoch: n },
            SagaEvent::StepCompensationFailed { step: step(), epoch: n, failure: failure() },
            SagaEvent::SagaStopRequested { failure: failure() },
            SagaEvent::SagaTimeoutPassed,
            SagaEvent::SagaCompensating { failure: failure() },
            SagaEvent::SagaCompleted { output: Some(json.clone()), failure: Some(failure()) },
            SagaEvent::SagaCompleted { output: None, failure: None },
            SagaEvent::SagaCompensated,
            SagaEvent::SagaFailed,
            SagaEvent::SagaUnblocked,
            SagaEvent::SagaBlocked { failure: failure() },
        ];
        all
    }

    #[test]
    fn the_stored_form_is_what_the_history_shows() {
        let output = JsonText::parse(br#"{"id":12345678901234567890123, "x":1.50}"#).expect("JSON");
        let event = SagaEvent::StepSucceeded { step: "pay".parse().expect("legal"), epoch: 2, output, note: None };
        let recorded = RecordedEvent { at_ms: 5, event };
        let data = r#"{"step":"pay","epoch":2,"output":{"id":12345678901234567890123, "x":1.50}}"#;
        let stored = format!(r#"{{"at_ms":5,"event":{{"type":"step_succeeded","data":{data}}}}}"#);
        assert_eq!(serde_json::to_string(&recorded).expect("JSON"), stored);
        let shown = recorded.to_history(3);
        assert_eq!((shown.r#type.as_str(), shown.data.as_str()), ("step_succeeded", data));
        let plain = RecordedEvent { at_ms: 5, event: SagaEvent::SagaCompensated }.to_history(0);
        assert_eq!((plain.r#type.as_str(), plain.data.as_str()), ("saga_compensated", "{}"));
    }

    #[test]
    fn an_event_that_says_more_than_we_know_is_refused_not_misread() {
        assert!(serde_json::from_value::<SagaEvent>(json!({"type": "saga_paused"})).is_err());
        let more = json!({"type": "step_compensated", "data": {"step": "a", "epoch": 1, "more": 1}});
        assert!(serde_json::from_value::<SagaEvent>(more).is_err());
    }

    #[test]
    fn the_deepest_payload_can_be_read_back_and_shown() {
        let deepest = format!("{}{}", "[".repeat(SAGA_JSON_DEPTH_MAX), "]".repeat(SAGA_JSON_DEPTH_MAX));
        for event in every_kind(&JsonText::parse(deepest.as_bytes()).expect("JSON"), 1, 1, "x") {
            let recorded = RecordedEvent { at_ms: 1, event };
            let stored = serde_json::to_vec(&recorded).expect("JSON");
            assert_eq!(serde_json::from_slice::<RecordedEvent>(&stored).expect("its own form"), recorded);
            let shown = serde_json::to_string(&recorded.to_history(0)).expect("JSON");
            assert!(serde_json::from_str::<HistoryEvent>(&shown).is_ok(), "{shown}");
        }
    }

    /// Texts that a tree would change.
    fn payload() -> impl Strategy<Value = JsonText> {
        let number = proptest::string::string_regex("-?[1-9][0-9]{0,30}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?").expect("legal");
        let leaf = prop_oneof![number, ".{0,8}".prop_map(|text: String| json!(text).to_string()), Just("null".to_owned())];
        let tree = leaf.prop_recursive(6, 24, 4, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" , ")));
            let fields = proptest::collection::vec(("[ab]", inner), 0..4);
            let object = fields.prop_map(|fields| {
                let fields: Vec<_> = fields.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                format!("{{{}}}", fields.join(","))
            });
            prop_oneof![list, object]
        });
        tree.prop_map(|text| JsonText::parse(text.as_bytes()).expect("JSON"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_kind_comes_back_with_the_text_of_its_payload(json in payload(), n: u32, at_ms: u64, text in ".{0,8}") {
            for event in every_kind(&json, n, at_ms, &text) {
                let recorded = RecordedEvent { at_ms, event };
                let stored = serde_json::to_vec(&recorded).expect("JSON");
                prop_assert_eq!(serde_json::from_slice::<RecordedEvent>(&stored).expect("its own form"), recorded);
            }
        }
    }
}
