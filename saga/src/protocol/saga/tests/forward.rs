//! Forward: order, retries, deadlines, expressions, the end.

use super::fixture::*;
use crate::definition::StepKind::{Compensatable, Retriable};
use crate::expression::Template;
use crate::protocol::saga::{InstanceState, SagaEvent};
use crate::protocol::{Command, Input, Rejection};
use sagamq_api::PartitionId;
use sagamq_api::saga::{CallOutcome, Operation, SagaState, StepState};
use serde_json::json;
use uuid::Uuid;

#[test]
fn steps_run_in_order_and_the_saga_completes_with_its_output() {
    let mut definition = chain(None);
    definition.output = Some(Template::compile(&json!({"got": "${steps.a.output.ok}"})).expect("legal"));
    let mut run = Run::start(definition);
    assert_eq!(run.called(), ["a"]);
    let Some(Command::Call(command)) = run.commands.first().cloned() else { panic!("a call is ordered") };
    assert_eq!((command.call.attempt.epoch, command.call.deadline_ms, command.call.reply_partition), (1, 2_000, PartitionId(3)));
    run.reply("a", done());
    assert_eq!(run.called(), ["b"]);
    assert!(
        matches!(&run.commands[0], Command::Settle { attempt, .. } if attempt.epoch == 1),
        "the command of `a` is settled in the same decision"
    );
    run.reply("b", done());
    run.reply("c", done());
    assert_eq!((run.saga_state(), run.state.output.clone()), (SagaState::Completed, Some(json!({"got": true}).into())));
    assert_eq!(run.state.next_due_ms(), None);
}

#[test]
fn branches_run_side_by_side_and_meet() {
    let steps = vec![
        step("a", &[], Compensatable),
        step("b", &[0], Compensatable),
        step("c", &[0], Compensatable),
        step("d", &[1, 2], Compensatable),
    ];
    let mut run = Run::start(definition(steps));
    run.reply("a", done());
    assert_eq!(run.called(), ["b", "c"]);
    run.reply("c", done());
    assert!(run.called().is_empty());
    run.reply("b", done());
    assert_eq!(run.called(), ["d"]);
}

#[test]
fn a_saga_without_steps_is_complete_at_once() {
    assert_eq!(Run::start(definition(Vec::new())).saga_state(), SagaState::Completed);
}

#[test]
fn an_unknown_attempt_is_tried_again_with_backoff_and_a_new_epoch() {
    let mut run = Run::start(chain(None));
    run.reply("a", unknown());
    assert_eq!((run.saga_state(), run.state.next_due_ms()), (SagaState::Waiting, Some(1_100)));
    run.tick();
    assert_eq!((run.called(), run.step("a").action.epoch, run.saga_state()), (vec!["a"], 2, SagaState::Running));
    run.reply("a", CallOutcome::Unknown { failure: failure("BUSY"), retry_after_ms: Some(7_000) });
    assert_eq!(run.state.next_due_ms(), Some(run.now_ms + 7_000), "what the participant asks for wins");
}

#[test]
fn no_answer_by_the_deadline_is_unknown_and_never_a_refusal() {
    let mut run = Run::start(chain(None));
    assert_eq!(run.state.next_due_ms(), Some(2_000));
    run.tick();
    assert_eq!((run.step_state("a"), run.state.failures[0].failure.code.as_str()), (StepState::InProgress, "TIMEOUT"));
    assert!(
        matches!(&run.commands[..], [Command::Settle { attempt, .. }] if attempt.epoch == 1),
        "a worker must not get the record of a dead attempt"
    );
    for _ in 0..4 {
        run.tick();
    }
    assert_eq!((run.step_state("a"), run.saga_state()), (StepState::Compensating, SagaState::Compensating));
    assert_eq!(run.called(), ["undo_a"], "attempts ran out: what may have happened is undone");
    run.undo_reply("a", done());
    assert_eq!((run.saga_state(), run.state.failures.len()), (SagaState::Compensated, 3));
}

#[test]
fn a_hopeless_code_is_not_tried_again() {
    let mut run = Run::start(chain(None));
    run.reply("a", CallOutcome::Unknown { failure: failure("HOPELESS"), retry_after_ms: None });
    assert_eq!(run.called(), ["undo_a"]);
}

#[test]
fn ongoing_is_written_once_an_attempt_and_keeps_the_deadline() {
    let mut run = Run::start(chain(None));
    let ongoing = CallOutcome::Ongoing { retry_after_ms: None };
    run.reply("a", ongoing.clone());
    assert_eq!((run.saga_state(), run.state.next_due_ms(), run.history.len()), (SagaState::Waiting, Some(2_000), 3));
    assert!(run.reply_to("a", Operation::Action, 1, ongoing).expect("the current attempt"), "the same word again is no news");
    assert_eq!(run.history.len(), 3);
    run.reply("a", done());
    assert_eq!(run.called(), ["b"]);
}

#[test]
fn arguments_see_input_outputs_and_the_saga() {
    let mut steps = vec![step("a", &[], Compensatable), step("b", &[0], Compensatable)];
    steps[1].action = call("b", json!({"n": "${input.n}", "ok": "${steps.a.output.ok}", "key": "${saga.key}"}), 3).into();
    let mut run = Run::start_with(definition(steps), json!({"n": 5}));
    run.reply("a", done());
    let Some(Command::Call(command)) = run.commands.last() else { panic!("a call is ordered") };
    assert_eq!(command.call.arguments, json!({"n": 5, "ok": true, "key": "k"}).into());
}

#[test]
fn an_expression_without_a_value_fails_the_step_before_any_effect() {
    let mut steps = vec![step("a", &[], Compensatable)];
    steps[0].action = call("a", json!("${input.missing}"), 3).into();
    let run = Run::start(definition(steps));
    assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Failed, StepState::Failed));
    assert_eq!(run.state.failure.as_ref().map(|failure| failure.code.as_str()), Some("EXPRESSION_FAILED"));
    assert!(run.commands.is_empty());
}

#[test]
fn a_saga_that_polls_for_ever_is_compensated_before_its_log_is_full() {
    let mut definition = chain(None);
    definition.timeout = None;
    definition.steps[1].call_mut(Operation::Action).retry.attempts = u32::MAX;
    let mut run = Run::start(definition);
    run.reply("a", done());
    for _ in 0..10_000 {
        if run.saga_state() == SagaState::Compensating {
            break;
        }
        run.tick();
    }
    assert_eq!(run.state.failure.as_ref().map(|failure| failure.code.as_str()), Some("TOO_MANY_EVENTS"));
    run.reply("b", unknown());
    for name in ["b", "a"] {
        run.undo_reply(name, done());
    }
    assert_eq!(run.saga_state(), SagaState::Compensated);
    assert!(run.state.head.events < 10_000 && run.state.failures.len() <= sagamq_api::limits::SAGA_FAILURES_MAX);
}

#[test]
fn a_step_behind_the_pivot_whose_arguments_have_no_value_blocks_and_is_not_undone() {
    let mut definition = chain(Some(1));
    definition.steps[2].action = call("c", json!("${input.missing}"), 3).into();
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", done());
    assert_eq!((run.saga_state(), run.step_state("a")), (SagaState::Blocked, StepState::Succeeded));
}

#[test]
fn an_output_without_a_value_is_told_but_undoes_nothing() {
    let mut definition = definition(vec![step("a", &[], Retriable)]);
    definition.output = Some(Template::compile(&json!("${steps.a.output.missing}")).expect("legal"));
    let mut run = Run::start(definition);
    run.reply("a", done());
    assert_eq!((run.saga_state(), run.state.output.clone()), (SagaState::Completed, None));
    assert_eq!(run.state.failure.as_ref().map(|failure| failure.code.as_str()), Some("EXPRESSION_FAILED"));
}

#[test]
fn a_start_happens_once_and_nothing_happens_before_it() {
    let mut run = Run::start(chain(None));
    let start =
        Input::Start { parent: None, key: "k".to_owned(), generation: 1, input: json!({}).into(), cluster: Uuid::nil(), trace: None };
    assert_eq!(run.input(start), Err(Rejection::AlreadyStarted));
    run.state = InstanceState::new(run.state.head.id, &run.definition);
    assert_eq!(run.input(Input::Timer { hand_outs: Vec::new() }), Err(Rejection::NotStarted));
    assert_eq!(run.count(|event| matches!(event, SagaEvent::SagaStarted { .. })), 1);
}
