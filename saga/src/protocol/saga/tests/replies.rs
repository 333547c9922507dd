//! Replies that come twice, late, or for an attempt that is over.

use super::fixture::*;
use crate::protocol::saga::SagaEvent;
use crate::protocol::{Command, Input, Rejection};
use sagamq_api::JsonText;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Operation, SagaState, StepState};

#[test]
fn the_same_reply_again_changes_nothing() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    let events = run.history.len();
    assert_eq!(run.reply_to("a", Operation::Action, 1, done()), Ok(true));
    assert_eq!((run.history.len(), run.commands.len()), (events, 0));
    assert!(matches!(run.reply_to("a", Operation::Action, 1, refused()), Err(Rejection::Fenced { .. })), "another word is not the same");
}

#[test]
fn a_reply_is_still_a_duplicate_after_the_step_was_undone() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    run.reply("b", refused());
    run.undo_reply("a", done());
    assert_eq!(run.reply_to("a", Operation::Action, 1, done()), Ok(true));
    assert_eq!(run.reply_to("b", Operation::Action, 1, refused()), Ok(true));
    assert_eq!(run.reply_to("a", Operation::Compensation, 1, done()), Ok(true));
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn doubt_about_an_older_attempt_and_an_attempt_that_never_was_are_fenced() {
    let mut run = Run::start(chain(None));
    run.reply("a", unknown());
    run.tick();
    for (epoch, outcome) in [(0, done()), (3, done()), (1, unknown()), (1, CallOutcome::Ongoing { retry_after_ms: None })] {
        assert!(matches!(run.reply_to("a", Operation::Action, epoch, outcome), Err(Rejection::Fenced { .. })), "epoch {epoch}");
    }
    assert!(matches!(run.reply_to("a", Operation::Compensation, 1, done()), Err(Rejection::Fenced { .. })));
    assert!(matches!(run.reply_to("b", Operation::Action, 1, done()), Err(Rejection::Fenced { .. })));
    assert!(matches!(run.reply_to("nobody", Operation::Action, 1, done()), Err(Rejection::NoSuchStep { .. })));
}

#[test]
fn an_item_of_a_step_without_fan_out_is_of_no_step() {
    let mut run = Run::start(chain(None));
    let attempt = AttemptId { item: Some(ItemIndex(0)), ..run.attempt("a", Operation::Action, 1) };
    let reply = Input::Reply { attempt: attempt.clone(), outcome: done(), note: None, branch_address: None };
    assert_eq!(run.input(reply), Err(Rejection::NoSuchStep { attempt: attempt.clone().within() }));
    let not_sent = Input::NotSent { attempt: attempt.clone(), failure: failure("NOT_SENT"), was_never_sent: false };
    assert!(matches!(run.input(not_sent), Err(Rejection::NoSuchStep { .. })));
    let event = SagaEvent::StepSucceeded { attempt: attempt.within(), output: JsonText::null(), note: None };
    let error = run.state.clone().apply(&event, 5).expect_err("a history that says so is damaged");
    assert!(error.to_string().contains("no such item"), "{error}");
    run.reply("a", done());
    assert_eq!(run.called(), ["b"]);
}

#[test]
fn an_event_of_the_other_operation_cannot_follow() {
    let run = Run::start(chain(None));
    let undo = run.attempt("a", Operation::Compensation, 1).within();
    for event in [
        SagaEvent::StepSucceeded { attempt: undo.clone(), output: JsonText::null(), note: None },
        SagaEvent::StepFailed { attempt: undo.clone(), failure: failure("NO") },
        SagaEvent::StepUnknown { attempt: undo, failure: failure("NO") },
        SagaEvent::StepCompensated { attempt: run.attempt("a", Operation::Action, 1).within() },
        SagaEvent::StepCompensationFailed { attempt: run.attempt("a", Operation::Action, 1).within(), failure: failure("NO") },
    ] {
        assert!(run.state.clone().apply(&event, 5).is_err(), "{event:?}");
    }
}

#[test]
#[should_panic(expected = "an input goes to the instance that it names")]
fn an_input_of_another_instance_is_a_bug() {
    let mut run = Run::start(chain(None));
    let attempt = AttemptId { instance: uuid::Uuid::nil(), ..run.attempt("a", Operation::Action, 1) };
    let _ = run.input(Input::Reply { attempt, outcome: done(), note: None, branch_address: None });
}

#[test]
fn a_known_outcome_of_an_older_attempt_counts_and_the_current_command_is_settled() {
    let mut run = Run::start(chain(None));
    run.reply("a", unknown());
    run.tick();
    assert_eq!(run.reply_to("a", Operation::Action, 1, done()), Ok(false));
    assert_eq!((run.step_state("a"), run.called()), (StepState::Succeeded, vec!["b"]));
    assert!(matches!(&run.commands[0], Command::Settle { attempt, unseen: false, .. } if attempt.epoch == 2));
    assert_eq!(run.reply_to("a", Operation::Action, 2, done()), Ok(true), "the other attempt says the same");
    assert_eq!(run.reply_to("a", Operation::Action, 1, done()), Ok(true));

    let mut run = Run::start(chain(None));
    run.reply("a", unknown());
    run.tick();
    assert_eq!(run.reply_to("a", Operation::Action, 1, refused()), Ok(false), "it never will take effect under this key");
    assert_eq!(run.saga_state(), SagaState::Failed);
}

#[test]
fn a_pivot_that_is_always_slower_than_its_timeout_settles() {
    let mut run = Run::start(chain(Some(1)));
    run.reply("a", done());
    for _ in 0..30 {
        run.tick();
    }
    let epoch = run.step("b").action.epoch;
    assert!(epoch > 10);
    assert_eq!(run.reply_to("b", Operation::Action, epoch - 1, done()), Ok(false));
    assert_eq!(run.called(), ["c"]);
}

#[test]
fn a_late_refusal_of_what_is_retried_when_refused_is_no_news() {
    let mut run = Run::start(chain(Some(0)));
    run.reply("a", done());
    run.reply("b", unknown());
    run.tick();
    assert_eq!(run.reply_to("b", Operation::Action, 1, refused()), Ok(true));
    assert_eq!(run.step("b").action.epoch, 2);
}

#[test]
fn a_late_success_of_the_compensation_that_blocked_goes_on() {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    run.reply("b", done());
    run.reply("c", refused());
    for _ in 0..2 {
        run.undo_reply("b", unknown());
        run.tick();
    }
    run.undo_reply("b", unknown());
    assert_eq!((run.saga_state(), run.step_state("b")), (SagaState::Blocked, StepState::CompensationFailed));
    assert!(run.reply_to("b", Operation::Compensation, 4, done()).is_err(), "there was no such attempt");
    assert_eq!(run.reply_to("b", Operation::Compensation, 2, done()), Ok(false), "any of its attempts may turn out to have succeeded");
    assert_eq!((run.saga_state(), run.called()), (SagaState::Compensating, vec!["undo_a"]));
    assert_eq!(run.reply_to("b", Operation::Compensation, 3, done()), Ok(true));
    run.undo_reply("a", done());
    assert_eq!(run.saga_state(), SagaState::Compensated);
}

#[test]
fn what_is_said_of_a_failure_is_cut_and_a_note_goes_with_a_success() {
    let long = |code: &str| Failure { code: code.repeat(1_000_000), message: code.repeat(30_000_000) };
    let mut run = Run::start(chain(None));
    run.reply("a", CallOutcome::Unknown { failure: long("x"), retry_after_ms: None });
    let kept = &run.state.failures[0].failure;
    assert_eq!((kept.code.len(), kept.message.len()), (256, 1_024));
    run.tick();
    let note = Some(failure("PAYLOAD_TOO_LARGE"));
    let outcome = CallOutcome::Succeeded { output: JsonText::null() };
    run.input(Input::Reply { attempt: run.attempt("a", Operation::Action, 2), outcome, note, branch_address: None })
        .expect("the current attempt");
    assert_eq!((run.step_state("a"), run.last_failure()), (StepState::Succeeded, "PAYLOAD_TOO_LARGE"));
}

#[test]
fn a_late_word_ends_the_doubt_until_the_next_attempt() {
    let mut run = Run::start(chain(None));
    run.tick();
    assert_eq!(run.saga_state(), SagaState::Waiting);
    assert_eq!(run.reply_to("a", Operation::Action, 1, unknown()), Ok(true), "late doubt is no news");
    run.reply("a", done());
    assert_eq!((run.step_state("a"), run.called()), (StepState::Succeeded, vec!["b"]));

    let mut run = Run::start(chain(None));
    run.tick();
    run.reply("a", refused());
    assert_eq!(run.saga_state(), SagaState::Failed);
}

#[test]
fn a_step_given_up_is_fenced() {
    let mut definition = chain(None);
    definition.steps[0].call_mut(Operation::Action).retry.attempts = 1;
    let mut run = Run::start(definition);
    run.tick();
    assert_eq!(run.step_state("a"), StepState::Compensating);
    assert!(matches!(run.reply_to("a", Operation::Action, 1, done()), Err(Rejection::Fenced { .. })));
}
