//! The repairs of a lane: what comes in for them, one commit for what follows, and when they are due.

use super::along::Taking;
use super::follower::Then;
use super::input::{RepairInput, Reply};
use super::open_repairs::Search;
use super::repair_error::RepairError;
use super::task::Lane;
use crate::protocol::repair::{Repair, RepairDecision, RepairEvent, RepairRefused, RepairRequest, RepairVerb};
use crate::protocol::{By, lane_of};
use crate::store::{AnsweredRepair, AskedRepair, LaneMessage, forget_repair, put_repair};
use sagamq_api::limits::OPEN_REPAIRS_MAX;
use sagamq_api::repair::{RepairDescription, RepairState, StartedRepair};
use sagamq_broker::audit::Note;
use uuid::Uuid;

/// Rows of a repair that one commit removes.
const FORGET_ROWS_MAX: usize = 1_000;

impl Lane {
    pub(super) async fn repair_input(&mut self, input: RepairInput) {
        match input {
            RepairInput::Start { id, request, note, reply } => self.start_repair(id, *request, note, reply).await,
            RepairInput::Operate { id, verb, by, note, reply } => self.operate_repair(id, verb, by, note, reply).await,
            RepairInput::Get { id, reply } => {
                let found = self.repair(id);
                self.answer_when_durable(reply, found);
            }
            RepairInput::Found { repair, after, sagas, next } => self.sagas_found(repair, after.as_deref(), sagas, next).await,
            RepairInput::Forget { id, before_ms, reply } => self.forget_repair(id, before_ms, reply).await,
            RepairInput::NotFound { repair } => {
                self.repairs.searching.remove(&repair);
                self.search(repair);
            }
        }
    }

    async fn start_repair(&mut self, id: Uuid, request: RepairRequest, note: Note, reply: Reply<StartedRepair, RepairError>) {
        let before = self.repair(id).and_then(|repair| Ok((repair, self.requested(id)?)));
        let answer = match before {
            Err(RepairError::NotFound(_)) if self.repairs.open.len() >= OPEN_REPAIRS_MAX => Err(RepairError::TooManyOpen),
            Err(RepairError::NotFound(_)) => {
                let decision = RepairDecision::start(id, request, self.parts.clock.now_ms());
                let started = StartedRepair { duplicate: false, repair: decision.repair.description() };
                let then = Box::new(move |durable: Result<(), _>| {
                    // Whoever asked may have gone; the repair runs.
                    let _ = reply.send(durable.map(|()| started).map_err(RepairError::from));
                });
                return self.commit_repair(decision, None, note, then).await;
            }
            Err(error) => Err(error),
            Ok((repair, before)) if before.is_same(&request) => Ok(StartedRepair { duplicate: true, repair }),
            Ok(_) => Err(RepairError::KeyConflict { key: request.key.unwrap_or_default(), id }),
        };
        self.answer_when_durable(reply, answer);
    }

    async fn operate_repair(&mut self, id: Uuid, verb: RepairVerb, by: By, note: Note, reply: Reply<RepairDescription, RepairError>) {
        let Some(repair) = self.repairs.open.get(&id) else {
            // At its end, and only the disk knows it.
            let refused = self.repair(id).and_then(|repair| match (verb, repair.state) {
                (RepairVerb::Cancel, RepairState::Cancelled) => Ok(repair),
                (_, state) => Err(RepairRefused(state).into()),
            });
            return self.answer_when_durable(reply, refused);
        };
        match repair.operate(verb, by, self.parts.clock.now_ms()) {
            Ok(decision) => {
                let description = decision.repair.description();
                let then = Box::new(move |durable: Result<(), _>| {
                    // Whoever asked may have gone.
                    let _ = reply.send(durable.map(|()| description).map_err(RepairError::from));
                });
                self.commit_repair(decision, None, note, then).await;
            }
            Err(refused) => self.answer_when_durable(reply, Err(refused.into())),
        }
    }

    /// A repair in short, from memory or from the disk.
    fn repair(&self, id: Uuid) -> Result<RepairDescription, RepairError> {
        match self.repairs.open.get(&id) {
            Some(repair) => Ok(repair.description()),
            None => self.parts.store.repair(id)?.ok_or(RepairError::NotFound(id)),
        }
    }

    /// What a repair was started with.
    fn requested(&self, id: Uuid) -> Result<RepairRequest, RepairError> {
        if let Some(repair) = self.repairs.open.get(&id) {
            return Ok(repair.request().clone());
        }
        match self.parts.store.first_repair_event(id)?.map(|first| first.event) {
            Some(RepairEvent::RepairStarted { request }) => Ok(*request),
            _ => Err(RepairError::NotFound(id)),
        }
    }

    async fn sagas_found(&mut self, id: Uuid, after: Option<&str>, sagas: Vec<Uuid>, next: Option<String>) {
        self.repairs.searching.remove(&id);
        let Some(repair) = self.repairs.open.get(&id) else { return };
        let decision = repair.found(after, sagas, next, self.parts.clock.now_ms());
        self.commit_repair(decision, None, Note::nothing(), Box::new(|_| ())).await;
    }

    /// Removes rows of a repair that ended before then, the newest events first, so that it is known until nothing of it is left. Answers
    /// whether nothing is.
    async fn forget_repair(&mut self, id: Uuid, before_ms: u64, reply: Reply<bool, RepairError>) {
        let is_over = |repair: &RepairDescription| repair.state.is_final() && repair.updated_at_ms < before_ms;
        let mut commit = self.parts.store.0.begin();
        // Should a power cut take it, it is found again.
        commit.unforced();
        let removed = match self.repair(id) {
            Ok(repair) if is_over(&repair) => forget_repair(&self.parts.store, &mut commit, id, FORGET_ROWS_MAX).map_err(RepairError::from),
            Ok(_) | Err(RepairError::NotFound(_)) => Ok(true),
            Err(error) => Err(error),
        };
        match removed {
            Ok(is_whole) => {
                let then = Box::new(move |durable: Result<(), _>| {
                    // The sweeper may have gone.
                    let _ = reply.send(durable.map(|()| is_whole).map_err(RepairError::from));
                });
                if self.submit(commit, None, then).await && is_whole {
                    self.parts.metrics.repairs_removed.inc();
                }
            }
            Err(error) => self.answer_when_durable(reply, Err(error)),
        }
    }

    /// What became of a saga.
    pub(super) async fn answered(&mut self, answered: AnsweredRepair, taking: Taking) {
        let AnsweredRepair { repair, number, repaired } = answered;
        match self.repairs.open.get(&repair) {
            Some(repair) => {
                let decision = repair.repaired(number, repaired, self.parts.clock.now_ms());
                self.commit_repair(decision, Some(taking), Note::nothing(), Box::new(|_| ())).await;
            }
            None => {
                tracing::error!(%repair, number, "a result is of no repair that is in progress");
                self.take_only(taking).await;
            }
        }
    }

    /// Begins what is due.
    pub(super) async fn fire_repairs(&mut self) {
        let now_ms = self.parts.clock.now_ms();
        let is_due = |repair: &&Repair| repair.due_ms().is_some_and(|due_ms| due_ms <= now_ms);
        let due: Vec<RepairDecision> = self.repairs.open.values().filter(is_due).map(|repair| repair.time_passed(now_ms)).collect();
        for decision in due {
            Box::pin(self.commit_repair(decision, None, Note::nothing(), Box::new(|_| ()))).await;
        }
    }

    /// Looks for sagas for every repair that needs some, after a restart.
    pub(super) fn search_all(&mut self) {
        let open: Vec<Uuid> = self.repairs.open.keys().copied().collect();
        for id in open {
            self.search(id);
        }
    }

    fn search(&mut self, id: Uuid) {
        let Some(repair) = self.repairs.open.get(&id) else { return };
        let (Some(page), Some(filter)) = (repair.page_wanted(), repair.request().filter.clone()) else { return };
        if self.repairs.searching.insert(id) {
            // Who looks for sagas ends with the shutdown only.
            let _ = self.parts.searches.send(Search { repair: id, filter, page });
        }
    }

    /// Commits what follows for a repair: its events, and the messages to the lanes of the sagas that begin.
    async fn commit_repair(&mut self, decision: RepairDecision, taking: Option<Taking>, note: Note, then: Then) {
        let RepairDecision { events, begun, repair } = decision;
        let mut commit = self.parts.store.0.begin();
        if !events.is_empty() {
            commit.note(note);
            put_repair(&mut commit, &repair, &events);
        }
        let RepairRequest { filter, operate, patience_ms, .. } = repair.request();
        for (number, saga) in begun {
            let (filter, operate) = (filter.clone(), operate.clone());
            let asked = AskedRepair { repair: repair.id(), number, saga, filter, operate, patience_ms: *patience_ms };
            commit.send(lane_of(saga), LaneMessage::Repair(asked).encode());
        }
        if !self.submit(commit, taking, then).await {
            return;
        }
        let id = repair.id();
        if repair.state().is_final() {
            self.repairs.open.remove(&id);
        } else {
            self.repairs.open.insert(id, repair);
            self.search(id);
        }
    }
}
