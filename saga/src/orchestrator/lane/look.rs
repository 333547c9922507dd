//! Looks at instances in memory: what each waits for, and which are in trouble. Nothing is decided.

use super::input::{Reply, Seen};
use super::task::Lane;
use crate::orchestrator::error::InstanceError;
use crate::orchestrator::trouble::Troubles;
use crate::participant::Held;
use crate::protocol::{HandOut, held_back};
use sagamq_api::SagaName;
use sagamq_api::saga::{AttemptId, Waits};
use uuid::Uuid;

impl Lane {
    /// Those of the instances that are in memory.
    pub(super) async fn look(&mut self, ids: &[Uuid], reply: Reply<Vec<Seen>, InstanceError>) {
        let Some(known) = self.hand_outs(ids).await else { return };
        let seen = ids.iter().zip(&known).filter_map(|(id, known)| self.seen(*id, known)).collect();
        self.answer_when_durable(reply, Ok(seen));
    }

    fn seen(&self, id: Uuid, known: &[(AttemptId, HandOut)]) -> Option<Seen> {
        let instance = &self.instances.get(&id)?.instance;
        let mut waits: Vec<Waits> = instance.waits(known).into_iter().map(|waits| self.with_bound(id, known, waits)).collect();
        waits.sort_by_key(|wait| wait.code);
        Some(Seen { summary: instance.summary(), waits })
    }

    /// What waits to be sent says which bound of its service holds it back, if one does.
    fn with_bound(&self, id: Uuid, known: &[(AttemptId, HandOut)], waits: Waits) -> Waits {
        let (Some(step), Some(operation), Some(epoch)) = (&waits.step, waits.operation, waits.attempt) else { return waits };
        let is_it = |attempt: &&AttemptId| attempt.step == *step && attempt.operation == operation && attempt.epoch == epoch;
        // What a rerun took over is called in the name of the instance that did it.
        let named = known.iter().map(|(attempt, _)| attempt).find(is_it).cloned();
        let attempt = named.unwrap_or_else(|| AttemptId { instance: id, step: step.clone(), item: None, operation, epoch });
        match self.dispatcher.held(&attempt) {
            Some(Held { by, until_ms }) => held_back(waits, by, until_ms),
            None => waits,
        }
    }

    /// Instances in trouble, of one definition or of all.
    pub(super) fn troubles(&self, saga: Option<&SagaName>, reply: Reply<Troubles, InstanceError>) {
        let mut troubles = Troubles::default();
        for live in self.instances.values() {
            let head = live.instance.head();
            if saga.is_none_or(|saga| head.saga == *saga)
                && let Some(trouble) = live.instance.trouble()
            {
                troubles.add(head, trouble);
            }
        }
        self.answer_when_durable(reply, Ok(troubles));
    }
}
