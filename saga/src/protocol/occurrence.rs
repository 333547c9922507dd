//! What an event means to those who count: the same words for every protocol.

use sagamq_api::saga::Operation;

/// What happened, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// An instance was started.
    Started,
    /// An operator has to look at it.
    Blocked,
    /// An attempt ended.
    AttemptEnded(Operation, AttemptEnd),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// With success.
    Succeeded,
    /// Refused by the participant, or it had no effect for another reason.
    Refused,
    /// Without a known outcome.
    Unknown,
    /// Without success, and no other attempt follows although there should be an effect.
    GivenUp,
}
