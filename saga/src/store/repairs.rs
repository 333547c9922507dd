//! What a lane keeps of its repairs, and of the sagas whose repairs wait for what becomes of them.

use super::codec::{CodecError, decode, encode};
use super::error::StoreError;
use super::keys::SagaKey;
use super::lane::LaneStore;
use crate::protocol::repair::{RecordedRepairEvent, Repair, RepairEvent, Watch};
use core::ops::ControlFlow;
use sagamq_api::repair::{RepairDescription, RepairResult, RepairResultsQuery};
use sagamq_broker::ShardCommit;
use uuid::Uuid;

/// Looks at a row.
pub(super) type VisitRow<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError>;

impl LaneStore {
    /// A repair in short.
    pub(crate) fn repair(&self, id: Uuid) -> Result<Option<RepairDescription>, StoreError> {
        Ok(self.0.get(&SagaKey::Repair(id).encode())?.map(|row| decode(&row)).transpose()?)
    }

    /// The first event of a repair.
    pub(crate) fn first_repair_event(&self, id: Uuid) -> Result<Option<RecordedRepairEvent>, StoreError> {
        Ok(self.0.get(&SagaKey::RepairEvent(id, 0).encode())?.map(|row| decode(&row)).transpose()?)
    }

    /// Repairs in short, by id, above `after`.
    pub(crate) fn visit_repairs(
        &self,
        after: Option<Uuid>,
        visit: &mut dyn FnMut(RepairDescription) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let from = after.map(|after| [SagaKey::Repair(after).encode(), vec![0]].concat());
        self.visit_rows(&SagaKey::repairs(), from.as_deref(), &mut |_, row| Ok(visit(decode(row)?)))
    }

    /// Ids of the repairs that ended before then.
    pub(crate) fn repairs_ended_before(&self, before_ms: u64) -> Result<Vec<Uuid>, StoreError> {
        let mut ended = Vec::new();
        self.visit_repairs(None, &mut |repair| {
            if repair.state.is_final() && repair.updated_at_ms < before_ms {
                ended.push(repair.id);
            }
            ControlFlow::Continue(())
        })?;
        Ok(ended)
    }

    /// Ids of the repairs that are not at their end.
    pub(crate) fn open_repairs(&self) -> Result<Vec<Uuid>, StoreError> {
        let mut open = Vec::new();
        self.visit_rows(&SagaKey::open_repairs(), None, &mut |key, _| {
            open.push(SagaKey::open_repair(key).ok_or_else(|| CodecError::Json(format!("{key:02x?} is no open repair")))?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(open)
    }

    /// Folds a repair; `None` if there is none.
    pub(crate) fn fold_repair(&self, id: Uuid) -> Result<Option<Repair>, StoreError> {
        let mut repair: Option<Repair> = None;
        let damaged = |reason: String| StoreError::History { id, reason };
        self.visit_rows(&SagaKey::repair_events(id), None, &mut |key, row| {
            let expected = repair.as_ref().map_or(0, Repair::events);
            if SagaKey::repair_sequence(key) != Some(expected) {
                return Err(damaged(format!("event {expected} is missing")));
            }
            let event: RecordedRepairEvent = decode(row)?;
            match &mut repair {
                Some(repair) => repair.apply(&event).map_err(|illegal| damaged(illegal.to_string()))?,
                None => repair = Some(Repair::start(id, &event).map_err(|illegal| damaged(illegal.to_string()))?),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(repair)
    }

    /// A page of results, and where the next one begins.
    pub(crate) fn repair_results(
        &self,
        id: Uuid,
        query: &RepairResultsQuery,
        limit: usize,
    ) -> Result<(Vec<RepairResult>, Option<u64>), StoreError> {
        let (mut results, mut next) = (Vec::new(), query.after.unwrap_or(0));
        let from = SagaKey::RepairEvent(id, next).encode();
        let mut is_cut = false;
        self.visit_rows(&SagaKey::repair_events(id), Some(&from), &mut |key, row| {
            if results.len() == limit {
                is_cut = true;
                return Ok(ControlFlow::Break(()));
            }
            let event: RecordedRepairEvent = decode(row)?;
            next = SagaKey::repair_sequence(key).map_or(next, |sequence| sequence + 1);
            if let RepairEvent::SagaRepaired { number, saga, repaired } = event.event
                && query.outcome.is_none_or(|outcome| outcome == repaired.outcome)
            {
                results.push(RepairResult { number, saga, repaired, at_ms: event.at_ms });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let is_open = self.repair(id)?.is_some_and(|repair| !repair.state.is_final());
        Ok((results, (is_cut || is_open).then_some(next)))
    }

    /// The sagas of this lane whose repairs wait for them.
    pub(crate) fn watches(&self) -> Result<Vec<(Uuid, Watch)>, StoreError> {
        let mut watches = Vec::new();
        self.visit_rows(&SagaKey::watches(), None, &mut |key, row| {
            let saga = SagaKey::watched(key).ok_or_else(|| CodecError::Json(format!("{key:02x?} is no watched saga")))?;
            watches.push((saga, decode(row)?));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(watches)
    }

    pub(super) fn visit_rows(&self, prefix: &[u8], from: Option<&[u8]>, visit: VisitRow<'_>) -> Result<(), StoreError> {
        let mut fault = None;
        self.0.scan(prefix, from, &mut |key, row| match visit(key, row) {
            Ok(flow) => flow,
            Err(error) => {
                fault = Some(error);
                ControlFlow::Break(())
            }
        })?;
        fault.map_or(Ok(()), Err)
    }
}

/// Adds new events of a repair, and the repair in short.
///
/// # Panics
/// When the events cannot be the last ones of the repair.
pub(crate) fn put_repair(commit: &mut ShardCommit, repair: &Repair, events: &[RecordedRepairEvent]) {
    let first = repair.events().checked_sub(events.len() as u64).expect("a repair has all of its events");
    for (sequence, event) in (first..).zip(events) {
        commit.put(&SagaKey::RepairEvent(repair.id(), sequence).encode(), encode(event));
    }
    commit.put(&SagaKey::Repair(repair.id()).encode(), encode(&repair.description()));
    let open = SagaKey::OpenRepair(repair.id()).encode();
    if repair.state().is_final() {
        commit.delete(&open);
    } else if first == 0 {
        commit.put(&open, Vec::new());
    }
}

/// Adds the removal of so many rows of a repair at its end: its newest events first, and with its first event the repair in short. Gives whether
/// nothing of it is left. Blocks on storage.
///
/// # Errors
/// When storage fails; nothing is added then.
pub(crate) fn forget_repair(store: &LaneStore, commit: &mut ShardCommit, id: Uuid, most: usize) -> Result<bool, StoreError> {
    let mut keys = Vec::new();
    let events = SagaKey::repair_events(id);
    let end = [&events[..], &[u8::MAX; 9]].concat();
    store.0.scan_back(&events..&end, &mut |key, _| {
        keys.push(key.to_vec());
        if keys.len() > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let is_whole = keys.len() <= most;
    for key in keys.iter().take(most) {
        commit.delete(key);
    }
    if is_whole {
        commit.delete(&SagaKey::Repair(id).encode());
    }
    Ok(is_whole)
}

/// Adds that a repair waits for a saga.
pub(crate) fn put_watch(commit: &mut ShardCommit, saga: Uuid, watch: &Watch) {
    commit.put(&SagaKey::Watch(saga, watch.repair).encode(), encode(watch));
}

/// Adds that it waits no more.
pub(crate) fn delete_watch(commit: &mut ShardCommit, saga: Uuid, watch: &Watch) {
    commit.delete(&SagaKey::Watch(saga, watch.repair).encode());
}
