//! States that cannot be are told, whichever part of them is wrong, and no event leads to one.

use super::fixture::*;
use crate::protocol::saga::{Asleep, Attempt, InstanceState, Phase, SagaEvent, Settled};
use sagamq_api::JsonText;
use sagamq_api::saga::{Operation, StepState};

/// Makes a state impossible.
type Break = fn(&mut InstanceState);

/// What is wrong, and how it becomes so in an instance whose first of three steps is called.
const BROKEN: [(&str, Break); 13] = [
    ("an output without a success", |state| state.steps[0].output = Some(JsonText::null())),
    ("called without an attempt", |state| state.steps[0].action.attempt = Attempt::None),
    ("called without arguments", |state| state.steps[0].action.arguments = None),
    ("called for the zeroth time", |state| state.steps[0].action.epoch = 0),
    ("scheduled and called", |state| state.steps[0].state = StepState::Scheduled),
    ("succeeded and called", |state| state.steps[0].state = StepState::Succeeded),
    ("an attempt in progress that ended", |state| state.steps[0].action.settled = Some(Settled::Succeeded)),
    ("compensated without a compensation", |state| state.steps[1].state = StepState::Compensated),
    ("forward with a reason to go back", |state| state.failure = Some(failure("NO"))),
    ("complete with a call in progress", |state| state.phase = Phase::Completed),
    ("undone without a reason", |state| state.phase = Phase::Compensating),
    ("asleep in a call", |state| state.steps[0].action.attempt = Attempt::Asleep(Asleep { since_ms: 1, until_ms: Some(2) })),
    ("called where nobody is called", |state| state.steps[0].is_call = false),
];

#[test]
fn each_impossible_state_is_told() {
    let run = Run::start(chain(Some(1)));
    run.state.check().expect("what was decided can be");
    for (what, spoil) in BROKEN {
        let mut state = run.state.clone();
        spoil(&mut state);
        assert!(state.check().is_err(), "{what}");
    }
}

#[test]
fn an_event_that_leads_to_an_impossible_state_is_refused() {
    let mut run = Run::start(chain(None));
    // Damaged memory: the step has an output although it is only called.
    run.state.steps[0].output = Some(JsonText::null());
    let ongoing = SagaEvent::StepOngoing { attempt: run.attempt("a", Operation::Action, 1).within() };
    let error = run.state.apply(&ongoing, 5).expect_err("it is looked at after the event");
    assert!(error.to_string().contains("cannot be InProgress"), "{error}");
}
