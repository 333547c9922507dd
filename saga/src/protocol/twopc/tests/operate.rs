//! What operators do: who and why are kept, and nothing is decided twice.

use super::fixture::*;
use crate::protocol::twopc::{BranchState, TransactionEvent};
use crate::protocol::{Heuristic, Input, Rejection, ResolvedOutcome, Verb};
use sagamq_api::saga::{Operation, SagaState, SagaVerb, StepOutcome, VerbName};
use sagamq_api::transaction::Outcome;
use serde_json::json;

#[test]
fn a_cancellation_rolls_back_what_is_not_decided_and_is_forced() {
    for acted in [false, true] {
        let mut run = if acted { Run::acted(two()) } else { Run::start(two()) };
        assert_eq!((run.cancel(), run.forced, run.why()), (Ok(false), true, "CANCELLED"));
        let by_ann = |event: &TransactionEvent| match event {
            TransactionEvent::AbortDecided { actor, failure } => actor.as_deref() == Some("ann") && failure.message == "enough",
            _ => false,
        };
        assert_eq!((run.count(by_ann), run.cancel()), (1, Ok(true)));
        for step in ["a", "c"] {
            let _ = run.reply(step, Operation::Rollback, 1, done());
        }
        assert_eq!(run.cancel(), Err(Rejection::AlreadyFinal(SagaState::Failed)));
    }
}

#[test]
fn the_verbs_of_sagas_are_refused_by_name_in_every_state() {
    let step = || "a".parse().expect("legal");
    let verbs = [
        SagaVerb::Pause,
        SagaVerb::Resume,
        SagaVerb::Terminate,
        SagaVerb::Retry { item: None, step: None },
        SagaVerb::Skip { item: None, step: step() },
        SagaVerb::Resolve { item: None, step: step(), outcome: StepOutcome::Failed },
        SagaVerb::EditInput { input: json!({}).into() },
        SagaVerb::Rerun { from: step(), input: None },
    ];
    assert_eq!(verbs.len() + 1, VerbName::ALL.len(), "all but to cancel");
    let ended = || {
        let mut run = Run::committing(two());
        for step in ["a", "c"] {
            run.reply(step, Operation::Commit, 1, done()).expect("told");
        }
        run
    };
    let states: [fn() -> Run; 4] = [|| Run::start(two()), || Run::acted(two()), || Run::committing(two()), ended];
    for make in states {
        for verb in &verbs {
            let mut run = make();
            let before = run.state.clone();
            let said = run.input(Input::Operate { verb: Verb::Saga(verb.clone()), by: by("try") });
            assert_eq!(said, Err(Rejection::OnlySagas(verb.name())));
            assert_eq!(run.state, before);
        }
    }
}

#[test]
fn only_what_is_decided_and_not_known_can_be_resolved() {
    let mut run = Run::acted(two());
    assert_eq!(run.resolve("z", ResolvedOutcome::Committed), Err(Rejection::NoSuchBranch("z".to_owned())));
    assert_eq!(run.resolve("x", ResolvedOutcome::Committed), Err(Rejection::Undecided));
    let mut run = Run::committing(two());
    run.reply("a", Operation::Commit, 1, done()).expect("told");
    assert_eq!(run.resolve("x", ResolvedOutcome::RolledBack), Err(Rejection::BranchSettled("x".to_owned())));
    assert_eq!((run.resolve("y", ResolvedOutcome::Committed), run.forced), (Ok(false), true));
    assert_eq!((run.saga_state(), run.state.heuristic()), (SagaState::Completed, None), "as was decided");
    assert_eq!(run.resolve("y", ResolvedOutcome::Committed), Err(Rejection::BranchSettled("y".to_owned())));
}

#[test]
fn what_came_out_otherwise_is_mixed_and_what_nobody_knows_a_hazard() {
    for (outcome, heuristic) in [(ResolvedOutcome::RolledBack, Heuristic::Mixed), (ResolvedOutcome::Unknown, Heuristic::Hazard)] {
        let mut run = Run::committing(two());
        run.reply("a", Operation::Commit, 1, refused("BRANCH_UNKNOWN")).expect("told");
        run.resolve("x", outcome).expect("it disagrees");
        assert_eq!((run.branch_state("x"), run.saga_state()), (BranchState::Resolved(outcome), SagaState::Running));
        run.reply("c", Operation::Commit, 1, done()).expect("told");
        assert_eq!(
            (run.saga_state(), run.state.heuristic(), run.state.outcome()),
            (SagaState::Terminated, Some(heuristic), Outcome::Committed)
        );
    }
    let mut run = Run::acted(two());
    run.cancel().expect("undecided");
    run.reply("a", Operation::Rollback, 1, refused("BRANCH_COMMITTED")).expect("told");
    run.resolve("x", ResolvedOutcome::Committed).expect("it disagrees");
    run.resolve("y", ResolvedOutcome::Unknown).expect("nobody answers");
    assert_eq!((run.saga_state(), run.state.heuristic()), (SagaState::Terminated, Some(Heuristic::Mixed)), "the worst of both");
    assert_eq!(run.state.outcome(), Outcome::RolledBack, "the decision stays what it is");
}

#[test]
fn what_a_branch_says_against_the_operator_is_recorded_while_it_can_be() {
    let mut run = Run::committing(two());
    run.resolve("x", ResolvedOutcome::RolledBack).expect("decided");
    assert_eq!(run.reply("a", Operation::Commit, 1, done()), Ok(false));
    assert_eq!(run.branch("x").contradictions.len(), 1);
    assert_eq!(run.reply("a", Operation::Commit, 1, refused("BRANCH_ROLLED_BACK")), Ok(true));
}

#[test]
fn of_a_branch_that_has_the_decision_the_operator_says_what_it_did() {
    let cases = [
        (ResolvedOutcome::Committed, SagaState::Completed, Outcome::Committed, None),
        (ResolvedOutcome::RolledBack, SagaState::Failed, Outcome::RolledBack, None),
        (ResolvedOutcome::Unknown, SagaState::Terminated, Outcome::Undecided, Some(Heuristic::Hazard)),
    ];
    for (said, state, outcome, heuristic) in cases {
        let mut run = Run::acted(one());
        run.resolve("x", said).expect("it has the decision");
        assert_eq!((run.saga_state(), run.state.outcome(), run.state.heuristic()), (state, outcome, heuristic));
        assert_eq!(run.state.next_look_ms(run.now_ms), None);
    }
}
