//! What the author of a definition says must hold across its services, whatever goes wrong. The protocol does not look at it.

use crate::expression::Assertion;

/// A statement about every way that an instance can go.
#[derive(Clone, Debug)]
pub struct Invariant {
    /// What must hold.
    pub assertion: Assertion,
    /// When.
    pub moment: Moment,
}

/// When an [`Invariant`] must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Whenever the instance has come to rest: at its end, or blocked.
    End,
    /// After everything that happens.
    Always,
}

/// What an invariant can ask of a step: `steps.<id>.<fact>`.
pub const STEP_FACTS: [&str; 7] = ["called", "done", "undone", "refused", "unknown", "skipped", "state"];

/// What an invariant can ask of the saga: `saga.<fact>`.
pub const SAGA_FACTS: [&str; 5] = ["state", "completed", "compensated", "failed", "blocked"];
