//! Publishing a definition: checked, its topics made, and then one commit on shard 0.

use super::definitions::{Published, topics_of};
use super::{Orchestrator, SagaError};
use crate::definition::Definition;
use crate::dsl::{self, Compiled};
use crate::store::{StoredDefinition, put_definition};
use sagamq_api::error::Severity;
use sagamq_api::group::StartPosition;
use sagamq_api::limits::{DEFINITION_BYTES_MAX, RECORD_BYTES_MAX};
use sagamq_api::saga::{DefinitionDescription, LintResponse, WORKER_GROUP};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, TopicName};
use sagamq_broker::{Broker, CreateTopicError};
use std::sync::Arc;

impl Orchestrator {
    /// Everything the linter finds in the text.
    #[must_use]
    pub fn lint(&self, source: &str) -> LintResponse {
        let faults = dsl::lint(source);
        LintResponse { valid: !faults.iter().any(|fault| fault.severity == Severity::Error), faults }
    }

    /// Publishes a definition; true if it is new, false if the same text was published before. Durable when it returns.
    ///
    /// # Errors
    /// When the text has faults, when the version has another text, or when a topic of a service cannot be used.
    pub async fn publish(&self, source: &str) -> Result<(DefinitionDescription, bool), SagaError> {
        if source.len() > DEFINITION_BYTES_MAX {
            return Err(SagaError::DefinitionTooLarge(source.len()));
        }
        let Compiled { definition, warnings } = dsl::compile(source).map_err(SagaError::InvalidDefinition)?;
        // One after the other, so that two texts cannot both become the same version.
        let _turn = self.0.publishing.lock().await;
        if let Some(known) = self.0.definitions.find(&definition.name, Some(definition.version)) {
            return if known.description.source == source {
                Ok((known.description, false))
            } else {
                Err(SagaError::VersionExists { saga: definition.name, version: definition.version })
            };
        }
        self.make_topics(&definition).await?;
        let stored = StoredDefinition {
            name: definition.name.clone(),
            version: definition.version,
            source: source.to_owned(),
            published_at_ms: self.0.broker.clock().now_ms(),
        };
        let shard = self.0.broker.embedder(0);
        let mut commit = shard.begin();
        put_definition(&mut commit, &stored);
        shard.submit(commit).await?.durable().await?;
        let published = Published::new(stored, definition, warnings);
        let description = published.description.clone();
        self.0.definitions.insert(published);
        Ok((description, true))
    }

    async fn make_topics(&self, definition: &Definition) -> Result<(), SagaError> {
        let workers: GroupName = WORKER_GROUP.parse().expect("a constant that is a legal name");
        for topic in topics_of(definition) {
            ensure_lane_topic(&self.0.broker, &topic).await?;
            let made = self.0.broker.ensure_group(&topic, &workers, StartPosition::Earliest).await;
            made.map_err(|reason| SagaError::Group { topic, reason: Arc::new(reason) })?;
        }
        Ok(())
    }
}

/// Makes a topic with one partition a shard, or accepts one that is there. Commands are never dead letters: the attempt's deadline
/// ends them, and the saga knows what to do then.
pub(super) async fn ensure_lane_topic(broker: &Broker, topic: &TopicName) -> Result<(), SagaError> {
    let shards = broker.shards();
    let config =
        TopicConfig { partitions: u32::from(shards), delivery_limit: 0, record_bytes_max: RECORD_BYTES_MAX, ..TopicConfig::default() };
    match broker.create_topic(topic, config).await {
        Ok(_) => Ok(()),
        Err(reason @ CreateTopicError::Exists(_)) => {
            let partitions = broker.describe_topic(topic).map_or(0, |found| found.config.partitions);
            match partitions {
                0 => Err(SagaError::Topic { topic: topic.clone(), reason: Arc::new(reason) }),
                found if found == u32::from(shards) => Ok(()),
                partitions => Err(SagaError::NotALaneTopic { topic: topic.clone(), partitions, shards }),
            }
        }
        Err(reason) => Err(SagaError::Topic { topic: topic.clone(), reason: Arc::new(reason) }),
    }
}
