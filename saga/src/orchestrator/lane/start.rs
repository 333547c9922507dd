//! Starting an instance once by its business key, and taking instances over after a restart.

use super::input::Reply;
use super::{Lane, Live};
use crate::definition::Definition;
use crate::orchestrator::SagaError;
use crate::protocol::{Input, InstanceState, SagaEvent, new_instance_id, open_calls};
use sagamq_api::saga::{SagaState, StartedSaga};
use sagamq_api::{JsonText, SagaName};
use std::sync::Arc;
use uuid::Uuid;

impl Lane {
    pub(super) async fn start(&mut self, definition: Arc<Definition>, key: String, input: JsonText, reply: Reply<StartedSaga>) {
        let known = match self.started_by(&definition.name, &key) {
            Ok(Some(id)) => self.duplicate(id, &key, &input).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match known {
            Ok(None) => self.start_new(definition, key, input, reply).await,
            Ok(Some(started)) => self.when_durable(move |durable| {
                // Whoever asked may have gone.
                let _ = reply.send(durable.map(|()| started).map_err(SagaError::from));
            }),
            Err(error) => self.when_durable(move |durable| {
                let _ = reply.send(Err(durable.map_or_else(SagaError::from, |()| error)));
            }),
        }
    }

    async fn start_new(&mut self, definition: Arc<Definition>, key: String, input: JsonText, reply: Reply<StartedSaga>) {
        let id = new_instance_id(self.parts.store.0.shard(), self.parts.random.bytes());
        let state = InstanceState::new(id, &definition);
        let decision = match self.decide_on(&definition, &state, Input::Start { key: key.clone(), input }) {
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

    fn started_by(&self, saga: &SagaName, key: &str) -> Result<Option<Uuid>, SagaError> {
        match self.keys.get(&(saga.clone(), key.to_owned())) {
            Some(id) => Ok(Some(*id)),
            None => Ok(self.parts.store.by_business_key(saga, key)?),
        }
    }

    /// The answer to a start whose key is taken: the same instance if the input is the same as well.
    fn duplicate(&self, id: Uuid, key: &str, input: &JsonText) -> Result<StartedSaga, SagaError> {
        let (is_same, state) = match self.instances.get(&id) {
            Some(live) => (live.state.input == *input, live.state.saga_state()),
            None => self.stored(id, input)?,
        };
        if is_same {
            Ok(StartedSaga { id, key: key.to_owned(), duplicate: true, state })
        } else {
            Err(SagaError::KeyConflict { key: key.to_owned(), id })
        }
    }

    fn stored(&self, id: Uuid, input: &JsonText) -> Result<(bool, SagaState), SagaError> {
        let store = &self.parts.store;
        let damaged = || SagaError::Quarantined { id, reason: "its first event or its summary is missing".to_owned() };
        let first = store.first_event(id)?.ok_or_else(damaged)?;
        let SagaEvent::SagaStarted { input: started_with, .. } = first.event else { return Err(damaged()) };
        Ok((started_with == *input, store.summary(id)?.ok_or_else(damaged)?.state))
    }

    /// Takes recovered instances over: timers from their states, and calls in progress to HTTP participants once more, with the same
    /// key and epoch. Command records are in their topics; nothing is to be done for them.
    pub(super) fn resume(&mut self, instances: Vec<(Arc<Definition>, InstanceState)>) {
        let now_ms = self.parts.clock.now_ms();
        for (definition, state) in instances {
            self.parts.metrics.moved(None, Some(state.saga_state()));
            self.parts.metrics.recovered.inc();
            if let Some(due_ms) = state.next_due_ms() {
                self.timers.set(due_ms, state.id);
            }
            for call in open_calls(&definition, &state) {
                if call.call.deadline_ms > now_ms {
                    self.parts.caller.call(call);
                }
            }
            self.keys.insert((state.saga.clone(), state.key.clone()), state.id);
            self.instances.insert(state.id, Live { definition, state });
        }
    }
}
