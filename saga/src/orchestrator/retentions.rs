//! The rules of how long instances that are at their end are kept, in memory.

use crate::store::{ControlStore, StoreError};
use sagamq_api::SagaName;
use sagamq_api::saga::{Retention, RetentionList, SagaRetention};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The rules; clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Retentions(Arc<RwLock<Rules>>);

#[derive(Debug, Default)]
struct Rules {
    default: Retention,
    of: BTreeMap<SagaName, Retention>,
}

impl Retentions {
    /// Reads the rules. Blocks on storage.
    pub(super) fn load(control: &ControlStore) -> Result<Self, StoreError> {
        let rules = Self::default();
        for (saga, retention) in control.retentions()? {
            rules.set(saga, Some(retention));
        }
        Ok(rules)
    }

    /// Sets the rule of a definition, or the default.
    pub(super) fn set(&self, saga: Option<SagaName>, retention: Option<Retention>) {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match (saga, retention) {
            (None, retention) => rules.default = retention.unwrap_or_default(),
            (Some(saga), Some(retention)) => drop(rules.of.insert(saga, retention)),
            (Some(saga), None) => drop(rules.of.remove(&saga)),
        }
    }

    /// What holds for a definition.
    pub(super) fn of(&self, saga: &SagaName) -> Retention {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rules.of.get(saga).copied().unwrap_or(rules.default)
    }

    pub(super) fn list(&self) -> RetentionList {
        let rules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of = rules.of.iter().map(|(saga, retention)| SagaRetention { saga: saga.clone(), retention: *retention });
        RetentionList { default: rules.default, sagas: of.collect() }
    }
}
