//! Steps that call nobody: they sleep, and time ends them, or they wait for a signal (`signal.rs`). They have no attempts and no effect,
//! so there is nothing to settle and nothing to undo.

use super::apply::{require, require_operation};
use super::event::SagaEvent;
use super::place::Place;
use super::planner::Planner;
use super::state::{InstanceState, Phase};
use super::step::{Asleep, Attempt, Settled};
use crate::definition::{Action, OnTimeout, Sleep, WaitFor};
use crate::duration::{self, LONGEST};
use crate::expression::{Scope, Template};
use crate::protocol::codes;
use crate::protocol::head::render_failure;
use crate::protocol::pause::millis;
use jiff::Timestamp;
use sagamq_api::JsonText;
use sagamq_api::saga::{Failure, Operation, StepAttempt, StepState};

impl Planner<'_> {
    /// Begins what a step does whose turn it is. On an error nothing is decided.
    pub(super) fn begin_action(&mut self, index: usize) -> Result<(), Failure> {
        let definition = self.definition;
        let until_ms = match &definition.steps[index].action {
            Action::Call(_) if definition.steps[index].for_each.is_some() => return self.fan_out(index),
            Action::Call(_) => return self.start_attempt(index.into(), Operation::Action),
            Action::Sleep(Sleep::For(duration)) => Some(self.after(*duration)),
            Action::Sleep(Sleep::Given(value)) => Some(self.wake_time(index, value, duration_of)?),
            Action::Sleep(Sleep::Until(value)) => Some(self.wake_time(index, value, time_of)?),
            Action::WaitFor(wait) => wait.timeout.map(|timeout| self.after(timeout)),
        };
        self.emit(SagaEvent::StepAsleep { attempt: self.attempt(index.into(), Operation::Action), until_ms });
        self.take_kept_signal(index);
        Ok(())
    }

    /// When a step wakes of which an expression says it. A time that is over already wakes it at once.
    fn wake_time(&self, index: usize, value: &Template, read: fn(&JsonText, u64) -> Result<u64, String>) -> Result<u64, Failure> {
        let (state, what) = (&self.state, format!("`sleep` of `{}`", self.definition.steps[index].id));
        let id = state.head.id.to_string();
        let scope = Scope { input: &state.head.input, outputs: state, failure: None, saga: Some(state.head.scope(&id)), item: None };
        let value = value.render(&scope).map_err(|error| render_failure(&what, &error))?;
        let wrong = |reason| Failure { code: codes::EXPRESSION_FAILED.to_owned(), message: format!("{what}: {reason}") };
        let until_ms = read(&value, self.now_ms).map_err(wrong)?;
        if until_ms > self.after(LONGEST) {
            return Err(wrong(format!("{} is more than 365 days ahead", shown(&value))));
        }
        Ok(until_ms.max(self.now_ms))
    }

    /// Ends the sleep of every step whose time is over.
    pub(super) fn wake_due(&mut self) {
        for index in 0..self.state.steps.len() {
            if let Attempt::Asleep(asleep) = self.state.steps[index].action.attempt
                && asleep.until_ms.is_some_and(|at_ms| at_ms <= self.now_ms)
            {
                self.time_is_over(index);
            }
        }
    }

    fn time_is_over(&mut self, index: usize) {
        let attempt = self.attempt(index.into(), Operation::Action);
        match &self.definition.steps[index].action {
            Action::WaitFor(WaitFor { signal, on_timeout: OnTimeout::Fail, .. }) if !self.state.is_forward_only(index) => {
                let message = format!("the signal `{signal}` had not come when the time for it was over");
                let failure = Failure { code: codes::SIGNAL_TIMEOUT.to_owned(), message };
                self.emit(SagaEvent::StepFailed { attempt, failure: failure.clone() });
                self.fail(failure);
            }
            Action::Call(_) | Action::Sleep(_) | Action::WaitFor(_) => self.emit(SagaEvent::StepWoke { attempt, signal: None }),
        }
    }

    /// The saga is undone: nobody needs to sleep any more.
    pub(super) fn end_sleeps(&mut self) {
        for index in 0..self.state.steps.len() {
            if self.state.steps[index].action.attempt.is_asleep() {
                self.end_sleep(index, "the saga is undone");
            }
        }
    }

    /// A step need not sleep any more.
    pub(super) fn end_sleep(&mut self, index: usize, why: &str) {
        let failure =
            Failure { code: codes::SLEEP_ENDED.to_owned(), message: format!("the step slept or waited when it was ended: {why}") };
        self.emit(SagaEvent::StepFailed { attempt: self.attempt(index.into(), Operation::Action), failure });
    }
}

impl InstanceState {
    pub(super) fn on_asleep(&mut self, attempt: &StepAttempt, since_ms: u64, until_ms: Option<u64>) -> Result<usize, String> {
        require_operation(attempt, Operation::Action)?;
        self.require_phase(&[Phase::Running])?;
        let index = self.find_last(attempt)?.step;
        let step = &mut self.steps[index];
        let is_possible = !step.is_call && step.state == StepState::Scheduled && step.has_condition == step.condition.is_some();
        require(step.signal.is_some() || until_ms.is_some(), || "a sleep has an end".to_owned())?;
        require(is_possible, || format!("the step is {:?}, or calls a participant", step.state))?;
        step.action.attempt = Attempt::Asleep(Asleep { since_ms, until_ms });
        step.state = StepState::InProgress;
        Ok(index)
    }

    pub(super) fn on_woke(&mut self, attempt: &StepAttempt, signal: Option<u64>) -> Result<usize, String> {
        self.require_phase(&[Phase::Running])?;
        let output = match signal {
            Some(number) => {
                let index = self.find(attempt)?.step;
                let wanted = self.steps[index].signal.clone();
                self.signals.take(number, wanted.as_ref(), index)?
            }
            None => JsonText::null(),
        };
        let (Place { step: index, .. }, progress) = self.live_progress(attempt)?;
        require(progress.attempt.is_asleep(), || "the step does not sleep".to_owned())?;
        (progress.attempt, progress.settled) = (Attempt::None, Some(Settled::Succeeded));
        (self.steps[index].state, self.steps[index].output) = (StepState::Succeeded, Some(output));
        Ok(index)
    }

    /// The step at the index slept, and is given up.
    pub(super) fn on_sleep_ended(&mut self, index: usize, attempt: &StepAttempt) -> Result<(), String> {
        let (_, progress) = self.live_progress(attempt)?;
        progress.attempt = Attempt::None;
        self.steps[index].state = StepState::Failed;
        Ok(())
    }
}

/// When a duration from now is over, of a value.
fn duration_of(value: &JsonText, now_ms: u64) -> Result<u64, String> {
    let text: String = value.read().map_err(|_| format!("{} is no duration: that is text such as `\"15m\"`", shown(value)))?;
    let duration = duration::parse(&text).map_err(|error| format!("`{text}` {error}"))?;
    Ok(now_ms.saturating_add(millis(duration)))
}

/// The time of a value.
fn time_of(value: &JsonText, _now_ms: u64) -> Result<u64, String> {
    if let Ok(since_1970_ms) = value.as_str().parse() {
        return Ok(since_1970_ms);
    }
    let text: Option<String> = value.read().ok();
    let time = text.and_then(|text| text.parse::<Timestamp>().ok());
    let wrong = || format!("{} is no time: that is text as RFC 3339 writes it, or whole milliseconds since 1970", shown(value));
    // What was before 1970 is over.
    time.map(|time| u64::try_from(time.as_millisecond()).unwrap_or(0)).ok_or_else(wrong)
}

/// A value, short enough for a message.
fn shown(value: &JsonText) -> String {
    value.as_str().chars().take(80).collect()
}
