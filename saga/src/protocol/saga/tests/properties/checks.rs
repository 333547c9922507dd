//! What must hold of a run at every moment, and at its end: the books fit the outcome that the saga claims.

use super::books::Books;
use super::graph::dependents;
use super::world::World;
use crate::protocol::CallCommand;
use crate::protocol::saga::{InstanceState, Phase, Place, SagaEvent};
use sagamq_api::saga::{AttemptId, Operation, StepState};
use sagamq_api::{JsonText, SignalName, StepId};
use std::collections::BTreeSet;

impl World {
    /// What must hold whenever a participant is called.
    pub(super) fn check_call(&self, command: &CallCommand) {
        let state = &self.run.state;
        let place = state.place_of(&command.call.attempt.clone().within()).expect("a step of the definition, or an item of it");
        let index = place.step;
        match command.call.attempt.operation {
            Operation::Action => {
                let after = &self.run.definition.steps[index].after;
                assert!(after.iter().all(|&before| state.steps[before].is_done()), "a step starts after its own");
                assert_ne!(state.steps[index].condition, Some(false), "what is left out is not called");
                if let Some(fan) = &state.steps[index].fan {
                    let most = state.steps[index].max_parallel.expect("it fans out") as usize;
                    assert!(fan.in_state(StepState::InProgress) <= most, "{} items at a time", most);
                    let before = fan.iter().take(place.item_index().expect("an item"));
                    assert!(before.into_iter().all(|item| item.state != StepState::Scheduled), "items are begun in their order");
                }
            }
            Operation::Compensation => {
                assert!(!state.is_past_pivot(), "nothing is undone past the pivot");
                let done_with = self.done_with(&command.call.attempt);
                assert!(done_with.is_none_or(|done_with| done_with == command.call.arguments), "undone with what it was done with");
                if let Some(fan) = state.steps[index].fan.as_ref() {
                    assert_eq!(fan.in_state(StepState::Compensating), 1, "items are undone one by one");
                    assert_eq!(fan.in_state(StepState::InProgress), 0, "those in flight are waited for");
                    // An operator may find out later that there is something to undo.
                    let mut behind = fan.iter().skip(place.item_index().expect("an item") + 1);
                    assert!(self.meddling > 0.0 || behind.all(|item| !item.needs_undoing()), "the last one first");
                }
                for dependent in dependents(&self.run.definition, index) {
                    let status = &state.steps[dependent];
                    let is_given_up = status.state == StepState::CompensationFailed && !status.is_undoing_left_out;
                    let is_clear = !status.needs_undoing() && status.live_operation().is_none() && !is_given_up;
                    assert!(is_clear, "{} is undone before {}, which depends on it", command.call.attempt, status.id);
                }
            }
            other => unreachable!("no saga calls {other}"),
        }
    }

    /// What the action was called with whose compensation this is.
    fn done_with(&self, undo: &AttemptId) -> Option<JsonText> {
        let runs = self.past.iter().map(|(run, _)| run).chain([&self.run]);
        let of = runs.into_iter().find(|run| run.state.head.id == undo.instance)?;
        of.history.iter().find_map(|recorded| match &recorded.event {
            SagaEvent::StepCalled { attempt, arguments, .. } => {
                let is_it = attempt.step == undo.step && attempt.item == undo.item && attempt.operation == Operation::Action;
                arguments.clone().filter(|_| is_it)
            }
            _ => None,
        })
    }

    /// Nobody wakes before the time, and each signal is taken by one step that waits for it.
    pub(super) fn check_sleeps(&self) {
        let mut until: Vec<(&StepId, Option<u64>)> = Vec::new();
        let (mut sent, mut taken) = (Vec::<(&SignalName, &JsonText)>::new(), BTreeSet::new());
        for recorded in &self.run.history {
            match &recorded.event {
                SagaEvent::StepAsleep { attempt, until_ms } => until.push((&attempt.step, *until_ms)),
                SagaEvent::StepWoke { attempt, signal: None } => {
                    let slept = until.iter().rev().find(|(step, _)| **step == attempt.step).expect("it slept");
                    assert!(slept.1.is_some_and(|until_ms| until_ms <= recorded.at_ms), "{} woke before its time", attempt.step);
                }
                SagaEvent::StepWoke { attempt, signal: Some(number) } => {
                    assert!(taken.insert(*number), "signal {number} is taken once");
                    let (name, payload) = sent[usize::try_from(*number).expect("an index")];
                    let index = self.run.state.step_index(&attempt.step).expect("a step");
                    assert_eq!(self.run.definition.steps[index].action.signal(), Some(name));
                    assert_eq!(self.run.state.steps[index].output.as_ref(), Some(payload));
                }
                SagaEvent::SignalReceived { signal, payload, .. } => sent.push((signal, payload)),
                _ => {}
            }
        }
    }

    pub(super) fn check_books(&self) {
        check_books(&self.run.state, &self.books);
        // What was handed over is in the books of the last one, and no other says that it stands.
        for (run, books) in &self.past {
            check_books(&run.state, books);
            assert!(run.state.steps.iter().all(|step| !step.is_handed_over || step.stands().is_none()));
        }
    }
}

fn check_books(state: &InstanceState, books: &[Vec<Books>]) {
    let standing = state.standing();
    for place in state.places() {
        let (step, status) = (&state.steps[place.step], state.at(place));
        let books = &books[place.step][place.item_index().unwrap_or(0)];
        let in_effect = books.is_in_effect();
        match state.phase {
            Phase::Completed => {
                let is_elsewhere = status.state == StepState::Skipped || step.is_handed_over || !step.is_call;
                assert!(in_effect || is_elsewhere || step.is_optional, "{} is in effect in a completed saga", step.id);
                assert!(!(in_effect && step.is_passed_over()), "{} is gone on without, and in effect", step.id);
                let may_stay = status.state != StepState::Unknown || !step.has_compensation;
                assert!(may_stay, "{} is in doubt, and could be undone", step.id);
                let is_part = matches!(step.state, StepState::Failed | StepState::Unknown | StepState::Compensated);
                assert!(!(in_effect && is_part && step.has_compensation), "{} is done in part: {state:?}", step.id);
            }
            Phase::Compensated => assert!(!in_effect || !step.has_compensation, "{} is undone: {state:?}", step.id),
            Phase::Failed => assert!(!(books.applied && step.has_compensation), "{} had no effect: {state:?}", step.id),
            Phase::Blocked => {
                assert!(!state.is_past_pivot() || is_without_value(state), "only compensations and conditions get stuck here")
            }
            Phase::Terminated => {}
            Phase::New | Phase::Running | Phase::Compensating => unreachable!("it is at rest"),
        }
        let stands = standing.iter().find(|effect| effect.step == step.id && effect.item == place.item);
        assert!(!in_effect || stands.is_some(), "{} is in effect, and that is told: {state:?}", step.id);
        let is_certain = stands.is_some_and(|effect| !effect.in_doubt);
        assert!(in_effect || !is_certain, "{} is not in effect, and the contrary is told: {state:?}", step.id);
        let may_be_left = matches!(state.phase, Phase::Blocked | Phase::Terminated);
        assert!(state.phase == Phase::Completed || may_be_left || !(in_effect && step.has_compensation), "{} leaks", step.id);
    }
    let is_stuck = state.steps.iter().any(|step| step.state == StepState::CompensationFailed && !step.is_undoing_left_out);
    let is_told = is_stuck == (state.phase == Phase::Blocked) || (state.is_past_pivot() && is_without_value(state));
    assert!(state.phase == Phase::Terminated || is_told, "blocked says that a compensation failed");
    let is_left_out = state.steps.iter().any(|step| step.is_undoing_left_out);
    let is_optional = state.steps.iter().all(|step| !step.is_undoing_left_out || step.is_optional);
    let may_be_left_out = may_leave_out(state.phase) || (state.phase == Phase::Completed && is_optional);
    assert!(!is_left_out || may_be_left_out, "what was left out is not called undone");
}

/// Whether a step behind the pivot could not be called: one that an operator had left out, whose condition a rerun asks.
fn is_without_value(state: &InstanceState) -> bool {
    let has_no_value = |place: Place| {
        let status = state.at(place);
        status.state == StepState::Failed && status.action.epoch == 0 && !state.steps[place.step].is_optional
    };
    state.places().any(has_no_value)
}

/// Whether a saga that came to rest so may have effects of which somebody said that they stay.
fn may_leave_out(phase: Phase) -> bool {
    matches!(phase, Phase::Blocked | Phase::Terminated)
}
