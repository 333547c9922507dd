//! What a text would have the server use if it were published: for whoever asks whether that may be.

use super::door::Orchestrator;
use super::publish::PublishError;
use crate::definition::Definition;
use crate::dsl;
use sagamq_api::limits::DEFINITION_BYTES_MAX;
use sagamq_api::{SagaName, TopicName};
use std::sync::Arc;

/// What a definition makes the server use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uses {
    /// The saga that it defines.
    pub saga: SagaName,
    /// Sagas that its steps start.
    pub sub_sagas: Vec<SagaName>,
    /// Topics that it writes to: commands, and what its steps tell.
    pub topics: Vec<UsedTopic>,
}

/// A topic that a definition writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedTopic {
    /// Its name.
    pub name: TopicName,
    /// Whether it is one of sagas already, as publishing makes it for good: with the group of their workers, if it takes commands.
    pub is_for_sagas: bool,
}

impl Orchestrator {
    /// What a text would use. Nothing is stored, and what other definitions say is not looked at.
    ///
    /// # Errors
    /// When it is too large, or has faults by itself.
    pub async fn uses(&self, source: &str) -> Result<Uses, PublishError> {
        if source.len() > DEFINITION_BYTES_MAX {
            return Err(PublishError::TooLarge(source.len()));
        }
        let canonical = dsl::canonical(source).into_owned();
        // A text that is published stays so, whatever today's linter says of it.
        let definition = match self.0.definitions.find_text(&canonical) {
            Some(known) => Arc::clone(&known.definition),
            None => {
                let compiled = self.0.compiler.run(move || dsl::compile(&canonical)).await;
                Arc::new(compiled.map_err(PublishError::InvalidDefinition)?.definition)
            }
        };
        Ok(self.uses_of(&definition))
    }

    fn uses_of(&self, definition: &Definition) -> Uses {
        let commands = definition.topics().map(|topic| (topic, true));
        let told = definition.emissions().map(|emission| (emission.topic.clone(), false));
        let used = |(name, has_workers): (TopicName, bool)| {
            let is_for_sagas = self.is_for_sagas(&name, has_workers);
            UsedTopic { name, is_for_sagas }
        };
        Uses {
            saga: definition.name.clone(),
            sub_sagas: definition.sub_sagas().map(|(_, sub_saga)| sub_saga.name.clone()).collect(),
            topics: commands.chain(told).map(used).collect(),
        }
    }
}
