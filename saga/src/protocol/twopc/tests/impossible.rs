//! States that cannot be are told, whichever part of them is wrong, and no event leads to one.

use super::fixture::*;
use crate::protocol::saga::SagaEvent;
use crate::protocol::twopc::{Attempt, BranchState, Phase, TransactionEvent, TransactionState, Vote};
use crate::protocol::{Event, Instance, Protocol, RecordedEvent};
use sagamq_api::JsonText;
use sagamq_api::saga::{Operation, StepState};

/// Makes a state impossible.
type Break = fn(&mut TransactionState);

/// What is wrong, and how it becomes so in a transaction that asks for votes.
const BROKEN: [(&str, Break); 13] = [
    ("an output without a success", |state| state.actions[0].state = StepState::Unknown),
    ("a compensated action", |state| state.actions[0].state = StepState::Compensated),
    ("scheduled and called", |state| state.actions[0].state = StepState::Scheduled),
    ("called without arguments", |state| (state.actions[0].state, state.actions[0].output) = (StepState::InProgress, None)),
    ("unopened and called", |state| state.branches[0].state = BranchState::Unopened),
    ("called at no time", |state| state.branches[0].called_at_ms = None),
    ("asked for its vote for the zeroth time", |state| state.branches[0].vote.epoch = 0),
    ("prepared and asked for its vote", |state| state.branches[0].state = BranchState::Prepared),
    ("told its end before the decision", |state| state.branches[0].told = Some(Operation::Commit)),
    ("committed before the decision", |state| {
        (state.branches[0].state, state.branches[0].vote.attempt) = (BranchState::Committed, Attempt::None);
    }),
    ("a reason to roll back before the decision", |state| state.failure = Some(failure("NO"))),
    ("rolled back without a reason", |state| state.phase = Phase::Aborting),
    ("committed with a branch that waits", |state| state.phase = Phase::Committed),
];

#[test]
fn each_impossible_state_is_told() {
    let run = Run::acted(two());
    run.state.check().expect("what was decided can be");
    for (what, spoil) in BROKEN {
        let mut state = run.state.clone();
        spoil(&mut state);
        assert!(state.check().is_err(), "{what}");
    }
}

#[test]
fn a_decision_never_changes_and_no_branch_commits_without_it() {
    let attempt = |operation, epoch| sagamq_api::saga::StepAttempt { step: "a".parse().expect("legal"), item: None, operation, epoch };
    let commit = || TransactionEvent::BranchCalled { attempt: attempt(Operation::Commit, 1), deadline_ms: 9, detour: false };
    let abort = || TransactionEvent::AbortDecided { failure: failure("NO"), actor: None };
    let rollback = || TransactionEvent::BranchCalled { attempt: attempt(Operation::Rollback, 1), deadline_ms: 9, detour: false };
    let undecided = Run::acted(two()).state;
    let committing = Run::committing(two()).state;
    let mut aborting = Run::acted(two());
    aborting.cancel().expect("undecided");
    let prepared_both = |state: &TransactionState| {
        let mut state = state.clone();
        for step in ["a", "c"] {
            let attempt = sagamq_api::saga::StepAttempt { step: step.parse().expect("legal"), ..attempt(Operation::Prepare, 1) };
            state.apply(&TransactionEvent::BranchVoted { attempt, vote: Vote::Yes, held_ms: None }, 5).expect("it was asked");
        }
        state
    };
    prepared_both(&undecided).apply(&TransactionEvent::CommitDecided, 5).expect("all voted for it");
    let illegal = [
        ("a commit without votes", &undecided, TransactionEvent::CommitDecided),
        ("a branch that is told before the decision", &prepared_both(&undecided), commit()),
        ("a rollback after the commit", &committing, abort()),
        ("a rollback of a branch after the commit", &committing, rollback()),
        ("a commit after the rollback", &aborting.state, TransactionEvent::CommitDecided),
        ("a commit of a branch after the rollback", &aborting.state, commit()),
        ("two decisions", &committing, TransactionEvent::CommitDecided),
        ("an end with a branch that waits", &committing, TransactionEvent::TransactionCommitted { output: None, failure: None }),
        ("a rollback that is done with a branch that waits", &aborting.state, TransactionEvent::TransactionAborted),
        ("a doubt that is none", &committing, TransactionEvent::TransactionUnknown),
        (
            "a vote after the decision",
            &aborting.state,
            TransactionEvent::BranchVoted { attempt: attempt(Operation::Prepare, 1), vote: Vote::Yes, held_ms: None },
        ),
        (
            "an action twice",
            &undecided,
            TransactionEvent::ActionCalled { attempt: attempt(Operation::Action, 1), deadline_ms: 9, arguments: JsonText::null() },
        ),
    ];
    for (what, state, event) in illegal {
        let error = state.clone().apply(&event, 5).expect_err(what);
        assert_eq!(error.sequence, state.head.events, "{what}");
    }
}

#[test]
fn an_event_of_another_protocol_is_damage() {
    let mut instance = Instance::new(Protocol::TwoPc, uuid::Uuid::from_u128(1), &two());
    let event = RecordedEvent { at_ms: 1, event: Event::Saga(SagaEvent::SagaCompensated) };
    assert!(instance.apply(&event).is_err_and(|error| error.reason.contains("another protocol")));
}
