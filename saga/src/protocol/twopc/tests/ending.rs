//! Phase two, and the one branch that has the decision.

use super::fixture::*;
use crate::protocol::twopc::{BranchState, Contradiction, Phase, TransactionEvent};
use crate::protocol::{Input, Rejection};
use sagamq_api::saga::{CallOutcome, Operation, SagaState};
use sagamq_api::transaction::Outcome;
use serde_json::json;

#[test]
fn a_commit_is_told_until_it_is_acknowledged_whatever_happens() {
    let mut run = Run::committing(two());
    run.reply("a", Operation::Commit, 1, done()).expect("told");
    let ongoing = CallOutcome::Ongoing { retry_after_ms: None };
    assert_eq!(run.reply("c", Operation::Commit, 1, ongoing), Ok(true), "whoever calls asks again");
    for _ in 0..200 {
        run.tick();
    }
    assert_eq!(run.branch("y").ending.epoch, 101, "attempts that nobody answers, and the pauses between them");
    assert_eq!((run.input(Input::Recovered), run.cancel()), (Ok(true), Err(Rejection::NotCancellable)));
    run.now_ms += 1_000_000;
    assert_eq!((run.state.outcome(), run.saga_state()), (Outcome::Committed, SagaState::Running));
    run.reply("c", Operation::Commit, 7, done()).expect("a word is a word");
    assert_eq!(run.saga_state(), SagaState::Completed);
    assert_eq!(run.reply("c", Operation::Commit, 101, done()), Ok(true));
}

#[test]
fn what_it_returns_is_computed_at_the_end() {
    let mut definition = two();
    definition.output = Some(crate::expression::Template::compile(&json!({"a": "${ steps.a.output.ok }"})).expect("legal"));
    let mut run = Run::committing(definition);
    run.reply("a", Operation::Commit, 1, done()).expect("told");
    run.reply("c", Operation::Commit, 1, done()).expect("told");
    assert_eq!(run.state.output.as_ref().map(|output| output.as_str()), Some(r#"{"a":true}"#));
}

#[test]
fn the_rollback_is_told_some_times_and_then_the_participant_asks() {
    let mut run = Run::acted(two());
    run.reply("c", Operation::Prepare, 1, refused("NO")).expect("asked");
    while run.state.phase == Phase::Aborting {
        run.tick();
    }
    assert_eq!((run.branch_state("x"), run.branch("x").ending.epoch), (BranchState::Unacknowledged, 10));
    assert_eq!((run.saga_state(), run.state.outcome()), (SagaState::Failed, Outcome::RolledBack));
}

#[test]
fn who_does_not_know_the_branch_has_rolled_it_back() {
    for code in ["BRANCH_UNKNOWN", "BRANCH_ROLLED_BACK"] {
        let mut run = Run::acted(two());
        run.cancel().expect("undecided");
        run.reply("a", Operation::Rollback, 1, refused(code)).expect("told");
        assert_eq!(run.branch_state("x"), BranchState::RolledBack, "{code}");
    }
    let mut run = Run::acted(two());
    run.cancel().expect("undecided");
    run.reply("a", Operation::Rollback, 1, refused("BUSY")).expect("told");
    assert_eq!((run.branch_state("x"), run.branch("x").ending.attempt.open()), (BranchState::Active, None), "it is told again");
}

#[test]
fn a_branch_that_cannot_do_what_was_decided_blocks_the_transaction_and_the_others_go_on() {
    for code in ["BRANCH_UNKNOWN", "BRANCH_ROLLED_BACK", "ANYTHING"] {
        let mut run = Run::committing(two());
        run.reply("a", Operation::Commit, 1, refused(code)).expect("told");
        assert_eq!((run.branch_state("x"), run.saga_state()), (BranchState::Disagrees, SagaState::Blocked));
        assert_eq!(run.state.summary().failure.map(|failure| failure.code), Some(code.to_owned()));
        assert_eq!(run.reply("a", Operation::Commit, 1, refused(code)), Ok(true));
        run.reply("c", Operation::Commit, 1, done()).expect("told");
        assert_eq!((run.saga_state(), run.state.phase, run.state.next_look_ms(run.now_ms)), (SagaState::Blocked, Phase::Committing, None));
        assert_eq!(run.input(Input::Recovered), Ok(true));
        run.reply("a", Operation::Commit, 1, done()).expect("it has done it after all");
        assert_eq!(run.saga_state(), SagaState::Completed);
    }
    let mut run = Run::acted(two());
    run.cancel().expect("undecided");
    run.reply("c", Operation::Rollback, 1, done()).expect("told");
    run.reply("a", Operation::Rollback, 1, refused("BRANCH_COMMITTED")).expect("told");
    assert_eq!((run.branch_state("x"), run.saga_state()), (BranchState::Disagrees, SagaState::Blocked));
}

#[test]
fn a_branch_that_says_two_ends_keeps_the_first_and_the_other_is_recorded() {
    let mut run = Run::committing(two());
    run.reply("a", Operation::Commit, 1, done()).expect("told");
    assert_eq!(run.reply("a", Operation::Commit, 1, refused("BRANCH_ROLLED_BACK")), Ok(false));
    assert_eq!(
        (run.branch_state("x"), run.branch("x").contradictions.as_slice()),
        (BranchState::Committed, &[Contradiction::ChangedEnd][..])
    );
    assert!(matches!(run.reply("a", Operation::Commit, 1, refused("BRANCH_ROLLED_BACK")), Err(Rejection::Fenced { .. })), "recorded once");
    assert_eq!(run.count(|event| matches!(event, TransactionEvent::BranchContradicted { .. })), 1);
}

#[test]
fn a_branch_that_is_alone_decides_and_is_asked_without_end() {
    let mut run = Run::acted(one());
    assert_eq!((run.urls(), run.forced), (vec!["http://x/2pc/commit-one-phase".to_owned()], true), "nobody else may decide from here on");
    for _ in 0..200 {
        run.tick();
    }
    assert!(run.now_ms > 61_000, "no timeout decides");
    assert_eq!((run.state.phase, run.branch("x").ending.epoch, run.branch("x").is_in_doubt()), (Phase::OnePhase, 101, true));
    assert_eq!((run.cancel(), run.input(Input::Recovered)), (Err(Rejection::NotCancellable), Ok(true)));
    assert_eq!(run.state.outcome(), Outcome::Undecided);
    run.reply("a", Operation::CommitOnePhase, 3, done()).expect("asked");
    assert_eq!((run.saga_state(), run.state.outcome()), (SagaState::Completed, Outcome::Committed));
    assert_eq!(run.reply("a", Operation::CommitOnePhase, 4, done()), Ok(true));
    assert!(matches!(run.reply("a", Operation::CommitOnePhase, 4, refused("NO")), Err(Rejection::Fenced { .. })));
}

#[test]
fn its_refusal_is_the_decision_too() {
    for code in ["NO", "BRANCH_UNKNOWN", "BRANCH_ROLLED_BACK"] {
        let mut run = Run::acted(one());
        run.reply("a", Operation::CommitOnePhase, 1, refused(code)).expect("asked");
        assert_eq!((run.saga_state(), run.state.outcome(), run.why()), (SagaState::Failed, Outcome::RolledBack, code));
        assert!(run.urls().is_empty(), "it knows");
    }
    let mut run = Run::acted(one());
    run.reply("a", Operation::CommitOnePhase, 1, refused("BRANCH_COMMITTED")).expect("asked");
    assert_eq!(run.saga_state(), SagaState::Completed, "whatever it was asked, this is what it did");
}
