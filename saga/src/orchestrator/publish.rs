//! Publishing a definition: checked, its topics made, and then one commit of the control shard.

use super::compiler::Compiler;
use super::definitions::{Definitions, Published};
use super::door::Orchestrator;
use super::seen::Seen;
use super::topics::{LaneTopicError, Use, ensure_command_topic, ensure_lane_topic, workers};
use crate::definition::{self, Definition};
use crate::dsl::{self, Compiled};
use crate::store::{ControlStore, StoreError, StoredDefinition};
use sagamq_api::audit::AuditOutcome;
use sagamq_api::error::Severity;
use sagamq_api::limits::DEFINITION_BYTES_MAX;
use sagamq_api::saga::{Activation, DefinitionDescription, LintResponse, PublishQuery};
use sagamq_api::{Fault, SagaName, TopicName};
use sagamq_broker::WriteError;
use sagamq_broker::audit::Note;
use std::sync::Arc;

/// Why a definition was not published. Nothing is stored, except where a variant says otherwise; its topics may be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PublishError {
    /// The text has faults.
    #[error("the saga definition has {} faults; `faults` lists them with their places", .0.len())]
    InvalidDefinition(Vec<Fault>),
    /// The text is too large.
    #[error("the saga definition has {0} bytes, at most {DEFINITION_BYTES_MAX} are allowed")]
    TooLarge(usize),
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
    /// Verification shows something wrong.
    #[error("verification of the definition shows something wrong: {property}: {what}\n{timeline}")]
    Broken {
        /// The property that is broken.
        property: String,
        /// How.
        what: String,
        /// The shortest way to it.
        timeline: String,
    },
    /// Verification did not come to its end, so nothing is proved.
    #[error("the definition was not verified: {0}")]
    NotVerified(String),
    /// The settings do not allow a participant's host.
    #[error("{0}")]
    HostNotAllowed(String),
    /// A service that has an address at the server may not be called by it.
    #[error("{0}")]
    ServiceNotAllowed(String),
    /// A service's topic cannot be used for commands.
    #[error(transparent)]
    Topic(#[from] LaneTopicError),
    /// Something stored cannot be read.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The commit did not become durable, as far as it is known.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for PublishError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl Orchestrator {
    /// Everything the linter finds in the text.
    pub async fn lint(&self, source: String) -> LintResponse {
        self.lint_for(source, |_| true).await
    }

    /// As [`Orchestrator::lint`], for somebody who sees these sagas: of the others, which the text may name, nothing is told.
    pub async fn lint_for(&self, source: String, sees: impl Fn(&SagaName) -> bool + Send + 'static) -> LintResponse {
        let seen = Seen { definitions: self.0.definitions.clone(), sees };
        let faults = self.0.compiler.run(move || dsl::lint_with(&source, Some(&seen))).await;
        LintResponse { valid: !faults.iter().any(|fault| fault.severity == Severity::Error), faults }
    }

    /// Publishes a definition; true if it is new, false if the same text was published before. Durable when it returns. Line ends, and
    /// what else [`dsl::canonical`] evens out, make no other text. New sagas take the first version of a name, and a later one once
    /// it is activated.
    ///
    /// # Errors
    /// When the text has faults, when the version has another text, or when a topic of a service cannot be used.
    pub async fn publish(&self, source: &str) -> Result<(DefinitionDescription, bool), PublishError> {
        self.publish_with(source, PublishQuery::default()).await
    }

    /// As [`Orchestrator::publish`], and new sagas take this version from then on: one commit for both.
    ///
    /// # Errors
    /// As [`Orchestrator::publish`].
    pub async fn publish_active(&self, source: &str) -> Result<(DefinitionDescription, bool), PublishError> {
        self.publish_with(source, PublishQuery { activate: true, verify: false }).await
    }

    /// As [`Orchestrator::publish`], and as the query says: it may be activated with it, and verified before.
    ///
    /// # Errors
    /// As [`Orchestrator::publish`]; when verification shows something wrong, or does not come to its end.
    pub async fn publish_with(&self, source: &str, query: PublishQuery) -> Result<(DefinitionDescription, bool), PublishError> {
        let PublishQuery { activate, verify } = query;
        if source.len() > DEFINITION_BYTES_MAX {
            return Err(PublishError::TooLarge(source.len()));
        }
        let canonical = dsl::canonical(source).into_owned();
        // A text that is published stays so, whatever today's linter says of it.
        if let Some(known) = self.0.definitions.find_text(&canonical) {
            return self.publish_again(&known, activate).await;
        }
        let (given, compiled, definitions) = (source.to_owned(), canonical.clone(), self.0.definitions.clone());
        let compiled =
            self.0.compiler.run(move || compile(&given, &compiled, &definitions)).await.map_err(PublishError::InvalidDefinition)?;
        self.require_verified(&compiled, verify).await?;
        // One after the other, so that two texts cannot both become the same version.
        let turn = Arc::clone(&self.0.publishing).lock_owned().await;
        if let Some(known) = self.0.definitions.find_text(&canonical) {
            drop(turn);
            return self.publish_again(&known, activate).await;
        }
        let Compiled { definition, mut warnings, .. } = compiled;
        warnings.extend(self.lock_orders(&definition, &canonical).await);
        self.require_free(&definition.name, definition.version).await?;
        self.require_hosts(&definition)?;
        if let Some(reason) = self.forbidden_service(&definition, &definition.name) {
            return Err(PublishError::ServiceNotAllowed(reason));
        }
        self.0.broker.require_room()?;
        self.make_topics(&definition).await?;
        let stored = StoredDefinition {
            name: definition.name.clone(),
            version: definition.version,
            source: canonical,
            published_at_ms: self.0.broker.clock().now_ms(),
            warnings,
            executable: definition::store(&definition),
        };
        let mut notes = vec![self.note(AuditOutcome::Created, &[("saga", &stored.name), ("version", &stored.version)])];
        let is_first = self.0.definitions.activation(&stored.name).is_none();
        let activation = (is_first || activate).then(|| self.only(&stored.name, stored.version));
        notes.extend(activation.as_ref().map(|activation| self.note_of_activation(activation)));
        // Whoever asked may go: what is stored must be known here all the same, and until then nobody else has a turn.
        let (control, definitions, compiler) = (ControlStore::of(&self.0.broker), self.0.definitions.clone(), self.0.compiler.clone());
        let metrics = Arc::clone(&self.0.metrics);
        let published = self.0.tasks.spawn(async move {
            let _turn = turn;
            let published = store(&control, definitions, &compiler, stored, activation, notes).await?;
            metrics.published(&published.definition.name);
            Ok::<_, WriteError>(published)
        });
        let published = published.await.expect("it does not panic, and nobody aborts it")?;
        Ok((self.0.definitions.describe(&published), true))
    }

    /// Locks that it takes in another order than what new sagas take now.
    async fn lock_orders(&self, definition: &Definition, source: &str) -> Vec<Fault> {
        let locks = |definition: &Definition| definition.steps.iter().filter(|step| step.lock.is_some()).count();
        if locks(definition) < 2 {
            return Vec::new();
        }
        let definitions = &self.0.definitions;
        let active = definitions.names().into_iter().filter_map(|name| definitions.activation(&name).map(|active| (name, active)));
        let versions = active.flat_map(|(name, active)| {
            let tried = active.canary.map(|canary| canary.version);
            [Some(active.version), tried].into_iter().flatten().map(move |version| (name.clone(), version))
        });
        let others = versions.filter_map(|(name, version)| definitions.compiled(&name, version).ok());
        let others: Vec<Arc<Definition>> = others.filter(|other| locks(other) >= 2).collect();
        let source = source.to_owned();
        self.0.compiler.run(move || dsl::lock_orders(&source, &others)).await
    }

    /// The topics may have been deleted since: publishing again heals that.
    async fn publish_again(&self, known: &Published, activate: bool) -> Result<(DefinitionDescription, bool), PublishError> {
        self.make_topics(&known.definition).await?;
        let DefinitionDescription { name, version, .. } = &known.description;
        if activate && self.0.definitions.activation(name).is_none_or(|active| active.version != *version || active.canary.is_some()) {
            let turn = Arc::clone(&self.0.publishing).lock_owned().await;
            let activation = self.only(name, *version);
            let note = self.note_of_activation(&activation);
            self.put_activation(turn, activation, note).await?;
        }
        Ok((self.0.definitions.describe(known), false))
    }

    /// That nothing is stored under the version: what lies there counts, whether or not it can be read.
    async fn require_free(&self, name: &SagaName, version: u32) -> Result<(), PublishError> {
        let (control, saga) = (ControlStore::of(&self.0.broker), name.clone());
        let found = tokio::task::spawn_blocking(move || control.definition(&saga, version));
        let found = found.await.expect("a read neither panics nor is aborted")?;
        match found.map(|found| found.stored) {
            None => Ok(()),
            Some(Ok(_)) => Err(PublishError::VersionExists { saga: name.clone(), version }),
            Some(Err(reason)) => Err(PublishError::VersionUnreadable { saga: name.clone(), version, reason: reason.to_string().into() }),
        }
    }

    /// HTTP participants may be bound to hosts: a definition must not make the server call whatever it can reach.
    fn require_hosts(&self, definition: &Definition) -> Result<(), PublishError> {
        match definition.http_bases().find_map(|base| self.0.http.forbids(base)) {
            Some(failure) => Err(PublishError::HostNotAllowed(failure.message)),
            None => Ok(()),
        }
    }

    /// Whether a topic is one of sagas already, with the group of their workers if it takes commands: publishing makes it so for good.
    pub(super) fn is_for_sagas(&self, topic: &TopicName, has_workers: bool) -> bool {
        self.0.broker.is_owned(topic, has_workers.then(workers).as_ref())
    }

    async fn make_topics(&self, definition: &Definition) -> Result<(), PublishError> {
        let broker = self.broker();
        for topic in definition.topics() {
            ensure_command_topic(broker, &topic, &self.0.hold).await?;
        }
        for emission in definition.emissions() {
            ensure_lane_topic(broker, &emission.topic, Use::Anybody).await?;
        }
        Ok(())
    }
}

/// Writes the definition, and learns of it as every lane does.
async fn store(
    control: &ControlStore,
    definitions: Definitions,
    compiler: &Compiler,
    stored: StoredDefinition,
    activation: Option<Activation>,
    notes: Vec<Note>,
) -> Result<Arc<Published>, WriteError> {
    control.put(Some(&stored), activation.as_ref(), notes).await?;
    let learned = compiler
        .run(move || {
            let learned = definitions.learn(stored.into());
            // Behind the version itself: who sees the one finds the other.
            activation.into_iter().for_each(|activation| definitions.activated(activation));
            learned
        })
        .await;
    Ok(learned.expect("the stored form of a definition that was just checked can be read"))
}

/// Compiles the canonical text. Faults are told with their places in the text as it was given.
fn compile(given: &str, canonical: &str, definitions: &Definitions) -> Result<Compiled, Vec<Fault>> {
    dsl::compile_with(canonical, Some(definitions)).map_err(|faults| match dsl::compile_with(given, Some(definitions)) {
        Err(places) if given != canonical => places,
        _ => faults,
    })
}
