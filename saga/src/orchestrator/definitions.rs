//! Published definitions in memory: loaded once, shared by all lanes.

use super::SagaError;
use crate::definition::{self, Definition, Target};
use crate::store::{FoundDefinition, StoredDefinition};
use sagamq_api::saga::DefinitionDescription;
use sagamq_api::{SagaName, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

/// A published definition.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) definition: Arc<Definition>,
    pub(crate) description: DefinitionDescription,
}

impl Published {
    pub(crate) fn new(stored: StoredDefinition, definition: Definition) -> Self {
        let description = DefinitionDescription {
            name: stored.name,
            version: stored.version,
            source: stored.source,
            published_at_ms: stored.published_at_ms,
            steps: definition.steps.iter().map(|step| step.id.clone()).collect(),
            warnings: stored.warnings,
        };
        Self { definition: Arc::new(definition), description }
    }
}

/// What is known of a version: the definition, or why it cannot be read.
type Known = Result<Published, Arc<str>>;

/// All published definitions; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definitions(Arc<RwLock<BTreeMap<SagaName, BTreeMap<u32, Known>>>>);

impl Definitions {
    pub(crate) fn insert(&self, published: Published) {
        let (name, version) = (published.description.name.clone(), published.description.version);
        self.put(name, version, Ok(published));
    }

    /// Takes over what is stored. Returns whether it can run: if not, its version stays taken and its instances are set aside.
    pub(crate) fn load(&self, found: FoundDefinition) -> bool {
        let FoundDefinition { name, version, stored } = found;
        let loaded = stored.map_err(|error| error.to_string()).and_then(|stored| {
            let definition = definition::load(&stored.executable).map_err(|error| error.to_string())?;
            Ok(Published::new(stored, definition))
        });
        if let Err(reason) = &loaded {
            tracing::error!(saga = %name, version, %reason, "a published definition cannot be read: its sagas are set aside; all others run");
        }
        let is_loaded = loaded.is_ok();
        self.put(name, version, loaded.map_err(Arc::from));
        is_loaded
    }

    fn put(&self, name: SagaName, version: u32, known: Known) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().insert(version, known);
    }

    /// This version, or the newest.
    pub(crate) fn find(&self, saga: &SagaName, version: Option<u32>) -> Result<Published, SagaError> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(saga).and_then(|versions| match version {
            Some(version) => versions.get_key_value(&version),
            None => versions.last_key_value(),
        });
        match found {
            Some((_, Ok(published))) => Ok(published.clone()),
            Some((&version, Err(reason))) => {
                Err(SagaError::DefinitionUnreadable { saga: saga.clone(), version, reason: Arc::clone(reason) })
            }
            None => Err(SagaError::DefinitionNotFound { saga: saga.clone(), version }),
        }
    }

    /// The definition that was published with this text.
    pub(crate) fn find_text(&self, source: &str) -> Option<Published> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().flat_map(BTreeMap::values).flatten().find(|published| published.description.source == source).cloned()
    }

    pub(crate) fn compiled(&self, saga: &SagaName, version: u32) -> Result<Arc<Definition>, String> {
        self.find(saga, Some(version)).map(|published| published.definition).map_err(|error| error.to_string())
    }

    /// The newest version of each that can be read.
    pub(crate) fn newest(&self) -> Vec<DefinitionDescription> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let newest =
            |versions: &BTreeMap<u32, Known>| versions.values().rev().flatten().next().map(|published| published.description.clone());
        all.values().filter_map(newest).collect()
    }

    pub(crate) fn names(&self) -> Vec<SagaName> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Every topic that commands are sent to.
    pub(crate) fn topics(&self) -> BTreeSet<TopicName> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().flat_map(BTreeMap::values).flatten().flat_map(|published| topics_of(&published.definition)).collect()
    }
}

/// The topics that a definition sends commands to.
pub(crate) fn topics_of(definition: &Definition) -> BTreeSet<TopicName> {
    let calls = definition.steps.iter().flat_map(|step| core::iter::once(&step.action).chain(&step.compensation));
    let topic = |call: &definition::Call| match &call.target {
        Target::Topic(topic) => Some(topic.clone()),
        Target::Http(_) => None,
    };
    calls.filter_map(topic).collect()
}
