//! What every lane needs and none owns: the published definitions, which of their versions are started, how long instances are kept, and
//! where services are, in the commits of one shard. A node that has no part in that shard would follow its commits; here, opening reads what they
//! led to, and publishing writes the next one.

use super::codec::{CodecError, decode, encode};
use super::error::StoreError;
use super::keys::SagaKey;
use crate::definition::ServiceAddress;
use core::ops::ControlFlow;
use sagamq_api::saga::{Activation, Retention};
use sagamq_api::{Fault, SagaName, ServiceName};
use sagamq_broker::audit::Note;
use sagamq_broker::{Broker, ShardCommit, ShardEmbedder, SubmitError, WriteError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The shard that holds them.
const CONTROL_SHARD: u16 = 0;

/// A definition as it is stored. What runs is the stored form of what was compiled when it was published; its text is for people and
/// is never compiled again, so that a later rule of the linter cannot stop a saga that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredDefinition {
    pub(crate) name: SagaName,
    pub(crate) version: u32,
    /// The text, see [`crate::dsl::canonical`].
    pub(crate) source: String,
    pub(crate) published_at_ms: u64,
    /// What the linter found when it was published.
    pub(crate) warnings: Vec<Fault>,
    /// What runs, see [`crate::definition::load`].
    pub(crate) executable: Box<RawValue>,
}

/// What lies under the key of a definition. One that cannot be read is no reason not to open.
#[derive(Debug)]
pub(crate) struct FoundDefinition {
    pub(crate) name: SagaName,
    pub(crate) version: u32,
    pub(crate) stored: Result<StoredDefinition, CodecError>,
}

impl From<StoredDefinition> for FoundDefinition {
    fn from(stored: StoredDefinition) -> Self {
        Self { name: stored.name.clone(), version: stored.version, stored: Ok(stored) }
    }
}

/// The durable definitions. Reading blocks on storage.
#[derive(Clone, Debug)]
pub(crate) struct ControlStore(ShardEmbedder);

impl ControlStore {
    pub(crate) fn of(broker: &Broker) -> Self {
        Self(broker.embedder(CONTROL_SHARD))
    }

    pub(crate) fn definitions(&self) -> Result<Vec<FoundDefinition>, StoreError> {
        let mut found = Vec::new();
        self.0.scan(&SagaKey::definitions(), None, &mut |key, value| {
            match SagaKey::definition(key) {
                Some((name, version)) => found.push(FoundDefinition { name, version, stored: decode(value) }),
                None => tracing::error!(?key, "a key among the saga definitions cannot be read and is left out"),
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// What is published under a version, readable or not.
    pub(crate) fn definition(&self, name: &SagaName, version: u32) -> Result<Option<FoundDefinition>, StoreError> {
        let bytes = self.0.get(&SagaKey::Definition(name, version).encode())?;
        Ok(bytes.map(|bytes| FoundDefinition { name: name.clone(), version, stored: decode(&bytes) }))
    }

    /// Which versions new sagas take, of every definition.
    pub(crate) fn activations(&self) -> Result<Vec<Activation>, StoreError> {
        let (mut found, mut damaged) = (Vec::new(), None);
        self.0.scan(&SagaKey::activations(), None, &mut |_, value| match decode(value) {
            Ok(activation) => {
                found.push(activation);
                ControlFlow::Continue(())
            }
            // Which version to start is nothing to guess.
            Err(error) => {
                damaged = Some(error);
                ControlFlow::Break(())
            }
        })?;
        damaged.map_or(Ok(found), |error| Err(error.into()))
    }

    /// How long instances are kept, of whom: a definition, or all that have no rule of their own.
    pub(crate) fn retentions(&self) -> Result<Vec<(Option<SagaName>, Retention)>, StoreError> {
        let (mut found, mut fault) = (Vec::new(), None);
        self.0.scan(&SagaKey::retentions(), None, &mut |key, value| match (SagaKey::retention(key), decode(value)) {
            (Some(of), Ok(retention)) => {
                found.push((of, retention));
                ControlFlow::Continue(())
            }
            (_, read) => {
                fault = Some(read.err().unwrap_or_else(|| CodecError::Json("the key of a retention cannot be read".to_owned())));
                ControlFlow::Break(())
            }
        })?;
        // What is kept by mistake can be removed later; the other way round it is gone.
        match fault {
            Some(error) => Err(error.into()),
            None => Ok(found),
        }
    }

    /// Writes how long instances are kept, or takes the rule away; durable when it returns.
    ///
    /// # Errors
    /// When the commit did not become durable, as far as it is known.
    pub(crate) async fn put_retention(&self, saga: Option<&SagaName>, retention: Option<&Retention>, note: Note) -> Result<(), WriteError> {
        let mut commit = self.0.begin();
        commit.note(note);
        let key = SagaKey::Retention(saga).encode();
        match retention {
            Some(retention) => commit.put(&key, encode(retention)),
            None => commit.delete(&key),
        }
        self.submit(commit).await
    }

    /// Where services are, by name.
    pub(crate) fn services(&self) -> Result<Vec<(ServiceName, ServiceAddress)>, StoreError> {
        let mut found = Vec::new();
        self.0.scan(&SagaKey::services(), None, &mut |key, value| {
            match (SagaKey::service(key), decode(value)) {
                (Some(name), Ok(service)) => found.push((name, service)),
                (_, stored) => {
                    tracing::error!(?key, error = ?stored.err(), "the address of a service cannot be read and is left out: set it again")
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Writes where a service is, or forgets it; durable when it returns.
    ///
    /// # Errors
    /// When the commit did not become durable, as far as it is known.
    pub(crate) async fn put_service(&self, name: &ServiceName, service: Option<&ServiceAddress>, note: Note) -> Result<(), WriteError> {
        let (mut commit, key) = (self.0.begin(), SagaKey::Service(name).encode());
        commit.note(note);
        match service {
            Some(service) => commit.put(&key, encode(service)),
            None => commit.delete(&key),
        }
        self.submit(commit).await
    }

    /// Writes a definition, and which version new sagas take if that changes with it; durable when it returns.
    ///
    /// # Errors
    /// When the commit did not become durable, as far as it is known.
    pub(crate) async fn put(
        &self,
        definition: Option<&StoredDefinition>,
        activation: Option<&Activation>,
        notes: Vec<Note>,
    ) -> Result<(), WriteError> {
        let mut commit = self.0.begin();
        notes.into_iter().for_each(|note| commit.note(note));
        if let Some(definition) = definition {
            commit.put(&SagaKey::Definition(&definition.name, definition.version).encode(), encode(definition));
        }
        if let Some(activation) = activation {
            commit.put(&SagaKey::Activation(&activation.saga).encode(), encode(activation));
        }
        self.submit(commit).await
    }

    async fn submit(&self, commit: ShardCommit) -> Result<(), WriteError> {
        match self.0.submit(commit).await {
            Ok(submitted) => submitted.durable().await,
            Err(SubmitError::Write(error)) => Err(error),
            Err(SubmitError::HandedOut | SubmitError::NotNext(_)) => unreachable!("the commit settles nothing and takes no message"),
        }
    }
}
