//! Published definitions in memory: compiled once, shared by all lanes.

use crate::definition::{Definition, Target};
use crate::store::StoredDefinition;
use sagamq_api::saga::DefinitionDescription;
use sagamq_api::{Fault, SagaName, TopicName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

/// A published definition.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) definition: Arc<Definition>,
    pub(crate) description: DefinitionDescription,
}

impl Published {
    pub(crate) fn new(stored: StoredDefinition, definition: Definition, warnings: Vec<Fault>) -> Self {
        let description = DefinitionDescription {
            name: stored.name,
            version: stored.version,
            source: stored.source,
            published_at_ms: stored.published_at_ms,
            steps: definition.steps.iter().map(|step| step.id.clone()).collect(),
            warnings,
        };
        Self { definition: Arc::new(definition), description }
    }
}

/// All published definitions; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definitions(Arc<RwLock<BTreeMap<SagaName, BTreeMap<u32, Published>>>>);

impl Definitions {
    pub(crate) fn insert(&self, published: Published) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let (name, version) = (published.description.name.clone(), published.description.version);
        all.entry(name).or_default().insert(version, published);
    }

    /// This version, or the newest.
    pub(crate) fn find(&self, saga: &SagaName, version: Option<u32>) -> Option<Published> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let versions = all.get(saga)?;
        match version {
            Some(version) => versions.get(&version).cloned(),
            None => versions.last_key_value().map(|(_, published)| published.clone()),
        }
    }

    pub(crate) fn compiled(&self, saga: &SagaName, version: u32) -> Option<Arc<Definition>> {
        self.find(saga, Some(version)).map(|published| published.definition)
    }

    /// The newest version of each.
    pub(crate) fn newest(&self) -> Vec<DefinitionDescription> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().filter_map(|versions| versions.last_key_value()).map(|(_, published)| published.description.clone()).collect()
    }

    pub(crate) fn names(&self) -> Vec<SagaName> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Every topic that commands are sent to.
    pub(crate) fn topics(&self) -> BTreeSet<TopicName> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.values().flat_map(BTreeMap::values).flat_map(|published| topics_of(&published.definition)).collect()
    }
}

/// The topics that a definition sends commands to.
pub(crate) fn topics_of(definition: &Definition) -> BTreeSet<TopicName> {
    let calls = definition.steps.iter().flat_map(|step| core::iter::once(&step.action).chain(&step.compensation));
    let topic = |call: &crate::definition::Call| match &call.target {
        Target::Topic(topic) => Some(topic.clone()),
        Target::Http(_) => None,
    };
    calls.filter_map(topic).collect()
}
