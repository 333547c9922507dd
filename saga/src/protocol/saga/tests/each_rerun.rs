//! Reruns of sagas with steps that fan out: items are taken over as a whole, and each is undone as it was done.

use super::each::{around, fanned, first_call, item, said};
use super::fixture::*;
use crate::definition::Emission;
use crate::expression::Template;
use crate::protocol::saga::{CopiedItems, InstanceState, SagaEvent};
use crate::protocol::{Command, Rejection};
use sagamq_api::saga::{SagaState, SagaVerb, StepAttempt, StepOutcome, StepState};
use serde_json::json;

#[test]
fn a_rerun_takes_items_over_as_a_whole_and_undoes_each_under_its_first_key() {
    let mut run = fanned("${ [1, 2] }", 2);
    run.item_reply("b", 0, said(json!("x")));
    run.operate(SagaVerb::EditInput { input: json!({"edited": 1}).into() }).expect("the same key");
    run.item_reply("b", 1, said(json!("y")));
    run.operate(SagaVerb::Terminate).expect("it runs");
    let id_before = run.state.head.id;
    let refused_rerun = run.operate(SagaVerb::Rerun { from: id("c"), input: None });
    assert!(refused_rerun.is_err(), "c is in doubt: {refused_rerun:?}");
    run.operate(SagaVerb::Resolve { step: id("c"), item: None, outcome: StepOutcome::Failed }).expect("it never was");
    let mut rerun = run.rerun("c").expect("b is done as a whole");
    assert_eq!((rerun.called(), rerun.step_state("b")), (vec!["c"], StepState::Succeeded));
    assert_eq!(rerun.step("b").output.as_ref().expect("taken over").as_str(), r#"["x","y"]"#);
    rerun.reply("c", refused());
    let command = first_call(&rerun);
    assert_eq!(command.call.idempotency_key, format!("{id_before}/b[1]/compensation"));
    assert_eq!(command.call.arguments.as_str(), r#"{"item":2,"index":1}"#);
    rerun.item_undo_reply("b", 1, done());
    rerun.item_undo_reply("b", 0, done());
    rerun.undo_reply("a", done());
    assert_eq!(rerun.saga_state(), SagaState::Compensated);
    assert!(run.state.standing().is_empty(), "what was handed over is the other's: {:?}", run.state.standing());
}

/// An operator gave another input in the middle: items were called with either, and each is undone with its own.
#[test]
fn what_a_rerun_takes_over_was_done_with_is_kept_once_for_all_items() {
    let mut definition = around("${ [1, 2, 3, 4] }", 2);
    let undo = definition.steps[1].compensation.as_mut().expect("it has one");
    undo.arguments = Template::compile(&json!("${ has(input.edited) ? input.edited : 'first' }")).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.item_reply("b", 0, done());
    let edit = |run: &mut Run, to: &str| run.operate(SagaVerb::EditInput { input: json!({"edited": to}).into() }).expect("the same key");
    edit(&mut run, "second");
    run.item_reply("b", 1, done());
    edit(&mut run, "third");
    run.item_reply("b", 2, done());
    run.item_reply("b", 3, done());
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(SagaVerb::Resolve { step: id("c"), item: None, outcome: StepOutcome::Failed }).expect("it never was");
    let mut rerun = run.rerun("c").expect("b is done as a whole");
    let copied = rerun.history.iter().find_map(|recorded| match &recorded.event {
        SagaEvent::SagaRerun { inputs, .. } => Some(inputs.iter().map(ToString::to_string).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(copied.expect("it is a rerun"), ["{}", r#"{"edited":"second"}"#], "each input but the own one, once");
    rerun.reply("c", refused());
    let mut undone = Vec::new();
    for item in (0..4).rev() {
        undone.extend(rerun.calls());
        rerun.item_undo_reply("b", item, done());
    }
    assert_eq!(
        undone,
        [r#"undo b[3] "second""#, r#"undo b[2] "first""#, r#"undo b[1] "first""#, r#"undo b[0] "first""#],
        "with what each was called with"
    );
}

/// It was told by the instance that did it.
#[test]
fn what_a_rerun_takes_over_is_not_told_again() {
    let mut definition = around("${ [1, 2] }", 2);
    definition.steps[1].emit = Some(Emission {
        topic: "order.events".parse().expect("legal"),
        key: None,
        value: Template::text("${ steps.b.output }").expect("legal"),
        headers: Vec::new(),
    });
    let tells = |run: &Run| run.commands.iter().filter(|command| matches!(command, Command::Tell(_))).count();
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.item_reply("b", 0, done());
    run.item_reply("b", 1, done());
    assert_eq!(tells(&run), 1);
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(SagaVerb::Resolve { step: id("c"), item: None, outcome: StepOutcome::Failed }).expect("it never was");
    let rerun = run.rerun("c").expect("b is done as a whole");
    assert_eq!((rerun.step_state("b"), tells(&rerun)), (StepState::Succeeded, 0));
    // What it does itself it tells, be it with its start.
    let mut definition = run.definition.clone();
    definition.steps[1].for_each = around("${ [] }", 1).steps[1].for_each.clone();
    let mut run = Run::start(definition);
    run.reply("a", done());
    assert_eq!((tells(&run), run.called()), (1, vec!["c"]), "there was nothing to do");
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(SagaVerb::Resolve { step: id("c"), item: None, outcome: StepOutcome::Failed }).expect("it never was");
    let rerun = run.rerun("b").expect("nothing of it stands");
    assert_eq!((tells(&rerun), rerun.called()), (1, vec!["c"]));
}

#[test]
fn items_that_were_not_taken_over_so_are_refused() {
    let mut run = fanned("${ [1, 2] }", 2);
    run.item_reply("b", 0, said(json!("x")));
    run.item_reply("b", 1, said(json!("y")));
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(SagaVerb::Resolve { step: id("c"), item: None, outcome: StepOutcome::Failed }).expect("it never was");
    let rerun = run.rerun("c").expect("b is done as a whole");
    let is_copied = |event: &SagaEvent| matches!(event, SagaEvent::StepCopied { items: Some(_), .. });
    let at = rerun.history.iter().position(|recorded| is_copied(&recorded.event)).expect("it takes b over");
    let mut before = InstanceState::new(rerun.state.head.id, &rerun.definition);
    rerun.history[..at].iter().for_each(|recorded| before.apply(&recorded.event, recorded.at_ms).expect("it was decided"));
    let copied = rerun.history[at].event.clone();
    before.clone().apply(&copied, 5).expect("what was decided is legal");
    let spoil = |change: &dyn Fn(&mut StepAttempt, &mut CopiedItems)| {
        let mut event = copied.clone();
        let SagaEvent::StepCopied { attempt, items: Some(items), .. } = &mut event else { unreachable!("looked at") };
        change(attempt, items);
        event
    };
    let fewer = spoil(&|_, items| items.values = json!([1]).into());
    let more = spoil(&|_, items| items.values = json!([1, 2, 3]).into());
    let unknown_input = spoil(&|_, items| _ = items.inputs.insert(1, Some(9)));
    let no_list = spoil(&|_, items| items.values = json!({}).into());
    let other_step = spoil(&|attempt, _| attempt.step = id("c"));
    for (what, event) in [
        ("an output more", fewer),
        ("an output less", more),
        ("an input that is not there", unknown_input),
        ("no list", no_list),
        ("a step that does not fan out", other_step),
    ] {
        assert!(before.clone().apply(&event, 5).is_err(), "{what}");
    }
}

#[test]
fn a_rerun_takes_over_that_there_was_nothing_to_do() {
    let mut run = fanned("${ [] }", 1);
    run.reply("c", refused());
    run.operate(SagaVerb::Terminate).expect("it is being undone");
    run.operate(SagaVerb::Resolve { step: id("a"), item: None, outcome: StepOutcome::Compensated }).expect("undone by hand");
    let mut rerun = run.rerun("a").expect("nothing stands");
    rerun.reply("a", done());
    assert_eq!((rerun.called(), rerun.step("b").output.as_ref().expect("done").as_str()), (vec!["c"], "[]"));
    let mut run = fanned("${ [] }", 1);
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(SagaVerb::Resolve { step: id("c"), item: None, outcome: StepOutcome::Failed }).expect("it never was");
    let rerun = run.rerun("c").expect("what comes before it is done");
    assert_eq!((rerun.called(), rerun.step_state("b")), (vec!["c"], StepState::Succeeded));
}

#[test]
fn a_step_of_which_some_items_are_done_is_not_rerun() {
    let mut run = fanned("${ [1, 2] }", 1);
    run.item_reply("b", 0, done());
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(SagaVerb::Resolve { step: id("b"), item: item(1), outcome: StepOutcome::Failed }).expect("it never was");
    let in_part = run.operate(SagaVerb::Rerun { from: id("b"), input: None });
    assert!(matches!(in_part, Err(Rejection::InDoubt(_))), "{in_part:?}");
    run.operate(SagaVerb::Resolve { step: id("b"), item: None, outcome: StepOutcome::Compensated }).expect("undone by hand");
    let rerun = run.rerun("b").expect("nothing of it stands");
    assert_eq!(rerun.calls(), [r#"b[0] {"item":1,"index":0}"#]);
}
