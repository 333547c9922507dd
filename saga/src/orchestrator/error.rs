//! Why the orchestrator refuses a request.

use super::quarantine::SetAside;
use crate::protocol::Rejection;
use crate::store::StoreError;
use sagamq_api::limits::{DEFINITION_BYTES_MAX, SAGA_JSON_DEPTH_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::{Fault, SagaName, TopicName};
use sagamq_broker::{CreateGroupError, CreateTopicError, EmbedError, OwnGroupError, SubmitError, TopicError, WriteError};
use std::sync::Arc;
use uuid::Uuid;

/// Why a request to the orchestrator failed. Nothing was stored, except where a variant says otherwise.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SagaError {
    /// The text of a definition has faults.
    #[error("the saga definition has {} faults; `faults` lists them with their places", .0.len())]
    InvalidDefinition(Vec<Fault>),
    /// The text of a definition is too large.
    #[error("the saga definition has {0} bytes, at most {DEFINITION_BYTES_MAX} are allowed")]
    DefinitionTooLarge(usize),
    /// The version is published with another text.
    #[error(
        "version {version} of saga `{saga}` is published with another text; versions are immutable: publish the change under a new one"
    )]
    VersionExists {
        /// The definition.
        saga: SagaName,
        /// The version.
        version: u32,
    },
    /// The version is published, and what is stored of it cannot be read: nobody can tell whether this is the same text.
    #[error(
        "version {version} of saga `{saga}` is published and cannot be read ({reason}); versions are immutable: publish under a new one"
    )]
    VersionUnreadable {
        /// The definition.
        saga: SagaName,
        /// The version.
        version: u32,
        /// What is damaged.
        reason: Arc<str>,
    },
    /// What is stored of a published definition cannot be read.
    #[error("version {version} of the saga definition `{saga}` cannot be read: {reason}")]
    DefinitionUnreadable {
        /// The definition.
        saga: SagaName,
        /// The version.
        version: u32,
        /// What is damaged.
        reason: Arc<str>,
    },
    /// A service's topic cannot be used for commands.
    #[error(
        "topic `{topic}` exists with {partitions} partitions; a service's command topic needs one a shard, {shards}: let publishing create it"
    )]
    NotALaneTopic {
        /// The topic.
        topic: TopicName,
        /// Its partitions.
        partitions: u32,
        /// Shards of the data directory.
        shards: u16,
    },
    /// A service's topic cannot be created.
    #[error("the command topic `{topic}` cannot be created: {reason}")]
    Topic {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: Arc<CreateTopicError>,
    },
    /// A topic cannot be kept from being deleted.
    #[error("the topic `{topic}` cannot be taken for sagas: {reason}")]
    Own {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: Arc<TopicError>,
    },
    /// The group of a service's workers cannot be created.
    #[error("the workers' group of `{topic}` cannot be created: {reason}")]
    Group {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: Arc<CreateGroupError>,
    },
    /// The group of a service's workers cannot be kept from being deleted.
    #[error("the workers' group of `{topic}` cannot be taken for sagas: {reason}")]
    OwnGroup {
        /// The topic.
        topic: TopicName,
        /// Why.
        reason: Arc<OwnGroupError>,
    },
    /// No such definition, or no such version.
    #[error("there is no saga definition `{saga}`{}: publish it first", .version.map(|v| format!(" with version {v}")).unwrap_or_default())]
    DefinitionNotFound {
        /// The definition.
        saga: SagaName,
        /// The version that was asked for.
        version: Option<u32>,
    },
    /// The input does not fit the definition.
    #[error("the saga's input does not fit: {0}")]
    InvalidInput(String),
    /// The input or an output is too large.
    #[error("{what} has {bytes} bytes of JSON, at most {SAGA_PAYLOAD_BYTES_MAX} are allowed: keep the data elsewhere and pass a reference")]
    PayloadTooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The input or an output nests deeper than what stores it can read back.
    #[error("{what} nests {levels} levels deep, at most {SAGA_JSON_DEPTH_MAX} are allowed: pass what lies deeper as text")]
    TooDeep {
        /// What nests too deep.
        what: &'static str,
        /// Its levels.
        levels: usize,
    },
    /// The business key started an instance with another input.
    #[error("the key `{key}` started saga {id} with another input")]
    KeyConflict {
        /// The business key.
        key: String,
        /// The instance it started.
        id: Uuid,
    },
    /// The id that follows from the key belongs to another instance.
    #[error("the key `{key}` has the id {id}, which another saga has: use another key")]
    IdTaken {
        /// The business key.
        key: String,
        /// The id.
        id: Uuid,
    },
    /// No such instance.
    #[error("there is no saga {0}")]
    SagaNotFound(Uuid),
    /// The protocol rejects the input.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The reason of a cancellation is too long.
    #[error("`reason` has {0} bytes, at most {max} are allowed", max = sagamq_api::limits::REASON_BYTES_MAX)]
    ReasonTooLong(usize),
    /// A parameter of a listing is out of range.
    #[error("{0}")]
    Parameter(String),
    /// The instance is set aside and does not run.
    #[error("saga {id} is set aside: {reason}")]
    Quarantined {
        /// The instance.
        id: Uuid,
        /// Why.
        reason: SetAside,
    },
    /// Something stored cannot be read.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The commit did not become durable, as far as it is known.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The commit could not be made.
    #[error("the commit cannot be made: {0}")]
    Embed(Arc<EmbedError>),
    /// A decision about an instance panicked. Nothing was decided.
    #[error("a decision about the saga panicked; the log says where")]
    DecisionPanicked,
    /// The orchestrator is shutting down.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
}

impl From<StoreError> for SagaError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<SubmitError> for SagaError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Write(error) => Self::Write(error),
            // Only a commit with a condition ends so, and the lane decides that one again.
            SubmitError::HandedOut => Self::ShuttingDown,
        }
    }
}

impl From<EmbedError> for SagaError {
    fn from(error: EmbedError) -> Self {
        Self::Embed(Arc::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saga_that_is_set_aside_says_whether_it_is_damaged_or_a_decision_panicked() {
        let told = |reason| SagaError::Quarantined { id: Uuid::nil(), reason }.to_string();
        let damaged = told(SetAside::Unreadable("event 3 is missing".to_owned()));
        assert!(damaged.contains("cannot be read: event 3 is missing") && !damaged.contains("panicked"), "{damaged}");
        let panicked = told(SetAside::Panicked);
        assert!(panicked.contains("panicked") && panicked.contains("history is sound"), "{panicked}");
    }
}
