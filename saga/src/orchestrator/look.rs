//! What instances are like now, asked of their lanes: what the disk says of an instance that moves may be old, and does not say why one does
//! not move.

use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::{LaneInput, Seen};
use super::queries::blocking;
use crate::protocol::{instance_id, lane_of};
use futures_util::future::{OptionFuture, join_all};
use sagamq_api::saga::{SagaDescription, SagaState, SagaSummary, StepDescription, WaitCode, Waits};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

impl Orchestrator {
    /// Makes rows of a listing say what is now, and what each waits for. A lane that does not answer leaves its rows as they were written.
    pub(super) async fn refresh(&self, rows: &mut [SagaSummary]) {
        let mut of_lanes: BTreeMap<u16, Vec<Uuid>> = BTreeMap::new();
        for row in rows.iter().filter(|row| !row.state.is_final() && row.state != SagaState::Quarantined) {
            of_lanes.entry(lane_of(row.id)).or_default().push(row.id);
        }
        let seen = join_all(of_lanes.into_iter().map(|(lane, ids)| self.look(lane, ids))).await;
        let mut seen: HashMap<Uuid, Seen> = seen.into_iter().flatten().flatten().map(|seen| (seen.summary.id, seen)).collect();
        let asleep = rows.iter().filter(|row| row.state == SagaState::Waiting && !seen.contains_key(&row.id)).map(|row| row.id);
        seen.extend(self.asleep(asleep.collect()).await.into_iter().map(|seen| (seen.summary.id, seen)));
        for row in rows {
            if row.state == SagaState::Quarantined {
                row.waits = self.0.quarantine.reason(row.id).map(|reason| set_aside(&reason.to_string()));
            } else if let Some(Seen { summary, waits }) = seen.remove(&row.id) {
                *row = SagaSummary { waits: waits.into_iter().next(), ..summary };
            }
        }
    }

    /// Adds what the instance waits for to its description.
    pub(super) async fn explain(&self, description: &mut SagaDescription) {
        let id = description.summary.id;
        if description.summary.state.is_final() {
            return;
        }
        // A lane that does not answer, with writes stopped for one, has no say in what is described.
        let Ok(mut seen) = self.look(lane_of(id), vec![id]).await else { return };
        if seen.is_empty() && description.summary.state == SagaState::Waiting {
            seen = self.asleep(vec![id]).await;
        }
        let Some(Seen { mut waits, .. }) = seen.into_iter().next() else { return };
        for wait in waits.iter_mut().filter(|wait| wait.code == WaitCode::AwaitsLock) {
            let step = description.steps.iter().find(|step| wait.step.as_ref() == Some(&step.id));
            let lock = step.and_then(|step| step.lock.as_ref()).map(|lock| self.lock(&lock.key));
            if let Some(Some(lock)) = OptionFuture::from(lock).await {
                let before = lock.waiters.iter().position(|waiter| waiter.saga_id == id).unwrap_or(lock.waiters.len());
                let before = if before > 0 { format!(", and {before} others get it before") } else { String::new() };
                wait.message = format!("{}, which saga {} holds{before}", wait.message, lock.held_by);
            }
        }
        for step in &mut description.steps {
            step.waits = waits.iter().find(|waits| waits.step.as_ref() == Some(&step.id)).cloned();
        }
        description.summary.waits = waits.into_iter().next();
    }

    /// Adds the ids and states of the sub-sagas of its steps to a description, as the disk has them.
    pub(super) async fn find_children(&self, description: &mut SagaDescription) {
        let named = |step: &StepDescription| step.child.as_ref().map(|child| (child.saga.clone(), child.key.clone()));
        let wanted: Vec<_> = description.steps.iter().filter_map(named).collect();
        if wanted.is_empty() {
            return;
        }
        let orchestrator = self.clone();
        let found = blocking(move || {
            let mut found = HashMap::new();
            for (saga, key) in wanted {
                let lane = orchestrator.lane_of_key(&saga, &key);
                let store = orchestrator.store(lane);
                let Some(generation) = store.last_generation(&saga, &key)? else { continue };
                let id = instance_id(lane, &saga, &key, generation);
                found.insert(key, (id, store.summary(id)?.map(|summary| summary.state)));
            }
            Ok(found)
        });
        let found = found.await.unwrap_or_default();
        let SagaDescription { steps, summary, .. } = description;
        for step in steps {
            let Some(child) = step.child.as_mut() else { continue };
            let Some((id, state)) = found.get(&child.key) else { continue };
            (child.id, child.state) = (Some(*id), *state);
            // Why it does not move says for whom it waits, and how that one is.
            let waits = step.waits.iter_mut().chain(summary.waits.iter_mut().filter(|waits| waits.step.as_ref() == Some(&step.id)));
            for waits in waits.filter(|waits| waits.code == WaitCode::SubSaga) {
                let state = state.map(|state| format!(", which is {state}")).unwrap_or_default();
                waits.message.push_str(&format!(": {id}{state}"));
            }
        }
    }

    /// Instances that only wait and are not in memory, as the disk has them: they call nobody, so their lanes know no more.
    async fn asleep(&self, ids: Vec<Uuid>) -> Vec<Seen> {
        if ids.is_empty() {
            return Vec::new();
        }
        let (orchestrator, definitions) = (self.clone(), self.0.definitions.clone());
        let folded = blocking(move || {
            let fold = |id| orchestrator.store(lane_of(id)).fold(id, &|saga, version| definitions.compiled(saga, version)).ok().flatten();
            let instances = ids.into_iter().filter_map(fold).map(|(_, instance)| instance);
            Ok(instances.map(|instance| Seen { summary: instance.summary(), waits: instance.waits(&[]) }).collect())
        });
        folded.await.unwrap_or_default()
    }

    async fn look(&self, lane: u16, ids: Vec<Uuid>) -> Result<Vec<Seen>, InstanceError> {
        let Some(lane) = self.0.lanes.get(usize::from(lane)) else { return Ok(Vec::new()) };
        lane.ask(|reply| LaneInput::Look { ids, reply }).await
    }
}

fn set_aside(reason: &str) -> Waits {
    let message = format!("is set aside: {reason}");
    let (step, operation) = (None, None);
    Waits {
        code: WaitCode::SetAside,
        message,
        step,
        item: None,
        operation,
        attempt: None,
        since_ms: None,
        next_at_ms: None,
        failure: None,
        held_by: None,
    }
}
