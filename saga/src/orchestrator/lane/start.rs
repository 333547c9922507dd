//! Starting an instance once by its business key, and taking instances over after a restart.

use super::advance::Applied;
use super::decide::Panicked;
use super::input::Reply;
use super::refusal::StartError;
use super::task::{Lane, Live};
use crate::definition::Definition;
use crate::expression::same;
use crate::orchestrator::beside::{INLINE_BYTES_MAX, beside};
use crate::orchestrator::error::InstanceError;
use crate::orchestrator::quarantine::SetAside;
use crate::protocol::{FIRST_GENERATION, Input, Instance, Protocol, instance_id};
use sagamq_api::saga::{SagaState, StartedSaga};
use sagamq_api::{JsonText, SagaName};
use sagamq_broker::WriteError;
use std::sync::Arc;
use uuid::Uuid;

/// What a business key has started.
enum Known {
    /// An instance that is there, its input and its state.
    Instance(Uuid, JsonText, SagaState),
    /// Nothing, or what is there no more: the generation of the next instance.
    Next(u64),
}

impl Lane {
    pub(super) async fn start(&mut self, definition: Arc<Definition>, key: String, input: JsonText, reply: Reply<StartedSaga, StartError>) {
        let started = match self.started_by(&definition.name, &key) {
            Ok(Known::Next(generation)) => return self.start_new(definition, key, generation, input, reply).await,
            Ok(Known::Instance(id, started_with, state)) if is_same(&started_with, &input).await => {
                Ok(StartedSaga { id, key, duplicate: true, state })
            }
            Ok(Known::Instance(id, ..)) => Err(StartError::KeyConflict { key, id }),
            Err(error) => Err(error),
        };
        self.answer_when_durable(reply, started);
    }

    async fn start_new(
        &mut self,
        definition: Arc<Definition>,
        key: String,
        generation: u64,
        input: JsonText,
        reply: Reply<StartedSaga, StartError>,
    ) {
        let id = instance_id(self.parts.store.0.shard(), &definition.name, &key, generation);
        match self.parts.store.first_event(id) {
            Ok(None) if !self.instances.contains_key(&id) => {}
            // Another key with the same hash, which no one has ever seen; or a row of the key that was lost.
            Ok(_) => return drop(reply.send(Err(StartError::IdTaken { key, id }))),
            Err(error) => return drop(reply.send(Err(InstanceError::from(error).into()))),
        }
        let instance = Instance::new(Protocol::Saga, id, &definition);
        let started = Input::Start { key: key.clone(), generation, input, cluster: Uuid::nil() };
        let decided = match self.decide_on(&definition, instance.clone(), started).await {
            Ok(Ok(decided)) => decided,
            Ok(Err(rejection)) => return drop(reply.send(Err(rejection.into()))),
            Err(Panicked) => return drop(reply.send(Err(StartError::Panicked))),
        };
        self.keys.insert((definition.name.clone(), key.clone()), id);
        self.instances.insert(id, Live { definition, instance });
        let answer = Box::new(move |applied: Result<Applied, WriteError>| {
            let started = applied.map(|applied| StartedSaga { id, key, duplicate: false, state: applied.state });
            // Whoever asked may have gone; the saga runs.
            let _ = reply.send(started.map_err(StartError::from));
        });
        self.commit(id, decided, None, answer).await;
    }

    fn started_by(&self, saga: &SagaName, key: &str) -> Result<Known, StartError> {
        if let Some(live) = self.keys.get(&(saga.clone(), key.to_owned())).and_then(|id| self.instances.get(id)) {
            let head = live.instance.head();
            return Ok(Known::Instance(head.id, head.input.clone(), live.instance.state()));
        }
        let store = &self.parts.store;
        let Some(generation) = store.last_generation(saga, key).map_err(InstanceError::from)? else {
            return Ok(Known::Next(FIRST_GENERATION));
        };
        let id = instance_id(store.0.shard(), saga, key, generation);
        let (first, summary) = store.first_event(id).and_then(|first| Ok((first, store.summary(id)?))).map_err(InstanceError::from)?;
        let damaged = || {
            let reason = SetAside::Unreadable("its first event or its summary is missing".to_owned());
            InstanceError::Quarantined { id, reason }.into()
        };
        match (first, summary) {
            (None, None) => Ok(Known::Next(generation + 1)),
            (Some(first), Some(summary)) => match first.event.started() {
                Some(started) if started.saga == saga && started.key == key => {
                    Ok(Known::Instance(id, started.input.clone(), summary.state))
                }
                Some(_) => Err(StartError::IdTaken { key: key.to_owned(), id }),
                None => Err(damaged()),
            },
            _ => Err(damaged()),
        }
    }

    /// Takes recovered instances over: timers from their states, and calls in progress.
    pub(super) fn resume(&mut self, instances: Vec<(Arc<Definition>, Instance)>) {
        let now_ms = self.parts.clock.now_ms();
        for (definition, instance) in instances {
            let head = instance.head();
            self.parts.metrics.moved(None, Some(instance.state()));
            self.parts.metrics.recovered.inc();
            self.timers.set(head.id, if instance.is_due(now_ms) { Some(now_ms) } else { instance.next_look_ms(now_ms) });
            for call in instance.open_calls(&definition) {
                self.dispatcher.resume(call);
            }
            self.keys.insert((head.saga.clone(), head.key.clone()), head.id);
            self.instances.insert(head.id, Live { definition, instance });
        }
    }
}

/// Whether two inputs say the same: clients write the fields of an object in any order.
async fn is_same(a: &JsonText, b: &JsonText) -> bool {
    if a == b || a.len().max(b.len()) <= INLINE_BYTES_MAX {
        return same(a.as_str(), b.as_str());
    }
    let (a, b) = (a.clone(), b.clone());
    beside(move || same(a.as_str(), b.as_str())).await
}
