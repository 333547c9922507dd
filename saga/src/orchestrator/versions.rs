//! The versions of a definition, and how many instances each has.

use super::definitions::DefinitionError;
use super::door::Orchestrator;
use crate::store::{LaneStore, StoreError};
use sagamq_api::SagaName;
use sagamq_api::saga::{DefinitionVersion, DefinitionVersions, SagaState, StateCount};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why the versions of a definition cannot be told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VersionsError {
    /// There is no such definition.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// Something stored cannot be read.
    #[error("{0}")]
    Store(Arc<StoreError>),
}

impl Orchestrator {
    /// The versions of a definition, oldest first, with the number of instances of each in each state. It counts rows, one an instance of
    /// whatever definition.
    ///
    /// # Errors
    /// When there is no such definition, or storage fails.
    pub async fn versions(&self, saga: &SagaName) -> Result<DefinitionVersions, VersionsError> {
        let numbers = self.0.definitions.versions(saga);
        if numbers.is_empty() {
            return Err(DefinitionError::NotFound { saga: saga.clone(), version: None }.into());
        }
        let stores: Vec<LaneStore> = (0..self.0.broker.shards()).map(|lane| self.store(lane)).collect();
        let of = saga.clone();
        let counting = tokio::task::spawn_blocking(move || count(&stores, &of)).await.expect("reading neither panics nor is aborted");
        let mut counts = counting.map_err(|error| VersionsError::Store(Arc::new(error)))?;
        let versions = numbers.into_iter().map(|version| {
            let found = self.0.definitions.find(saga, Some(version));
            let instances = counts.remove(&version).unwrap_or_default();
            let instances = instances.into_iter().map(|(state, count)| StateCount { state, count }).collect();
            match found {
                Ok(published) => {
                    let (mode, at_ms) = (published.description.mode, published.description.published_at_ms);
                    DefinitionVersion { version, mode: Some(mode), published_at_ms: Some(at_ms), fault: None, instances }
                }
                Err(error) => DefinitionVersion { version, mode: None, published_at_ms: None, fault: Some(error.to_string()), instances },
            }
        });
        Ok(DefinitionVersions { saga: saga.clone(), versions: versions.collect() })
    }
}

fn count(stores: &[LaneStore], saga: &SagaName) -> Result<BTreeMap<u32, BTreeMap<SagaState, u64>>, StoreError> {
    let mut counts: BTreeMap<u32, BTreeMap<SagaState, u64>> = BTreeMap::new();
    for store in stores {
        store.count_states(saga, &mut |version, state| *counts.entry(version).or_default().entry(state).or_default() += 1)?;
    }
    Ok(counts)
}
