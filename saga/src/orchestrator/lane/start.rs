//! Starting an instance once by its business key, and taking instances over after a restart.

use super::input::Reply;
use super::{Lane, Live};
use crate::definition::{Definition, Target};
use crate::expression::same;
use crate::orchestrator::SagaError;
use crate::orchestrator::beside::{INLINE_BYTES_MAX, beside};
use crate::orchestrator::quarantine::SetAside;
use crate::protocol::{FIRST_GENERATION, Input, InstanceState, SagaEvent, instance_id, open_calls};
use sagamq_api::saga::{SagaState, StartedSaga};
use sagamq_api::{JsonText, SagaName};
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
    pub(super) async fn start(&mut self, definition: Arc<Definition>, key: String, input: JsonText, reply: Reply<StartedSaga>) {
        let started = match self.started_by(&definition.name, &key) {
            Ok(Known::Next(generation)) => return self.start_new(definition, key, generation, input, reply).await,
            Ok(Known::Instance(id, started_with, state)) if is_same(&started_with, &input).await => {
                Ok(StartedSaga { id, key, duplicate: true, state })
            }
            Ok(Known::Instance(id, ..)) => Err(SagaError::KeyConflict { key, id }),
            Err(error) => Err(error),
        };
        self.when_durable(move |durable| {
            // Whoever asked may have gone.
            let _ = reply.send(durable.map_err(SagaError::from).and(started));
        });
    }

    async fn start_new(&mut self, definition: Arc<Definition>, key: String, generation: u64, input: JsonText, reply: Reply<StartedSaga>) {
        let id = instance_id(self.parts.store.0.shard(), &definition.name, &key, generation);
        match self.parts.store.first_event(id) {
            Ok(None) if !self.instances.contains_key(&id) => {}
            // Another key with the same hash, which no one has ever seen; or a row of the key that was lost.
            Ok(_) => return drop(reply.send(Err(SagaError::IdTaken { key, id }))),
            Err(error) => return drop(reply.send(Err(error.into()))),
        }
        let state = InstanceState::new(id, &definition);
        let decision = match self.decide_on(&definition, &state, Input::Start { key: key.clone(), generation, input }).await {
            Ok(decision) => decision,
            Err(error) => return drop(reply.send(Err(error))),
        };
        self.keys.insert((definition.name.clone(), key.clone()), id);
        self.instances.insert(id, Live { definition, state });
        let answer = Box::new(move |applied: Result<super::advance::Applied, _>| {
            let started = applied.map(|applied| StartedSaga { id, key, duplicate: false, state: applied.state });
            // Whoever asked may have gone; the saga runs.
            let _ = reply.send(started.map_err(SagaError::from));
        });
        self.commit(id, decision, None, answer).await;
    }

    fn started_by(&self, saga: &SagaName, key: &str) -> Result<Known, SagaError> {
        if let Some(live) = self.keys.get(&(saga.clone(), key.to_owned())).and_then(|id| self.instances.get(id)) {
            return Ok(Known::Instance(live.state.id, live.state.input.clone(), live.state.saga_state()));
        }
        let store = &self.parts.store;
        let Some(generation) = store.last_generation(saga, key)? else { return Ok(Known::Next(FIRST_GENERATION)) };
        let id = instance_id(store.0.shard(), saga, key, generation);
        let damaged =
            || SagaError::Quarantined { id, reason: SetAside::Unreadable("its first event or its summary is missing".to_owned()) };
        match (store.first_event(id)?, store.summary(id)?) {
            (None, None) => Ok(Known::Next(generation + 1)),
            (Some(first), Some(summary)) => match first.event {
                SagaEvent::SagaStarted { saga: of, key: its, input, .. } if of == *saga && its == key => {
                    Ok(Known::Instance(id, input, summary.state))
                }
                SagaEvent::SagaStarted { .. } => Err(SagaError::IdTaken { key: key.to_owned(), id }),
                _ => Err(damaged()),
            },
            _ => Err(damaged()),
        }
    }

    /// Takes recovered instances over: timers from their states, and calls in progress to HTTP participants once more, with the same
    /// key and epoch. Command records are in their topics; nothing is to be done for them.
    pub(super) fn resume(&mut self, instances: Vec<(Arc<Definition>, InstanceState)>) {
        let now_ms = self.parts.clock.now_ms();
        for (definition, state) in instances {
            self.parts.metrics.moved(None, Some(state.saga_state()));
            self.parts.metrics.recovered.inc();
            self.timers.set(state.id, if state.is_due(now_ms) { Some(now_ms) } else { state.next_look_ms(now_ms) });
            for call in open_calls(&definition, &state).into_iter().filter(|call| matches!(call.target, Target::Http(_))) {
                // An earlier process may have sent it, so it is asked once more, in a time of its own.
                let over = self.parts.caller.enter(&call, true);
                self.parts.caller.call(call, over);
            }
            self.keys.insert((state.saga.clone(), state.key.clone()), state.id);
            self.instances.insert(state.id, Live { definition, state });
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
