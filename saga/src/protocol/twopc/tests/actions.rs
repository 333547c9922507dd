//! Actions: in order, once, at the worker that has the branch open.

use super::fixture::*;
use crate::definition::{HttpTarget, Target};
use crate::protocol::twopc::{BranchState, Phase, TRANSACTION_TIMEOUT_DEFAULT, TransactionEvent};
use crate::protocol::{BranchAddress, Input, Rejection};
use sagamq_api::saga::{CallOutcome, Operation, SagaState, StepState};
use sagamq_api::transaction::Outcome;
use serde_json::json;

#[test]
fn a_branch_is_what_is_done_at_one_service_and_says_how_much_of_it_is_done() {
    let mut run = Run::start(two());
    assert!(run.forced, "the business key starts one transaction, whatever happens");
    assert_eq!(run.called(), [("http://x/do_a".to_owned(), json!(["x", 0]))]);
    run.reply("a", Operation::Action, 1, done()).expect("called");
    assert_eq!(run.called(), [("http://y/do_c".to_owned(), json!(["y", 0]))]);
    run.reply("c", Operation::Action, 1, done()).expect("called");
    assert_eq!(run.called(), [("http://x/do_b".to_owned(), json!(["x", 1]))]);
    assert!(!run.forced, "what is forgotten is rolled back");
    run.reply("b", Operation::Action, 1, done()).expect("called");
    let votes = [("http://x/2pc/prepare".to_owned(), json!(["x", 2])), ("http://y/2pc/prepare".to_owned(), json!(["y", 1]))];
    assert_eq!(run.called(), votes, "in parallel");
    assert_eq!((run.saga_state(), run.state.outcome()), (SagaState::Running, Outcome::Undecided));
}

#[test]
fn actions_of_different_branches_run_side_by_side_and_those_of_one_never_do() {
    let mut run = Run::start(definition(vec![step("a", "x", &[]), step("b", "x", &[]), step("c", "y", &[])]));
    assert_eq!(run.urls(), ["http://x/do_a", "http://y/do_c"]);
    run.reply("a", Operation::Action, 1, done()).expect("called");
    assert_eq!(run.urls(), ["http://x/do_b"]);
}

#[test]
fn all_calls_go_where_the_first_word_on_the_branch_says_it_is() {
    for first in [done(), CallOutcome::Ongoing { retry_after_ms: None }] {
        let mut run = Run::start(two());
        for (address, outcome) in [("http://x-3:1", first.clone()), ("http://elsewhere", done())] {
            let branch_address = Some(address.into());
            let _ = run.input(Input::Reply { attempt: run.attempt("a", Operation::Action, 1), outcome, note: None, branch_address });
        }
        run.reply("c", Operation::Action, 1, done()).expect("called");
        assert_eq!(run.urls(), ["http://x-3:1/do_b"]);
        run.reply("b", Operation::Action, 1, done()).expect("called");
        assert_eq!(run.urls(), ["http://x-3:1/2pc/prepare", "http://y/2pc/prepare"]);
    }
    let mut run = Run::start(two());
    let branch_address = Some("http://x-3:1".into());
    let reply = Input::Reply { attempt: run.attempt("a", Operation::Action, 1), outcome: refused("NO"), note: None, branch_address };
    run.input(reply).expect("called");
    assert_eq!(run.urls(), ["http://x-3:1/2pc/rollback"], "the worker that refused has the branch");
}

#[test]
fn a_worker_that_was_named_where_a_definition_says_stays_one_of_its() {
    for is_foreign in [true, false] {
        let mut run = Run::start(two());
        let branch_address = Some(BranchAddress { base: "http://x-3:1".to_owned(), is_foreign });
        run.input(Input::Reply { attempt: run.attempt("a", Operation::Action, 1), outcome: done(), note: None, branch_address })
            .expect("called");
        let (service, base) = ("x".to_owned(), "http://x-3:1".to_owned());
        assert_eq!(run.branch("x").way(), Target::Http(HttpTarget::Worker { service, base, is_foreign }));
    }
}

#[test]
fn a_refused_action_rolls_everything_back_that_was_called() {
    let mut run = Run::start(two());
    run.reply("a", Operation::Action, 1, done()).expect("called");
    run.reply("c", Operation::Action, 1, refused("NO")).expect("called");
    assert_eq!((run.saga_state(), run.why(), run.state.outcome()), (SagaState::Compensating, "NO", Outcome::RolledBack));
    assert!(!run.forced, "who forgets it decides it again");
    assert_eq!(run.urls(), ["http://x/2pc/rollback", "http://y/2pc/rollback"]);
    run.reply("a", Operation::Rollback, 1, done()).expect("told");
    run.now_ms += 50;
    run.reply("c", Operation::Rollback, 1, done()).expect("told");
    assert_eq!((run.saga_state(), run.state.next_look_ms(run.now_ms)), (SagaState::Failed, None));
    let held = |held: u64| run.count(|event| matches!(event, TransactionEvent::BranchRolledBack { held_ms, .. } if *held_ms == held));
    assert_eq!((held(0), held(50)), (1, 1));
}

#[test]
fn an_action_of_which_nobody_knows_is_not_repeated() {
    for is_told in [true, false] {
        let mut run = Run::start(two());
        if is_told {
            run.reply("a", Operation::Action, 1, unknown()).expect("called");
        } else {
            run.tick();
        }
        assert_eq!((run.state.phase, run.why()), (Phase::Aborting, if is_told { "LOST" } else { "TIMEOUT" }));
        assert_eq!(run.urls(), ["http://x/2pc/rollback"], "what was never called needs no rollback");
        assert_eq!(run.branch_state("y"), BranchState::Unopened);
        let late = run.reply("a", Operation::Action, 1, done());
        assert!(matches!(late, Err(Rejection::Fenced { .. })), "{late:?}");
        run.reply("a", Operation::Rollback, 1, done()).expect("told");
        assert_eq!(run.saga_state(), SagaState::Failed);
    }
}

#[test]
fn what_cannot_be_sent_waits_until_its_time_is_over() {
    let mut run = Run::start(two());
    let not_sent = |run: &mut Run| {
        run.input(Input::NotSent { attempt: run.attempt("a", Operation::Action, 1), failure: failure("NOT_SENT"), was_never_sent: false })
    };
    assert_eq!((not_sent(&mut run), not_sent(&mut run)), (Ok(false), Ok(true)));
    assert_eq!((run.state.phase, run.state.open_attempts().len()), (Phase::Active, 1));
    run.reply("a", Operation::Action, 1, done()).expect("sent after all");
    assert_eq!(run.urls(), ["http://y/do_c"]);
    run.tick();
    assert_eq!(run.why(), "TIMEOUT");
}

#[test]
fn an_action_whose_arguments_have_no_value_is_not_called() {
    let mut definition = two();
    definition.steps[1].call_mut(Operation::Action).arguments =
        crate::expression::Template::compile(&json!({"x": "${ input.missing }"})).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", Operation::Action, 1, done()).expect("called");
    assert_eq!(
        (run.why(), run.state.actions[1].state, run.branch_state("y")),
        ("EXPRESSION_FAILED", StepState::Failed, BranchState::Unopened)
    );
    assert_eq!(run.urls(), ["http://x/2pc/rollback"]);
}

#[test]
fn time_and_restarts_roll_back_what_is_not_decided() {
    for is_restart in [true, false] {
        for acted in [false, true] {
            let mut run = if acted { Run::acted(two()) } else { Run::start(two()) };
            if acted {
                run.reply("a", Operation::Prepare, 1, vote("yes")).expect("asked");
            }
            if is_restart {
                assert_eq!(run.input(Input::Recovered), Ok(false));
            } else {
                run.now_ms = 1_000 + 60_000;
                run.input(Input::Timer { hand_outs: Vec::new() }).expect("time passes");
            }
            assert_eq!(run.why(), if is_restart { "COORDINATOR_RESTARTED" } else { "TRANSACTION_TIMEOUT" });
            assert_eq!(run.urls().len(), if acted { 2 } else { 1 });
            assert_eq!(run.input(Input::Recovered), Ok(true), "decided is decided");
        }
    }
    let mut untimed = two();
    untimed.timeout = None;
    assert_eq!(u128::from(Run::start(untimed).state.timeout_at_ms), 1_000 + TRANSACTION_TIMEOUT_DEFAULT.as_millis());
}

#[test]
fn calls_that_are_none_of_the_transaction_are_told_so() {
    let mut run = Run::start(two());
    for (step, operation) in [("z", Operation::Action), ("a", Operation::Compensation), ("b", Operation::Prepare)] {
        let reply = run.reply(step, operation, 1, done());
        assert!(matches!(reply, Err(Rejection::NoSuchStep { .. })), "{step} {operation}: {reply:?}");
    }
    for (step, operation, epoch) in
        [("b", Operation::Action, 1), ("a", Operation::Action, 2), ("a", Operation::Prepare, 1), ("a", Operation::Commit, 1)]
    {
        let reply = run.reply(step, operation, epoch, done());
        assert!(matches!(reply, Err(Rejection::Fenced { .. })), "{step} {operation}: {reply:?}");
    }
    assert_eq!(run.state.phase, Phase::Active);
}
