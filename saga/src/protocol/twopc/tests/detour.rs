//! A worker that has a branch open and cannot be reached any more: its service is told as well, and only that it is done counts there.

use super::fixture::*;
use crate::definition::Definition;
use crate::protocol::twopc::{BranchState, Phase, TransactionEvent, TransactionState};
use crate::protocol::{Input, Rejection};
use sagamq_api::saga::{Operation, SagaState};

const WORKER: &str = "http://x-3:1";

/// Every action is done, and the branch x is at a worker of its own.
fn located(definition: Definition, address: &str) -> Run {
    let mut run = Run::start(definition);
    let reply =
        Input::Reply { attempt: run.attempt("a", Operation::Action, 1), outcome: done(), note: None, branch_address: Some(address.into()) };
    run.input(reply).expect("it is called");
    while let Some(attempt) = run.state.open_attempts().into_iter().find(|attempt| attempt.operation == Operation::Action) {
        run.reply(attempt.step.as_ref(), Operation::Action, 1, done()).expect("it is called");
    }
    run
}

/// It is decided to commit, and y has done so.
fn committing_at(address: &str) -> Run {
    let mut run = located(two(), address);
    for attempt in run.state.open_attempts() {
        run.reply(attempt.step.as_ref(), Operation::Prepare, 1, vote("yes")).expect("it is asked");
    }
    run.reply("c", Operation::Commit, 1, done()).expect("it is told");
    run
}

/// The attempt in progress at x cannot be sent. Gives whether it is over at once.
fn not_sent(run: &mut Run, operation: Operation) -> bool {
    let epoch = run.branch("x").ending.epoch;
    let input = Input::NotSent { attempt: run.attempt("a", operation, epoch), failure: failure("NOT_SENT"), was_never_sent: false };
    assert_eq!(run.input(input), Ok(false));
    run.branch("x").ending.attempt.open().is_none()
}

/// Where the next attempts go, each of which cannot be sent.
fn ways(run: &mut Run, operation: Operation, attempts: usize) -> Vec<String> {
    let mut urls = Vec::new();
    for _ in 0..attempts {
        assert!(not_sent(run, operation), "it is not waited for a worker that may be gone");
        run.tick();
        urls.extend(run.urls());
    }
    urls
}

/// To the service: `commit` of the branch x.
fn told_at(base: &str, word: &str) -> String {
    format!("{base}/2pc/{word}")
}

#[test]
fn a_worker_that_is_gone_is_told_three_times_and_then_its_service_in_turn_with_it() {
    let mut run = committing_at(WORKER);
    let (worker, service) = (told_at(WORKER, "commit"), told_at("http://x", "commit"));
    assert_eq!(ways(&mut run, Operation::Commit, 5), [&worker, &worker, &service, &worker, &service].map(Clone::clone));
    assert_eq!(run.branch("x").address.as_deref(), Some(WORKER), "it is still where it said");
    run.reply("a", Operation::Commit, 6, done()).expect("told");
    assert_eq!((run.saga_state(), run.branch_state("x")), (SagaState::Completed, BranchState::Committed));
    let mut again = TransactionState::new(run.state.head.id, &run.definition);
    for recorded in &run.history {
        again.apply(&recorded.event, recorded.at_ms).expect("the log is legal");
    }
    assert_eq!(again, run.state);
}

#[test]
fn another_worker_that_does_not_know_the_branch_is_no_contradiction() {
    for code in ["BRANCH_UNKNOWN", "BRANCH_ROLLED_BACK", "ANYTHING"] {
        let mut run = committing_at(WORKER);
        ways(&mut run, Operation::Commit, 3);
        run.reply("a", Operation::Commit, 4, refused(code)).expect("told");
        assert_eq!((run.branch_state("x"), run.saga_state()), (BranchState::Prepared, SagaState::Running), "{code}");
        assert!(matches!(run.reply("a", Operation::Commit, 4, refused(code)), Ok(true)), "{code}");
        run.tick();
        assert_eq!(run.urls(), [told_at(WORKER, "commit")], "{code}");
        // An older refusal may be of either, so nothing is made of it.
        assert!(matches!(run.reply("a", Operation::Commit, 4, refused(code)), Err(Rejection::Fenced { .. })), "{code}");
        run.reply("a", Operation::Commit, 5, refused(code)).expect("told");
        assert_eq!((run.branch_state("x"), run.saga_state()), (BranchState::Disagrees, SagaState::Blocked), "its own word counts: {code}");
    }
    let mut run = committing_at(WORKER);
    ways(&mut run, Operation::Commit, 3);
    run.reply("a", Operation::Commit, 4, refused("BRANCH_COMMITTED")).expect("told");
    assert_eq!(run.saga_state(), SagaState::Completed, "it says that it is done");
}

#[test]
fn a_worker_that_answers_is_told_again_and_nobody_else() {
    let mut run = committing_at(WORKER);
    ways(&mut run, Operation::Commit, 2);
    run.reply("a", Operation::Commit, 3, unknown()).expect("told");
    run.tick();
    let worker = told_at(WORKER, "commit");
    assert_eq!(run.urls(), std::slice::from_ref(&worker));
    assert_eq!(ways(&mut run, Operation::Commit, 2), [worker.clone(), worker], "it is counted anew");
}

#[test]
fn the_one_branch_with_the_decision_is_looked_for_too_and_no_refusal_from_elsewhere_is_the_decision() {
    let mut run = located(one(), WORKER);
    assert_eq!(run.urls(), [told_at(WORKER, "commit-one-phase")]);
    assert_eq!(ways(&mut run, Operation::CommitOnePhase, 3).last(), Some(&told_at("http://x", "commit-one-phase")));
    run.reply("a", Operation::CommitOnePhase, 4, refused("BRANCH_UNKNOWN")).expect("told");
    assert_eq!((run.state.phase, run.branch_state("x")), (Phase::OnePhase, BranchState::Active));
    run.tick();
    run.reply("a", Operation::CommitOnePhase, 5, refused("BRANCH_UNKNOWN")).expect("told");
    assert_eq!((run.saga_state(), run.why()), (SagaState::Failed, "BRANCH_UNKNOWN"), "its own refusal is");
}

#[test]
fn what_was_not_sent_is_waited_for_where_there_is_nobody_else_and_where_it_will_ask() {
    let mut at_its_service = Run::committing(two());
    assert!(!not_sent(&mut at_its_service, Operation::Commit));
    let mut aborting = located(two(), WORKER);
    aborting.reply("c", Operation::Prepare, 1, refused("NO")).expect("asked");
    assert!(!not_sent(&mut aborting, Operation::Rollback));
    for _ in 0..8 {
        aborting.tick();
    }
    assert_eq!(aborting.count(|event| matches!(event, TransactionEvent::BranchCalled { detour: true, .. })), 0);
}
