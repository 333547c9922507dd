//! What an input means for an instance, and setting aside an instance about which nothing can be decided.

use super::refusal::Undecided;
use super::task::{Lane, Live};
use crate::definition::Definition;
use crate::orchestrator::beside::{beside, may_take_long};
use crate::orchestrator::error::InstanceError;
use crate::orchestrator::quarantine::SetAside;
use crate::protocol::{Decision, Event, Input, Instance, Rejection};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use uuid::Uuid;

/// What a lane decides.
pub(super) type Decided = Decision<Instance, Event>;

/// A decision panicked. It changes nothing by itself, so nothing is half done.
pub(super) struct Panicked;

fn caught<T>(decide: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(decide)).map_err(|_| Panicked)
}

impl Lane {
    /// Decides on the state that all inputs before left. What was decided of the instance before is committed first.
    pub(super) async fn decide(&mut self, id: Uuid, input: Input) -> Result<Decided, Undecided> {
        if self.batch.holds(id) {
            self.flush().await;
        }
        if let Some(reason) = self.parts.quarantine.reason(id) {
            return Err(InstanceError::Quarantined { id, reason }.into());
        }
        if self.asleep.is_away(id) {
            self.wake(id)?;
        }
        let mut folded = None;
        let decided = match self.instances.get(&id) {
            Some(live) if !may_take_long(&live.definition, &live.instance, &input) => {
                let (now_ms, random) = (self.parts.clock.now_ms(), &mut self.parts.random);
                caught(|| live.instance.decide(&live.definition, input, now_ms, &mut || random.fraction()))
            }
            Some(Live { definition, instance }) => {
                let (definition, instance) = (Arc::clone(definition), instance.clone());
                Box::pin(self.decide_beside(definition, instance, input)).await
            }
            None => {
                // Long at its end: only the disk knows it.
                let (definition, instance) = self.fold(id)?.ok_or(InstanceError::NotFound(id))?;
                let decided = self.decide_on(&definition, &instance, input).await;
                folded = Some(Live { definition, instance });
                decided
            }
        };
        // A poison definition or input is its own saga's fault, and must not take the others with it.
        let decided = decided.map_err(|Panicked| {
            self.set_aside(id, SetAside::Panicked);
            InstanceError::Quarantined { id, reason: SetAside::Panicked }
        })?;
        let decided = decided?;
        if let Some(next) = &decided.next {
            self.admit_rerun(next)?;
        }
        if let Some(live) = folded.filter(|_| !decided.events.is_empty()) {
            // It changes once more, and leaves memory again as the others do.
            self.instances.insert(id, live);
        }
        Ok(decided)
    }

    /// Decides about an instance that is not in memory.
    pub(super) async fn decide_on(
        &mut self,
        definition: &Arc<Definition>,
        instance: &Instance,
        input: Input,
    ) -> Result<Result<Decided, Rejection>, Panicked> {
        if may_take_long(definition, instance, &input) {
            return Box::pin(self.decide_beside(Arc::clone(definition), instance.clone(), input)).await;
        }
        let (now_ms, random) = (self.parts.clock.now_ms(), &mut self.parts.random);
        caught(|| instance.decide(definition, input, now_ms, &mut || random.fraction()))
    }

    async fn decide_beside(
        &mut self,
        definition: Arc<Definition>,
        instance: Instance,
        input: Input,
    ) -> Result<Result<Decided, Rejection>, Panicked> {
        // Whoever is decided already does not wait for this.
        self.flush().await;
        let (now_ms, mut random) = (self.parts.clock.now_ms(), self.parts.random.fork());
        beside(move || caught(|| instance.decide(&definition, input, now_ms, &mut || random.fraction()))).await
    }

    /// An instance as the disk has it; `None`: it is not there, or on its way out.
    pub(super) fn fold(&self, id: Uuid) -> Result<Option<(Arc<Definition>, Instance)>, InstanceError> {
        if self.forgotten.contains(id) {
            return Ok(None);
        }
        let definitions = &self.parts.definitions;
        Ok(self.parts.store.fold(id, &|saga, version| definitions.compiled(saga, version))?)
    }

    /// Sets an instance aside while it is in memory: it takes no more part, and its commands go to nobody any more.
    pub(super) fn set_aside(&mut self, id: Uuid, reason: SetAside) {
        self.parts.quarantine.add(id, reason);
        self.parts.metrics.quarantined.inc();
        self.timers.set(id, None);
        drop(self.waiters.take(id));
        let open = self.instances.get(&id).map(|live| live.instance.open_attempts()).unwrap_or_default();
        self.stale.extend(self.dispatcher.abandon(&open));
        if let Some(live) = self.instances.remove(&id) {
            self.finished.remove(id);
            let state = live.instance.state();
            self.parts.metrics.moved((!state.is_final()).then_some(state), None);
            self.let_go(&live.instance);
        }
    }
}
