//! Published definitions in memory, shared by all lanes: the fold of what the control shard's commits say of them.

use crate::definition::{self, Definition};
use crate::dsl::{self, Catalogue};
use crate::store::{FoundDefinition, StoredDefinition};
use sagamq_api::SagaName;
use sagamq_api::saga::{Activation, Canary, DefinitionDescription};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Why there is no definition to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// No such definition, or no such version.
    #[error("there is no saga definition `{saga}`{}: publish it first", .version.map(|v| format!(" with version {v}")).unwrap_or_default())]
    NotFound {
        /// The definition.
        saga: SagaName,
        /// The version that was asked for.
        version: Option<u32>,
    },
    /// What is stored of it cannot be read.
    #[error("version {version} of the saga definition `{saga}` cannot be read: {reason}")]
    Unreadable {
        /// The definition.
        saga: SagaName,
        /// The version.
        version: u32,
        /// What is damaged.
        reason: Arc<str>,
    },
}

/// A published definition.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) definition: Arc<Definition>,
    pub(super) description: DefinitionDescription,
}

impl Published {
    fn of(stored: StoredDefinition) -> Result<Self, definition::StoredError> {
        let definition = definition::load(&stored.executable)?;
        let description = DefinitionDescription {
            name: stored.name,
            version: stored.version,
            mode: definition.mode,
            source: stored.source,
            published_at_ms: stored.published_at_ms,
            // Of the version alone nobody can tell.
            starts_percent: 0,
            steps: definition.steps.iter().map(|step| step.id.clone()).collect(),
            warnings: stored.warnings,
        };
        Ok(Self { definition: Arc::new(definition), description })
    }
}

/// What is known of a version: the definition, or why it cannot be read.
type Known = Result<Arc<Published>, Arc<str>>;

/// The versions of a definition, and which of them new sagas take.
#[derive(Debug, Default)]
struct Versions {
    known: BTreeMap<u32, Known>,
    activation: Option<Activation>,
}

/// What a new saga without a version may take.
pub(super) struct Candidates {
    pub(super) active: Arc<Published>,
    /// A version that is tried, and its share of a hundred.
    pub(super) canary: Option<(Arc<Published>, u8)>,
}

/// All published definitions; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Definitions(Arc<RwLock<BTreeMap<SagaName, Versions>>>);

impl Catalogue for Definitions {
    fn look_up(&self, saga: &SagaName, version: Option<u32>) -> Option<dsl::Published> {
        let published = match version {
            Some(version) => self.find(saga, Some(version)).ok()?,
            None => self.candidates(saga).ok()?.active,
        };
        Some(dsl::Published::of(&published.definition))
    }
}

impl Definitions {
    /// Takes over what a commit of the control shard says: the one way by which lanes learn of a definition, at the start, after publishing,
    /// and whenever a commit comes from elsewhere. Gives whether it can run: if not, its version stays taken and its instances are set aside.
    pub(super) fn learn(&self, found: FoundDefinition) -> Known {
        let FoundDefinition { name, version, stored } = found;
        let known: Known = stored
            .map_err(|error| error.to_string().into())
            .and_then(|stored| Published::of(stored).map(Arc::new).map_err(|error| error.to_string().into()));
        if let Err(reason) = &known {
            tracing::error!(saga = %name, version, %reason, "a published definition cannot be read: its sagas are set aside; all others run");
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().known.insert(version, known.clone());
        known
    }

    /// As [`Definitions::learn`], of which versions new sagas take.
    pub(super) fn activated(&self, activation: Activation) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let of = all.entry(activation.saga.clone()).or_default();
        of.activation = Some(activation);
    }

    /// Which versions new sagas take, if anything of the name is published.
    pub(super) fn activation(&self, saga: &SagaName) -> Option<Activation> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(saga)?.activation.clone()
    }

    /// What a new saga without a version may take.
    pub(super) fn candidates(&self, saga: &SagaName) -> Result<Candidates, DefinitionError> {
        let none = || DefinitionError::NotFound { saga: saga.clone(), version: None };
        let Activation { version, canary, .. } = self.activation(saga).ok_or_else(none)?;
        let of_canary = |Canary { version, percent }| self.find(saga, Some(version)).map(|published| (published, percent));
        Ok(Candidates { active: self.find(saga, Some(version))?, canary: canary.map(of_canary).transpose()? })
    }

    /// What is known of a version, with its share of new sagas.
    pub(super) fn describe(&self, published: &Published) -> DefinitionDescription {
        let DefinitionDescription { name, version, .. } = &published.description;
        let starts_percent = self.activation(name).map_or(0, |activation| activation.percent_of(*version));
        DefinitionDescription { starts_percent, ..published.description.clone() }
    }

    /// This version, or the newest.
    pub(super) fn find(&self, saga: &SagaName, version: Option<u32>) -> Result<Arc<Published>, DefinitionError> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(saga).and_then(|versions| match version {
            Some(version) => versions.known.get_key_value(&version),
            None => versions.known.last_key_value(),
        });
        match found {
            Some((_, Ok(published))) => Ok(Arc::clone(published)),
            Some((&version, Err(reason))) => Err(DefinitionError::Unreadable { saga: saga.clone(), version, reason: Arc::clone(reason) }),
            None => Err(DefinitionError::NotFound { saga: saga.clone(), version }),
        }
    }

    /// The definition that was published with this text.
    pub(super) fn find_text(&self, source: &str) -> Option<Arc<Published>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values()
            .flat_map(|versions| versions.known.values())
            .flatten()
            .find(|published| published.description.source == source)
            .cloned()
    }

    pub(super) fn compiled(&self, saga: &SagaName, version: u32) -> Result<Arc<Definition>, String> {
        self.find(saga, Some(version)).map(|published| Arc::clone(&published.definition)).map_err(|error| error.to_string())
    }

    /// The newest version of each that can be read.
    pub(super) fn newest(&self) -> Vec<DefinitionDescription> {
        let newest: Vec<_> = {
            let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
            all.values().filter_map(|versions| versions.known.values().rev().flatten().next().cloned()).collect()
        };
        newest.iter().map(|published| self.describe(published)).collect()
    }

    /// The versions of a definition, readable or not, in their order.
    pub(super) fn versions(&self, saga: &SagaName) -> Vec<u32> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(saga).map(|versions| versions.known.keys().copied().collect()).unwrap_or_default()
    }

    pub(super) fn names(&self) -> Vec<SagaName> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}
