//! Whose the calls are that bear the name of an instance that was rerun: the compensations of what a rerun took over.

use crate::protocol::Instance;
use sagamq_api::StepId;
use sagamq_api::saga::AttemptId;
use std::collections::HashMap;
use uuid::Uuid;

/// What the instances in memory took over, by the instance that did it.
#[derive(Debug, Default)]
pub(super) struct Adopted(HashMap<Uuid, HashMap<StepId, Uuid>>);

impl Adopted {
    /// An instance is in memory. What was handed on belongs to the last that took it over.
    pub(super) fn add(&mut self, instance: &Instance) {
        if instance.rerun_of().is_none() {
            return;
        }
        for (origin, step) in instance.adopted() {
            if instance.handed_over(step).is_none() {
                self.0.entry(origin).or_default().insert(step.clone(), instance.head().id);
            }
        }
    }

    /// It leaves memory.
    pub(super) fn remove(&mut self, instance: &Instance) {
        if instance.rerun_of().is_none() {
            return;
        }
        for (origin, step) in instance.adopted() {
            let Some(of_origin) = self.0.get_mut(&origin) else { continue };
            if of_origin.get(step) == Some(&instance.head().id) {
                of_origin.remove(step);
            }
            if of_origin.is_empty() {
                self.0.remove(&origin);
            }
        }
    }

    /// Who makes the calls of this name, if that is another instance in memory.
    pub(super) fn find(&self, attempt: &AttemptId) -> Option<Uuid> {
        self.0.get(&attempt.instance)?.get(&attempt.step).copied()
    }
}
