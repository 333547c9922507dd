//! The one place that says which event may follow which.

use super::event::SagaEvent;
use super::place::Place;
use super::signals::ReceivedSignal;
use super::state::{InstanceState, Phase};
use super::step::{Attempt, Open, Progress, Settled, StepStatus};
use crate::definition::StepKind;
use crate::protocol::decision::IllegalEvent;
use sagamq_api::JsonText;
use sagamq_api::saga::{Failure, Operation, StepAttempt, StepFailure, StepState};

impl InstanceState {
    /// Applies the next event: the only way a state changes.
    ///
    /// # Errors
    /// When the event cannot follow those before it, or would lead to a state that cannot be. The state is of no use then.
    pub fn apply(&mut self, event: &SagaEvent, at_ms: u64) -> Result<(), IllegalEvent> {
        let applied = self.transition(event, at_ms).and_then(|touched| {
            self.count_items(touched);
            self.prune_locks();
            self.head.events += 1;
            self.head.updated_at_ms = at_ms;
            self.check_after(touched)
        });
        applied.map_err(|reason| IllegalEvent {
            sequence: self.head.events,
            event: format!("{event:?}").chars().take(120).collect(),
            reason,
        })
    }

    /// Gives the place that the event is about.
    fn transition(&mut self, event: &SagaEvent, at_ms: u64) -> Result<Option<Place>, String> {
        let place = match event {
            SagaEvent::StepCondition { attempt, holds } => self.on_condition(attempt, *holds)?,
            SagaEvent::StepFannedOut { attempt, items } => self.on_fanned_out(attempt, items)?,
            SagaEvent::StepCalled { attempt, deadline_ms, queue_deadline_ms, arguments } => {
                let open = Open {
                    called_at_ms: at_ms,
                    timeout_ms: deadline_ms.saturating_sub(at_ms),
                    deadline_ms: *deadline_ms,
                    queue_deadline_ms: *queue_deadline_ms,
                    // A sub-saga has the call with the commit.
                    is_handed_out: *deadline_ms == u64::MAX,
                    is_waiting: false,
                    asks: 1,
                };
                self.on_called(attempt, open, arguments.as_ref())?
            }
            SagaEvent::StepHandedOut { attempt, deadline_ms } => {
                let (place, open) = self.open_attempt(attempt)?;
                require(!open.is_handed_out, || "it is recorded once an attempt".to_owned())?;
                (open.deadline_ms, open.is_handed_out, open.is_waiting) = (*deadline_ms, true, false);
                place
            }
            SagaEvent::StepNotSent { attempt, failure } => {
                let (place, open) = self.open_attempt(attempt)?;
                open.is_waiting = true;
                // It was counted as handed out while a connection was being tried. A sub-saga is handed over with the decision.
                open.is_handed_out &= open.is_endless();
                open.asks = open.asks.saturating_sub(1);
                self.keep(attempt, failure, at_ms);
                place
            }
            SagaEvent::StepOngoing { attempt } => {
                let (place, open) = self.open_attempt(attempt)?;
                open.is_waiting = true;
                place
            }
            SagaEvent::StepAttemptFailed { attempt, failure, refused, retry_at_ms } => {
                let (place, progress) = self.live_progress(attempt)?;
                progress.attempt = Attempt::Waiting { retry_at_ms: *retry_at_ms };
                progress.settled = Some(if *refused { Settled::Refused } else { Settled::Unknown });
                self.keep(attempt, failure, at_ms);
                place
            }
            SagaEvent::StepAttemptsExceeded { attempt } => {
                let (place, _) = self.live_progress(attempt)?;
                let status = self.at_mut(place);
                require(!status.attempts_exceeded, || "it is recorded once a step".to_owned())?;
                status.attempts_exceeded = true;
                place
            }
            SagaEvent::StepSucceeded { attempt, output, note } => {
                require_operation(attempt, Operation::Action)?;
                let place = self.end_by_word(attempt, StepState::Succeeded, Settled::Succeeded)?;
                self.at_mut(place).output = Some(output.clone());
                if self.at(place).kind == StepKind::Pivot {
                    self.stop = None;
                }
                if let Some(note) = note {
                    self.keep(attempt, note, at_ms);
                }
                place
            }
            SagaEvent::StepAsleep { attempt, until_ms } => self.on_asleep(attempt, at_ms, *until_ms)?.into(),
            SagaEvent::StepWoke { attempt, signal } => self.on_woke(attempt, *signal)?.into(),
            SagaEvent::SignalReceived { signal, number, id, payload, .. } => {
                self.on_signal(*number, ReceivedSignal::new(signal.clone(), id.clone(), payload.clone(), at_ms))?;
                return Ok(None);
            }
            SagaEvent::LockAsked { attempt, key, until_ms } => self.on_lock_asked(attempt, key, *until_ms, at_ms)?.into(),
            SagaEvent::LockGranted { key, token } => {
                self.on_lock_granted(key, *token)?;
                return Ok(None);
            }
            SagaEvent::LockBroken { key, token, .. } => {
                self.on_lock_broken(key, *token)?;
                return Ok(None);
            }
            SagaEvent::StepFailed { attempt, failure } => self.on_failed(attempt, failure, at_ms)?,
            SagaEvent::StepUnknown { attempt, failure } => {
                require_operation(attempt, Operation::Action)?;
                let place = self.end_operation(attempt, StepState::Unknown, Settled::Unknown)?;
                self.close_fan(place);
                self.keep(attempt, failure, at_ms);
                place
            }
            SagaEvent::StepCompensated { attempt } => self.on_compensated(attempt)?,
            SagaEvent::StepCompensationFailed { attempt, failure } => self.on_compensation_failed(attempt, failure, at_ms)?,
            SagaEvent::SagaStarted { .. }
            | SagaEvent::SagaStopRequested { .. }
            | SagaEvent::SagaTimeoutPassed
            | SagaEvent::SagaUndoRequested { .. }
            | SagaEvent::SagaParentEnded
            | SagaEvent::SagaCompensating { .. }
            | SagaEvent::SagaCompleted { .. }
            | SagaEvent::SagaCompensated
            | SagaEvent::SagaFailed
            | SagaEvent::SagaUnblocked
            | SagaEvent::SagaBlocked { .. } => {
                self.saga_transition(event, at_ms)?;
                return Ok(None);
            }
            SagaEvent::SagaPaused { .. }
            | SagaEvent::SagaResumed { .. }
            | SagaEvent::SagaTerminated { .. }
            | SagaEvent::SagaInputEdited { .. }
            | SagaEvent::SagaHandedOver { .. }
            | SagaEvent::SagaRerun { .. }
            | SagaEvent::StepCopied { .. }
            | SagaEvent::StepRetried { .. }
            | SagaEvent::StepSkipped { .. }
            | SagaEvent::StepResolved { .. } => return self.operated(event, at_ms),
        };
        Ok(Some(place))
    }

    fn saga_transition(&mut self, event: &SagaEvent, at_ms: u64) -> Result<(), String> {
        match event {
            SagaEvent::SagaStarted { saga, version, key, generation, input, timeout_at_ms, parent, trace } => {
                self.require_phase(&[Phase::New])?;
                let head = &mut self.head;
                require(*saga == head.saga && *version == head.version, || format!("it is of {saga} version {version}"))?;
                head.key.clone_from(key);
                head.generation = *generation;
                head.input = input.clone();
                head.trace.clone_from(trace);
                head.started_at_ms = at_ms;
                self.phase = Phase::Running;
                self.timeout_at_ms = *timeout_at_ms;
                self.parent.clone_from(parent);
            }
            SagaEvent::SagaUndoRequested { attempt } => self.on_undo_requested(attempt)?,
            SagaEvent::SagaParentEnded => self.on_parent_ended()?,
            SagaEvent::SagaStopRequested { failure, actor: _ } => {
                self.require_phase(&[Phase::Running])?;
                require(self.stop.is_none() && !self.is_past_pivot(), || "it is stopped already, or past its pivot".to_owned())?;
                self.stop = Some(failure.clone());
                self.timeout_at_ms = None;
            }
            SagaEvent::SagaTimeoutPassed => {
                self.require_phase(&[Phase::Running])?;
                self.timeout_at_ms = None;
            }
            SagaEvent::SagaCompensating { failure, actor: _ } => {
                // What has completed is undone because its parent is.
                let is_undone_whole = self.phase == Phase::Completed && self.undo.is_some();
                require(self.phase == Phase::Running || is_undone_whole, || format!("the instance is {:?}", self.phase))?;
                require(!self.is_past_pivot() && !self.is_pivot_in_flight(), || "nothing is undone past the pivot".to_owned())?;
                self.phase = Phase::Compensating;
                self.close_fans(false);
                self.failure = Some(failure.clone());
                self.timeout_at_ms = None;
            }
            SagaEvent::SagaCompleted { output, failure } => {
                self.require_phase(&[Phase::Running])?;
                require(self.steps.iter().all(StepStatus::is_done), || "not every step is done".to_owned())?;
                self.phase = Phase::Completed;
                self.head.has_completed = true;
                self.output.clone_from(output);
                self.failure.clone_from(failure);
            }
            SagaEvent::SagaCompensated | SagaEvent::SagaFailed => {
                self.require_phase(&[Phase::Compensating])?;
                let is_left = |step: &StepStatus| {
                    step.live_operation().is_some() || step.needs_undoing() || step.state == StepState::CompensationFailed
                };
                let undone = !self.steps.iter().any(is_left);
                require(undone, || "not every effect is undone".to_owned())?;
                self.phase = if *event == SagaEvent::SagaFailed { Phase::Failed } else { Phase::Compensated };
            }
            SagaEvent::SagaUnblocked => {
                self.require_phase(&[Phase::Blocked])?;
                let (stuck, phase) = match self.is_past_pivot() {
                    true => (StepState::Failed, Phase::Running),
                    false => (StepState::CompensationFailed, Phase::Compensating),
                };
                require(self.steps.iter().any(|step| step.state == stuck), || "no step blocks it".to_owned())?;
                self.phase = phase;
                if phase == Phase::Running {
                    self.failure = None;
                }
            }
            SagaEvent::SagaBlocked { failure } => {
                self.require_phase(&[Phase::Running, Phase::Compensating])?;
                self.phase = Phase::Blocked;
                self.failure.get_or_insert_with(|| failure.clone());
            }
            _ => unreachable!("transition() sends the events of the saga here, and no other"),
        }
        Ok(())
    }

    fn on_condition(&mut self, attempt: &StepAttempt, holds: bool) -> Result<Place, String> {
        require_operation(attempt, Operation::Action)?;
        self.require_phase(&[Phase::Running])?;
        let place = self.find(attempt)?;
        let step = self.at_mut(place);
        // Of one that has its lock, or waits for it, it may not hold any more with another input.
        let is_open = step.condition.is_none() || (step.lock.is_some() && !holds);
        let is_asked_now = step.has_condition && is_open && step.state == StepState::Scheduled && attempt.epoch == 0;
        require(is_asked_now, || format!("the step is {:?}, has no condition, or was asked before", step.state))?;
        step.condition = Some(holds);
        if !holds {
            step.state = StepState::Skipped;
        }
        Ok(place)
    }

    fn on_called(&mut self, attempt: &StepAttempt, open: Open, arguments: Option<&JsonText>) -> Result<Place, String> {
        let place = self.find(attempt)?;
        let operation = attempt.operation;
        let is_action = operation == Operation::Action;
        if is_action {
            self.require_phase(&[Phase::Running])?;
        } else {
            self.require_undoing(place.step)?;
        }
        self.require_turn(place, operation)?;
        let step = &self.steps[place.step];
        let is_locked = step.has_lock == step.lock.as_ref().is_some_and(|lock| lock.token.is_some());
        let status = self.at_mut(place);
        let is_legal = if is_action {
            let is_due = matches!(status.state, StepState::Scheduled | StepState::InProgress);
            status.is_call && is_due && is_locked && status.has_condition == status.condition.is_some()
        } else {
            status.needs_undoing() || status.state == StepState::Compensating
        };
        require(is_legal, || format!("the step is {:?}", status.state))?;
        let progress = status.progress_mut(operation);
        let is_next = !progress.attempt.is_open() && attempt.epoch == progress.epoch + 1;
        require(is_next, || format!("attempt {} is the last", progress.epoch))?;
        let arguments = arguments.cloned().or_else(|| progress.arguments.take());
        require(arguments.is_some(), || "the arguments are missing".to_owned())?;
        *progress = Progress { epoch: attempt.epoch, attempt: Attempt::Open(open), settled: None, forgiven: progress.forgiven, arguments };
        status.state = if is_action { StepState::InProgress } else { StepState::Compensating };
        Ok(place)
    }

    /// A refusal ends an action; so does an expression without a value, before the step was ever called. A step that sleeps is ended so
    /// when nobody needs it any more.
    fn on_failed(&mut self, attempt: &StepAttempt, failure: &Failure, at_ms: u64) -> Result<Place, String> {
        require_operation(attempt, Operation::Action)?;
        let place = self.find(attempt)?;
        if self.at(place).action.attempt.is_asleep() {
            self.on_sleep_ended(place.step, attempt)?;
        } else if attempt.epoch == 0 {
            self.require_phase(&[Phase::Running])?;
            let status = self.at_mut(place);
            require(status.state == StepState::Scheduled, || "the step was called".to_owned())?;
            status.state = StepState::Failed;
        } else {
            self.end_by_word(attempt, StepState::Failed, Settled::Refused)?;
        }
        self.close_fan(place);
        self.keep(attempt, failure, at_ms);
        Ok(place)
    }

    fn on_compensation_failed(&mut self, attempt: &StepAttempt, failure: &Failure, at_ms: u64) -> Result<Place, String> {
        require_operation(attempt, Operation::Compensation)?;
        let place = self.find(attempt)?;
        if self.at(place).needs_undoing() {
            self.require_undoing(place.step)?;
            // Also one that was called before, and is to be called again.
            require(attempt.epoch == self.at(place).compensation.epoch, || "there was no such attempt".to_owned())?;
            self.at_mut(place).state = StepState::CompensationFailed;
        } else {
            self.end_operation(attempt, StepState::CompensationFailed, Settled::Unknown)?;
        }
        self.keep(attempt, failure, at_ms);
        Ok(place)
    }

    /// A compensation that was given up may turn out to have succeeded.
    fn on_compensated(&mut self, attempt: &StepAttempt) -> Result<Place, String> {
        require_operation(attempt, Operation::Compensation)?;
        let place = self.find(attempt)?;
        let status = self.at(place);
        if !status.is_undoing_given_up() {
            return self.end_by_word(attempt, StepState::Compensated, Settled::Succeeded);
        }
        let is_known = (1..=status.compensation.epoch).contains(&attempt.epoch);
        require(is_known, || "there was no such attempt".to_owned())?;
        self.require_undoing(place.step)?;
        let status = self.at_mut(place);
        status.state = StepState::Compensated;
        status.compensation.settled = Some(Settled::Succeeded);
        status.is_undoing_left_out = false;
        Ok(place)
    }

    /// A participant's last word, on the current attempt or an older one: all of them have one key, so what is said of one holds for all.
    fn end_by_word(&mut self, attempt: &StepAttempt, state: StepState, settled: Settled) -> Result<Place, String> {
        let place = self.find(attempt)?;
        let current = self.at(place).progress(attempt.operation).epoch;
        require((1..=current).contains(&attempt.epoch), || format!("attempt {current} is the current one"))?;
        self.end_operation(&StepAttempt { epoch: current, ..attempt.clone() }, state, settled)
    }

    pub(super) fn end_operation(&mut self, attempt: &StepAttempt, state: StepState, settled: Settled) -> Result<Place, String> {
        let (place, progress) = self.live_progress(attempt)?;
        progress.attempt = Attempt::None;
        progress.arguments = None;
        progress.settled = Some(settled);
        self.at_mut(place).state = state;
        Ok(place)
    }

    /// The progress of an operation that is called or waits, at its current attempt.
    pub(super) fn live_progress(&mut self, attempt: &StepAttempt) -> Result<(Place, &mut Progress), String> {
        self.require_phase(&[Phase::Running, Phase::Compensating])?;
        let place = self.find(attempt)?;
        let status = self.at_mut(place);
        require(status.live_operation() == Some(attempt.operation), || format!("the step is {:?}", status.state))?;
        let progress = status.progress_mut(attempt.operation);
        require(progress.epoch == attempt.epoch, || format!("attempt {} is the current one", progress.epoch))?;
        Ok((place, progress))
    }

    pub(super) fn open_attempt(&mut self, attempt: &StepAttempt) -> Result<(Place, &mut Open), String> {
        let (place, progress) = self.live_progress(attempt)?;
        match &mut progress.attempt {
            Attempt::Open(open) => Ok((place, open)),
            Attempt::None | Attempt::Waiting { .. } | Attempt::Asleep(_) => Err("the attempt is over".to_owned()),
        }
    }

    pub(super) fn keep(&mut self, attempt: &StepAttempt, failure: &Failure, at_ms: u64) {
        self.failures.push(StepFailure { attempt: attempt.clone(), failure: failure.clone(), at_ms });
    }

    pub(super) fn find(&self, attempt: &StepAttempt) -> Result<Place, String> {
        self.place_of(attempt).ok_or_else(|| "there is no such step, or it has no such item or operation".to_owned())
    }

    /// The effect of the step can be undone: all effects are, or it is optional, and undone alone.
    pub(super) fn require_undoing(&self, index: usize) -> Result<(), String> {
        if self.steps[index].is_optional {
            self.require_phase(&[Phase::Running, Phase::Compensating])
        } else {
            self.require_phase(&[Phase::Compensating])
        }
    }

    pub(super) fn require_phase(&self, legal: &[Phase]) -> Result<(), String> {
        require(legal.contains(&self.phase), || format!("the instance is {:?}", self.phase))
    }
}

pub(super) fn require_operation(attempt: &StepAttempt, operation: Operation) -> Result<(), String> {
    require(attempt.operation == operation, || format!("it is of the {}", attempt.operation))
}

pub(super) fn require(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}
