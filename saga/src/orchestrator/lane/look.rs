//! Looks at instances in memory: what each waits for, and which are in trouble. Nothing is decided.

use super::input::{Reply, Seen};
use super::task::Lane;
use crate::orchestrator::error::InstanceError;
use crate::orchestrator::trouble::Troubles;
use crate::protocol::HandOut;
use sagamq_api::SagaName;
use sagamq_api::saga::AttemptId;
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
        let mut waits = instance.waits(known);
        waits.sort_by_key(|wait| wait.code);
        Some(Seen { summary: instance.summary(), waits })
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
