//! What every instance has, whatever its protocol.

use crate::definition::Definition;
use sagamq_api::{JsonText, SagaName};
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
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// When its last event happened, in milliseconds since 1970.
    pub updated_at_ms: u64,
    /// Number of its events.
    pub events: u64,
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
            started_at_ms: 0,
            updated_at_ms: 0,
            events: 0,
        }
    }
}
