//! The state of a repair: the fold of its events.

use super::event::{RecordedRepairEvent, RepairEvent};
use super::request::RepairRequest;
use sagamq_api::repair::{RepairCounts, RepairDescription, RepairState};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

/// Sagas of one repair that are begun and have no result.
const IN_PROGRESS_MAX: usize = 1_000;

/// Sagas that are looked for at a time.
const PAGE_SAGAS: u64 = 500;

/// As long as so many wait for their turn, no others are looked for.
const WAITING_ENOUGH: usize = 500;

/// A repair that was held up catches up for so long at the most, in microseconds.
const CATCH_UP_US: u64 = 100_000;

/// A repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    pub(super) id: Uuid,
    pub(super) request: Arc<RepairRequest>,
    pub(super) state: RepairState,
    created_at_ms: u64,
    updated_at_ms: u64,
    events: u64,
    pub(super) found: u64,
    /// Where the next page of sagas begins: `None` at first.
    pub(super) after: Option<String>,
    pub(super) is_all_found: bool,
    /// Sagas whose turn has not come, with their numbers.
    pub(super) waiting: VecDeque<(u64, Uuid)>,
    /// Sagas that are begun and have no result.
    pub(super) in_progress: BTreeMap<u64, Uuid>,
    results: RepairCounts,
    /// When the next one may be begun by the rate, in microseconds since 1970.
    next_us: u64,
}

/// An event that cannot follow those before it: the log is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {sequence} of repair {id} cannot follow: {reason}")]
pub struct IllegalRepairEvent {
    /// The repair.
    pub id: Uuid,
    /// Its place, counted from 0.
    pub sequence: u64,
    /// What forbids it.
    pub reason: &'static str,
}

/// Sagas that a repair has to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWanted {
    /// Where the page before ended.
    pub after: Option<String>,
    /// Most sagas.
    pub limit: u64,
}

impl Repair {
    /// A repair after its first event.
    ///
    /// # Errors
    /// When that is no first event.
    pub fn start(id: Uuid, first: &RecordedRepairEvent) -> Result<Self, IllegalRepairEvent> {
        let RepairEvent::RepairStarted { request } = &first.event else {
            return Err(IllegalRepairEvent { id, sequence: 0, reason: "a repair begins with its start" });
        };
        let numbered: VecDeque<(u64, Uuid)> = (0..).zip(request.ids.iter().copied()).collect();
        Ok(Self {
            id,
            state: RepairState::Running,
            created_at_ms: first.at_ms,
            updated_at_ms: first.at_ms,
            events: 1,
            found: numbered.len() as u64,
            after: None,
            is_all_found: request.filter.is_none(),
            request: Arc::new(request.as_ref().clone()),
            waiting: numbered,
            in_progress: BTreeMap::new(),
            results: RepairCounts::default(),
            next_us: 0,
        })
    }

    /// Applies the next event: the only way a repair changes.
    ///
    /// # Errors
    /// When the event cannot follow those before it. The repair is of no use then.
    pub fn apply(&mut self, recorded: &RecordedRepairEvent) -> Result<(), IllegalRepairEvent> {
        if let Err(reason) = self.try_apply(recorded) {
            return Err(IllegalRepairEvent { id: self.id, sequence: self.events, reason });
        }
        self.events += 1;
        self.updated_at_ms = recorded.at_ms;
        Ok(())
    }

    fn try_apply(&mut self, recorded: &RecordedRepairEvent) -> Result<(), &'static str> {
        match &recorded.event {
            RepairEvent::RepairStarted { .. } => return Err("it was started before"),
            _ if self.state.is_final() => return Err("the repair is at its end"),
            RepairEvent::SagasFound { sagas, next } => {
                if self.is_all_found {
                    return Err("all sagas were found");
                }
                self.waiting.extend((self.found..).zip(sagas.iter().copied()));
                self.found += sagas.len() as u64;
                self.is_all_found = next.is_none() || self.found >= self.request.max_sagas;
                self.after.clone_from(next);
            }
            RepairEvent::SagasBegun { count } => {
                let count = usize::try_from(*count).ok().filter(|count| *count <= self.waiting.len()).ok_or("fewer wait")?;
                self.in_progress.extend(self.waiting.drain(..count));
                let interval_us = 1_000_000 / u64::from(self.request.rate);
                let from_us = self.next_us.max((recorded.at_ms * 1_000).saturating_sub(CATCH_UP_US));
                self.next_us = from_us + interval_us * count as u64;
            }
            RepairEvent::SagaRepaired { number, saga, repaired } => {
                if self.in_progress.remove(number) != Some(*saga) {
                    return Err("the saga is not in progress");
                }
                self.results.add(repaired.outcome);
            }
            RepairEvent::RepairPaused { .. } => self.move_from(RepairState::Running, RepairState::Paused)?,
            RepairEvent::RepairResumed { .. } => self.move_from(RepairState::Paused, RepairState::Running)?,
            RepairEvent::RepairCancelled { .. } => {
                if self.state == RepairState::Cancelling {
                    return Err("it was cancelled before");
                }
                self.state = RepairState::Cancelling;
            }
            RepairEvent::RepairEnded => {
                self.state = match self.state {
                    RepairState::Cancelling if self.in_progress.is_empty() => RepairState::Cancelled,
                    RepairState::Running if self.is_through() => RepairState::Done,
                    _ => return Err("there is more to do"),
                };
                self.waiting.clear();
            }
        }
        Ok(())
    }

    fn move_from(&mut self, from: RepairState, to: RepairState) -> Result<(), &'static str> {
        if self.state != from {
            return Err("the repair is in another state");
        }
        self.state = to;
        Ok(())
    }

    /// Whether every saga has its result.
    pub(super) fn is_through(&self) -> bool {
        self.is_all_found && self.waiting.is_empty() && self.in_progress.is_empty()
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// What it is to do.
    #[must_use]
    pub fn request(&self) -> &RepairRequest {
        &self.request
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> RepairState {
        self.state
    }

    /// Number of its events.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// What is to be looked for next, if anything is.
    #[must_use]
    pub fn page_wanted(&self) -> Option<PageWanted> {
        let is_short = self.state == RepairState::Running && !self.is_all_found && self.waiting.len() < WAITING_ENOUGH;
        is_short.then(|| PageWanted { after: self.after.clone(), limit: PAGE_SAGAS.min(self.request.max_sagas - self.found) })
    }

    /// When time alone lets the next saga begin, in milliseconds since 1970.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        let may_begin = self.state == RepairState::Running && !self.waiting.is_empty() && self.in_progress.len() < IN_PROGRESS_MAX;
        may_begin.then(|| self.next_us.div_ceil(1_000))
    }

    /// How many may begin now.
    pub(super) fn may_begin(&self, now_ms: u64) -> usize {
        if self.state != RepairState::Running {
            return 0;
        }
        let (now_us, interval_us) = (now_ms * 1_000, 1_000_000 / u64::from(self.request.rate));
        let from_us = self.next_us.max(now_us.saturating_sub(CATCH_UP_US));
        let by_rate = if from_us > now_us { 0 } else { (now_us - from_us) / interval_us + 1 };
        let by_rate = usize::try_from(by_rate).unwrap_or(usize::MAX);
        by_rate.min(self.waiting.len()).min(IN_PROGRESS_MAX - self.in_progress.len())
    }

    /// The repair as the interface shows it.
    #[must_use]
    pub fn description(&self) -> RepairDescription {
        let RepairRequest { key, filter, ids: _, operate, rate, max_sagas, patience_ms } = &*self.request;
        RepairDescription {
            id: self.id,
            key: key.clone(),
            state: self.state,
            filter: filter.clone(),
            operate: operate.clone(),
            rate: *rate,
            max_sagas: *max_sagas,
            patience_ms: *patience_ms,
            created_at_ms: self.created_at_ms,
            updated_at_ms: self.updated_at_ms,
            found: self.found,
            is_all_found: self.is_all_found,
            waiting: self.waiting.len() as u64,
            in_progress: self.in_progress.len() as u64,
            results: self.results,
        }
    }
}
