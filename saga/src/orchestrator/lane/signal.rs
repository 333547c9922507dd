//! A signal for an instance of the lane.

use super::batch::Applied;
use super::input::{Addressee, Reply};
use super::refusal::Undecided;
use super::task::Lane;
use crate::orchestrator::error::InstanceError;
use crate::protocol::{Input, Signal, instance_id};
use sagamq_api::SagaName;
use sagamq_api::saga::SentSignal;
use sagamq_broker::audit::Note;
use uuid::Uuid;

impl Lane {
    pub(super) async fn signal(&mut self, to: Addressee, signal: Box<Signal>, reply: Reply<SentSignal, Undecided>) {
        let found = match to {
            Addressee::Id(id) => Ok(id),
            // What is started with the key a moment ago is in memory, and its row is not yet to be read.
            Addressee::Key(saga, key) => self.last_started(&saga, &key).and_then(|id| id.ok_or(InstanceError::KeyNotFound { saga, key })),
        };
        match found {
            Ok(id) => {
                let make = move |applied: Applied| SentSignal { id, duplicate: applied.duplicate, state: applied.state };
                self.answer_with(id, Input::Signal(signal), Note::nothing(), reply, make).await;
            }
            Err(error) => self.answer_when_durable(reply, Err(error.into())),
        }
    }

    /// The instance that a business key started last.
    pub(super) fn last_started(&self, saga: &SagaName, key: &str) -> Result<Option<Uuid>, InstanceError> {
        if let Some(id) = self.keys.get(&(saga.clone(), key.to_owned())) {
            return Ok(Some(*id));
        }
        let store = &self.parts.store;
        let generation = store.last_generation(saga, key)?;
        Ok(generation.map(|generation| instance_id(store.0.shard(), saga, key, generation)))
    }
}
