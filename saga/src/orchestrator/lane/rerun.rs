//! Starting the rerun of an instance, in the commit that hands over to it, and who is meant by the name of one that was rerun.

use super::along::Along;
use super::decide::Decided;
use super::refusal::Undecided;
use super::task::{Lane, Live};
use crate::orchestrator::error::InstanceError;
use crate::protocol::repair::Watch;
use crate::protocol::{Instance, Rejection};
use sagamq_api::saga::{AttemptId, Operation, VerbName};
use std::sync::Arc;
use uuid::Uuid;

impl Lane {
    /// Whether the rerun that was decided may start: it is the next generation of the key, and nobody has its id.
    pub(super) fn admit_rerun(&self, next: &Decided) -> Result<(), Undecided> {
        let head = next.state.head();
        let store = &self.parts.store;
        let last = store.last_generation(&head.saga, &head.key).map_err(InstanceError::from)?;
        let first = store.first_event(head.id).map_err(InstanceError::from)?;
        if last != Some(head.generation - 1) || first.is_some() || self.instances.contains_key(&head.id) {
            let reason = format!("its key started another saga since, or the id {} is taken", head.id);
            return Err(Rejection::NotNow { verb: VerbName::Rerun, reason }.into());
        }
        Ok(())
    }

    /// Adds the rerun to the commit that hands over to it.
    pub(super) fn stage_rerun(&mut self, of: Uuid, next: Decided, watch: Option<Watch>) {
        let definition = Arc::clone(&self.instances.get(&of).expect("what hands over is in memory").definition);
        let (id, protocol) = (next.state.head().id, next.state.protocol());
        let key = (next.state.head().saga.clone(), next.state.head().key.clone());
        self.keys.insert(key, id);
        self.instances.insert(id, Live { instance: Instance::new(protocol, id, &definition), definition });
        let staged = self.stage(id, next, Along { watch, ..Along::default() }, Box::new(|_| ()));
        assert!(staged, "what starts has called nobody yet");
    }

    /// The instance that makes the calls of this name. The one that is named may have been removed, as long as its rerun is there.
    pub(super) fn addressee(&self, attempt: &AttemptId) -> Uuid {
        if attempt.operation != Operation::Compensation {
            return attempt.instance;
        }
        if let Some(id) = self.adopted.find(attempt) {
            return id;
        }
        // The rerun is long at its end: what is said late is said to it.
        let mut id = attempt.instance;
        while let Ok(Some(Some(next))) = self.looked_at(id, |instance| instance.handed_over(&attempt.step)) {
            id = next;
        }
        id
    }
}
