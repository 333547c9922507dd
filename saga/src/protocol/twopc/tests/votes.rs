//! Votes and the decision.

use super::fixture::*;
use crate::protocol::twopc::{BranchState, Contradiction, Phase, TransactionEvent};
use crate::protocol::{Input, Rejection};
use sagamq_api::limits::SAGA_STEPS_MAX;
use sagamq_api::saga::{CallOutcome, Operation, SagaState};
use sagamq_api::transaction::Outcome;
use serde_json::json;

#[test]
fn commit_is_decided_when_all_have_voted_and_is_forced_before_anybody_hears_of_it() {
    let mut run = Run::acted(two());
    run.reply("a", Operation::Prepare, 1, vote("yes")).expect("asked");
    assert_eq!((run.forced, run.commands.len(), run.state.outcome()), (false, 1, Outcome::Undecided));
    assert!(run.branch("x").is_in_doubt() && !run.branch("y").is_in_doubt());
    run.reply("c", Operation::Prepare, 1, CallOutcome::Succeeded { output: json!({}).into() }).expect("a success without a vote is a yes");
    assert!(run.forced);
    assert_eq!(run.urls(), ["http://x/2pc/commit", "http://y/2pc/commit"]);
    assert_eq!((run.state.phase, run.saga_state(), run.state.outcome()), (Phase::Committing, SagaState::Running, Outcome::Committed));
    run.now_ms += 5;
    run.reply("a", Operation::Commit, 1, done()).expect("told");
    run.reply("c", Operation::Commit, 1, done()).expect("told");
    assert_eq!((run.forced, run.saga_state()), (false, SagaState::Completed));
    assert_eq!(run.count(|event| matches!(event, TransactionEvent::BranchCommitted { held_ms: 5, .. })), 2);
    assert!(run.state.branches.iter().all(|branch| !branch.is_in_doubt()));
}

/// As many as a definition may have steps, each at a service of its own: what telling them takes is more than an instance has events for.
#[test]
fn a_transaction_of_as_many_branches_as_there_may_be_is_decided_as_any_other() {
    let names: Vec<String> = (0..SAGA_STEPS_MAX).map(|number| format!("s{number}")).collect();
    let mut run = Run::acted(definition(names.iter().map(|name| step(name, name, &[])).collect()));
    assert_eq!((run.state.phase, run.urls().len()), (Phase::Preparing, SAGA_STEPS_MAX));
    for name in &names {
        run.reply(name, Operation::Prepare, 1, vote("yes")).expect("asked");
    }
    assert_eq!((run.state.phase, run.why()), (Phase::Committing, ""));
}

#[test]
fn who_has_changed_nothing_hears_no_more() {
    let mut run = Run::acted(two());
    run.reply("c", Operation::Prepare, 1, vote("read_only")).expect("asked");
    assert_eq!(run.reply("c", Operation::Prepare, 1, refused("BRANCH_UNKNOWN")), Ok(true), "it knows nothing of the branch any more");
    run.reply("a", Operation::Prepare, 1, vote("yes")).expect("asked");
    assert_eq!((run.urls(), run.forced), (vec!["http://x/2pc/commit".to_owned()], true));
    run.reply("a", Operation::Commit, 1, done()).expect("told");
    assert_eq!(run.saga_state(), SagaState::Completed);

    let mut run = Run::acted(two());
    run.reply("c", Operation::Prepare, 1, vote("read_only")).expect("asked");
    run.reply("a", Operation::Prepare, 1, vote("read_only")).expect("asked");
    assert_eq!(
        (run.urls().len(), run.forced, run.saga_state()),
        (0, true, SagaState::Completed),
        "and whoever asks hears the same for ever"
    );

    let mut run = Run::acted(two());
    run.reply("c", Operation::Prepare, 1, vote("read_only")).expect("asked");
    run.reply("a", Operation::Prepare, 1, refused("NO")).expect("asked");
    assert_eq!((run.urls().len(), run.saga_state()), (0, SagaState::Failed), "both are done already");
}

#[test]
fn a_vote_against_and_what_is_no_vote_roll_back() {
    let too_large = Some(failure("PAYLOAD_TOO_LARGE"));
    let cases = [
        (refused("NO"), None, "NO", false),
        (vote("perhaps"), None, "VOTE_INVALID", true),
        (CallOutcome::Succeeded { output: json!("fine").into() }, None, "VOTE_INVALID", true),
        (CallOutcome::Succeeded { output: json!({"vote": true}).into() }, None, "VOTE_INVALID", true),
        (CallOutcome::Succeeded { output: json!(null).into() }, too_large, "VOTE_INVALID", true),
        (refused("BRANCH_COMMITTED"), None, "BRANCH_COMMITTED", true),
    ];
    for (outcome, note, why, is_told) in cases {
        let mut run = Run::acted(two());
        run.reply("c", Operation::Prepare, 1, vote("yes")).expect("asked");
        let reply = Input::Reply { attempt: run.attempt("a", Operation::Prepare, 1), outcome, note, branch_address: None };
        assert_eq!((run.input(reply), run.why(), run.forced), (Ok(false), why, false));
        let urls = if is_told { vec!["http://x/2pc/rollback", "http://y/2pc/rollback"] } else { vec!["http://y/2pc/rollback"] };
        assert_eq!(run.urls(), urls, "who voted against has rolled back");
    }
}

#[test]
fn a_vote_that_is_not_heard_is_asked_for_again_and_counts_whichever_attempt_it_answers() {
    let mut run = Run::acted(two());
    run.reply("a", Operation::Prepare, 1, unknown()).expect("asked");
    run.reply("c", Operation::Prepare, 1, vote("yes")).expect("asked");
    run.tick();
    assert_eq!((run.now_ms, run.urls()), (1_100, vec!["http://x/2pc/prepare".to_owned()]));
    run.tick();
    assert_eq!(
        (run.now_ms, run.branch("x").vote.epoch, run.branch("x").vote.attempt.open().is_some()),
        (2_100, 2, false),
        "no answer in time"
    );
    assert!(matches!(run.reply("a", Operation::Prepare, 1, unknown()), Err(Rejection::Fenced { .. })));
    assert_eq!(run.reply("a", Operation::Prepare, 2, unknown()), Ok(true));
    run.reply("a", Operation::Prepare, 1, vote("yes")).expect("a word is a word");
    assert_eq!(run.state.phase, Phase::Committing);
}

#[test]
fn it_is_asked_for_again_until_the_transactions_time_is_over_and_not_longer() {
    let mut run = Run::acted(two());
    run.reply("c", Operation::Prepare, 1, vote("yes")).expect("asked");
    while run.state.phase == Phase::Preparing {
        run.tick();
    }
    assert_eq!((run.now_ms, run.why()), (61_000, "TRANSACTION_TIMEOUT"));
    assert!(run.branch("x").vote.epoch > 30, "with pauses that have an end");
    assert_eq!(run.urls(), ["http://x/2pc/rollback", "http://y/2pc/rollback"]);
}

#[test]
fn the_same_vote_twice_is_a_duplicate_and_another_one_is_recorded_and_rolls_back() {
    let mut run = Run::acted(two());
    run.reply("a", Operation::Prepare, 1, vote("yes")).expect("asked");
    assert_eq!(run.reply("a", Operation::Prepare, 1, vote("yes")), Ok(true));
    for (other, code) in [(refused("NO"), "NO"), (vote("read_only"), "VOTE"), (vote("perhaps"), "VOTE_INVALID")] {
        let mut run = Run::acted(two());
        run.reply("a", Operation::Prepare, 1, vote("yes")).expect("asked");
        assert_eq!(run.reply("a", Operation::Prepare, 1, other.clone()), Ok(false));
        assert_eq!((run.why(), run.branch("x").contradictions.as_slice()), ("VOTE_CHANGED", &[Contradiction::ChangedVote][..]));
        assert_eq!(run.state.failures.last().expect("kept").failure.code, code);
        assert_eq!(run.urls(), ["http://x/2pc/rollback", "http://y/2pc/rollback"]);

        let mut run = Run::committing(two());
        assert_eq!(run.reply("a", Operation::Prepare, 1, other.clone()), Ok(false));
        assert_eq!(
            (run.state.outcome(), run.branch("x").contradictions.as_slice()),
            (Outcome::Committed, &[Contradiction::ChangedVote][..])
        );
        assert!(matches!(run.reply("a", Operation::Prepare, 1, other), Err(Rejection::Fenced { .. })), "recorded once");
    }
}

#[test]
fn a_vote_after_the_decision_changes_nothing() {
    let mut run = Run::acted(two());
    run.reply("c", Operation::Prepare, 1, refused("NO")).expect("asked");
    assert_eq!(run.reply("a", Operation::Prepare, 1, vote("yes")), Ok(false));
    assert_eq!((run.state.phase, run.branch_state("x")), (Phase::Aborting, BranchState::Active));
    assert_eq!(run.branch("x").contradictions, [Contradiction::LateVote]);
    assert!(matches!(run.reply("a", Operation::Prepare, 1, vote("yes")), Err(Rejection::Fenced { .. })), "recorded once");
    assert_eq!(run.reply("c", Operation::Prepare, 1, refused("NO")), Ok(true));
    // A vote against says that the branch is what it is told to be.
    assert_eq!(run.reply("a", Operation::Prepare, 1, refused("NO")), Ok(false));
    assert_eq!((run.branch_state("x"), run.saga_state()), (BranchState::RolledBack, SagaState::Failed));
    assert!(matches!(run.reply("a", Operation::Prepare, 1, vote("yes")), Err(Rejection::Fenced { .. })), "it is over");
}
