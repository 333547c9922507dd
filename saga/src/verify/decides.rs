//! Who decides: the protocol as it is shipped, or one with a bug that a test planted around it.

use crate::definition::Definition;
use crate::protocol::saga::{InstanceState, SagaEvent, decide};
use crate::protocol::{Decision, Input, Rejection};
use core::fmt::Debug;
use uuid::Uuid;

/// What decides for an instance.
pub trait Decides: Debug + Sync {
    /// An instance before its first event.
    fn new_instance(&self, id: Uuid, definition: &Definition) -> InstanceState {
        InstanceState::new(id, definition)
    }

    /// What the input means. Backoffs are to be drawn at their longest, so that a way can be gone again.
    ///
    /// # Errors
    /// When the input changes nothing.
    fn decide(
        &self,
        definition: &Definition,
        state: &InstanceState,
        input: Input,
        now_ms: u64,
    ) -> Result<Decision<InstanceState, SagaEvent>, Rejection>;
}

/// The protocol as it is shipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shipped;

impl Decides for Shipped {
    fn decide(
        &self,
        definition: &Definition,
        state: &InstanceState,
        input: Input,
        now_ms: u64,
    ) -> Result<Decision<InstanceState, SagaEvent>, Rejection> {
        decide(definition, state, input, now_ms, &mut || 1.0)
    }
}
