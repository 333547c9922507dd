//! What every instance has, whatever its protocol.

use super::codes;
use crate::definition::Definition;
use crate::expression::{Outputs, RenderError, SagaScope, Scope};
use sagamq_api::saga::{Failure, SagaState, SagaSummary};
use sagamq_api::{JsonText, SagaName, TraceContext};
use uuid::Uuid;

/// The head of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Its id.
    pub id: Uuid,
    /// Name of its definition.
    pub saga: SagaName,
    /// Version of its definition.
    pub version: u32,
    /// Its business key.
    pub key: String,
    /// How many instances the key has started, with this one.
    pub generation: u64,
    /// What it works on.
    pub input: JsonText,
    /// What it was started with, if an operator gave it another input since: a start is the same by that.
    pub started_with: Option<JsonText>,
    /// The span that started it, if one did: what is done for it belongs to that trace.
    pub trace: Option<Box<TraceContext>>,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// When its last event happened, in milliseconds since 1970.
    pub updated_at_ms: u64,
    /// Number of its events.
    pub events: u64,
    /// Whether it has completed, be it undone since because its parent is.
    pub has_completed: bool,
}

impl Head {
    /// The head of an instance before its first event.
    pub(super) fn new(id: Uuid, definition: &Definition) -> Self {
        Self {
            id,
            saga: definition.name.clone(),
            version: definition.version,
            key: String::new(),
            generation: 0,
            input: JsonText::null(),
            started_with: None,
            trace: None,
            started_at_ms: 0,
            updated_at_ms: 0,
            events: 0,
            has_completed: false,
        }
    }

    /// What it was started with.
    #[must_use]
    pub fn first_input(&self) -> &JsonText {
        self.started_with.as_ref().unwrap_or(&self.input)
    }

    /// What expressions see of the instance itself. `id` is the text of its id.
    pub(super) fn scope<'a>(&'a self, id: &'a str) -> SagaScope<'a> {
        SagaScope { id, name: &self.saga, version: self.version, key: &self.key }
    }

    /// What the instance returns, or why that has no value.
    pub(super) fn render_output(&self, definition: &Definition, outputs: &dyn Outputs) -> (Option<JsonText>, Option<Failure>) {
        let Some(template) = &definition.output else { return (None, None) };
        let id = self.id.to_string();
        match template.render(&Scope { input: &self.input, outputs, failure: None, saga: Some(self.scope(&id)), item: None }) {
            Ok(output) => (Some(output), None),
            Err(error) => (None, Some(render_failure("the output", &error))),
        }
    }

    /// The instance in one row, without what only one protocol knows.
    pub(super) fn summary(&self, state: SagaState, failure: Option<&Failure>) -> SagaSummary {
        SagaSummary {
            id: self.id,
            saga: self.saga.clone(),
            version: self.version,
            key: self.key.clone(),
            state,
            started_at_ms: self.started_at_ms,
            updated_at_ms: self.updated_at_ms,
            events: self.events,
            transaction: None,
            waits: None,
            failure: failure.cloned(),
            rerun_of: None,
            rerun_as: None,
            parent: None,
        }
    }
}

/// The failure of what cannot be rendered.
pub(super) fn render_failure(what: &str, error: &RenderError) -> Failure {
    let code = match error {
        RenderError::TooLarge => codes::PAYLOAD_TOO_LARGE,
        RenderError::Expression(_) | RenderError::Spent(_) | RenderError::TooDeep { .. } => codes::EXPRESSION_FAILED,
    };
    Failure { code: code.to_owned(), message: format!("{what}: {error}") }
}
