//! Reading: definitions, one instance, its history.

use super::definitions::DefinitionError;
use super::door::Orchestrator;
use super::error::InstanceError;
use super::lane::LaneInput;
use crate::protocol::{Instance, lane_of};
use crate::store::StoreError;
use sagamq_api::SagaName;
use sagamq_api::limits::PAGE_ROWS_MAX;
use sagamq_api::saga::{DefinitionDescription, HistoryQuery, SagaDescription, SagaHistory};
use sagamq_broker::WriteError;
use uuid::Uuid;

/// Bytes of stored events that a page of a history has, give or take an event.
const HISTORY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a history cannot be shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HistoryError {
    /// A page of so many events cannot be had.
    #[error("`limit` is {0}, allowed is 1 to {PAGE_ROWS_MAX}")]
    Limit(u32),
    /// The instance cannot be asked.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

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
        self.0.definitions.find(saga, version).map(|published| self.0.definitions.describe(&published))
    }

    /// One instance. What it tells of a saga is durable, and of a transaction what participants were told of its decision; save after a failed
    /// write: then it may tell what that write left, whose outcome is unknown.
    ///
    /// # Errors
    /// When there is no such instance, or its history is damaged.
    pub async fn get(&self, id: Uuid) -> Result<SagaDescription, InstanceError> {
        let mut description = self.instance(id).await?.description();
        self.explain(&mut description).await;
        self.find_children(&mut description).await;
        Ok(description)
    }

    /// The name of the definition that an instance is of.
    ///
    /// # Errors
    /// When there is no such instance, or its history is damaged.
    pub async fn saga_of(&self, id: Uuid) -> Result<SagaName, InstanceError> {
        Ok(self.instance(id).await?.summary().saga)
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

    /// A page of the events of one instance, oldest first. All of them are durable.
    ///
    /// # Errors
    /// When a parameter is out of range, there is no such instance, or its history is damaged.
    pub async fn history(&self, id: Uuid, query: HistoryQuery) -> Result<SagaHistory, HistoryError> {
        let limit = query.limit.unwrap_or(PAGE_ROWS_MAX);
        if !(1..=PAGE_ROWS_MAX).contains(&limit) {
            return Err(HistoryError::Limit(limit));
        }
        self.lane(id)?;
        let store = self.store(lane_of(id));
        let first = query.after.map_or(0, |after| after.saturating_add(1));
        let (events, is_there, is_cut) = blocking(move || {
            let events = store.events_from(id, first, limit as usize, HISTORY_BYTES_MAX)?;
            let is_there = !events.is_empty() || store.first_event(id)?.is_some();
            let is_cut = !events.is_empty() && !store.events_from(id, first + events.len() as u64, 1, usize::MAX)?.is_empty();
            Ok((events, is_there, is_cut))
        })
        .await?;
        if !is_there {
            return Err(InstanceError::NotFound(id).into());
        }
        let events: Vec<_> = events.iter().zip(first..).map(|(event, sequence)| event.to_history(sequence)).collect();
        let next = events.last().filter(|_| is_cut).map(|event| event.sequence);
        Ok(SagaHistory { id, events, next })
    }
}

pub(super) async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, InstanceError> {
    let read = tokio::task::spawn_blocking(read).await;
    Ok(read.expect("reading neither panics nor is aborted")?)
}
