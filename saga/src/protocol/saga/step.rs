//! One step of an instance, as the fold of its events.

use super::claims::StepLock;
use super::fan::{Fan, Item};
use crate::definition::{self, Action, StepKind};
use sagamq_api::saga::{Operation, StepState};
use sagamq_api::{JsonText, SagaName, SignalName, StepId};
use uuid::Uuid;

/// A step of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct StepStatus {
    /// Its id.
    pub id: StepId,
    /// Where it stands relative to the pivot.
    pub kind: StepKind,
    /// Whether it calls a participant; else it only waits, and has no effect.
    pub is_call: bool,
    /// The definition of the sub-saga that it starts, if it does: then it calls no participant.
    pub child: Option<SagaName>,
    /// The signal that it waits for, if it does.
    pub signal: Option<SignalName>,
    /// Whether it has an effect that a compensation undoes.
    pub has_compensation: bool,
    /// Whether it tells others when its action has taken effect.
    pub tells: bool,
    /// Whether it has a condition.
    pub has_condition: bool,
    /// Whether the saga goes on without it if it has no effect.
    pub is_optional: bool,
    /// Most items that are called at a time, if it fans out.
    pub max_parallel: Option<u32>,
    /// Its items, once its turn has come, if it fans out: then they are called, and the state is that of all of them.
    pub fan: Option<Box<Fan<Self>>>,
    /// Its state.
    pub state: StepState,
    /// What its condition gave, once it was asked.
    pub condition: Option<bool>,
    /// How far its action is.
    pub action: Progress,
    /// How far its compensation is.
    pub compensation: Progress,
    /// What the action returned.
    pub output: Option<JsonText>,
    /// Whether its attempts ran out although it must be retried.
    pub attempts_exceeded: bool,
    /// Whether an operator left its action out.
    pub is_left_out: bool,
    /// Whether an operator left its compensation out.
    pub is_undoing_left_out: bool,
    /// Whether an operator found, when the instance was at its end, that what was left out had no effect.
    pub has_no_effect: bool,
    /// What its action was called with, if the instance or a rerun of it works on another input since: its effect is undone with that, and told.
    pub done_with: Option<JsonText>,
    /// Who called its action, if that was an instance that this one is the rerun of.
    pub origin: Option<Box<Origin>>,
    /// Whether a rerun took its effect over.
    pub is_handed_over: bool,
    /// Whether it begins under a lock.
    pub has_lock: bool,
    /// That lock, once it was asked for.
    pub lock: Option<Box<StepLock>>,
}

/// Where a step that was taken over comes from: the first instance, however often it was handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The instance that called its action.
    pub instance: Uuid,
    /// When that one started, in milliseconds since 1970: participants may remember nothing of older ones.
    pub started_at_ms: u64,
    /// The last attempt of the action there.
    pub epoch: u32,
}

/// How far one operation of a step is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The current or last attempt, counted from 1; 0 if there was none.
    pub epoch: u32,
    /// What that attempt is doing.
    pub attempt: Attempt,
    /// How that attempt ended, as far as a reply said so: what a duplicate of it would say.
    pub settled: Option<Settled>,
    /// The attempts before the operator who gave it more: they do not count.
    pub forgiven: u32,
    /// The arguments of all its attempts, while it is live: rendered once, so that no upgrade changes them under the same key.
    pub arguments: Option<JsonText>,
}

/// What an attempt is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attempt {
    /// There is none, or it is over.
    #[default]
    None,
    /// The participant is called.
    Open(Open),
    /// It is over and the next one waits.
    Waiting {
        /// When the next one is due, in milliseconds since 1970.
        retry_at_ms: u64,
    },
    /// There is none: the step calls nobody, and waits.
    Asleep(Asleep),
}

/// A step that calls nobody and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asleep {
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Until when, in milliseconds since 1970; `None`: until somebody ends it.
    pub until_ms: Option<u64>,
}

/// An attempt in progress. It waits in a queue (of its topic, or for a place and a connection to an HTTP service) until it is handed to the
/// participant; the time of its run counts from then. Whether it was handed out is known outside, and told when it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// When it was decided, in milliseconds since 1970.
    pub called_at_ms: u64,
    /// How long a run may take, in milliseconds, whenever it begins.
    pub timeout_ms: u64,
    /// When it is given up if it was handed out as soon as it was decided; once its hand-out is known, when it is given up.
    pub deadline_ms: u64,
    /// When it is given up if it was not handed out by then.
    pub queue_deadline_ms: Option<u64>,
    /// Whether its hand-out is known.
    pub is_handed_out: bool,
    /// Whether the participant said that it works on, or the participant cannot be reached: the instance waits.
    pub is_waiting: bool,
    /// How many of the times that a sub-saga was asked for are not known to have come to nothing.
    pub asks: u32,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// With success.
    Succeeded,
    /// Refused by the participant.
    Refused,
    /// Without a known outcome.
    Unknown,
}

impl Progress {
    /// Attempts that count.
    pub(super) const fn spent(&self) -> u32 {
        self.epoch - self.forgiven
    }
}

impl Attempt {
    /// Whether the participant is called now.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// The attempt in progress.
    #[must_use]
    pub const fn open(self) -> Option<Open> {
        match self {
            Self::Open(open) => Some(open),
            Self::None | Self::Waiting { .. } | Self::Asleep(_) => None,
        }
    }

    /// When time alone changes it, in milliseconds since 1970.
    #[must_use]
    pub const fn due_ms(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Open(open) => timely(open.deadline_ms),
            Self::Waiting { retry_at_ms } => timely(retry_at_ms),
            Self::Asleep(asleep) => asleep.until_ms,
        }
    }

    /// Whether only an operator makes the next attempt: what became of the last one is not known, and asking again would not tell.
    #[must_use]
    pub const fn is_undecided(self) -> bool {
        matches!(self, Self::Waiting { retry_at_ms: u64::MAX })
    }

    /// Whether the step calls nobody, and waits.
    #[must_use]
    pub const fn is_asleep(self) -> bool {
        matches!(self, Self::Asleep(_))
    }
}

/// A time that comes.
const fn timely(at_ms: u64) -> Option<u64> {
    if at_ms == u64::MAX { None } else { Some(at_ms) }
}

impl Open {
    /// Whether it has no deadline: a sub-saga, which was handed over with the decision.
    pub(super) const fn is_endless(self) -> bool {
        self.deadline_ms == u64::MAX
    }

    /// Whether time alone may change it now. A call that is to be `withdrawn` is looked at at once.
    pub(super) fn is_due(self, now_ms: u64, withdrawn: bool) -> bool {
        let is_over = |at_ms: u64| at_ms <= now_ms;
        is_over(self.deadline_ms) || (!self.is_handed_out && (withdrawn || self.queue_deadline_ms.is_some_and(is_over)))
    }

    /// When it is looked at next, after `now_ms`. As long as it waits in its queue that is once a run's time: a hand-out just after a look
    /// is then known before its run is over.
    pub(super) fn next_look_ms(self, now_ms: u64) -> u64 {
        if self.is_handed_out || self.deadline_ms > now_ms {
            return self.deadline_ms.min(self.queue_deadline_ms.filter(|&at_ms| at_ms > now_ms && !self.is_handed_out).unwrap_or(u64::MAX));
        }
        let timeout_ms = self.timeout_ms.max(1);
        let looks = (now_ms - self.deadline_ms) / timeout_ms + 1;
        let look_ms = self.deadline_ms.saturating_add(looks.saturating_mul(timeout_ms));
        look_ms.min(self.queue_deadline_ms.filter(|&at_ms| at_ms > now_ms).unwrap_or(u64::MAX))
    }
}

impl StepStatus {
    pub(super) fn new(step: &definition::Step) -> Self {
        Self {
            is_call: matches!(step.action, Action::Call(_)),
            child: step.action.call().and_then(|call| call.sub_saga()).map(|saga| saga.name.clone()),
            signal: step.action.signal().cloned(),
            has_compensation: step.compensation.is_some(),
            tells: step.emit.is_some(),
            has_condition: step.when.is_some(),
            is_optional: step.optional,
            max_parallel: step.for_each.as_ref().map(|each| each.max_parallel),
            has_lock: step.lock.is_some(),
            ..Self::scheduled(step.id.clone(), step.kind)
        }
    }

    /// An item of it, before its turn. Conditions are asked of the step, and it is the step that the saga goes on without.
    pub(super) fn as_item(&self) -> Self {
        Self { is_call: self.is_call, has_compensation: self.has_compensation, ..Self::scheduled(self.id.clone(), self.kind) }
    }

    /// A step before its turn that waits for nothing, calls nobody and has no effect.
    fn scheduled(id: StepId, kind: StepKind) -> Self {
        Self {
            id,
            kind,
            is_call: false,
            child: None,
            signal: None,
            has_compensation: false,
            tells: false,
            has_condition: false,
            is_optional: false,
            max_parallel: None,
            fan: None,
            state: StepState::Scheduled,
            condition: None,
            action: Progress::default(),
            compensation: Progress::default(),
            output: None,
            attempts_exceeded: false,
            is_left_out: false,
            is_undoing_left_out: false,
            has_no_effect: false,
            done_with: None,
            origin: None,
            is_handed_over: false,
            has_lock: false,
            lock: None,
        }
    }

    /// The progress of one operation.
    #[must_use]
    pub fn progress(&self, operation: Operation) -> &Progress {
        match operation {
            Operation::Action => &self.action,
            Operation::Compensation => &self.compensation,
            other => unreachable!("no step of a saga has a {other}"),
        }
    }

    pub(super) fn progress_mut(&mut self, operation: Operation) -> &mut Progress {
        match operation {
            Operation::Action => &mut self.action,
            Operation::Compensation => &mut self.compensation,
            other => unreachable!("no step of a saga has a {other}"),
        }
    }

    /// The operation that is called or waits for its next attempt, if one does.
    #[must_use]
    pub fn live_operation(&self) -> Option<Operation> {
        if let Some(fan) = &self.fan {
            return fan.live_operation();
        }
        match self.state {
            StepState::InProgress => Some(Operation::Action),
            StepState::Compensating => Some(Operation::Compensation),
            StepState::Scheduled
            | StepState::Succeeded
            | StepState::Failed
            | StepState::Unknown
            | StepState::Skipped
            | StepState::Compensated
            | StepState::CompensationFailed => None,
        }
    }

    /// What a sub-saga is waited for, if one is: its end, or that it is undone.
    pub(super) fn awaited_child(&self) -> Option<Operation> {
        let operation = self.live_operation()?;
        self.progress(operation).attempt.open().filter(|open| open.is_endless()).map(|_| operation)
    }

    /// Whether the saga goes on behind it: it has succeeded, need not run, or is optional and nothing of it is left to do.
    pub(in crate::protocol) fn is_done(&self) -> bool {
        match self.state {
            StepState::Succeeded | StepState::Skipped => true,
            StepState::Failed | StepState::Compensated | StepState::Unknown => self.is_optional && !self.needs_undoing(),
            StepState::CompensationFailed => self.is_optional && self.is_undoing_left_out,
            StepState::Scheduled | StepState::InProgress | StepState::Compensating => false,
        }
    }

    /// Whether the saga goes on behind it although nothing of it is, or may be, in effect, and without an output.
    pub(super) fn is_passed_over(&self) -> bool {
        self.is_done()
            && self.output.is_none()
            && matches!(self.state, StepState::Skipped | StepState::Failed | StepState::Compensated)
            && (self.fan.is_none() || self.stands().is_none())
    }

    /// When time alone changes the step, in milliseconds since 1970.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        if let Some(fan) = &self.fan {
            return fan.iter().filter_map(Self::due_ms).min();
        }
        self.live_operation().and_then(|operation| self.progress(operation).attempt.due_ms())
    }

    /// Whether the action may have had an effect that is not undone and has a compensation.
    #[must_use]
    pub fn needs_undoing(&self) -> bool {
        if let Some(fan) = &self.fan {
            return fan.needs_undoing();
        }
        self.has_compensation
            && match self.state {
                StepState::Succeeded | StepState::Unknown => true,
                StepState::Skipped => self.may_have_been_done(),
                StepState::Scheduled
                | StepState::InProgress
                | StepState::Failed
                | StepState::Compensating
                | StepState::Compensated
                | StepState::CompensationFailed => false,
            }
    }

    /// Whether it was left out, but an attempt may have been sent before, and nobody found that it had no effect.
    pub(super) const fn may_have_been_done(&self) -> bool {
        self.action.epoch > 0 && !self.has_no_effect
    }

    /// Whether its action was called, by whomever, or an operator said that it was done.
    pub(super) fn has_run(&self) -> bool {
        self.action.epoch > 0 || self.origin.is_some() || self.state == StepState::Succeeded
    }

    /// How many attempts of an operation there were; of a step that fans out those of all its items.
    pub(super) fn attempts(&self, operation: Operation) -> u32 {
        self.fan.as_ref().map_or_else(|| self.progress(operation).epoch, |fan| fan.iter().map(|item| item.attempts(operation)).sum())
    }

    /// Whether it has begun to be undone.
    pub(super) fn is_undoing_begun(&self) -> bool {
        self.attempts(Operation::Compensation) > 0
    }

    /// Whether an effect of it is to be undone although the saga goes on: nobody knows whether it is there, or it is that of some items.
    pub(super) fn is_in_doubt(&self) -> bool {
        // What an operator says of items that had failed may make all of them done.
        self.needs_undoing()
            && self.fan.as_ref().map_or(self.state == StepState::Unknown, |fan| fan.is_closed && self.state != StepState::Succeeded)
    }

    /// The state it was in before its effect was undone.
    pub(super) const fn state_before_undoing(&self) -> StepState {
        match (self.is_left_out, &self.output) {
            (true, _) => StepState::Skipped,
            (false, Some(_)) => StepState::Succeeded,
            (false, None) => StepState::Unknown,
        }
    }

    /// Whether its compensation was called, is not any more, and nobody knows that it is done: a late success counts.
    pub(super) fn is_undoing_given_up(&self) -> bool {
        self.state == StepState::CompensationFailed || (self.needs_undoing() && self.compensation.epoch > 0)
    }

    /// Whether it called nobody, and is over.
    pub(super) fn has_slept(&self) -> bool {
        !self.is_call && self.state == StepState::Succeeded
    }

    /// Whether it has an effect that is not undone and that this instance answers for: `Some(true)` if that is in doubt.
    pub(super) fn stands(&self) -> Option<bool> {
        if self.is_handed_over || !self.is_call {
            return None;
        }
        if let Some(fan) = &self.fan {
            let mut standing = fan.iter().filter_map(Self::stands).peekable();
            standing.peek()?;
            let is_whole =
                fan.iter().all(|item| item.stands() == Some(false) || (item.state == StepState::Skipped && !item.may_have_been_done()));
            return Some(!is_whole);
        }
        let is_doubtful = self.action.settled != Some(Settled::Succeeded) || self.compensation.epoch > 0;
        match self.state {
            StepState::Succeeded | StepState::Compensating | StepState::CompensationFailed => Some(is_doubtful),
            StepState::InProgress | StepState::Unknown => Some(true),
            StepState::Skipped => self.may_have_been_done().then_some(true),
            StepState::Scheduled | StepState::Failed | StepState::Compensated => None,
        }
    }
}

impl Item for StepStatus {
    fn state(&self) -> StepState {
        self.state
    }

    fn needs_undoing(&self) -> bool {
        self.needs_undoing()
    }

    fn is_undoing_left_out(&self) -> bool {
        self.is_undoing_left_out
    }

    fn output(&self) -> Option<&JsonText> {
        self.output.as_ref()
    }
}
