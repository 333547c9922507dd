//! Finding a group by its names, and what is said of one that is gone.

use crate::broker::Broker;
use crate::broker::topics::TopicError;
use crate::topic::{Group, Topic};
use sagamq_api::{GroupName, TopicName};
use std::sync::Arc;

/// Why there is no group to do something with.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FindGroupError {
    /// No such topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The topic has no such group.
    #[error("topic `{topic}` has no group `{group}`")]
    NotFound {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
}

impl Broker {
    pub(in crate::broker) fn group(&self, topic: &TopicName, group: &GroupName) -> Result<(Arc<Topic>, Arc<Group>), FindGroupError> {
        let found = self.topic(topic)?;
        match found.group(group) {
            Some(group) => Ok((found, group)),
            None => Err(FindGroupError::NotFound { topic: topic.clone(), group: group.clone() }),
        }
    }

    /// Why a group that was there is not any more.
    pub(super) fn gone(&self, topic: &Topic, group: &Group) -> FindGroupError {
        match self.0.catalog.topic(&topic.name) {
            Some(found) if found.id == topic.id => FindGroupError::NotFound { topic: topic.name.clone(), group: group.name.clone() },
            _ => TopicError::NotFound(topic.name.clone()).into(),
        }
    }
}
