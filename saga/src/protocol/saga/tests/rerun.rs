//! Reruns: what is taken over, what is called, and who may undo it.

use super::fixture::*;
use super::verb_table::ended_at_b;
use crate::definition::StepKind;
use crate::expression::Template;
use crate::protocol::saga::SagaEvent;
use crate::protocol::{Command, Input, Rejection, instance_id};
use sagamq_api::StepId;
use sagamq_api::saga::{AttemptId, Call, CallOutcome, Operation, SagaState, SagaVerb, StepOutcome, StepState};
use serde_json::{Value, json};

fn calls(run: &Run) -> Vec<&Call> {
    let calls = run.commands.iter().filter_map(|command| match command {
        Command::Call(command) => Some(&command.call),
        Command::Settle { .. } | Command::Postpone { .. } | Command::Lock { .. } | Command::Tell(_) | Command::Relate(_) => None,
    });
    calls.collect()
}

fn ids(names: &[&str]) -> Vec<StepId> {
    names.iter().map(|name| id(name)).collect()
}

fn operate(run: &mut Run, verbs: impl IntoIterator<Item = SagaVerb>) {
    for verb in verbs {
        assert_eq!(run.operate(verb), Ok(false));
    }
}

/// Ends it where it stands, with nothing in doubt: the step that is called never took effect.
fn end_at(run: &mut Run, step: &str) {
    let resolved = SagaVerb::Resolve { item: None, step: id(step), outcome: StepOutcome::Failed };
    operate(run, [SagaVerb::Pause, resolved, SagaVerb::Terminate]);
}

#[test]
fn a_rerun_takes_over_what_stands_and_calls_the_rest_under_its_own_key() {
    let mut origin = ended_at_b();
    let mut rerun = origin.rerun("b").expect("possible");
    let of = origin.state.head.id;
    assert_eq!(rerun.state.head.id, instance_id(3, &origin.state.head.saga, "k", 2));
    assert_eq!((rerun.state.head.generation, rerun.saga_state()), (2, SagaState::Running));
    assert_eq!((rerun.step_state("a"), rerun.step("a").output.clone()), (StepState::Succeeded, origin.step("a").output.clone()));
    assert_eq!(rerun.called(), ["b"]);
    assert_eq!(calls(&rerun)[0].idempotency_key, format!("{}/b/action", rerun.state.head.id));
    assert_eq!((origin.saga_state(), origin.state.summary().rerun_as), (SagaState::Terminated, Some(rerun.state.head.id)));
    assert_eq!((origin.state.standing(), rerun.state.summary().rerun_of), (Vec::new(), Some(of)), "the effect is the rerun's");
    rerun.reply("b", done());
    rerun.reply("c", done());
    assert_eq!(rerun.saga_state(), SagaState::Completed);
}

#[test]
fn what_was_taken_over_is_undone_under_the_key_of_the_one_that_did_it() {
    let mut definition = chain(None);
    let arguments = Template::compile(&json!({"by": "${ saga.id }", "of": "${ steps.a.output.ok }"})).expect("legal");
    definition.steps[0].compensation.as_mut().expect("it has one").arguments = arguments;
    let mut origin = Run::start(definition);
    origin.reply("a", done());
    end_at(&mut origin, "b");
    origin.now_ms = 50_000;
    let mut rerun = origin.rerun("b").expect("possible");
    rerun.reply("b", refused());
    let of = origin.state.head.id;
    let undo = calls(&rerun)[0].clone();
    assert_eq!((undo.call.as_str(), undo.attempt.instance), ("undo_a", of));
    assert_eq!(undo.idempotency_key, format!("{of}/a/compensation"));
    assert_eq!(undo.arguments.to_value(), json!({"by": of.to_string(), "of": true}), "participants know it by that");
    assert_eq!((undo.started_at_ms, rerun.state.head.started_at_ms), (1_000, 50_000), "rows of that age may have been swept");
    assert_eq!(
        (origin.state.open_attempts(), rerun.state.open_attempts()),
        (vec![], vec![undo.attempt.clone()]),
        "whose commands they are"
    );
    let own = AttemptId { instance: rerun.state.head.id, ..undo.attempt.clone() };
    let word = |attempt| Input::Reply { attempt, outcome: done(), note: None, branch_address: None };
    assert!(matches!(rerun.input(word(own)), Err(Rejection::Fenced { .. })), "it makes no call of its own name");
    assert!(matches!(origin.input(word(undo.attempt.clone())), Err(Rejection::Fenced { reason, .. }) if reason.contains("took over")));
    assert_eq!(rerun.input(word(undo.attempt)), Ok(false));
    assert_eq!(rerun.saga_state(), SagaState::Compensated);
}

#[test]
fn a_rerun_of_a_rerun_keeps_the_first_key() {
    let mut origin = ended_at_b();
    let mut second = origin.rerun("b").expect("possible");
    second.reply("b", done());
    end_at(&mut second, "c");
    let mut third = second.rerun("c").expect("possible");
    assert_eq!(third.state.head.generation, 3);
    let origins = ["a", "b"].map(|step| third.step(step).origin.as_ref().expect("taken over").instance);
    assert_eq!(origins, [origin.state.head.id, second.state.head.id]);
    third.reply("c", refused());
    assert_eq!(third.called(), ["undo_b"]);
    third.undo_reply("b", done());
    assert_eq!(calls(&third)[0].idempotency_key, format!("{}/a/compensation", origin.state.head.id));
    third.undo_reply("a", done());
    assert_eq!(third.saga_state(), SagaState::Compensated);
    assert_eq!(third.rerun("a").expect("nothing stands").called(), ["a"]);
}

/// Each step is done and undone with the amount of the input.
fn of_amounts() -> Run {
    let mut definition = chain(None);
    for step in &mut definition.steps {
        let arguments = || Template::compile(&json!({"amount": "${ input.amount }"})).expect("legal");
        step.call_mut(Operation::Action).arguments = arguments();
        step.compensation.as_mut().expect("it has one").arguments = arguments();
    }
    Run::start_with(definition, json!({"amount": 100}))
}

fn rerun_with(run: &mut Run, from: &str, amount: u32) -> Run {
    operate(run, [SagaVerb::Rerun { from: id(from), input: Some(json!({"amount": amount}).into()) }]);
    run.take_next()
}

#[test]
fn what_was_done_with_one_input_is_undone_with_it_whatever_input_reruns_are_given() {
    let mut origin = of_amounts();
    origin.reply("a", done());
    end_at(&mut origin, "b");
    let mut second = rerun_with(&mut origin, "b", 50);
    assert_eq!(calls(&second)[0].arguments.to_value(), json!({"amount": 50}));
    second.reply("b", done());
    end_at(&mut second, "c");
    let mut third = rerun_with(&mut second, "c", 7);
    assert_eq!(calls(&third)[0].arguments.to_value(), json!({"amount": 7}));
    third.reply("c", refused());
    for (step, amount) in [("b", 50), ("a", 100)] {
        let undo = calls(&third)[0].clone();
        assert_eq!((undo.call, undo.arguments.to_value()), (format!("undo_{step}"), json!({"amount": amount})));
        third.undo_reply(step, done());
    }
    assert_eq!(third.saga_state(), SagaState::Compensated);
}

#[test]
fn what_cannot_be_rerun_is_refused_with_the_steps() {
    let mut completed = Run::start(chain(None));
    for step in ["a", "b", "c"] {
        completed.reply(step, done());
    }
    assert_eq!(completed.rerun("b").err(), Some(Rejection::EffectsStand(ids(&["b", "c"]))));
    assert_eq!(completed.rerun("x").err(), Some(Rejection::NoStep(id("x"))));
    let mut undone = Run::start(chain(None));
    undone.reply("a", done());
    undone.reply("b", refused());
    assert!(matches!(undone.rerun("a").err(), Some(Rejection::NotNow { .. })), "it is not at rest");
    undone.undo_reply("a", done());
    assert_eq!(undone.rerun("b").err(), Some(Rejection::NotDone(ids(&["a"]))));
    let mut doubtful = Run::start(chain(None));
    doubtful.reply("a", done());
    operate(&mut doubtful, [SagaVerb::Terminate]);
    for from in ["a", "b", "c"] {
        assert!(matches!(doubtful.rerun(from).err(), Some(Rejection::InDoubt(steps)) if steps == ids(&["b"])), "{from}");
    }
    let mut blocked = super::verb_table::blocked_of(chain(None));
    assert_eq!(blocked.rerun("b").err(), Some(Rejection::InDoubt(ids(&["a"]))), "its compensation was called");
}

#[test]
fn an_instance_is_rerun_once_and_then_nothing_is_done_to_it() {
    let mut origin = ended_at_b();
    let to = origin.rerun("b").expect("possible").state.head.id;
    assert_eq!(origin.operate(SagaVerb::Rerun { from: id("b"), input: None }), Ok(true), "the same again");
    assert!(origin.next.is_none());
    for verb in [
        SagaVerb::Rerun { from: id("b"), input: Some(json!({"n": 1}).into()) },
        SagaVerb::Rerun { from: id("c"), input: None },
        SagaVerb::Terminate,
        SagaVerb::Cancel,
        SagaVerb::Retry { item: None, step: None },
    ] {
        assert_eq!(origin.operate(verb), Err(Rejection::HandedOver(to)));
    }
}

#[test]
fn what_is_blocked_without_doubt_ends_and_goes_on_as_its_rerun() {
    let mut definition = chain(None);
    definition.steps[0].compensation.as_mut().expect("it has one").arguments =
        Template::compile(&json!("${ failure.missing }")).expect("legal");
    let mut origin = Run::start(definition);
    origin.reply("a", done());
    origin.reply("b", refused());
    assert_eq!((origin.saga_state(), origin.step("a").compensation.epoch), (SagaState::Blocked, 0));
    let rerun = origin.rerun("b").expect("nobody was called to undo it");
    assert_eq!((origin.saga_state(), rerun.called()), (SagaState::Terminated, vec!["b"]));
    let said = origin.count(|event| matches!(event, SagaEvent::SagaTerminated { actor, .. } if actor.as_deref() == Some("ann")));
    assert_eq!(said, 1);
}

#[test]
fn another_input_is_seen_by_what_is_called_and_the_start_stays_the_same() {
    let mut definition = chain(None);
    definition.steps[1].call_mut(Operation::Action).arguments = Template::compile(&json!("${ input.n }")).expect("legal");
    let mut origin = Run::start_with(definition, json!({"n": 1}));
    origin.reply("a", done());
    end_at(&mut origin, "b");
    let other = |input: Value| SagaVerb::Rerun { from: id("b"), input: Some(input.into()) };
    assert!(matches!(origin.operate(other(json!(7))), Err(Rejection::InvalidInput(_))));
    assert_eq!(origin.operate(other(json!({"n": 2}))), Ok(false));
    let rerun = origin.take_next();
    assert_eq!(calls(&rerun)[0].arguments.to_value(), json!(2));
    assert_eq!(rerun.state.head.first_input().to_value(), json!({"n": 1}));
    assert!(matches!(&rerun.history[0].event, SagaEvent::SagaStarted { input, .. } if input.to_value() == json!({"n": 1})));
}

#[test]
fn a_step_with_nothing_to_undo_is_taken_over_or_called_again() {
    let mut definition = chain(None);
    definition.steps[0].compensation = None;
    let make = || {
        let mut run = Run::start(definition.clone());
        run.reply("a", done());
        run.reply("b", done());
        run.reply("c", refused());
        run.undo_reply("b", done());
        assert_eq!(run.saga_state(), SagaState::Compensated);
        run
    };
    let from_b = make().rerun("b").expect("a stands");
    assert_eq!((from_b.called(), from_b.step_state("a")), (vec!["b"], StepState::Succeeded));
    assert_eq!(make().rerun("a").expect("it may be done again").called(), ["a"]);
}

#[test]
fn what_is_not_done_beside_it_is_called_as_well() {
    let steps = vec![
        step("a", &[], StepKind::Compensatable),
        step("b", &[], StepKind::Compensatable),
        step("c", &[], StepKind::Compensatable),
        step("d", &[0, 1, 2], StepKind::Pivot),
    ];
    let mut origin = Run::start(definition(steps));
    operate(&mut origin, [SagaVerb::Pause]);
    origin.reply("a", done());
    for never in ["b", "c"] {
        operate(&mut origin, [SagaVerb::Resolve { item: None, step: id(never), outcome: StepOutcome::Failed }]);
    }
    operate(&mut origin, [SagaVerb::Terminate]);
    assert_eq!(origin.rerun("d").err(), Some(Rejection::NotDone(ids(&["b", "c"]))));
    let rerun = origin.rerun("b").expect("possible");
    assert_eq!(
        (rerun.called(), rerun.step_state("a"), rerun.step_state("d")),
        (vec!["b", "c"], StepState::Succeeded, StepState::Scheduled)
    );
}

#[test]
fn what_was_left_out_is_copied_as_that_and_no_word_on_it_means_anything() {
    let mut origin = Run::start(chain(None));
    operate(&mut origin, [SagaVerb::Skip { item: None, step: id("b") }]);
    origin.reply("a", done());
    end_at(&mut origin, "c");
    let mut rerun = origin.rerun("c").expect("possible");
    assert_eq!((rerun.called(), rerun.step_state("b")), (vec!["c"], StepState::Skipped));
    let attempt = AttemptId { instance: origin.state.head.id, step: id("b"), item: None, operation: Operation::Compensation, epoch: 1 };
    let word = Input::Reply { attempt, outcome: done(), note: None, branch_address: None };
    assert!(matches!(rerun.input(word), Err(Rejection::Fenced { .. })), "somebody made it up");
    rerun.reply("c", refused());
    assert_eq!(rerun.called(), ["undo_a"]);
}

#[test]
fn past_the_pivot_a_rerun_only_goes_forward() {
    let mut origin = Run::start(chain(Some(1)));
    origin.reply("a", done());
    operate(&mut origin, [SagaVerb::Skip { item: None, step: id("c") }]);
    origin.reply("b", done());
    assert_eq!(origin.saga_state(), SagaState::Completed);
    let mut rerun = origin.rerun("c").expect("it was never called");
    assert!(calls(&rerun)[0].must_succeed);
    assert_eq!(rerun.operate(SagaVerb::Cancel), Err(Rejection::NotCancellable));
    rerun.reply("c", CallOutcome::Refused { failure: failure("NO") });
    assert_eq!(rerun.saga_state(), SagaState::Waiting);
    rerun.tick();
    rerun.reply("c", done());
    assert_eq!(rerun.saga_state(), SagaState::Completed);
}

#[test]
fn nothing_is_taken_over_once_a_call_was_made_or_without_a_rerun() {
    let mut origin = ended_at_b();
    let rerun = origin.rerun("b").expect("possible");
    let copied = rerun.history[2].event.clone();
    assert!(matches!(copied, SagaEvent::StepCopied { .. }), "{copied:?}");
    let mut called = rerun.state;
    assert!(called.apply(&copied, 5).is_err(), "it was copied already");
    let SagaEvent::StepCopied { attempt, output, origin: of, started_at_ms, skipped, absent, input, items } = copied else {
        unreachable!("looked at")
    };
    let attempt = |step: &str| sagamq_api::saga::StepAttempt { step: id(step), operation: Operation::Action, ..attempt.clone() };
    let other = |step| SagaEvent::StepCopied {
        attempt: attempt(step),
        output: output.clone(),
        origin: of,
        started_at_ms,
        skipped,
        absent,
        input,
        items: items.clone(),
    };
    assert!(called.apply(&other("c"), 5).is_err(), "b is called already");
    let mut plain = Run::start(chain(None)).state;
    assert!(plain.apply(&other("c"), 5).is_err(), "no rerun");
    let handed = origin.history.last().expect("events").event.clone();
    assert!(matches!(handed, SagaEvent::SagaHandedOver { .. }));
    assert!(origin.state.clone().apply(&handed, 5).is_err(), "only once");
    assert!(plain.apply(&handed, 5).is_err(), "only at its end");
}
