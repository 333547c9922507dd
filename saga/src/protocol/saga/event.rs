//! What happened to a saga: its log. These events are the truth; everything else is their fold.
//!
//! Their JSON is stored and shown by the history route as it is. Rules for changes: a field may be added with a default, a kind may be
//! added, nothing is renamed, removed or given another meaning; anything else needs a new [`EVENT_FORMAT`](crate::protocol::EVENT_FORMAT).

use crate::protocol::occurrence::{AttemptEnd, Occurrence};
use sagamq_api::saga::{Failure, Operation, StepAttempt, StepOutcomeName};
use sagamq_api::{JsonText, SagaName, SignalName, StepId};
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
    /// A participant is about to be called: the intent, written before the effect.
    StepCalled {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
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
        /// When the next attempt is due, in milliseconds since 1970.
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
        /// What instances whose steps it takes over worked on, if that is another input: those steps are undone with it.
        #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
        inputs: BTreeMap<Uuid, JsonText>,
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
        /// What its action was called with, if that is neither what is kept of that instance (`inputs` of `saga_rerun`) nor, where nothing is
        /// kept of it, the rerun's own input.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
        input: Option<JsonText>,
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

/// A field that is there, be it `null`: a saga that returns `null` returned something.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    JsonText::deserialize(deserializer).map(Some)
}

impl SagaEvent {
    /// What it is counted as, if it is.
    pub(in crate::protocol) fn occurrence(&self) -> Option<Occurrence> {
        match self {
            Self::SagaStarted { .. } => Some(Occurrence::Started),
            Self::SagaBlocked { .. } => Some(Occurrence::Blocked),
            Self::StepAttemptFailed { attempt, refused, .. } => {
                let end = if *refused { AttemptEnd::Refused } else { AttemptEnd::Unknown };
                Some(Occurrence::AttemptEnded(attempt.operation, end))
            }
            Self::StepSucceeded { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Succeeded)),
            Self::StepFailed { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Refused)),
            Self::StepUnknown { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Unknown)),
            Self::StepCompensated { .. } => Some(Occurrence::AttemptEnded(Operation::Compensation, AttemptEnd::Succeeded)),
            Self::StepCompensationFailed { .. } => Some(Occurrence::AttemptEnded(Operation::Compensation, AttemptEnd::GivenUp)),
            Self::StepCondition { .. }
            | Self::StepCalled { .. }
            | Self::StepHandedOut { .. }
            | Self::StepNotSent { .. }
            | Self::StepOngoing { .. }
            | Self::StepAsleep { .. }
            | Self::StepWoke { .. }
            | Self::SignalReceived { .. }
            | Self::StepAttemptsExceeded { .. }
            | Self::SagaStopRequested { .. }
            | Self::SagaTimeoutPassed
            | Self::SagaCompensating { .. }
            | Self::SagaCompleted { .. }
            | Self::SagaCompensated
            | Self::SagaFailed
            | Self::SagaUnblocked
            | Self::SagaPaused { .. }
            | Self::SagaResumed { .. }
            | Self::SagaTerminated { .. }
            | Self::SagaInputEdited { .. }
            | Self::SagaHandedOver { .. }
            | Self::SagaRerun { .. }
            | Self::StepCopied { .. }
            | Self::StepRetried { .. }
            | Self::StepSkipped { .. }
            | Self::StepResolved { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Event, Protocol, RecordedEvent};
    use proptest::prelude::*;
    use sagamq_api::ids::ItemIndex;
    use sagamq_api::limits::SAGA_JSON_DEPTH_MAX;
    use sagamq_api::saga::HistoryEvent;
    use serde_json::json;

    /// Every kind, with this payload where it has one.
    fn every_kind(json: &JsonText, n: u32, at_ms: u64, text: &str) -> Vec<SagaEvent> {
        let failure = || Failure { code: text.to_owned(), message: text.to_owned() };
        let of = |operation| StepAttempt {
            step: "pay".parse().expect("legal"),
            item: n.is_multiple_of(2).then_some(ItemIndex(n)),
            operation,
            epoch: n,
        };
        let (attempt, undo) = (|| of(Operation::Action), || of(Operation::Compensation));
        let saga: SagaName = "s".parse().expect("legal");
        let said = || n.is_multiple_of(2).then(|| text.to_owned());
        vec![
            SagaEvent::SagaStarted {
                saga,
                version: n,
                key: text.to_owned(),
                generation: at_ms,
                input: json.clone(),
                timeout_at_ms: Some(at_ms),
            },
            SagaEvent::StepCondition { attempt: attempt(), holds: n.is_multiple_of(2) },
            SagaEvent::StepCalled { attempt: attempt(), deadline_ms: at_ms, queue_deadline_ms: Some(at_ms), arguments: Some(json.clone()) },
            SagaEvent::StepHandedOut { attempt: attempt(), deadline_ms: at_ms },
            SagaEvent::StepNotSent { attempt: undo(), failure: failure() },
            SagaEvent::StepOngoing { attempt: attempt() },
            SagaEvent::StepAttemptFailed { attempt: undo(), failure: failure(), refused: true, retry_at_ms: at_ms },
            SagaEvent::StepAttemptsExceeded { attempt: attempt() },
            SagaEvent::StepSucceeded { attempt: attempt(), output: json.clone(), note: Some(failure()) },
            SagaEvent::StepAsleep { attempt: attempt(), until_ms: n.is_multiple_of(2).then_some(at_ms) },
            SagaEvent::StepWoke { attempt: attempt(), signal: n.is_multiple_of(2).then_some(at_ms) },
            SagaEvent::SignalReceived {
                signal: "go".parse().expect("legal"),
                number: at_ms,
                id: said(),
                payload: json.clone(),
                actor: said(),
                reason: said(),
            },
            SagaEvent::StepFailed { attempt: attempt(), failure: failure() },
            SagaEvent::StepUnknown { attempt: attempt(), failure: failure() },
            SagaEvent::StepCompensated { attempt: undo() },
            SagaEvent::StepCompensationFailed { attempt: undo(), failure: failure() },
            SagaEvent::SagaStopRequested { failure: failure(), actor: n.is_multiple_of(2).then(|| text.to_owned()) },
            SagaEvent::SagaTimeoutPassed,
            SagaEvent::SagaCompensating { failure: failure(), actor: n.is_multiple_of(2).then(|| text.to_owned()) },
            SagaEvent::SagaCompleted { output: Some(json.clone()), failure: Some(failure()) },
            SagaEvent::SagaCompleted { output: None, failure: None },
            SagaEvent::SagaCompensated,
            SagaEvent::SagaFailed,
            SagaEvent::SagaUnblocked,
            SagaEvent::SagaBlocked { failure: failure() },
            SagaEvent::SagaHandedOver {
                to: Uuid::from_u128(u128::from(n)),
                from: "pay".parse().expect("legal"),
                input: n.is_multiple_of(2).then(|| json.clone()),
                steps: vec!["a".parse().expect("legal")],
                actor: said(),
                reason: said(),
            },
            SagaEvent::SagaRerun {
                of: Uuid::from_u128(u128::from(n)),
                from: "pay".parse().expect("legal"),
                input: n.is_multiple_of(2).then(|| json.clone()),
                inputs: n.is_multiple_of(3).then(|| (Uuid::from_u128(7), json.clone())).into_iter().collect(),
                actor: said(),
                reason: said(),
            },
            SagaEvent::StepCopied {
                attempt: attempt(),
                output: json.clone(),
                origin: Uuid::from_u128(7),
                started_at_ms: at_ms,
                skipped: n.is_multiple_of(2),
                absent: n.is_multiple_of(3),
                input: n.is_multiple_of(3).then(|| json.clone()),
            },
            SagaEvent::SagaPaused { actor: said(), reason: said() },
            SagaEvent::SagaResumed { timeout_at_ms: Some(at_ms), actor: said(), reason: said() },
            SagaEvent::SagaTerminated { actor: said(), reason: said() },
            SagaEvent::SagaInputEdited { input: json.clone(), actor: said(), reason: said() },
            SagaEvent::StepRetried { attempt: undo(), actor: said(), reason: said() },
            SagaEvent::StepSkipped { attempt: attempt(), actor: said(), reason: said() },
            SagaEvent::StepResolved {
                attempt: attempt(),
                outcome: StepOutcomeName::Succeeded,
                output: Some(json.clone()),
                actor: said(),
                reason: said(),
            },
            SagaEvent::StepResolved { attempt: undo(), outcome: StepOutcomeName::Compensated, output: None, actor: said(), reason: said() },
        ]
    }

    fn recorded(at_ms: u64, event: SagaEvent) -> RecordedEvent {
        RecordedEvent { at_ms, event: Event::Saga(event) }
    }

    fn text(recorded: &RecordedEvent) -> String {
        String::from_utf8(recorded.to_json()).expect("JSON")
    }

    #[test]
    fn the_stored_form_is_what_the_history_shows() {
        let output = JsonText::parse(br#"{"id":12345678901234567890123, "x":1.50}"#).expect("JSON");
        let attempt = |item| StepAttempt { step: "pay".parse().expect("legal"), item, operation: Operation::Action, epoch: 2 };
        for (item, shown_as) in [(None, ""), (Some(ItemIndex(3)), r#""item":3,"#)] {
            let event = recorded(5, SagaEvent::StepSucceeded { attempt: attempt(item), output: output.clone(), note: None });
            let data =
                format!(r#"{{"step":"pay",{shown_as}"operation":"action","epoch":2,"output":{{"id":12345678901234567890123, "x":1.50}}}}"#);
            assert_eq!(text(&event), format!(r#"{{"at_ms":5,"event":{{"type":"step_succeeded","data":{data}}}}}"#));
            let shown = event.to_history(3);
            assert_eq!((shown.r#type.as_str(), shown.data.as_str()), ("step_succeeded", data.as_str()));
        }
        let plain = recorded(5, SagaEvent::SagaCompensated).to_history(0);
        assert_eq!((plain.r#type.as_str(), plain.data.as_str()), ("saga_compensated", "{}"));
    }

    #[test]
    fn an_event_that_says_more_than_we_know_is_refused_not_misread() {
        assert!(serde_json::from_value::<SagaEvent>(json!({"type": "saga_stopped"})).is_err());
        let known = json!({"type": "step_compensated", "data": {"step": "a", "operation": "compensation", "epoch": 1}});
        assert!(serde_json::from_value::<SagaEvent>(known.clone()).is_ok());
        for (field, value) in [("more", json!(1)), ("item", json!("x")), ("epoch", json!(-1)), ("instance", json!("x"))] {
            let mut other = known.clone();
            other["data"][field] = value;
            assert!(serde_json::from_value::<SagaEvent>(other).is_err(), "{field}");
        }
    }

    #[test]
    fn the_deepest_payload_can_be_read_back_and_shown() {
        let deepest = format!("{}{}", "[".repeat(SAGA_JSON_DEPTH_MAX), "]".repeat(SAGA_JSON_DEPTH_MAX));
        for event in every_kind(&JsonText::parse(deepest.as_bytes()).expect("JSON"), 1, 1, "x") {
            let event = recorded(1, event);
            assert_eq!(RecordedEvent::from_json(Protocol::Saga, &event.to_json()).expect("its own form"), event);
            let shown = serde_json::to_string(&event.to_history(0)).expect("JSON");
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
                let event = recorded(at_ms, event);
                prop_assert_eq!(RecordedEvent::from_json(Protocol::Saga, &event.to_json()).expect("its own form"), event);
            }
        }
    }
}
