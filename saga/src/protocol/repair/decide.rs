//! What follows for a repair from what it hears.

use super::event::{RecordedRepairEvent, RepairEvent};
use super::request::RepairRequest;
use super::state::Repair;
use crate::protocol::decision::{By, Recorded};
use sagamq_api::repair::{RepairState, Repaired};
use uuid::Uuid;

/// What an operator does to a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairVerb {
    /// Begin no other saga for now.
    Pause,
    /// Go on.
    Resume,
    /// Begin no other saga.
    Cancel,
}

/// Why an operator cannot do that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the repair is {0} already")]
pub struct RepairRefused(pub RepairState);

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairDecision {
    /// What happened: to be written first, in this order.
    pub events: Vec<RecordedRepairEvent>,
    /// Sagas whose lanes are to be told, with their numbers: in the commit of the events.
    pub begun: Vec<(u64, Uuid)>,
    /// The state after the events.
    pub repair: Repair,
}

impl RepairDecision {
    /// Starts a repair.
    #[must_use]
    pub fn start(id: Uuid, request: RepairRequest, now_ms: u64) -> Self {
        let first = Recorded { at_ms: now_ms, event: RepairEvent::RepairStarted { request: Box::new(request) } };
        let repair = Repair::start(id, &first).expect("it is the first event");
        let mut started = Self { events: vec![first], begun: Vec::new(), repair };
        started.go_on(now_ms);
        started
    }

    fn emit(&mut self, now_ms: u64, event: RepairEvent) {
        let recorded = Recorded { at_ms: now_ms, event };
        self.repair.apply(&recorded).expect("what is decided can follow");
        self.events.push(recorded);
    }

    /// Begins what may begin, and ends what is through.
    fn go_on(&mut self, now_ms: u64) {
        let count = self.repair.may_begin(now_ms);
        if count > 0 {
            self.begun.extend(self.repair.waiting.iter().take(count).copied());
            self.emit(now_ms, RepairEvent::SagasBegun { count: count as u64 });
        }
        let is_over = match self.repair.state {
            RepairState::Running => self.repair.is_through(),
            RepairState::Cancelling => self.repair.in_progress.is_empty(),
            RepairState::Paused | RepairState::Cancelled | RepairState::Done => false,
        };
        if is_over {
            self.emit(now_ms, RepairEvent::RepairEnded);
        }
    }
}

impl Repair {
    fn decision(&self) -> RepairDecision {
        RepairDecision { events: Vec::new(), begun: Vec::new(), repair: self.clone() }
    }

    /// Sagas were found behind `after`. Nothing follows if that is not where it looks for more.
    #[must_use]
    pub fn found(&self, after: Option<&str>, sagas: Vec<Uuid>, next: Option<String>, now_ms: u64) -> RepairDecision {
        let mut decision = self.decision();
        let is_wanted = self.state == RepairState::Running || self.state == RepairState::Paused;
        if is_wanted && !self.is_all_found && self.after.as_deref() == after {
            decision.emit(now_ms, RepairEvent::SagasFound { sagas, next });
            decision.go_on(now_ms);
        }
        decision
    }

    /// Time has passed.
    #[must_use]
    pub fn time_passed(&self, now_ms: u64) -> RepairDecision {
        let mut decision = self.decision();
        decision.go_on(now_ms);
        decision
    }

    /// What became of a saga. Nothing follows if it is not in progress.
    #[must_use]
    pub fn repaired(&self, number: u64, repaired: Repaired, now_ms: u64) -> RepairDecision {
        let mut decision = self.decision();
        if let Some(&saga) = self.in_progress.get(&number) {
            decision.emit(now_ms, RepairEvent::SagaRepaired { number, saga, repaired });
            decision.go_on(now_ms);
        }
        decision
    }

    /// An operator does something to it. What is so already changes nothing.
    ///
    /// # Errors
    /// When it is at its end, or is to be paused or resumed and was cancelled.
    pub fn operate(&self, verb: RepairVerb, by: By, now_ms: u64) -> Result<RepairDecision, RepairRefused> {
        let By { actor, reason } = by;
        let mut decision = self.decision();
        let event = match (verb, self.state) {
            (RepairVerb::Cancel, RepairState::Cancelling | RepairState::Cancelled) => None,
            (_, RepairState::Cancelling | RepairState::Cancelled | RepairState::Done) => return Err(RepairRefused(self.state)),
            (RepairVerb::Cancel, _) => Some(RepairEvent::RepairCancelled { actor, reason }),
            (RepairVerb::Pause, RepairState::Running) => Some(RepairEvent::RepairPaused { actor, reason }),
            (RepairVerb::Resume, RepairState::Paused) => Some(RepairEvent::RepairResumed { actor, reason }),
            (RepairVerb::Pause | RepairVerb::Resume, _) => None,
        };
        if let Some(event) = event {
            decision.emit(now_ms, event);
            decision.go_on(now_ms);
        }
        Ok(decision)
    }
}
