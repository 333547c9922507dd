//! Every stream group by its name. Changes go through the broker, one at a time, as those of the catalogue.

use crate::ids::{ShardId, TopicId};
use crate::topic::stream::StreamGroup;
use sagamq_api::GroupName;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Every stream group by its name.
#[derive(Debug, Default)]
pub(crate) struct StreamGroups(RwLock<BTreeMap<GroupName, Arc<StreamGroup>>>);

impl StreamGroups {
    pub(crate) fn get(&self, name: &GroupName) -> Option<Arc<StreamGroup>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<StreamGroup>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Those that have read a topic.
    pub(crate) fn reading(&self, topic: TopicId) -> Vec<Arc<StreamGroup>> {
        self.all().into_iter().filter(|group| group.reads(topic)).collect()
    }

    /// How many have their home on a shard.
    pub(crate) fn count(&self, home: ShardId) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().filter(|group| group.home == home).count()
    }

    pub(crate) fn insert(&self, group: Arc<StreamGroup>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(group.name.clone(), group);
    }

    pub(crate) fn remove(&self, name: &GroupName) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
