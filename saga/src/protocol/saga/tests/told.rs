//! What steps tell others: once for each step that succeeds, and once for each that is undone.

use super::fixture::*;
use crate::definition::{Definition, Emission};
use crate::expression::{Template, metered_until};
use crate::protocol::decision::Told;
use crate::protocol::{Command, Input};
use sagamq_api::limits::SAGA_PAYLOAD_BYTES_MAX;
use sagamq_api::saga::{CallOutcome, Operation, SagaState, SagaVerb, StepOutcome};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Every step tells its output, and with which code it was undone.
fn telling(pivot: Option<usize>) -> Definition {
    let mut definition = chain(pivot);
    for step in &mut definition.steps {
        let emission = |value: &str| Emission {
            topic: "order.events".parse().expect("legal"),
            key: None,
            value: Template::compile(&json!({ "of": value })).expect("legal"),
            headers: vec![("what".to_owned(), Template::text("${ saga.key }!").expect("legal"))],
        };
        step.emit = Some(emission(&format!("${{ steps.{}.output.ok }}", step.id)));
        step.emit_undone = step.compensation.is_some().then(|| emission("${ failure.code }"));
    }
    definition
}

/// What the last input told: step, operation and value.
fn told(run: &Run) -> Vec<(String, Operation, String)> {
    let told = run.commands.iter().filter_map(|command| match command {
        Command::Tell(told) => Some(told),
        _ => None,
    });
    told.map(|told| {
        let value = told.value.as_ref().map_or("none", |value| value.as_str()).to_owned();
        (told.attempt.step.to_string(), told.attempt.operation, value)
    })
    .collect()
}

fn one(step: &str, operation: Operation, value: &str) -> Vec<(String, Operation, String)> {
    vec![(step.to_owned(), operation, value.to_owned())]
}

#[test]
fn a_step_tells_once_what_it_did_and_once_that_it_is_undone() {
    let mut run = Run::start(telling(None));
    assert!(told(&run).is_empty(), "nothing is done yet");
    run.reply("a", done());
    assert_eq!(told(&run), one("a", Operation::Action, r#"{"of":true}"#));
    assert_eq!(run.called(), ["b"], "and the saga goes on in the same decision");
    assert_eq!(run.reply_to("a", Operation::Action, 1, done()), Ok(true), "the same word again");
    assert!(told(&run).is_empty(), "tells nothing");
    run.reply("b", refused());
    assert!(told(&run).is_empty(), "what had no effect tells nothing");
    run.undo_reply("a", done());
    assert_eq!(told(&run), one("a", Operation::Compensation, r#"{"of":"NO"}"#));
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn a_record_says_whose_it_is_and_has_the_business_key_unless_it_has_another() {
    let mut definition = telling(None);
    definition.steps[1].emit.as_mut().expect("it tells").key = Some(Template::text("${ input.customer }").expect("legal"));
    let mut run = Run::start_with(definition, json!({"customer": 17}));
    let record = |run: &Run| -> Told {
        let found = run.commands.iter().find_map(|command| if let Command::Tell(told) = command { Some((**told).clone()) } else { None });
        found.expect("it tells")
    };
    run.reply("a", done());
    let first = record(&run);
    assert_eq!((first.key.as_str(), first.business_key.as_str(), first.version), ("k", "k", 1));
    assert_eq!(first.headers, [("what".to_owned(), "k!".to_owned())]);
    assert_eq!(first.attempt, run.attempt("a", Operation::Action, 1));
    run.reply("b", done());
    assert_eq!(record(&run).key, "17", "a number is its own text");
}

#[test]
fn what_has_happened_is_told_whatever_its_expressions_come_to() {
    let mut definition = telling(Some(0));
    definition.steps[0].emit.as_mut().expect("it tells").value = Template::text("${ input.nothing }").expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", done());
    let Some(Command::Tell(told)) = run.commands.iter().find(|command| matches!(command, Command::Tell(_))) else { panic!("it tells") };
    assert_eq!((told.value.clone(), told.key.as_str()), (None, "k"));
    assert!(told.failed.as_ref().is_some_and(|reason| reason.contains("nothing")), "{told:?}");
    assert_eq!(run.called(), ["b"], "the saga goes on: what was done was done");
}

/// Somebody keeps books by what is told: what was charged is what stood in the input that the charge was called with.
#[test]
fn what_was_done_with_one_input_is_told_with_it_whatever_input_an_operator_gave_meanwhile() {
    let mut definition = telling(Some(0));
    for step in &mut definition.steps {
        step.emit.as_mut().expect("it tells").value = Template::compile(&json!({"amount": "${ input.amount }"})).expect("legal");
    }
    let mut run = Run::start_with(definition, json!({"amount": 100}));
    assert_eq!(run.called(), ["a"], "it is called with this amount");
    run.operate(SagaVerb::EditInput { input: json!({"amount": 7}).into() }).expect("it is called");
    run.operate(SagaVerb::EditInput { input: json!({"amount": 8}).into() }).expect("once more");
    run.reply("a", done());
    assert_eq!(told(&run), one("a", Operation::Action, r#"{"amount":100}"#));
    run.reply("b", done());
    assert_eq!(told(&run), one("b", Operation::Action, r#"{"amount":8}"#), "what was called since has the new one");
}

fn only(run: &Run) -> Told {
    let found: Vec<&Told> =
        run.commands.iter().filter_map(|command| if let Command::Tell(told) = command { Some(&**told) } else { None }).collect();
    let [told] = found.as_slice() else { panic!("{found:?}") };
    (*told).clone()
}

/// In a compacted topic the newest record of a key without a value says that the key is gone.
#[test]
fn what_has_no_value_is_told_under_the_business_key_whatever_of_it_has_one() {
    for fails in ["header", "value"] {
        let mut definition = telling(Some(0));
        let emission = definition.steps[0].emit.as_mut().expect("it tells");
        let nothing = Template::text("${ input.nothing }").expect("legal");
        emission.key = Some(Template::text("customer-1").expect("legal"));
        if fails == "header" {
            emission.headers.push(("other".to_owned(), nothing));
        } else {
            emission.value = nothing;
        }
        let mut run = Run::start(definition);
        run.reply("a", done());
        let told = only(&run);
        assert_eq!((told.key.as_str(), &told.value, told.headers.len(), told.failed.is_some()), ("k", &None, 0, true), "{fails}");
    }
}

/// Nobody could produce such a record, and who reads the topic may not be able to take it.
#[test]
fn what_would_make_too_large_a_record_is_told_without_a_value() {
    let text = "x".repeat(SAGA_PAYLOAD_BYTES_MAX / 2);
    for (headers, is_told) in [(10, true), (16, false)] {
        let mut definition = telling(Some(0));
        let emission = definition.steps[0].emit.as_mut().expect("it tells");
        emission.headers = (0..headers).map(|number| (format!("h{number}"), Template::text("${ input.text }").expect("legal"))).collect();
        let mut run = Run::start_with(definition, json!({ "text": text }));
        run.reply("a", done());
        let told = only(&run);
        assert_eq!((told.value.is_some(), told.headers.len()), (is_told, if is_told { headers } else { 0 }));
        assert_eq!(told.failed.is_some_and(|reason| reason.contains("at most 16777216 are allowed")), !is_told);
    }
}

#[test]
fn what_is_told_ends_when_the_time_of_its_decision_does() {
    let mut run = Run::start(telling(None));
    run.reply("a", done());
    run.reply("b", done());
    let over = Arc::new(AtomicBool::new(true));
    metered_until(Some(over), || run.reply("c", done()));
    let told = only(&run);
    assert!(told.value.is_none() && told.failed.is_some_and(|reason| reason.contains("longer than")), "it is told all the same");
    assert_eq!(run.saga_state(), SagaState::Completed);
}

#[test]
fn what_is_undone_alone_tells_why_it_was() {
    let hopeless = || CallOutcome::Unknown { failure: failure("HOPELESS"), retry_after_ms: None };
    let begun = |pivot: Option<usize>| {
        let mut definition = telling(pivot);
        definition.steps[0].optional = true;
        let mut run = Run::start(definition);
        run.reply("a", hopeless());
        assert_eq!(run.called(), ["undo_a"]);
        run
    };
    let why = || one("a", Operation::Compensation, r#"{"of":"HOPELESS"}"#);
    let mut run = begun(None);
    run.undo_reply("a", done());
    assert_eq!((told(&run), run.saga_state()), (why(), SagaState::Running));
    // Its undoing was left out, the saga ended, and then somebody did it by hand.
    let mut run = begun(Some(1));
    run.undo_reply("a", unknown());
    run.operate(SagaVerb::Skip { item: None, step: id("a") }).expect("it waits");
    run.reply("b", done());
    run.reply("c", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
    run.operate(SagaVerb::Resolve { item: None, step: id("a"), outcome: StepOutcome::Compensated }).expect("undone by hand");
    assert_eq!(told(&run), why());
}

#[test]
fn what_an_operator_says_is_true_is_told_and_what_is_left_out_is_not() {
    let mut run = Run::start(telling(None));
    run.reply("a", unknown());
    run.operate(SagaVerb::Resolve { item: None, step: id("a"), outcome: StepOutcome::Succeeded { output: json!({"ok": 7}).into() } })
        .expect("it waits");
    assert_eq!(told(&run), one("a", Operation::Action, r#"{"of":7}"#));
    run.reply("b", unknown());
    run.operate(SagaVerb::Skip { item: None, step: id("b") }).expect("it waits");
    assert!(told(&run).is_empty());
    run.input(Input::Recovered).expect("a restart");
    assert!(told(&run).is_empty(), "a restart tells nothing again");
}

#[test]
fn what_a_rerun_takes_over_was_told_by_the_one_that_did_it() {
    let mut run = Run::start(telling(None));
    run.reply("a", done());
    run.reply("b", unknown());
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(SagaVerb::Resolve { item: None, step: id("b"), outcome: StepOutcome::Failed }).expect("it was called");
    let rerun = run.rerun("b").expect("what comes before it stands");
    assert!(told(&rerun).is_empty(), "`a` is copied");
}
