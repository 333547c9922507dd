//! The stored form of the events.

use super::SagaEvent;
use crate::protocol::saga::CopiedItems;
use crate::protocol::{Event, Parent, Protocol, RecordedEvent};
use proptest::prelude::*;
use sagamq_api::ids::ItemIndex;
use sagamq_api::limits::SAGA_JSON_DEPTH_MAX;
use sagamq_api::saga::{Failure, HistoryEvent, Operation, StepAttempt, StepOutcomeName};
use sagamq_api::{JsonText, SagaName, TraceContext};
use serde_json::json;
use uuid::Uuid;

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
    let trace = || TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("a=1")).expect("legal");
    let parent = || Parent { saga: "p".parse().expect("legal"), attempt: of(Operation::Action).of(Uuid::from_u128(9)), depth: n };
    vec![
        SagaEvent::SagaStarted {
            saga,
            version: n,
            key: text.to_owned(),
            generation: at_ms,
            input: json.clone(),
            timeout_at_ms: Some(at_ms),
            parent: n.is_multiple_of(2).then(|| Box::new(parent())),
            trace: n.is_multiple_of(3).then(|| Box::new(trace())),
        },
        SagaEvent::SagaUndoRequested { attempt: undo().of(Uuid::from_u128(9)) },
        SagaEvent::SagaParentEnded,
        SagaEvent::StepCondition { attempt: attempt(), holds: n.is_multiple_of(2) },
        SagaEvent::StepFannedOut { attempt: attempt(), items: json.clone() },
        SagaEvent::StepCalled { attempt: attempt(), deadline_ms: at_ms, queue_deadline_ms: Some(at_ms), arguments: Some(json.clone()) },
        SagaEvent::StepHandedOut { attempt: attempt(), deadline_ms: at_ms },
        SagaEvent::StepNotSent { attempt: undo(), failure: failure() },
        SagaEvent::StepOngoing { attempt: attempt() },
        SagaEvent::StepAttemptFailed { attempt: undo(), failure: failure(), refused: true, retry_at_ms: at_ms },
        SagaEvent::StepAttemptsExceeded { attempt: attempt() },
        SagaEvent::StepSucceeded { attempt: attempt(), output: json.clone(), note: Some(failure()) },
        SagaEvent::StepAsleep { attempt: attempt(), until_ms: n.is_multiple_of(2).then_some(at_ms) },
        SagaEvent::StepWoke { attempt: attempt(), signal: n.is_multiple_of(2).then_some(at_ms) },
        SagaEvent::LockAsked { attempt: attempt(), key: text.to_owned(), until_ms: n.is_multiple_of(2).then_some(at_ms) },
        SagaEvent::LockGranted { key: text.to_owned(), token: at_ms },
        SagaEvent::LockBroken { key: text.to_owned(), token: at_ms, actor: said(), reason: said() },
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
            inputs: n.is_multiple_of(3).then(|| json.clone()).into_iter().collect(),
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
            input: n.is_multiple_of(3).then_some(n),
            items: n.is_multiple_of(2).then(|| {
                let inputs = n.is_multiple_of(3).then(|| (7, n.is_multiple_of(2).then_some(n))).into_iter().collect();
                Box::new(CopiedItems { values: json.clone(), skipped: vec![n], inputs })
            }),
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
