//! What was done is undone with the input that it was done with, and what is found out of a saga at its end is what stands.

use super::fixture::*;
use super::verbs::{call_of, edit, resolve, skip, standing};
use crate::expression::Template;
use crate::protocol::Rejection;
use sagamq_api::saga::{Operation, SagaState, SagaVerb, StepOutcome, StepState};
use serde_json::json;

/// Each step is done and undone with the amount of the input.
fn of_amounts(amount: u32) -> Run {
    let mut definition = chain(None);
    for step in &mut definition.steps {
        let arguments = || Template::compile(&json!("${ input.amount }")).expect("legal");
        step.call_mut(Operation::Action).arguments = arguments();
        step.compensation.as_mut().expect("it has one").arguments = arguments();
    }
    Run::start_with(definition, json!({"amount": amount}))
}

#[test]
fn another_input_is_seen_by_what_is_called_later_and_what_was_done_is_undone_with_the_first() {
    let mut run = of_amounts(100);
    run.reply("a", done());
    for amount in [7, 8] {
        run.operate(edit(json!({"amount": amount}))).expect("the same key");
    }
    run.reply("b", done());
    assert_eq!(call_of(&run, "c").call.arguments.as_str(), "8");
    run.operate(edit(json!({"amount": 9}))).expect("the same key");
    run.reply("c", refused());
    for (step, amount) in [("b", "100"), ("a", "100")] {
        assert_eq!(call_of(&run, &format!("undo_{step}")).call.arguments.as_str(), amount, "{step} was called with it");
        run.undo_reply(step, done());
    }
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn what_was_edited_is_as_it_was_also_in_reruns() {
    let mut run = of_amounts(100);
    run.reply("a", done());
    run.operate(edit(json!({"amount": 7}))).expect("the same key");
    run.reply("b", done());
    run.operate(edit(json!({"amount": 8}))).expect("the same key");
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(resolve("c", StepOutcome::Failed)).expect("its outcome is open");
    // `a` and `b` were called with 100, `c` with 7; the rerun has 8, and is given 9 and 10.
    run.operate(SagaVerb::Rerun { from: id("c"), input: Some(json!({"amount": 9}).into()) }).expect("nothing is in doubt");
    let mut rerun = run.take_next();
    assert_eq!(call_of(&rerun, "c").call.arguments.as_str(), "9");
    rerun.operate(edit(json!({"amount": 10}))).expect("the same key");
    rerun.reply("c", done());
    assert_eq!(rerun.saga_state(), SagaState::Completed);
    let mut run = of_amounts(1);
    run.reply("a", done());
    run.operate(edit(json!({"amount": 2}))).expect("the same key");
    run.reply("b", unknown());
    run.operate(skip("b")).expect("it waits");
    assert_eq!(call_of(&run, "c").call.arguments.as_str(), "2");
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(resolve("b", StepOutcome::Succeeded { output: json!({}).into() })).expect("it may have been done");
    run.operate(resolve("c", StepOutcome::Succeeded { output: json!({}).into() })).expect("its outcome is open");
    run.operate(resolve("c", StepOutcome::Compensated)).expect("it was undone by hand");
    run.operate(SagaVerb::Rerun { from: id("c"), input: Some(json!({"amount": 1}).into()) }).expect("nothing is in doubt");
    let mut rerun = run.take_next();
    rerun.operate(edit(json!({"amount": 3}))).expect("the same key");
    rerun.reply("c", refused());
    for step in ["b", "a"] {
        assert_eq!(call_of(&rerun, &format!("undo_{step}")).call.arguments.as_str(), "1", "{step} was called with it");
        rerun.undo_reply(step, done());
    }
}

#[test]
fn steps_of_one_instance_that_were_done_with_different_inputs_are_undone_with_their_own() {
    let mut run = of_amounts(1);
    run.operate(SagaVerb::Pause).expect("it runs");
    run.reply("a", done());
    run.operate(edit(json!({"amount": 2}))).expect("the same key");
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(call_of(&run, "b").call.arguments.as_str(), "2");
    run.operate(SagaVerb::Pause).expect("it runs");
    run.reply("b", done());
    run.operate(edit(json!({"amount": 3}))).expect("the same key");
    run.operate(SagaVerb::Terminate).expect("it is paused");
    for given in [1_u32, 2, 3, 4] {
        let mut origin = Run {
            definition: run.definition.clone(),
            state: run.state.clone(),
            now_ms: run.now_ms,
            history: Vec::new(),
            commands: Vec::new(),
            next: None,
        };
        origin.operate(SagaVerb::Rerun { from: id("c"), input: Some(json!({"amount": given}).into()) }).expect("nothing is in doubt");
        let mut rerun = origin.take_next();
        // And once more, over another generation.
        rerun.operate(SagaVerb::Terminate).expect("it runs");
        rerun.operate(resolve("c", StepOutcome::Failed)).expect("its outcome is open");
        let mut rerun = rerun.rerun("c").expect("nothing is in doubt");
        assert_eq!(call_of(&rerun, "c").call.arguments.to_value(), json!(given));
        rerun.reply("c", refused());
        for (step, amount) in [("b", "2"), ("a", "1")] {
            assert_eq!(call_of(&rerun, &format!("undo_{step}")).call.arguments.as_str(), amount, "{step}, rerun with {given}");
            rerun.undo_reply(step, done());
        }
    }
}

#[test]
fn what_is_said_twice_in_other_words_is_no_news() {
    let text = |text: &str| sagamq_api::JsonText::parse(text.as_bytes()).expect("JSON");
    let mut run = Run::start_with(chain(None), json!({"a": 1, "b": [2]}));
    assert_eq!(run.operate(SagaVerb::EditInput { input: text(r#"{ "b": [ 2 ], "a": 1 }"#) }), Ok(true));
    run.operate(resolve("a", StepOutcome::Succeeded { output: text(r#"{"x":1,"y":2}"#) })).expect("it is called");
    assert_eq!(run.operate(resolve("a", StepOutcome::Succeeded { output: text(r#"{"y": 2, "x": 1}"#) })), Ok(true));
    assert!(run.operate(resolve("a", StepOutcome::Succeeded { output: text(r#"{"y": 2, "x": 1.0}"#) })).is_err(), "another number");
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(resolve("b", StepOutcome::Failed)).expect("its outcome is open");
    let rerun = |input: Option<&str>| SagaVerb::Rerun { from: id("b"), input: input.map(text) };
    run.operate(rerun(Some(r#"{"a":1,"b":[3]}"#))).expect("nothing is in doubt");
    assert_eq!(run.operate(rerun(Some(r#"{ "b" : [3], "a" : 1 }"#))), Ok(true));
    for other in [None, Some(r#"{"a":1,"b":[4]}"#)] {
        assert!(matches!(run.operate(rerun(other)), Err(Rejection::HandedOver(_))), "{other:?}");
    }
}

#[test]
fn what_was_found_out_at_the_end_is_what_stands_and_what_a_rerun_goes_by() {
    let ended = |verb: SagaVerb| {
        let mut run = Run::start(chain(None));
        run.reply("a", done());
        run.operate(SagaVerb::Terminate).expect("it runs");
        assert!(matches!(run.rerun("b"), Err(Rejection::InDoubt(_))));
        assert_eq!((run.operate(verb), run.called(), run.saga_state()), (Ok(false), vec![], SagaState::Terminated));
        run
    };
    let succeeded = || StepOutcome::Succeeded { output: json!({"by": "hand"}).into() };
    let mut run = ended(resolve("b", StepOutcome::Failed));
    assert_eq!((standing(&run), run.last_failure()), (vec![("a".to_owned(), false)], "RESOLVED"));
    assert_eq!(run.rerun("b").expect("nothing is in doubt").called(), ["b"]);
    let mut run = ended(resolve("b", succeeded()));
    assert_eq!(standing(&run), [("a".to_owned(), false), ("b".to_owned(), false)]);
    let mut rerun = run.rerun("c").expect("nothing is in doubt");
    assert_eq!((rerun.called(), rerun.step("b").output.clone()), (vec!["c"], Some(json!({"by": "hand"}).into())));
    rerun.reply("c", refused());
    assert_eq!(call_of(&rerun, "undo_b").call.attempt.instance, run.state.head.id, "as the barrier knows it");
    // It was done, and given back by hand.
    let mut run = ended(resolve("b", StepOutcome::Compensated));
    assert_eq!(standing(&run), [("a".to_owned(), false)]);
    run.operate(resolve("a", StepOutcome::Compensated)).expect("it stands");
    assert_eq!((standing(&run), run.rerun("a").expect("nothing stands").called()), (vec![], vec!["a"]));
    for late in [done(), refused()] {
        assert!(matches!(
            ended(resolve("b", StepOutcome::Compensated)).reply_to("b", Operation::Action, 1, late),
            Err(Rejection::Fenced { .. })
        ));
    }
}

#[test]
fn what_was_left_out_in_doubt_is_found_out_after_the_saga_completed() {
    let completed = || {
        let mut run = Run::start(chain(None));
        run.reply("a", unknown());
        run.operate(skip("a")).expect("it waits");
        run.reply("b", done());
        run.reply("c", done());
        run
    };
    let mut run = completed();
    run.operate(resolve("a", StepOutcome::Failed)).expect("nobody knew");
    assert_eq!((run.saga_state(), run.step_state("a"), standing(&run)), (SagaState::Completed, StepState::Skipped, vec![]));
    let mut run = completed();
    run.operate(resolve("a", StepOutcome::Succeeded { output: json!(1).into() })).expect("nobody knew");
    assert_eq!((run.saga_state(), run.step_state("a"), standing(&run)), (SagaState::Completed, StepState::Succeeded, vec![]));
    assert!(run.operate(resolve("a", StepOutcome::Failed)).is_err(), "it is known now");
}

#[test]
fn a_pivot_is_not_found_done_when_what_came_before_it_was_undone() {
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    run.reply("b", refused());
    run.operate(SagaVerb::Terminate).expect("it is undone");
    let done = || resolve("b", StepOutcome::Succeeded { output: json!(1).into() });
    let refused = run.operate(done());
    assert!(
        matches!(&refused, Err(Rejection::NotNow { reason, .. }) if reason.contains("undone because it did not succeed")),
        "{refused:?}"
    );
    // In doubt, and nothing undone: it is what the rerun goes on from, forward only.
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", super::fixture::done());
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(done()).expect("its outcome is open");
    let mut rerun = run.rerun("c").expect("nothing is in doubt");
    assert_eq!(rerun.operate(SagaVerb::Cancel), Err(Rejection::NotCancellable));
}
