//! Instances that only wait for a time or a signal leave memory, and are folded again when something comes for them.
//!
//! One leaves when the commit that put it to sleep is durable, so that the disk has all of it, and a moment later: what follows at once
//! finds it.

use super::asleep::Leaving;
use super::task::{Lane, Live};
use crate::orchestrator::error::InstanceError;
use crate::orchestrator::quarantine::SetAside;
use crate::store::StoreError;
use sagamq_api::saga::SagaState;
use sagamq_broker::storage::StorageError;
use uuid::Uuid;

/// How long an instance that sleeps stays in memory, in milliseconds.
const STAYS_MS: u64 = 1_000;

/// How long an instance is left alone that could not be read for a fault of the device, in milliseconds.
const TRY_LATER_MS: u64 = 1_000;

impl Lane {
    /// Lets an instance that sleeps, and has so many events, leave memory in a moment.
    pub(super) fn may_leave(&mut self, id: Uuid, events: u64) {
        let at_ms = self.parts.clock.now_ms().saturating_add(STAYS_MS);
        self.asleep.leaving.push_back(Leaving { at_ms, commit: self.commits, id, events });
    }

    /// An instance that was asleep before the restart: only its time is known.
    pub(super) fn recover_asleep(&mut self, id: Uuid, until_ms: u64) {
        self.parts.metrics.moved(None, Some(SagaState::Waiting));
        self.parts.metrics.recovered.inc();
        self.parts.metrics.asleep.inc();
        self.timers.set(id, (until_ms < u64::MAX).then_some(until_ms));
        self.asleep.away.insert(id);
    }

    /// Lets those go whose moment has come.
    pub(super) fn let_sleep(&mut self) {
        let (now_ms, durable) = (self.parts.clock.now_ms(), self.durable());
        while let Some(&Leaving { at_ms, commit, id, events }) = self.asleep.leaving.front()
            && at_ms <= now_ms
            && commit <= durable
        {
            self.asleep.leaving.pop_front();
            let is_asleep = |live: &Live| live.instance.head().events == events && live.instance.asleep_until_ms().is_some();
            if self.batch.holds(id) || !self.instances.get(&id).is_some_and(is_asleep) {
                continue;
            }
            let live = self.instances.remove(&id).expect("it was just looked at");
            self.let_go(&live.instance);
            self.asleep.away.insert(id);
            self.parts.metrics.asleep.inc();
        }
    }

    /// Takes an instance into memory again that something has come for. One that cannot be read is set aside.
    pub(super) fn wake(&mut self, id: Uuid) -> Result<(), InstanceError> {
        let (definition, instance) = match self.fold(id) {
            Ok(Some(folded)) => folded,
            Ok(None) => return Err(self.cannot_wake(id, "it has no events".to_owned())),
            // A device that fails is not a damaged instance.
            Err(InstanceError::Store(error)) if matches!(&*error, StoreError::Storage(StorageError::Io(_))) => {
                self.timers.set(id, Some(self.parts.clock.now_ms().saturating_add(TRY_LATER_MS)));
                return Err(InstanceError::Store(error));
            }
            Err(error) => return Err(self.cannot_wake(id, error.to_string())),
        };
        self.asleep.away.remove(&id);
        self.parts.metrics.asleep.dec();
        let head = instance.head();
        self.keys.insert((head.saga.clone(), head.key.clone()), id);
        self.may_leave(id, head.events);
        self.instances.insert(id, Live { definition, instance });
        Ok(())
    }

    fn cannot_wake(&mut self, id: Uuid, reason: String) -> InstanceError {
        self.asleep.away.remove(&id);
        self.parts.metrics.asleep.dec();
        self.parts.metrics.moved(Some(SagaState::Waiting), None);
        self.set_aside(id, SetAside::Unreadable(reason.clone()));
        InstanceError::Quarantined { id, reason: SetAside::Unreadable(reason) }
    }
}
