//! The state of a saga: the fold of its events.

use super::claims::Claims;
use super::fan::Fan;
use super::place::Place;
use super::signals::Signals;
use super::step::{Attempt, Origin, StepStatus};
use crate::definition::{Definition, StepKind};
use crate::expression::Outputs;
use crate::protocol::codes;
use crate::protocol::decision::Parent;
use crate::protocol::failures::Failures;
use crate::protocol::head::Head;
use sagamq_api::saga::{AttemptId, Failure, Operation, SagaState, StepAttempt, StepState};
use sagamq_api::{JsonText, StepId};
use uuid::Uuid;

/// Where an instance stands on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before its first event.
    New,
    /// Forward.
    Running,
    /// Backward.
    Compensating,
    /// Every step succeeded.
    Completed,
    /// Every effect is undone.
    Compensated,
    /// Given up, and there is nothing that a compensation would have to undo.
    Failed,
    /// Stuck until an operator looks at it.
    Blocked,
    /// Ended with effects that nobody undoes.
    Terminated,
}

impl Phase {
    /// Whether nothing of the protocol's own will ever change it.
    #[must_use]
    pub const fn is_at_rest(self) -> bool {
        self.is_final() || matches!(self, Self::Blocked)
    }

    /// Whether nothing will ever change it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated | Self::Failed | Self::Terminated)
    }
}

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceState {
    /// What every instance has.
    pub head: Head,
    /// Where it stands.
    pub phase: Phase,
    /// Its steps, in the order of the definition.
    pub steps: Vec<StepStatus>,
    /// Why it is to be compensated once its pivot is known not to have succeeded.
    pub stop: Option<Failure>,
    /// Why it is compensated or blocked, or why it returned no output.
    pub failure: Option<Failure>,
    /// What went wrong, oldest first, within bounds.
    pub failures: Failures,
    /// What it returned.
    pub output: Option<JsonText>,
    /// When its time is over, in milliseconds since 1970, if that can still change anything.
    pub timeout_at_ms: Option<u64>,
    /// Since when an operator has it paused, in milliseconds since 1970.
    pub paused_at_ms: Option<u64>,
    /// The instance that it is the rerun of.
    pub rerun_of: Option<Box<RerunOf>>,
    /// The rerun that it handed itself over to.
    pub handed_over: Option<Box<HandedOver>>,
    /// The signals that it has been sent.
    pub signals: Signals,
    /// The step of another instance whose sub-saga it is.
    pub parent: Option<Box<Parent>>,
    /// The call of the parent that wants it undone.
    pub undo: Option<Box<AttemptId>>,
    /// Whether the parent is at its end, and will not want it undone.
    pub has_parent_ended: bool,
    /// The locks that it holds or waits for.
    pub claims: Claims,
}

/// What a rerun goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerunOf {
    /// The instance.
    pub of: Uuid,
    /// The step that it goes on with.
    pub from: StepId,
    /// What it undoes that it took over was called with, where that is not its own input.
    pub inputs: Vec<JsonText>,
}

/// Who has what an instance left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// The rerun.
    pub to: Uuid,
    /// The step that it goes on with.
    pub from: StepId,
    /// The input that was given for it.
    pub input: Option<JsonText>,
}

impl InstanceState {
    /// An instance of the definition before its first event.
    #[must_use]
    pub fn new(id: Uuid, definition: &Definition) -> Self {
        Self {
            head: Head::new(id, definition),
            phase: Phase::New,
            steps: definition.steps.iter().map(StepStatus::new).collect(),
            stop: None,
            failure: None,
            failures: Failures::default(),
            output: None,
            timeout_at_ms: None,
            paused_at_ms: None,
            rerun_of: None,
            handed_over: None,
            signals: Signals::default(),
            parent: None,
            undo: None,
            has_parent_ended: false,
            claims: Claims::default(),
        }
    }

    /// The state as the interface names it.
    #[must_use]
    pub fn saga_state(&self) -> SagaState {
        match self.phase {
            _ if self.is_paused() => SagaState::Paused,
            Phase::New => SagaState::Pending,
            Phase::Running if self.is_waiting() => SagaState::Waiting,
            Phase::Running => SagaState::Running,
            Phase::Compensating => SagaState::Compensating,
            Phase::Completed => SagaState::Completed,
            Phase::Compensated => SagaState::Compensated,
            Phase::Failed => SagaState::Failed,
            Phase::Blocked => SagaState::Blocked,
            Phase::Terminated => SagaState::Terminated,
        }
    }

    /// Whether nobody is called until it is resumed.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused_at_ms.is_some()
    }

    /// Whether every step whose turn has come sleeps, or waits for its lock, its retry or a participant that works on.
    fn is_waiting(&self) -> bool {
        let mut live = self.live().map(|(place, operation)| self.at(place).progress(operation).attempt).peekable();
        (live.peek().is_some() || self.awaits_lock())
            && live.all(|attempt| match attempt {
                Attempt::Waiting { .. } | Attempt::Asleep(_) => true,
                // A sub-saga takes as long as it takes.
                Attempt::Open(open) => open.is_waiting || open.is_endless(),
                Attempt::None => false,
            })
    }

    /// Whether a pivot succeeded: from then on the instance only goes forward.
    #[must_use]
    pub fn is_past_pivot(&self) -> bool {
        self.steps.iter().any(|step| step.kind == StepKind::Pivot && step.state == StepState::Succeeded)
    }

    /// Whether a pivot is called or waits for another attempt.
    #[must_use]
    pub fn is_pivot_in_flight(&self) -> bool {
        self.steps.iter().any(|step| step.kind == StepKind::Pivot && step.state == StepState::InProgress)
    }

    /// What the `failure` of expressions is for an operation of a step: for its compensation why the saga is undone, or, if the step is undone
    /// alone, what went wrong with itself; for its action there is none.
    pub(super) fn undone_for(&self, index: usize, operation: Operation) -> Option<Failure> {
        (operation == Operation::Compensation).then(|| self.failure.clone().unwrap_or_else(|| self.last_failure(index.into())))
    }

    /// What went wrong last with an action that has no known outcome; of a step that fans out with any of its items.
    pub(super) fn last_failure(&self, place: Place) -> Failure {
        let is_of_it = |attempt: &StepAttempt| {
            let is_item = place.item.is_none() || place.item == attempt.item;
            is_item && attempt.step == self.steps[place.step].id && attempt.operation == Operation::Action
        };
        let last = self.failures.iter().rev().find(|failed| is_of_it(&failed.attempt));
        last.map_or_else(
            || Failure { code: codes::TIMEOUT.to_owned(), message: "the last attempt had no known outcome".to_owned() },
            |failed| failed.failure.clone(),
        )
    }

    /// The index of a step.
    #[must_use]
    pub fn step_index(&self, id: &StepId) -> Option<usize> {
        self.steps.iter().position(|step| step.id == *id)
    }

    /// The index of the step that the attempt is of, itself or an item of it.
    #[must_use]
    pub fn index_of(&self, attempt: &StepAttempt) -> Option<usize> {
        self.place_of(attempt).map(|place| place.step)
    }

    /// Whether a step can only go forward: nothing undoes it, and nothing may be undone once it is tried, nor does the saga go on without it.
    #[must_use]
    pub fn is_forward_only(&self, index: usize) -> bool {
        let step = &self.steps[index];
        !step.is_optional && (step.kind == StepKind::Retriable || self.is_past_pivot())
    }

    /// The instance in whose name an operation of a step is called: what was taken over is undone in the name of the one that did it.
    pub(super) fn caller(&self, index: usize, operation: Operation) -> Uuid {
        self.origin(index, operation).map_or(self.head.id, |origin| origin.instance)
    }

    /// When that instance started, in milliseconds since 1970.
    pub(super) fn called_since_ms(&self, index: usize, operation: Operation) -> u64 {
        self.origin(index, operation).map_or(self.head.started_at_ms, |origin| origin.started_at_ms)
    }

    /// What an operation of a step works on: what was done with one input is not undone with another one, which an operator or a rerun gave.
    pub(super) fn input(&self, place: Place, operation: Operation) -> &JsonText {
        if operation == Operation::Compensation { self.done_with(place) } else { &self.head.input }
    }

    /// What was done here was done with.
    pub(super) fn done_with(&self, place: Place) -> &JsonText {
        self.at(place).done_with.as_ref().unwrap_or(&self.head.input)
    }

    /// Another input is about to come: what was done is undone, and told, with the one that it was done with.
    pub(super) fn keep_inputs(&mut self) {
        for place in self.places().collect::<Vec<_>>() {
            let step = self.at(place);
            // An item of what was taken over was called by nobody here, and ran all the same.
            let has_run = step.has_run() || self.steps[place.step].origin.is_some();
            let is_asked_for = step.has_compensation || self.steps[place.step].tells;
            if is_asked_for && step.done_with.is_none() && has_run {
                let input = self.done_with(place).clone();
                self.at_mut(place).done_with = Some(input);
            }
        }
    }

    fn origin(&self, index: usize, operation: Operation) -> Option<&Origin> {
        self.steps[index].origin.as_deref().filter(|_| operation == Operation::Compensation)
    }

    /// An attempt of a step of this instance, as those outside name it.
    pub(super) fn named(&self, attempt: &StepAttempt) -> AttemptId {
        let caller = self.step_index(&attempt.step).map_or(self.head.id, |index| self.caller(index, attempt.operation));
        attempt.clone().of(caller)
    }

    /// Whether those outside mean a call of this instance by that.
    pub(super) fn is_own(&self, attempt: &AttemptId) -> bool {
        let caller = self.step_index(&attempt.step).map_or(self.head.id, |index| self.caller(index, attempt.operation));
        attempt.instance == caller
    }

    /// The rerun that took the effect of this step over, if one did.
    #[must_use]
    pub fn handed_over(&self, step: &StepId) -> Option<Uuid> {
        let is_handed_over = self.steps.iter().any(|status| status.id == *step && status.is_handed_over);
        self.handed_over.as_ref().filter(|_| is_handed_over).map(|handed| handed.to)
    }

    /// The key under which the effect of this step would be undone, if it can be.
    pub(in crate::protocol) fn compensation_key(&self, step: &StepId) -> Option<String> {
        let status = self.steps.iter().find(|status| status.id == *step)?;
        let (operation, epoch) = (Operation::Compensation, 1);
        // Of items the one that is undone first.
        let item = status.fan.as_ref().and_then(|fan| fan.last_to_undo()).and_then(|item| Place::of_item(0, item).item);
        let attempt = StepAttempt { step: step.clone(), item, operation, epoch };
        (status.needs_undoing() && !self.is_past_pivot()).then(|| self.named(&attempt).call().to_string())
    }

    /// The steps whose effects it took over, each with the instance that called its action.
    pub fn adopted(&self) -> impl Iterator<Item = (Uuid, &StepId)> {
        self.steps.iter().filter_map(|step| step.origin.as_ref().map(|origin| (origin.instance, &step.id)))
    }

    /// Bytes of the payloads that expressions can see.
    pub(in crate::protocol) fn payload_bytes(&self) -> usize {
        // Of what was done with another input an expression sees one.
        let inputs = self.head.input.len()
            + self.places().filter_map(|place| self.at(place).done_with.as_ref()).map(JsonText::len).max().unwrap_or(0);
        let of_items = |fan: &Fan<StepStatus>| fan.output_bytes() + fan.values().iter().map(JsonText::len).sum::<usize>();
        let of_step =
            |step: &StepStatus| step.fan.as_ref().map_or_else(|| step.output.as_ref().map_or(0, JsonText::len), |fan| of_items(fan));
        inputs + self.steps.iter().map(of_step).sum::<usize>()
    }
}

impl Outputs for InstanceState {
    fn output(&self, step: &StepId) -> Option<&JsonText> {
        self.steps.iter().find(|status| status.id == *step).and_then(|status| status.output.as_ref())
    }
}
