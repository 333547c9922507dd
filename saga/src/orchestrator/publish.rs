//! Publishing a definition: checked, its topics made, and then one commit on shard 0.

use super::definitions::{Published, topics_of};
use super::{Orchestrator, SagaError};
use crate::definition::{self, Definition, Target};
use crate::dsl::{self, Compiled};
use crate::store::{LaneStore, StoredDefinition, put_definition};
use sagamq_api::error::Severity;
use sagamq_api::limits::{DEFINITION_BYTES_MAX, RECORD_BYTES_MAX};
use sagamq_api::queue::StartPosition;
use sagamq_api::saga::{DefinitionDescription, LintResponse, WORKER_GROUP};
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, SagaName, TopicName};
use sagamq_broker::{Broker, CreateTopicError};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Definitions that are compiled at a time. A text of the largest size takes a good part of a second, and a core.
const COMPILES_MAX: usize = 2;

/// Where definitions are compiled: on threads that may block, few at a time; who comes then waits for a turn.
#[derive(Debug)]
pub(super) struct Compiler(Arc<Semaphore>);

impl Default for Compiler {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(COMPILES_MAX)))
    }
}

impl Compiler {
    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turn = Arc::clone(&self.0).acquire_owned().await.expect("it is never closed");
        // The turn goes along: whoever asked may go, the work goes on to its end.
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.expect("the compiler does not panic, and nobody aborts it")
    }
}

impl Orchestrator {
    /// Everything the linter finds in the text.
    pub async fn lint(&self, source: String) -> LintResponse {
        let faults = self.0.compiler.run(move || dsl::lint(&source)).await;
        LintResponse { valid: !faults.iter().any(|fault| fault.severity == Severity::Error), faults }
    }

    /// Publishes a definition; true if it is new, false if the same text was published before. Durable when it returns. Line ends, and
    /// what else [`dsl::canonical`] evens out, make no other text.
    ///
    /// # Errors
    /// When the text has faults, when the version has another text, or when a topic of a service cannot be used.
    pub async fn publish(&self, source: &str) -> Result<(DefinitionDescription, bool), SagaError> {
        if source.len() > DEFINITION_BYTES_MAX {
            return Err(SagaError::DefinitionTooLarge(source.len()));
        }
        let canonical = dsl::canonical(source).into_owned();
        // A text that is published stays so, whatever today's linter says of it.
        if let Some(known) = self.0.definitions.find_text(&canonical) {
            return self.publish_again(known).await;
        }
        let (given, compiled) = (source.to_owned(), canonical.clone());
        let compiled = self.0.compiler.run(move || compile(&given, &compiled)).await.map_err(SagaError::InvalidDefinition)?;
        // One after the other, so that two texts cannot both become the same version.
        let _turn = self.0.publishing.lock().await;
        if let Some(known) = self.0.definitions.find_text(&canonical) {
            return self.publish_again(known).await;
        }
        self.require_free(&compiled.definition.name, compiled.definition.version).await?;
        self.publish_new(canonical, compiled).await.map(|description| (description, true))
    }

    /// The topics may have been deleted since: publishing again heals that.
    async fn publish_again(&self, known: Published) -> Result<(DefinitionDescription, bool), SagaError> {
        self.make_topics(&known.definition).await?;
        Ok((known.description, false))
    }

    /// That nothing is stored under the version: what lies there counts, whether or not it can be read.
    async fn require_free(&self, name: &SagaName, version: u32) -> Result<(), SagaError> {
        let (store, saga) = (LaneStore(self.0.broker.embedder(0)), name.clone());
        let found = tokio::task::spawn_blocking(move || store.definition(&saga, version));
        let found = found.await.expect("a read neither panics nor is aborted")?;
        match found.map(|found| found.stored) {
            None => Ok(()),
            Some(Ok(_)) => Err(SagaError::VersionExists { saga: name.clone(), version }),
            Some(Err(reason)) => Err(SagaError::VersionUnreadable { saga: name.clone(), version, reason: reason.to_string().into() }),
        }
    }

    async fn publish_new(&self, source: String, compiled: Compiled) -> Result<DefinitionDescription, SagaError> {
        let Compiled { definition, warnings } = compiled;
        self.require_hosts(&definition)?;
        self.make_topics(&definition).await?;
        let stored = StoredDefinition {
            name: definition.name.clone(),
            version: definition.version,
            source,
            published_at_ms: self.0.broker.clock().now_ms(),
            warnings,
            executable: definition::store(&definition),
        };
        let shard = self.0.broker.embedder(0);
        let mut commit = shard.begin();
        put_definition(&mut commit, &stored);
        shard.submit(commit).await?.durable().await?;
        let published = Published::new(stored, definition);
        let description = published.description.clone();
        self.0.definitions.insert(published);
        Ok(description)
    }

    /// HTTP participants may be bound to hosts: a definition must not make the server call whatever it can reach.
    fn require_hosts(&self, definition: &Definition) -> Result<(), SagaError> {
        let calls = definition.steps.iter().flat_map(|step| core::iter::once(&step.action).chain(&step.compensation));
        for call in calls {
            if let Target::Http(base) = &call.target
                && let Some(failure) = self.0.http.forbids(base)
            {
                return Err(SagaError::Parameter(failure.message));
            }
        }
        Ok(())
    }

    async fn make_topics(&self, definition: &Definition) -> Result<(), SagaError> {
        let workers: GroupName = WORKER_GROUP.parse().expect("a constant that is a legal name");
        for topic in topics_of(definition) {
            ensure_lane_topic(&self.0.broker, &topic).await?;
            let made = self.0.broker.ensure_group(&topic, &workers, StartPosition::Earliest).await;
            made.map_err(|reason| SagaError::Group { topic: topic.clone(), reason: Arc::new(reason) })?;
            // Without its group an old command would be delivered again, so neither can be deleted.
            let owned = self.0.broker.own_group(&topic, &workers).await;
            owned.map_err(|reason| SagaError::OwnGroup { topic: topic.clone(), reason: Arc::new(reason) })?;
            mark_hand_outs(&self.0.broker, &topic);
        }
        Ok(())
    }
}

/// From now on it is known of every command whether a worker may have seen it. Of one that was handed out before, it may have been.
pub(super) fn mark_hand_outs(broker: &Broker, topic: &TopicName) {
    let workers: GroupName = WORKER_GROUP.parse().expect("a constant that is a legal name");
    for lane in 0..broker.shards() {
        if let Err(error) = broker.embedder(lane).mark_hand_outs(topic, &workers) {
            tracing::warn!(%topic, lane, %error, "hand-outs of a command topic are not marked");
        }
    }
}

/// Compiles the canonical text. Faults are told with their places in the text as it was given.
fn compile(given: &str, canonical: &str) -> Result<Compiled, Vec<sagamq_api::Fault>> {
    dsl::compile(canonical).map_err(|faults| match dsl::compile(given) {
        Err(places) if given != canonical => places,
        _ => faults,
    })
}

/// Makes a topic with one partition a shard, or accepts one that is there; from then on it cannot be deleted. Commands are never dead
/// letters: the attempt's deadline ends them, and the saga knows what to do then.
pub(super) async fn ensure_lane_topic(broker: &Broker, topic: &TopicName) -> Result<(), SagaError> {
    let shards = broker.shards();
    let config =
        TopicConfig { partitions: u32::from(shards), delivery_limit: 0, record_bytes_max: RECORD_BYTES_MAX, ..TopicConfig::default() };
    let made = match broker.create_topic(topic, config).await {
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
    };
    made?;
    broker.own_topic(topic).await.map_err(|reason| SagaError::Own { topic: topic.clone(), reason: Arc::new(reason) })
}
