//! The configuration of a topic, as it is at this moment: it changes while the topic is in use.

use sagamq_api::topic::TopicConfig;
use std::sync::{Arc, PoisonError, RwLock};

/// The configuration of a topic; clones are the same one. A plain lock: it is held for the copy of a pointer.
#[derive(Clone, Debug)]
pub(crate) struct LiveConfig(Arc<RwLock<Arc<TopicConfig>>>);

impl LiveConfig {
    pub(crate) fn new(config: TopicConfig) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// As it is now. Whoever decides by it and acts later asks with [`LiveConfig::is_still`] whether it still holds.
    pub(crate) fn get(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it was not changed since [`LiveConfig::get`] gave this one.
    pub(crate) fn is_still(&self, config: &Arc<TopicConfig>) -> bool {
        Arc::ptr_eq(&self.0.read().unwrap_or_else(PoisonError::into_inner), config)
    }

    pub(super) fn set(&self, config: TopicConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}
