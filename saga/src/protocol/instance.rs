//! An instance of any protocol: all that those who run, store, show and count instances need of one.

use super::decision::{CallCommand, ChildName, Decision, HandOut, IllegalEvent, Input, Parent, Rejection};
use super::event::{Event, Protocol, RecordedEvent};
use super::head::Head;
use super::lock::Wait;
use super::saga::{self, InstanceState};
use super::twopc::{self, TransactionState};
use super::waits::Trouble;
use crate::definition::Definition;
use sagamq_api::StepId;
use sagamq_api::saga::{AttemptId, Failure, SagaDescription, SagaState, SagaSummary, Waits};
use uuid::Uuid;

/// An instance.
#[derive(Clone, Debug, PartialEq)]
pub enum Instance {
    /// A saga.
    Saga(InstanceState),
    /// A two-phase commit.
    TwoPc(TransactionState),
}

impl Instance {
    /// An instance of the definition before its first event.
    #[must_use]
    pub fn new(protocol: Protocol, id: Uuid, definition: &Definition) -> Self {
        match protocol {
            Protocol::Saga => Self::Saga(InstanceState::new(id, definition)),
            Protocol::TwoPc => Self::TwoPc(TransactionState::new(id, definition)),
        }
    }

    /// What it follows.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Saga(_) => Protocol::Saga,
            Self::TwoPc(_) => Protocol::TwoPc,
        }
    }

    /// What every instance has.
    #[must_use]
    pub const fn head(&self) -> &Head {
        match self {
            Self::Saga(state) => &state.head,
            Self::TwoPc(state) => &state.head,
        }
    }

    /// Decides what the input means. Pure: the same arguments, and the same numbers drawn from `jitter` (each in 0..=1), give the same
    /// decision. All of its expressions together are bounded in steps and bytes; what takes more has no value.
    ///
    /// # Errors
    /// When the input changes nothing and its sender should know why.
    pub fn decide(
        &self,
        definition: &Definition,
        input: Input,
        now_ms: u64,
        jitter: &mut dyn FnMut() -> f64,
    ) -> Result<Decision<Self, Event>, Rejection> {
        match self {
            Self::Saga(state) => Ok(saga::decide(definition, state, input, now_ms, jitter)?.map(&Self::Saga, &Event::Saga)),
            Self::TwoPc(state) => Ok(twopc::decide(definition, state, input, now_ms, jitter)?.map(&Self::TwoPc, &Event::TwoPc)),
        }
    }

    /// Applies the next event: the only way an instance changes.
    ///
    /// # Errors
    /// When the event cannot follow those before it. The instance is of no use then.
    pub fn apply(&mut self, recorded: &RecordedEvent) -> Result<(), IllegalEvent> {
        match (self, &recorded.event) {
            (Self::Saga(state), Event::Saga(event)) => state.apply(event, recorded.at_ms),
            (Self::TwoPc(state), Event::TwoPc(event)) => state.apply(event, recorded.at_ms),
            (instance, event) => Err(IllegalEvent {
                sequence: instance.head().events,
                event: format!("{event:?}").chars().take(120).collect(),
                reason: "it is of another protocol".to_owned(),
            }),
        }
    }

    /// The state as the interface names it.
    #[must_use]
    pub fn state(&self) -> SagaState {
        match self {
            Self::Saga(state) => state.saga_state(),
            Self::TwoPc(state) => state.saga_state(),
        }
    }

    /// Why it is, or is to be, undone, or why it is blocked or returned no output.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Saga(state) => state.reason(),
            Self::TwoPc(state) => state.reason(),
        }
    }

    /// Whether time alone may change the instance now.
    #[must_use]
    pub fn is_due(&self, now_ms: u64) -> bool {
        match self {
            Self::Saga(state) => state.is_due(now_ms),
            Self::TwoPc(state) => state.is_due(now_ms),
        }
    }

    /// When the instance is to be looked at after `now_ms`, if nothing else happens and a look at `now_ms` changed nothing.
    #[must_use]
    pub fn next_look_ms(&self, now_ms: u64) -> Option<u64> {
        match self {
            Self::Saga(state) => state.next_look_ms(now_ms),
            Self::TwoPc(state) => state.next_look_ms(now_ms),
        }
    }

    /// When it goes on by itself, in milliseconds since 1970, if it only waits, and long: `u64::MAX` if not by itself. It need not be in
    /// memory meanwhile.
    #[must_use]
    pub fn asleep_until_ms(&self) -> Option<u64> {
        match self {
            Self::Saga(state) => state.asleep_until_ms(),
            // Its branches hold locks.
            Self::TwoPc(_) => None,
        }
    }

    /// Calls in progress of which is not known whether they were handed out: what a [`Timer`](Input::Timer) is to be told of.
    #[must_use]
    pub fn unseen_calls(&self) -> Vec<AttemptId> {
        match self {
            Self::Saga(state) => state.unseen_calls(),
            // Its calls go to those who are there, so their time begins when they are decided.
            Self::TwoPc(_) => Vec::new(),
        }
    }

    /// Everything it waits for; nothing if it is at its end. `known` says of its [`unseen_calls`](Self::unseen_calls) what is known of each.
    #[must_use]
    pub fn waits(&self, known: &[(AttemptId, HandOut)]) -> Vec<Waits> {
        match self {
            Self::Saga(state) => state.waits(known),
            Self::TwoPc(state) => state.waits(),
        }
    }

    /// What is wrong with it, if something is.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Saga(state) => state.trouble(),
            Self::TwoPc(state) => state.trouble(),
        }
    }

    /// The attempts in progress.
    #[must_use]
    pub fn open_attempts(&self) -> Vec<AttemptId> {
        match self {
            Self::Saga(state) => state.open_attempts(),
            Self::TwoPc(state) => state.open_attempts(),
        }
    }

    /// The calls in progress, as they were decided: what a participant that is called directly must be called with again after a crash.
    #[must_use]
    pub fn open_calls(&self, definition: &Definition) -> Vec<CallCommand> {
        match self {
            Self::Saga(state) => saga::open_calls(definition, state),
            Self::TwoPc(state) => twopc::open_calls(definition, state),
        }
    }

    /// Since when the first of its branches is in doubt, in milliseconds since 1970, if one is.
    #[must_use]
    pub fn in_doubt_since_ms(&self) -> Option<u64> {
        self.transaction()?.in_doubt_since_ms()
    }

    /// Whether it is at its end and nobody will ever need it for a right answer, so that it may be removed.
    #[must_use]
    pub fn may_be_forgotten(&self) -> bool {
        match self {
            Self::Saga(state) => state.may_be_forgotten(),
            Self::TwoPc(state) => state.may_be_forgotten(),
        }
    }

    /// The rerun that took the effect of this step over, if one did.
    #[must_use]
    pub fn handed_over(&self, step: &StepId) -> Option<Uuid> {
        match self {
            Self::Saga(state) => state.handed_over(step),
            Self::TwoPc(_) => None,
        }
    }

    /// The steps whose effects it took over, each with the instance that called its action: their compensations bear that one's name.
    #[must_use]
    pub fn adopted(&self) -> Vec<(Uuid, &StepId)> {
        match self {
            Self::Saga(state) => state.adopted().collect(),
            Self::TwoPc(_) => Vec::new(),
        }
    }

    /// The key under which the effect of a step would be undone, if it can be.
    #[must_use]
    pub fn compensation_key(&self, step: &StepId) -> Option<String> {
        match self {
            Self::Saga(state) => state.compensation_key(step),
            Self::TwoPc(_) => None,
        }
    }

    /// The step that started it as its sub-saga, if one did.
    #[must_use]
    pub fn parent(&self) -> Option<&Parent> {
        match self {
            Self::Saga(state) => state.parent.as_deref(),
            Self::TwoPc(_) => None,
        }
    }

    /// The instance that it is the rerun of.
    #[must_use]
    pub fn rerun_of(&self) -> Option<Uuid> {
        match self {
            Self::Saga(state) => state.rerun_of.as_ref().map(|rerun| rerun.of),
            Self::TwoPc(_) => None,
        }
    }

    /// The rerun that it handed itself over to.
    #[must_use]
    pub fn rerun_as(&self) -> Option<Uuid> {
        match self {
            Self::Saga(state) => state.handed_over.as_ref().map(|handed| handed.to),
            Self::TwoPc(_) => None,
        }
    }

    /// That rerun, and the step that it goes on with.
    #[must_use]
    pub fn handed_over_to(&self) -> Option<(Uuid, &StepId)> {
        match self {
            Self::Saga(state) => state.handed_over.as_ref().map(|handed| (handed.to, &handed.from)),
            Self::TwoPc(_) => None,
        }
    }

    /// Whether the action of a step is done or was left out, be it undone since.
    #[must_use]
    pub fn has_done(&self, step: &StepId) -> bool {
        match self {
            Self::Saga(state) => state.steps.iter().any(|status| status.id == *step && (status.output.is_some() || status.is_done())),
            Self::TwoPc(_) => false,
        }
    }

    /// The parent whose end it waits for, and the sub-sagas that it waits for.
    #[must_use]
    pub fn waits_for_relatives(&self) -> (Option<Uuid>, Vec<ChildName>) {
        match self {
            Self::Saga(state) => state.waits_for_relatives(),
            Self::TwoPc(_) => (None, Vec::new()),
        }
    }

    /// Whether it waits for its parent's end now and did not before, and somebody may wait for what it holds.
    #[must_use]
    pub fn begins_to_wait_for_parent(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Saga(state), Self::Saga(before)) => state.begins_to_wait_for_parent(before),
            (Self::Saga(_) | Self::TwoPc(_), _) => false,
        }
    }

    /// The locks that it waits for.
    #[must_use]
    pub fn lock_waits(&self) -> Vec<Wait> {
        match self {
            Self::Saga(state) => state.lock_waits(),
            Self::TwoPc(_) => Vec::new(),
        }
    }

    /// Bytes of the payloads that expressions can see.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Saga(state) => state.payload_bytes(),
            Self::TwoPc(state) => state.payload_bytes(),
        }
    }

    /// The instance in one row.
    #[must_use]
    pub fn summary(&self) -> SagaSummary {
        match self {
            Self::Saga(state) => state.summary(),
            Self::TwoPc(state) => state.summary(),
        }
    }

    /// The instance with its steps and failures.
    #[must_use]
    pub fn description(&self) -> SagaDescription {
        match self {
            Self::Saga(state) => state.description(),
            Self::TwoPc(state) => state.description(),
        }
    }

    /// The two-phase commit, if it is one: its branches, and what is decided.
    #[must_use]
    pub const fn transaction(&self) -> Option<&TransactionState> {
        match self {
            Self::Saga(_) => None,
            Self::TwoPc(state) => Some(state),
        }
    }
}
