//! The names of producers, and which producer has each: shards ask before they store a batch.

use crate::topic::entry::ProducerEntry;
use sagamq_api::ProducerName;
use sagamq_api::producer::name_of_id;
use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock};

/// The names of producers. Changes go through the broker, one at a time, and are durable before they are seen here.
#[derive(Debug, Default)]
pub(crate) struct ProducerNames(RwLock<Names>);

#[derive(Debug, Default)]
struct Names {
    by_name: BTreeMap<ProducerName, ProducerEntry>,
    /// By number of the name.
    generations: HashMap<u32, u32>,
}

impl ProducerNames {
    pub(crate) fn new(stored: Vec<ProducerEntry>) -> Self {
        let names = Self::default();
        stored.into_iter().for_each(|entry| names.insert(&entry));
        names
    }

    /// Whether a producer with this id may store: it has no name, or nobody has taken its name over.
    pub(crate) fn is_current(&self, id: u64) -> bool {
        let Some((number, generation)) = name_of_id(id) else { return true };
        self.0.read().unwrap_or_else(PoisonError::into_inner).generations.get(&number) == Some(&generation)
    }

    pub(crate) fn get(&self, name: &ProducerName) -> Option<ProducerEntry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<ProducerEntry> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_name.values().cloned().collect()
    }

    /// From now on this producer has the name. What the one before has not handed over yet is refused.
    pub(crate) fn insert(&self, entry: &ProducerEntry) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.generations.insert(entry.number, entry.generation);
        if let Some(before) = names.by_name.insert(entry.name.clone(), entry.clone())
            && before.number != entry.number
        {
            names.generations.remove(&before.number);
        }
    }

    /// The name is nobody's any more.
    pub(crate) fn remove(&self, name: &ProducerName) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = names.by_name.remove(name) {
            names.generations.remove(&before.number);
        }
    }
}
