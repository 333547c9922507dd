//! Sub-sagas and their parents: what each tells the other at its end, who is let go when, and reruns of both.

use super::children::{around, asked, not_started, says, sub_saga};
use super::fixture::*;
use crate::definition::{Definition, Lock, StepKind};
use crate::expression::Template;
use crate::protocol::lock::LockSaid;
use crate::protocol::saga::{Phase, SagaEvent};
use crate::protocol::{Command, Input, Parent, Related, instance_id};
use sagamq_api::saga::{AttemptId, CallOutcome, Operation, SagaState, SagaVerb, StepAttempt, StepOutcome, StepState};
use serde_json::json;
use uuid::Uuid;

/// A sub-saga under a lock, whose last step leaves nothing that would have to be undone.
fn started_by_a_parent() -> Run {
    let kind = StepKind::Compensatable;
    let mut last = step("b", &[0], kind);
    last.compensation = None;
    let mut first = step("a", &[], kind);
    first.lock = Some(Lock { key: Template::literal(json!("key")), timeout: None });
    let mut run = started_by(definition(vec![first, last]));
    granted(&mut run);
    run
}

/// A sub-saga of this definition.
fn started_by(definition: Definition) -> Run {
    let state = crate::protocol::saga::InstanceState::new(instance_id(3, &definition.name, "k", 1), &definition);
    let mut run = Run { definition, state, now_ms: 1_000, history: Vec::new(), commands: Vec::new(), next: None };
    let attempt: AttemptId = StepAttempt { step: id("pay"), item: None, operation: Operation::Action, epoch: 1 }.of(Uuid::from_u128(99));
    let parent = Some(Box::new(Parent { saga: "parent".parse().expect("legal"), attempt, depth: 1 }));
    let start = Input::Start { parent, key: "k".to_owned(), generation: 1, input: json!({}).into(), cluster: Uuid::nil(), trace: None };
    run.input(start).expect("a fresh instance starts");
    run
}

/// The call of a parent that wants it undone.
fn undo() -> Input {
    let step = StepAttempt { step: id("pay"), item: None, operation: Operation::Compensation, epoch: 1 };
    Input::Undo(step.of(Uuid::from_u128(99)))
}

fn granted(run: &mut Run) {
    let (_, claim) = run.state.claims.iter().next().expect("it has asked for its lock");
    let number = claim.number;
    run.input(Input::Lock { key: "key".to_owned(), number, said: LockSaid::Granted { token: 7 } }).expect("it waits for it");
}

#[test]
fn what_a_parent_goes_on_from_is_not_rerun_before_its_end() {
    let mut run = started_by_a_parent();
    run.reply("a", done());
    run.reply("b", done());
    let rerun = || SagaVerb::Rerun { from: id("b"), input: None };
    let no = run.operate(rerun()).expect_err("a rerun that fails would undo what the parent counts on");
    assert!(no.to_string().contains("rerun the parent"), "{no}");
    run.input(Input::ParentEnded).expect("it is told");
    run.operate(rerun()).expect("nobody counts on it any more");
}

#[test]
fn a_rerun_of_one_whose_parent_has_ended_waits_for_no_word_of_it() {
    for is_completed in [true, false] {
        let mut run = started_by_a_parent();
        run.reply("a", done());
        if is_completed {
            run.reply("b", done());
        } else {
            run.operate(SagaVerb::Terminate).expect("it runs");
        }
        run.input(Input::ParentEnded).expect("it is told");
        let mut rerun = run.rerun("b").expect("a stands, and b leaves nothing");
        assert!(rerun.state.has_parent_ended && rerun.state.parent.is_some(), "it is told by the one before it");
        rerun.reply("b", CallOutcome::Succeeded { output: json!(2).into() });
        assert_eq!(rerun.state.phase, Phase::Completed);
        assert!(rerun.state.may_be_forgotten(), "nobody will have it undone");
    }
    // And it holds no lock for that.
    let mut run = started_by_a_parent();
    run.operate(SagaVerb::Terminate).expect("it runs");
    run.operate(says("a", StepOutcome::Failed)).expect("it never was");
    run.input(Input::ParentEnded).expect("it is told");
    let mut rerun = run.rerun("a").expect("nothing stands");
    granted(&mut rerun);
    rerun.reply("a", done());
    rerun.reply("b", done());
    let is_free = |command: &Command| matches!(command, Command::Lock { wants: false, .. });
    assert!(rerun.commands.iter().any(is_free) && rerun.state.claims.iter().next().is_none(), "{:?}", rerun.commands);
}

#[test]
fn a_rerun_before_its_parent_has_ended_is_told_by_the_parent() {
    let mut run = started_by_a_parent();
    run.reply("a", done());
    run.operate(SagaVerb::Terminate).expect("it runs");
    let mut rerun = run.rerun("b").expect("b leaves nothing");
    assert!(!rerun.state.has_parent_ended);
    rerun.reply("b", done());
    let answers = |command: &Command| matches!(command, Command::Relate(related) if matches!(**related, Related::Answer { .. }));
    assert!(rerun.commands.iter().any(answers) && !rerun.state.may_be_forgotten(), "it answers in the place of the first");
    rerun.input(Input::ParentEnded).expect("it is told");
    assert!(rerun.state.may_be_forgotten() && run.state.may_be_forgotten(), "nor is the one that was handed over waited for");
}

/// What the last input tells the parent.
fn answers(run: &Run) -> Vec<CallOutcome> {
    let told = run.commands.iter().filter_map(|command| match command {
        Command::Relate(related) => match related.as_ref() {
            Related::Answer { outcome, .. } => Some(outcome.clone()),
            _ => None,
        },
        _ => None,
    });
    told.collect()
}

/// What a refusal, or doubt, is called.
fn codes(outcomes: Vec<CallOutcome>) -> Vec<String> {
    let code = |outcome| match outcome {
        CallOutcome::Refused { failure } | CallOutcome::Unknown { failure, .. } => failure.code,
        other => format!("{other:?}"),
    };
    outcomes.into_iter().map(code).collect()
}

#[test]
fn a_parent_is_answered_once_and_again_only_if_it_asks() {
    let mut run = started_by_a_parent();
    run.input(Input::ParentAsks).expect("it is there");
    assert!(answers(&run).is_empty(), "it runs");
    run.reply("a", done());
    run.operate(SagaVerb::Terminate).expect("it runs");
    assert_eq!(codes(answers(&run)), ["CHILD_TERMINATED"]);
    run.operate(says("b", StepOutcome::Failed)).expect("it never was");
    assert!(answers(&run).is_empty(), "what is found out afterwards is no other end");
    run.input(Input::ParentAsks).expect("it is there");
    assert_eq!(codes(answers(&run)), ["CHILD_TERMINATED"]);
    let rerun = run.rerun("b").expect("a stands");
    assert!(answers(&run).is_empty() && answers(&rerun).is_empty(), "the rerun will answer");
    run.input(Input::ParentAsks).expect("it is there");
    assert!(answers(&run).is_empty(), "and no other does");
}

/// Blocked, because a compensation has no arguments; so nobody was called to undo what stands, and it can be taken over.
#[test]
fn one_that_is_rerun_from_its_block_says_nothing_to_its_parent_by_ending() {
    let mut run = started_by_a_parent();
    let undo = run.definition.steps[0].compensation.as_mut().expect("it has one");
    undo.arguments = Template::compile(&json!("${ failure.message == 'never' ? 1 : input.gone }")).expect("legal");
    run.reply("a", done());
    run.reply("b", refused());
    assert_eq!(run.saga_state(), SagaState::Blocked);
    run.operate(SagaVerb::Rerun { from: id("b"), input: None }).expect("a stands");
    assert_eq!((run.saga_state(), answers(&run).len()), (SagaState::Terminated, 0));
    let mut rerun = run.take_next();
    rerun.reply("b", done());
    assert!(matches!(answers(&rerun)[..], [CallOutcome::Succeeded { .. }]));
}

#[test]
fn an_undoing_is_answered_whatever_became_of_it() {
    // Somebody else started it.
    let mut run = Run::start(chain(None));
    run.input(undo()).expect("it is answered");
    assert_eq!((codes(answers(&run)), run.saga_state()), (vec!["CHILD_LOST".to_owned()], SagaState::Running));
    // It is undone already.
    let mut run = started_by_a_parent();
    run.reply("a", refused());
    run.input(undo()).expect("it is answered");
    assert!(matches!(answers(&run)[..], [CallOutcome::Succeeded { .. }]));
    // It is ended as it is while it is undone: that is the answer, to the call that wants it undone.
    let mut run = started_by_a_parent();
    run.reply("a", done());
    run.reply("b", done());
    run.input(undo()).expect("it begins");
    assert_eq!((run.saga_state(), answers(&run).len(), run.called()), (SagaState::Compensating, 0, vec!["undo_a"]));
    let no = run.operate(SagaVerb::Rerun { from: id("b"), input: None });
    assert!(no.is_err(), "it is not at rest");
    run.operate(SagaVerb::Terminate).expect("it is undone");
    assert_eq!(codes(answers(&run)), ["CHILD_TERMINATED"]);
    let asked = |command: &Command| {
        let Command::Relate(related) = command else { return false };
        matches!(&**related, Related::Answer { attempt, .. } if attempt.operation == Operation::Compensation)
    };
    assert!(run.commands.iter().any(asked), "{:?}", run.commands);
    let no = run.operate(SagaVerb::Rerun { from: id("b"), input: None }).expect_err("its parent has it undone");
    assert!(no.to_string().contains("its parent has it undone"), "{no}");
}

#[test]
fn events_of_families_that_cannot_be_are_refused() {
    let (mut alone, mut child) = (Run::start(chain(None)), started_by_a_parent());
    let attempt = alone.attempt("a", Operation::Compensation, 1);
    for event in [SagaEvent::SagaUndoRequested { attempt: attempt.clone() }, SagaEvent::SagaParentEnded] {
        assert!(alone.state.apply(&event, 5).is_err(), "{event:?} of one without a parent");
    }
    child.input(Input::ParentEnded).expect("it is told");
    assert_eq!(child.input(Input::ParentEnded), Ok(true), "it is told once");
    assert!(child.state.clone().apply(&SagaEvent::SagaParentEnded, 5).is_err(), "and knows it once");
    child.operate(SagaVerb::Terminate).expect("it runs");
    let undo = SagaEvent::SagaUndoRequested { attempt };
    assert!(child.state.clone().apply(&undo, 5).is_err(), "nothing undoes what was ended as it is");
    let mut sold = started_by(definition(vec![step("a", &[], StepKind::Pivot)]));
    sold.reply("a", done());
    assert!(sold.state.apply(&undo, 5).is_err(), "nor what has passed its pivot");
    let mut rerun = started_by_a_parent();
    rerun.reply("a", done());
    rerun.reply("b", done());
    let undoing = SagaEvent::SagaCompensating { failure: failure("NO"), actor: None };
    assert!(rerun.state.clone().apply(&undoing, 5).is_err(), "what has completed is undone for its parent only");
    let to = Uuid::from_u128(7);
    let handed = SagaEvent::SagaHandedOver { to, from: id("b"), input: None, steps: vec![id("a")], actor: None, reason: None };
    assert!(rerun.state.clone().apply(&handed, 5).is_err(), "its parent goes on from it");
    rerun.input(Input::ParentEnded).expect("it is told");
    rerun.rerun("b").expect("nobody counts on it any more");
    assert!(rerun.state.apply(&undo, 5).is_err(), "nor what another one took over");
}

#[test]
fn of_relatives_it_waits_for_sub_sagas_that_run_and_for_its_parent_when_it_has_completed() {
    let mut parent = asked(StepKind::Pivot);
    let (none, running) = parent.state.waits_for_relatives();
    assert_eq!((none, running.len()), (None, 1));
    parent.reply("pay", unknown());
    assert_eq!(parent.state.waits_for_relatives(), (None, Vec::new()), "one that was ended as it is will say no more");
    let mut child = started_by_a_parent();
    child.reply("a", done());
    assert_eq!(child.state.waits_for_relatives(), (None, Vec::new()), "it runs");
    let before = child.state.clone();
    child.reply("b", done());
    assert_eq!(child.state.waits_for_relatives(), (Some(Uuid::from_u128(99)), Vec::new()));
    assert!(child.state.begins_to_wait_for_parent(&before), "with its lock");
    assert!(!child.state.begins_to_wait_for_parent(&child.state) && !before.begins_to_wait_for_parent(&before));
    assert!(child.state.claims.get("key").is_some_and(|claim| claim.token.is_some()), "it is kept for its undoing");
    child.input(Input::ParentEnded).expect("it is told");
    assert_eq!((child.state.waits_for_relatives(), child.state.claims.iter().count()), ((None, Vec::new()), 0));
    // What neither has a lock nor a sub-saga is waited for by nobody.
    for (steps, expected) in
        [(vec![step("a", &[], StepKind::Compensatable)], false), (vec![sub_saga("a", &[], StepKind::Compensatable)], true)]
    {
        let mut run = started_by(definition(steps));
        let before = run.state.clone();
        run.reply("a", done());
        assert_eq!((run.state.phase, run.state.begins_to_wait_for_parent(&before)), (Phase::Completed, expected));
    }
}

#[test]
fn one_that_is_to_be_undone_already_goes_back_for_its_first_reason() {
    let steps = vec![step("a", &[], StepKind::Compensatable), sub_saga("pay", &[0], StepKind::Pivot)];
    let mut run = started_by(definition(steps));
    run.reply("a", done());
    assert_eq!(not_started(&mut run, 1), Ok(false));
    run.operate(SagaVerb::Pause).expect("it runs");
    run.operate(SagaVerb::Cancel).expect("before the pivot");
    assert_eq!((run.state.phase, run.step_state("pay")), (Phase::Running, StepState::Failed));
    run.input(undo()).expect("it is answered when it is undone");
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!((run.called(), run.state.reason().map(|failure| failure.code.as_str())), (vec!["undo_a"], Some("CANCELLED")));
    run.undo_reply("a", done());
    assert!(matches!(answers(&run)[..], [CallOutcome::Succeeded { .. }]), "the call that wants it undone");
}

/// The sub-sagas that the last input lets go.
fn released(run: &Run) -> usize {
    let is_it = |command: &&Command| matches!(command, Command::Relate(related) if matches!(**related, Related::Release(_)));
    run.commands.iter().filter(is_it).count()
}

#[test]
fn one_that_may_be_undone_itself_lets_none_of_its_own_go() {
    let mut run = started_by(definition(vec![sub_saga("a", &[], StepKind::Compensatable)]));
    run.reply("a", done());
    assert_eq!((run.state.phase, released(&run)), (Phase::Completed, 0), "it is undone with it");
    run.input(Input::ParentEnded).expect("it is told");
    assert_eq!(released(&run), 1);
}

#[test]
fn each_is_let_go_once_and_by_the_one_that_may_have_it_undone() {
    let mut run = asked(StepKind::Compensatable);
    run.operate(SagaVerb::Terminate).expect("it runs");
    assert_eq!(released(&run), 1);
    run.operate(says("pay", StepOutcome::Compensated)).expect("it was open then");
    assert_eq!(released(&run), 0, "what is found out afterwards is no other end");
    // One that is taken over is let go by who took it.
    let mut definition = around(StepKind::Compensatable);
    definition.steps[1].compensation = None;
    let undo = definition.steps[0].compensation.as_mut().expect("it has one");
    undo.arguments = Template::compile(&json!("${ failure.message == 'never' ? 1 : input.gone }")).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("pay", done());
    run.reply("c", refused());
    assert_eq!(run.saga_state(), SagaState::Blocked);
    let mut rerun = run.rerun("c").expect("what comes before it stands");
    assert_eq!((released(&run), released(&rerun)), (0, 0));
    rerun.reply("c", done());
    assert_eq!((rerun.saga_state(), released(&rerun)), (SagaState::Completed, 1));
}
