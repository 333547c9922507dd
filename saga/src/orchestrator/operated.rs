//! What became of a verb: the answer of a lane, which knows nothing of who asks it.

use sagamq_api::saga::SagaState;

/// What a verb did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operated {
    /// Whether nothing changed, because it was so already.
    pub duplicate: bool,
    /// The state of the instance afterwards.
    pub state: SagaState,
}
