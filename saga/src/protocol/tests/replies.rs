//! Replies that come twice, late, or for an attempt that is over.

use super::fixture::*;
use crate::protocol::Rejection;
use sagamq_api::saga::{Operation, SagaState, StepState};

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
fn an_older_attempt_and_one_that_never_was_are_fenced() {
    let mut run = Run::start(chain(None));
    run.reply("a", unknown());
    run.tick();
    for epoch in [0, 1, 3] {
        assert!(matches!(run.reply_to("a", Operation::Action, epoch, done()), Err(Rejection::Fenced { .. })), "epoch {epoch}");
    }
    assert!(matches!(run.reply_to("a", Operation::Compensation, 1, done()), Err(Rejection::Fenced { .. })));
    assert!(matches!(run.reply_to("b", Operation::Action, 1, done()), Err(Rejection::Fenced { .. })));
    assert!(matches!(run.reply_to("nobody", Operation::Action, 1, done()), Err(Rejection::NoSuchStep { .. })));
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
    definition.steps[0].action.retry.attempts = 1;
    let mut run = Run::start(definition);
    run.tick();
    assert_eq!(run.step_state("a"), StepState::Compensating);
    assert!(matches!(run.reply_to("a", Operation::Action, 1, done()), Err(Rejection::Fenced { .. })));
}
