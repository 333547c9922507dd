//! Reading: definitions, one instance, its history.

use super::definitions::DefinitionError;
use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::LaneInput;
use crate::protocol::{Instance, lane_of};
use crate::store::StoreError;
use sagamq_api::SagaName;
use sagamq_api::saga::{DefinitionDescription, SagaDescription, SagaHistory};
use sagamq_broker::WriteError;
use uuid::Uuid;

impl Orchestrator {
    /// The newest version of every definition, by name.
    #[must_use]
    pub fn definitions(&self) -> Vec<DefinitionDescription> {
        self.0.definitions.newest()
    }

    /// A version of a definition, or the newest.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn definition(&self, saga: &SagaName, version: Option<u32>) -> Result<DefinitionDescription, DefinitionError> {
        self.0.definitions.find(saga, version).map(|published| published.description.clone())
    }

    /// One instance. What it tells of a saga is durable, and of a transaction what participants were told of its decision; save after a failed
    /// write: then it may tell what that write left, whose outcome is unknown.
    ///
    /// # Errors
    /// When there is no such instance, or its history is damaged.
    pub async fn get(&self, id: Uuid) -> Result<SagaDescription, InstanceError> {
        Ok(self.instance(id).await?.description())
    }

    /// One instance, from memory or from the disk.
    pub(super) async fn instance(&self, id: Uuid) -> Result<Instance, InstanceError> {
        let lane = self.lane(id)?;
        match lane.ask(|reply| LaneInput::Get { id, reply }).await {
            Ok(Some(instance)) => return Ok(*instance),
            Ok(None) => {}
            Err(error @ InstanceError::Write(WriteError::ShuttingDown)) => return Err(error),
            // With writes stopped, memory is ahead of the disk; the disk is what there is.
            Err(InstanceError::Write(_)) => {}
            Err(error) => return Err(error),
        }
        let (store, definitions) = (self.store(lane_of(id)), self.0.definitions.clone());
        let folded = blocking(move || store.fold(id, &|saga, version| definitions.compiled(saga, version))).await?;
        let (_, instance) = folded.ok_or(InstanceError::NotFound(id))?;
        Ok(instance)
    }

    /// The events of one instance, oldest first. All of them are durable.
    ///
    /// # Errors
    /// When there is no such instance, or its history is damaged.
    pub async fn history(&self, id: Uuid) -> Result<SagaHistory, InstanceError> {
        self.lane(id)?;
        let store = self.store(lane_of(id));
        let events = blocking(move || store.events(id)).await?;
        if events.is_empty() {
            return Err(InstanceError::NotFound(id));
        }
        let events = events.iter().zip(0..).map(|(event, sequence)| event.to_history(sequence)).collect();
        Ok(SagaHistory { id, events })
    }
}

pub(super) async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, InstanceError> {
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.expect("reading neither panics nor is aborted")?)
}
