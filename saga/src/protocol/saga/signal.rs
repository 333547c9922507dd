//! Signals: what somebody outside tells an instance. One that a step waits for ends it, with the payload as the step's output; of several
//! steps the first in the order of the definition takes it. One that comes before is kept until a step waits for it, the oldest first.
//!
//! Only what a step can still take is taken: so there are never more signals than steps that wait, and no signal is lost in silence.

use super::event::SagaEvent;
use super::planner::Planner;
use super::signals::{Place, ReceivedSignal};
use super::state::{InstanceState, Phase};
use super::step::StepStatus;
use crate::protocol::decision::{Rejection, Signal};
use crate::protocol::same::says_the_same;
use sagamq_api::limits::{SAGA_SIGNALS_BYTES_MAX, SAGA_SIGNALS_MAX};
use sagamq_api::saga::{Operation, StepState};
use sagamq_api::{JsonText, SignalName};

impl InstanceState {
    pub(super) fn on_signal(&mut self, number: u64, signal: ReceivedSignal) -> Result<(), String> {
        if self.phase.is_final() || number != self.signals.count() {
            return Err(format!("the instance is {:?}, and has {} signals", self.phase, self.signals.count()));
        }
        self.signals.push(signal);
        Ok(())
    }

    fn payload<'a>(&'a self, signal: &'a ReceivedSignal) -> Option<&'a JsonText> {
        match &signal.place {
            Place::Kept(payload) => Some(payload),
            Place::Taken(step) => self.steps[*step].output.as_ref(),
        }
    }
}

impl Planner<'_> {
    /// Gives whether nothing is new about it.
    pub(super) fn signal(&mut self, signal: Signal) -> Result<bool, Rejection> {
        let Signal { name, id, payload, by } = signal;
        let state = &self.state;
        if let Some(id) = &id
            && let Some(known) = state.signals.iter().find(|signal| signal.id.as_ref() == Some(id))
        {
            let is_same = known.name == name && state.payload(known).is_some_and(|known| says_the_same(known, &payload));
            return if is_same { Ok(true) } else { Err(Rejection::SignalIdTaken(id.clone())) };
        }
        if let Some(handed) = &state.handed_over {
            return Err(Rejection::HandedOver(handed.to));
        }
        if state.phase.is_final() {
            return Err(Rejection::AlreadyFinal(state.saga_state()));
        }
        self.require_awaited(&name)?;
        self.require_room(&payload)?;
        let number = state.signals.count();
        self.emit(SagaEvent::SignalReceived { signal: name.clone(), number, id, payload, actor: by.actor, reason: by.reason });
        if let Some(index) = self.state.steps.iter().position(|step| step.signal.as_ref() == Some(&name) && step.action.attempt.is_asleep())
        {
            self.take_kept_signal(index);
        }
        Ok(false)
    }

    /// A step that has begun to wait takes the oldest signal that came before.
    pub(super) fn take_kept_signal(&mut self, index: usize) {
        let number = self.state.steps[index].signal.as_ref().and_then(|name| self.state.signals.first_kept(name));
        if let Some(number) = number {
            self.emit(SagaEvent::StepWoke { attempt: self.attempt(index.into(), Operation::Action), signal: Some(number) });
        }
    }

    /// Whether a step waits for it, or will, that has no other yet.
    fn require_awaited(&self, name: &SignalName) -> Result<(), Rejection> {
        let state = &self.state;
        let of_name = || state.steps.iter().enumerate().filter(|(_, step)| step.signal.as_ref() == Some(name));
        let Some((_, last)) = of_name().next_back() else {
            let mut known: Vec<SignalName> = state.steps.iter().filter_map(|step| step.signal.clone()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(Rejection::NoSuchSignal { name: name.clone(), known });
        };
        let not_awaited = |reason: String| Err(Rejection::NotAwaited { name: name.clone(), reason });
        let is_forward = state.phase == Phase::Running || state.is_past_pivot();
        if !is_forward {
            return not_awaited("the saga is being undone".to_owned());
        }
        let open = of_name().filter(|(_, step)| matches!(step.state, StepState::Scheduled | StepState::InProgress)).count();
        let kept = state.signals.kept_payloads().filter(|(signal, _)| signal.name == *name).count();
        if open > kept {
            return Ok(());
        }
        not_awaited(if open > 0 {
            format!("each step that waits for it has one that came before, `{}` the last", last.id)
        } else {
            self.why_not(last)
        })
    }

    /// Why a step does not wait any more.
    fn why_not(&self, step: &StepStatus) -> String {
        let index = self.state.step_index(&step.id);
        let has_signal = self.state.signals.iter().any(|signal| matches!(signal.place, Place::Taken(taken) if Some(taken) == index));
        let failed = || self.state.failures.iter().rev().find(|failed| failed.attempt.step == step.id);
        match step.state {
            StepState::Succeeded if has_signal => format!("`{}` has its signal", step.id),
            StepState::Succeeded => format!("the time for it was over at `{}`, and the saga went on", step.id),
            StepState::Skipped => format!("`{}` was left out", step.id),
            _ => format!("`{}` failed: {}", step.id, failed().map_or("it could not begin", |failed| failed.failure.code.as_str())),
        }
    }

    /// Whether one more may be kept.
    fn require_room(&self, payload: &JsonText) -> Result<(), Rejection> {
        let (count, bytes) =
            self.state.signals.kept_payloads().fold((0, 0), |(count, bytes), (_, payload)| (count + 1, bytes + payload.len()));
        if count < SAGA_SIGNALS_MAX && bytes + payload.len() <= SAGA_SIGNALS_BYTES_MAX {
            return Ok(());
        }
        Err(Rejection::SignalLimit { count, bytes })
    }
}
