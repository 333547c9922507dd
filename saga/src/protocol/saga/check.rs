//! What holds in every state that an event can lead to. Looked at after each event: the step that it is about; all of it in the tests of
//! properties. The protocol's own events never break it; a stored history that does is damaged.

use super::place::Place;
use super::state::{InstanceState, Phase};
use super::step::{Attempt, Progress, Settled, StepStatus};
use sagamq_api::saga::{Operation, StepState};

impl InstanceState {
    /// The part that costs next to nothing.
    pub(super) fn check_after(&self, touched: Option<Place>) -> Result<(), String> {
        match touched {
            Some(place) => {
                check_step(self.at(place))?;
                if place.item.is_some() { check_step(&self.steps[place.step]) } else { Ok(()) }
            }
            None => self.check_phase().and_then(|()| self.check_locks()),
        }
    }

    /// All of it.
    #[cfg(test)]
    pub(super) fn check(&self) -> Result<(), String> {
        self.steps.iter().try_for_each(check_step)?;
        for fan in self.steps.iter().filter_map(|step| step.fan.as_ref()) {
            fan.iter().try_for_each(check_step)?;
            assert!(fan.is_counted(), "{fan:?}");
        }
        self.check_locks()?;
        self.check_phase()
    }

    fn check_phase(&self) -> Result<(), String> {
        let has = |wanted: &[StepState]| self.steps.iter().any(|step| wanted.contains(&step.state));
        let is_live = || self.steps.iter().any(|step| step.live_operation().is_some());
        // An optional step is undone alone.
        let is_undone = || {
            let undone = [StepState::Compensating, StepState::Compensated, StepState::CompensationFailed];
            self.steps.iter().any(|step| !step.is_optional && undone.contains(&step.state))
        };
        let holds = match self.phase {
            Phase::New => self.head.events == 0,
            Phase::Running => !is_undone() && self.failure.is_none(),
            Phase::Compensating => self.failure.is_some() && self.timeout_at_ms.is_none() && !self.is_past_pivot(),
            Phase::Completed => !self.is_paused() && self.steps.iter().all(StepStatus::is_done),
            Phase::Compensated | Phase::Failed => {
                self.failure.is_some() && !self.is_paused() && !is_live() && !has(&[StepState::CompensationFailed]) && !self.is_past_pivot()
            }
            Phase::Terminated => self.failure.is_some() && !is_live() && !self.is_paused(),
            Phase::Blocked => self.failure.is_some() && !is_live() && (!self.is_past_pivot() || !is_undone()),
        };
        if holds { Ok(()) } else { Err(format!("an instance that is {:?} cannot have such steps or no reason", self.phase)) }
    }
}

fn check_step(step: &StepStatus) -> Result<(), String> {
    let is_idle = |progress: &Progress| progress.attempt == Attempt::None && progress.arguments.is_none();
    let is_live = |progress: &Progress| {
        let settled_fits = match progress.attempt {
            Attempt::None | Attempt::Asleep(_) => false,
            Attempt::Open(_) => progress.settled.is_none(),
            Attempt::Waiting { .. } => matches!(progress.settled, Some(Settled::Refused | Settled::Unknown)),
        };
        settled_fits && progress.epoch > 0 && progress.arguments.is_some()
    };
    let is_asleep = |progress: &Progress| {
        progress.attempt.is_asleep() && progress.epoch == 0 && progress.settled.is_none() && progress.arguments.is_none()
    };
    let (action, undo) = (&step.action, &step.compensation);
    if let Some(fan) = &step.fan {
        let has_own = *action != Progress::default() || *undo != Progress::default();
        // What a rerun took over as a whole was asked there.
        let is_asked = step.has_condition == (step.condition == Some(true));
        let is_condition_met = is_asked || (step.origin.is_some() && step.condition.is_none());
        let is_right =
            !has_own && step.state == fan.state() && is_condition_met && (step.state != StepState::Succeeded || step.output.is_some());
        return if is_right { Ok(()) } else { Err(format!("step `{}` cannot be {:?} with such items", step.id, step.state)) };
    }
    let is_begun = if step.is_call { is_live(action) } else { is_asleep(action) };
    let is_untouched = |progress: &Progress| *progress == Progress::default();
    let is_undoing = step.has_compensation && is_idle(action);
    // Untouched, or given up and to be called again.
    let is_not_undoing = is_idle(undo) && undo.settled.is_none();
    let holds = match step.state {
        StepState::Scheduled => is_untouched(action) && is_untouched(undo) && step.output.is_none() && step.condition != Some(false),
        // By an operator, who lets it give null; or by its condition, and then it gives nothing.
        StepState::Skipped if step.is_left_out => is_idle(action) && is_not_undoing && step.output.is_some(),
        StepState::Skipped => {
            is_untouched(action) && is_untouched(undo) && step.output.is_none() && (step.condition == Some(false) || step.is_optional)
        }
        StepState::InProgress => {
            is_begun && is_untouched(undo) && step.output.is_none() && step.has_condition == (step.condition == Some(true))
        }
        StepState::Succeeded => is_idle(action) && action.settled == Some(Settled::Succeeded) && is_not_undoing && step.output.is_some(),
        StepState::Failed => is_idle(action) && is_not_undoing && step.output.is_none(),
        StepState::Unknown => {
            step.is_call && is_idle(action) && action.settled == Some(Settled::Unknown) && is_not_undoing && step.output.is_none()
        }
        StepState::Compensating => is_undoing && is_live(undo),
        StepState::Compensated => is_undoing && is_idle(undo) && undo.settled == Some(Settled::Succeeded),
        StepState::CompensationFailed => is_undoing && is_idle(undo),
    };
    if holds {
        return Ok(());
    }
    let live = step.live_operation().map_or_else(|| "nothing".to_owned(), |operation: Operation| operation.to_string());
    Err(format!("step `{}` cannot be {:?} with {live} in progress: {action:?}, {undo:?}", step.id, step.state))
}
