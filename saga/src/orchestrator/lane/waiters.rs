//! Who waits for an instance to come to rest: told by the commit that brings it there, once that is durable, in which state it is.

use crate::protocol::Instance;
use sagamq_api::saga::SagaState;
use std::collections::HashMap;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Who waits, for the state in which the instance rests. Let go without one, it asks what has become of the instance.
pub(in crate::orchestrator) type Waiter = oneshot::Sender<SagaState>;

/// Who waits, by instance.
#[derive(Debug, Default)]
pub(super) struct Waiters(HashMap<Uuid, Vec<Waiter>>);

impl Waiters {
    /// Somebody wants to know when the instance is at rest; `None`: it is not in memory. One that rests already has nobody to wait for it.
    pub(super) fn add(&mut self, id: Uuid, instance: Option<&Instance>, waiter: Waiter) {
        if instance.is_none_or(is_at_rest) {
            // Durable or not: whoever is let go looks, and a look waits for the disk.
            return;
        }
        self.add_asleep(id, waiter);
    }

    /// Somebody wants to know when an instance that sleeps, and is not in memory, is at rest.
    pub(super) fn add_asleep(&mut self, id: Uuid, waiter: Waiter) {
        let waiting = self.0.entry(id).or_default();
        // Whoever waited no longer is gone.
        waiting.retain(|waiter| !waiter.is_closed());
        waiting.push(waiter);
    }

    /// Those who waited for the instance, if it is at rest.
    pub(super) fn take_if_at_rest(&mut self, id: Uuid, instance: &Instance) -> Vec<Waiter> {
        if is_at_rest(instance) { self.take(id) } else { Vec::new() }
    }

    /// Those who waited for the instance.
    pub(super) fn take(&mut self, id: Uuid) -> Vec<Waiter> {
        self.0.remove(&id).unwrap_or_default()
    }
}

/// Whether it goes on only with somebody's help, or not at all.
fn is_at_rest(instance: &Instance) -> bool {
    let state = instance.state();
    state.is_final() || state == SagaState::Blocked
}
