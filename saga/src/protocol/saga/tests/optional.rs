//! Steps that the saga goes on without: refused, in doubt, undone alone.

use super::fixture::*;
use crate::definition::Definition;
use crate::definition::StepKind::{Compensatable, Pivot};
use crate::expression::Template;
use crate::protocol::saga::SagaEvent;
use crate::protocol::{Command, HandOut};
use sagamq_api::saga::{CallOutcome, Operation, SagaState, SagaVerb, StepOutcome, StepState};
use serde_json::json;

fn optional(mut definition: Definition, step: usize) -> Definition {
    definition.steps[step].optional = true;
    definition
}

fn hopeless() -> CallOutcome {
    CallOutcome::Unknown { failure: failure("HOPELESS"), retry_after_ms: None }
}

fn hopeless_undo() -> CallOutcome {
    CallOutcome::Refused { failure: failure("HOPELESS") }
}

fn standing(run: &Run) -> Vec<(String, bool)> {
    run.state.description().standing.iter().map(|effect| (effect.step.to_string(), effect.in_doubt)).collect()
}

/// What the last input calls with.
fn arguments(run: &Run) -> Vec<String> {
    let calls = run.commands.iter().filter_map(|command| match command {
        Command::Call(command) => Some(command.call.arguments.to_string()),
        _ => None,
    });
    calls.collect()
}

#[test]
fn the_saga_goes_on_without_what_is_refused() {
    let mut run = Run::start(optional(chain(Some(1)), 0));
    run.reply("a", refused());
    assert_eq!((run.called(), run.step_state("a"), run.saga_state()), (vec!["b"], StepState::Failed, SagaState::Running));
    run.reply("b", done());
    run.reply("c", done());
    assert_eq!((run.saga_state(), run.state.failure.clone()), (SagaState::Completed, None));
    let shown = run.state.description();
    assert_eq!((shown.steps[0].optional, shown.steps[0].output.as_ref(), shown.failures.len()), (true, None, 1), "it is told");
    assert!(shown.standing.is_empty());
}

#[test]
fn what_is_in_doubt_is_undone_at_once_and_then_the_saga_goes_on() {
    let mut run = Run::start(optional(chain(Some(1)), 0));
    run.reply("a", unknown());
    assert_eq!(run.saga_state(), SagaState::Waiting, "its attempts are not over");
    run.tick();
    run.reply("a", hopeless());
    assert_eq!((run.called(), run.step_state("a"), run.saga_state()), (vec!["undo_a"], StepState::Compensating, SagaState::Running));
    run.undo_reply("a", unknown());
    assert_eq!(run.saga_state(), SagaState::Waiting);
    run.tick();
    assert_eq!(run.called(), ["undo_a"]);
    run.undo_reply("a", done());
    assert_eq!((run.called(), run.step_state("a")), (vec!["b"], StepState::Compensated));
    run.reply("b", done());
    run.reply("c", done());
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Completed, vec![]));
    assert_eq!(run.count(|event| matches!(event, SagaEvent::SagaCompensating { .. })), 0);
}

/// `failure` in its arguments is why it is undone.
#[test]
fn what_is_undone_alone_is_told_why() {
    let mut definition = optional(chain(None), 0);
    definition.steps[0].compensation.as_mut().expect("it has one").arguments =
        Template::compile(&json!({"why": "${ failure.code }"})).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", hopeless());
    assert_eq!(arguments(&run), [r#"{"why":"HOPELESS"}"#]);
}

#[test]
fn what_is_in_doubt_and_cannot_be_undone_stays_so_and_is_listed() {
    let mut definition = optional(chain(None), 0);
    definition.steps[0].compensation = None;
    let mut run = Run::start(definition);
    run.reply("a", hopeless());
    assert_eq!((run.called(), run.step_state("a")), (vec!["b"], StepState::Unknown));
    run.reply("b", done());
    run.reply("c", done());
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Completed, vec![("a".to_owned(), true)]));
    run.operate(SagaVerb::Resolve { item: None, step: id("a"), outcome: StepOutcome::Failed }).expect("somebody looked");
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Completed, vec![]));
}

#[test]
fn a_success_is_undone_with_all_others() {
    let mut run = Run::start(optional(chain(None), 0));
    run.reply("a", done());
    run.reply("b", refused());
    assert_eq!(run.called(), ["undo_a"]);
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn what_was_undone_alone_is_not_undone_again() {
    let mut run = Run::start(optional(chain(None), 0));
    run.reply("a", hopeless());
    run.undo_reply("a", done());
    run.reply("b", refused());
    assert_eq!((run.saga_state(), run.called().len()), (SagaState::Compensated, 0));
}

#[test]
fn the_pivot_waits_until_it_is_undone_alone() {
    let steps = vec![step("a", &[], Compensatable), step("p", &[], Pivot)];
    let mut run = Run::start(optional(definition(steps), 0));
    assert_eq!(run.called(), ["a"]);
    run.reply("a", hopeless());
    assert_eq!(run.called(), ["undo_a"]);
    run.undo_reply("a", done());
    assert_eq!(run.called(), ["p"]);
}

/// The saga does not go on with a doubt that it cannot get rid of.
#[test]
fn what_cannot_be_undone_alone_undoes_the_saga_and_blocks_it() {
    let stuck = || {
        let mut run = Run::start(optional(chain(None), 1));
        run.reply("a", done());
        run.reply("b", hopeless());
        assert_eq!(run.called(), ["undo_b"]);
        run.undo_reply("b", hopeless_undo());
        assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Blocked, StepState::CompensationFailed));
        assert_eq!(run.state.reason().expect("a reason").code, "COMPENSATION_FAILED");
        assert_eq!(standing(&run), [("a".to_owned(), false), ("b".to_owned(), true)], "a stands before it");
        run
    };
    let mut run = stuck();
    run.operate(SagaVerb::Retry { item: None, step: None }).expect("it is blocked");
    run.undo_reply("b", done());
    assert_eq!(run.called(), ["undo_a"]);
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
    let mut run = stuck();
    run.operate(SagaVerb::Skip { item: None, step: id("b") }).expect("it is blocked");
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Terminated);
}

#[test]
fn a_compensation_without_a_value_undoes_the_saga_as_well() {
    let mut definition = optional(chain(None), 0);
    definition.steps[0].compensation.as_mut().expect("it has one").arguments =
        Template::compile(&json!("${ steps.a.output }")).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", hopeless());
    assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Blocked, StepState::CompensationFailed));
}

#[test]
fn cancel_and_timeout_while_it_is_undone_alone_undo_the_rest() {
    for cancels in [true, false] {
        let mut run = Run::start(optional(chain(None), 1));
        run.reply("a", done());
        run.reply("b", hopeless());
        if cancels {
            run.operate(SagaVerb::Cancel).expect("it runs");
        } else {
            run.now_ms = run.state.timeout_at_ms.expect("it has one");
            run.look(HandOut::At(run.now_ms));
        }
        assert_eq!((run.saga_state(), run.called().len()), (SagaState::Compensating, 0), "b is undone already");
        run.undo_reply("b", done());
        assert_eq!(run.called(), ["undo_a"]);
        run.undo_reply("a", done());
        assert_eq!(run.saga_state(), SagaState::Compensated);
    }
}

#[test]
fn while_it_is_paused_nothing_is_undone_alone_and_what_is_said_counts() {
    let paused = || {
        let mut run = Run::start(optional(chain(None), 0));
        run.operate(SagaVerb::Pause).expect("it runs");
        run.reply("a", hopeless());
        assert_eq!((run.called().len(), run.step_state("a")), (0, StepState::Unknown));
        run
    };
    let mut run = paused();
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.called(), ["undo_a"]);
    for (outcome, state) in
        [(StepOutcome::Succeeded { output: json!(1).into() }, StepState::Succeeded), (StepOutcome::Failed, StepState::Failed)]
    {
        let mut run = paused();
        run.operate(SagaVerb::Resolve { item: None, step: id("a"), outcome }).expect("it is open");
        run.operate(SagaVerb::Resume).expect("it is paused");
        assert_eq!((run.called(), run.step_state("a")), (vec!["b"], state));
    }
    // Its last attempt to be undone fails meanwhile: an operator can mend that before anything else is undone.
    let stuck = || {
        let mut run = Run::start(optional(chain(None), 0));
        run.reply("a", hopeless());
        run.operate(SagaVerb::Pause).expect("it runs");
        run.undo_reply("a", hopeless_undo());
        assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Paused, StepState::CompensationFailed));
        run
    };
    for verb in
        [SagaVerb::Skip { item: None, step: id("a") }, SagaVerb::Resolve { item: None, step: id("a"), outcome: StepOutcome::Compensated }]
    {
        let mut run = stuck();
        run.operate(verb).expect("it failed for good");
        run.operate(SagaVerb::Resume).expect("it is paused");
        assert_eq!(run.called(), ["b"]);
    }
    let mut run = stuck();
    run.operate(SagaVerb::Retry { item: None, step: None }).expect("it failed for good");
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.called(), ["undo_a"]);
    let mut run = stuck();
    let epoch = run.step("a").compensation.epoch;
    run.reply_to("a", Operation::Compensation, epoch, done()).expect("a late success counts");
    run.operate(SagaVerb::Resume).expect("it is paused");
    assert_eq!(run.called(), ["b"]);
}

#[test]
fn an_effect_that_an_operator_left_standing_is_listed_and_the_saga_ends() {
    let left = || {
        let mut run = Run::start(optional(chain(Some(1)), 0));
        run.reply("a", hopeless());
        run.undo_reply("a", unknown());
        run.operate(SagaVerb::Skip { item: None, step: id("a") }).expect("it waits");
        assert_eq!(run.called(), ["b"]);
        run
    };
    let mut run = left();
    assert!(run.operate(SagaVerb::Retry { item: None, step: Some(id("a")) }).is_err(), "the saga went on with it");
    run.reply("b", done());
    run.reply("c", done());
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Completed, vec![("a".to_owned(), true)]));
    run.operate(SagaVerb::Resolve { item: None, step: id("a"), outcome: StepOutcome::Compensated }).expect("undone by hand");
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Completed, vec![]));
    let mut run = left();
    run.reply("b", refused());
    assert_eq!((run.saga_state(), standing(&run)), (SagaState::Terminated, vec![("a".to_owned(), true)]));
    let mut run = left();
    run.reply_to("a", Operation::Compensation, 1, done()).expect("a late success counts");
    assert_eq!(run.step_state("a"), StepState::Compensated);
}

#[test]
fn behind_the_pivot_its_attempts_end() {
    let past = || {
        let mut run = Run::start(optional(chain(Some(1)), 2));
        run.reply("a", done());
        run.reply("b", done());
        let Some(Command::Call(command)) = run.commands.last().cloned() else { panic!("c is called") };
        assert!(!command.call.must_succeed, "a refusal is final");
        run
    };
    let mut run = past();
    run.reply("c", refused());
    assert_eq!((run.saga_state(), run.step_state("c")), (SagaState::Completed, StepState::Failed));
    let mut run = past();
    for _ in 0..2 {
        run.reply("c", unknown());
        run.tick();
    }
    run.reply("c", unknown());
    assert_eq!((run.saga_state(), run.step_state("c")), (SagaState::Completed, StepState::Unknown));
    assert_eq!((standing(&run), run.step("c").attempts_exceeded), (vec![("c".to_owned(), true)], false));
}

#[test]
fn behind_the_pivot_what_has_no_arguments_or_no_condition_is_gone_on_without() {
    for condition in [None, Some("${ input.missing }")] {
        let mut definition = optional(chain(Some(1)), 2);
        definition.steps[2].call_mut(Operation::Action).arguments = Template::compile(&json!("${ input.missing }")).expect("legal");
        definition.steps[2].when = condition.map(|condition| Template::text(condition).expect("legal"));
        let mut run = Run::start(definition);
        run.reply("a", done());
        assert_eq!(run.called(), ["b"], "the pivot does not depend on it");
        run.reply("b", done());
        assert_eq!((run.saga_state(), run.step_state("c")), (SagaState::Completed, StepState::Failed));
    }
}

/// Also behind the pivot, where others wait as long as it takes.
#[test]
fn what_waits_too_long_in_its_queue_is_gone_on_without() {
    for pivot in [None, Some(0)] {
        let mut definition = optional(chain(pivot), 1);
        definition.steps[1].queue_timeout = Some(core::time::Duration::from_millis(500));
        let mut run = Run::start(definition);
        run.reply("a", done());
        run.now_ms += 500;
        run.look(HandOut::Never);
        assert_eq!((run.called(), run.step_state("b"), run.last_failure()), (vec!["c"], StepState::Failed, "QUEUE_TIMEOUT"));
    }
}

#[test]
fn a_rerun_goes_on_without_what_was_gone_on_without_before_its_step() {
    let mut run = Run::start(optional(chain(Some(1)), 0));
    run.reply("a", refused());
    run.operate(SagaVerb::Skip { item: None, step: id("c") }).expect("its turn has not come");
    run.reply("b", done());
    assert_eq!(run.saga_state(), SagaState::Completed);
    let rerun = run.rerun("c").expect("c was left out before it was called");
    assert_eq!((rerun.called(), rerun.step_state("a"), rerun.step("a").output.as_ref()), (vec!["c"], StepState::Skipped, None));
    // As the step of a rerun it is called anew.
    let steps = || vec![step("a", &[], Compensatable), step("b", &[], Compensatable)];
    let mut run = Run::start(optional(definition(steps()), 0));
    run.reply("a", refused());
    run.reply("b", done());
    let rerun = run.rerun("a").expect("nothing stands of it");
    assert_eq!((rerun.called(), rerun.step_state("b")), (vec!["a"], StepState::Succeeded));
}

#[test]
fn its_word_is_heard_as_any_other_and_not_twice() {
    let mut run = Run::start(optional(chain(None), 0));
    run.reply("a", refused());
    assert_eq!(run.reply_to("a", Operation::Action, 1, refused()), Ok(true));
    assert!(run.reply_to("a", Operation::Action, 1, done()).is_err(), "the saga went on without it");
    run.operate(SagaVerb::Resolve { item: None, step: id("a"), outcome: StepOutcome::Succeeded { output: json!(7).into() } })
        .expect("the participant was wrong");
    run.reply("b", refused());
    assert_eq!(run.called(), ["undo_a"], "then it is undone with the others");
}
