//! What happened to a two-phase commit: the coordinator's log. These events are the truth; everything else is their fold.
//!
//! Their JSON is stored and shown by the history route as it is. Rules for changes: a field may be added with a default, a kind may be
//! added, nothing is renamed, removed or given another meaning; anything else needs a new [`EVENT_FORMAT`](crate::protocol::EVENT_FORMAT).

use super::branch::{Contradiction, Vote};
use crate::protocol::decision::ResolvedOutcome;
use crate::protocol::occurrence::{AttemptEnd, BranchEnd, EndedAttempt, Heuristic, Occurrence};
use sagamq_api::saga::{Failure, Operation, StepAttempt};
use sagamq_api::{JsonText, SagaName, TraceContext};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// One thing that happened. An attempt at a branch (its vote, its end) has the address of the branch's first step.
///
/// The tag stands in front of the fields and beside them, not among them: then payloads are read without a buffer, and keep their text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", deny_unknown_fields)]
pub enum TransactionEvent {
    /// The instance exists. Always the first event and never another.
    TransactionStarted {
        /// Name of the definition.
        saga: SagaName,
        /// Version of the definition: the instance keeps it for life.
        version: u32,
        /// Business key.
        key: String,
        /// How many instances the key has started, with this one.
        generation: u64,
        /// The data of the server that decides.
        cluster: Uuid,
        /// What it works on.
        input: JsonText,
        /// When it is rolled back if it is not decided, in milliseconds since 1970.
        timeout_at_ms: u64,
        /// The span that started it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        trace: Option<Box<TraceContext>>,
    },
    /// An action is about to be called: the intent, written before the effect. An action is called once.
    ActionCalled {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// When it is given up, in milliseconds since 1970.
        deadline_ms: u64,
        /// The arguments.
        arguments: JsonText,
    },
    /// A participant cannot be reached: nothing was sent, and sending is tried on within the same attempt. Written once an attempt.
    CallNotSent {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What went wrong.
        failure: Failure,
    },
    /// The worker that has the branch open said where it is: all further calls of the branch go there.
    BranchLocated {
        /// Name of the branch.
        branch: String,
        /// Base URL.
        address: String,
        /// Whether that was said where a definition says that the service is: what calls to the service show is not shown there.
        #[serde(skip_serializing_if = "core::ops::Not::not", default)]
        is_foreign: bool,
    },
    /// The action took effect within its branch.
    ActionSucceeded {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What it returned.
        output: JsonText,
        /// Why the output is not what the participant returned: that could not be kept.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        note: Option<Failure>,
    },
    /// The action took no effect.
    ActionFailed {
        /// The attempt; epoch 0 if it was never called.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// Why.
        failure: Failure,
    },
    /// Whether the action took effect is not known.
    ActionUnknown {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What went wrong.
        failure: Failure,
    },
    /// A branch is about to be asked for its vote, or told its end. The first call for a vote says that every action succeeded; the first
    /// to commit in one phase gives the decision away.
    BranchCalled {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// When the attempt is given up, in milliseconds since 1970.
        deadline_ms: u64,
        /// Whether it goes to the service, because nothing could be sent to the worker that has the branch open.
        #[serde(skip_serializing_if = "core::ops::Not::not", default)]
        detour: bool,
    },
    /// The attempt at a branch ended without a word that counts, and another one follows.
    BranchAttemptFailed {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What went wrong.
        failure: Failure,
        /// Whether the participant refused. If not, the outcome is unknown.
        refused: bool,
        /// When the next attempt is due, in milliseconds since 1970.
        retry_at_ms: u64,
    },
    /// The branch voted for the commit: it can be committed from now on, whatever happens, or it has changed nothing.
    BranchVoted {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What it said.
        vote: Vote,
        /// How long a branch that has changed nothing held its locks, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        held_ms: Option<u64>,
    },
    /// The branch voted against the commit, or could not commit in one phase: it has rolled back.
    BranchRefused {
        /// The attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// Why.
        failure: Failure,
        /// How long it held its locks, in milliseconds.
        held_ms: u64,
    },
    /// The decision: it is committed, everywhere. On disk before anybody hears of it.
    CommitDecided,
    /// The decision: it is rolled back, everywhere. Actions in flight are not waited for.
    AbortDecided {
        /// Why.
        failure: Failure,
        /// The operator who wants it, if one does.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
    },
    /// The branch is committed.
    BranchCommitted {
        /// The attempt that it answers.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// How long it held its locks, in milliseconds.
        held_ms: u64,
    },
    /// The branch is rolled back.
    BranchRolledBack {
        /// The attempt that it answers.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// How long it held its locks, in milliseconds.
        held_ms: u64,
    },
    /// The branch did not acknowledge that it is to be rolled back, and is not told again: it asks.
    BranchUnacknowledged {
        /// The last attempt.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What went wrong last.
        failure: Failure,
    },
    /// The participant says that it cannot do what was decided: it has lost the branch, or has done the opposite. An operator has to look
    /// at it.
    BranchDisagrees {
        /// The attempt that it answers.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What it says.
        failure: Failure,
    },
    /// The participant said what does not go with what it said before, or came too late. It changes nothing. Written once a branch and
    /// kind.
    BranchContradicted {
        /// The attempt that it answers.
        #[serde(flatten)]
        attempt: StepAttempt,
        /// What does not fit.
        contradiction: Contradiction,
        /// What it says.
        failure: Failure,
    },
    /// An operator said what became of the branch.
    BranchResolved {
        /// Name of the branch.
        branch: String,
        /// What became of it.
        outcome: ResolvedOutcome,
        /// What that makes of the transaction, if it is not what was decided.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        heuristic: Option<Heuristic>,
        /// Who said so.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        actor: Option<String>,
        /// Why.
        reason: String,
    },
    /// Every branch is committed, or an operator said what became of it. Final.
    TransactionCommitted {
        /// What the transaction returns.
        #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "present")]
        output: Option<JsonText>,
        /// Why it returns nothing although the definition has an output: its expression had no value.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        failure: Option<Failure>,
    },
    /// Every branch is rolled back, or will be when it asks. Final.
    TransactionAborted,
    /// The only branch had the decision, and nobody knows what it did. Final.
    TransactionUnknown,
}

/// A field that is there, be it `null`: a transaction that returns `null` returned something.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<JsonText>, D::Error> {
    JsonText::deserialize(deserializer).map(Some)
}

impl TransactionEvent {
    /// The attempt that it ends, if it does.
    pub(in crate::protocol) fn ended(&self) -> Option<EndedAttempt<'_>> {
        let (attempt, end, failure) = match self {
            Self::ActionSucceeded { attempt, .. }
            | Self::BranchVoted { attempt, .. }
            | Self::BranchCommitted { attempt, .. }
            | Self::BranchRolledBack { attempt, .. } => (attempt, AttemptEnd::Succeeded, None),
            Self::ActionFailed { attempt, failure }
            | Self::BranchRefused { attempt, failure, .. }
            | Self::BranchAttemptFailed { attempt, failure, refused: true, .. } => (attempt, AttemptEnd::Refused, Some(failure)),
            Self::ActionUnknown { attempt, failure } | Self::BranchAttemptFailed { attempt, failure, .. } => {
                (attempt, AttemptEnd::Unknown, Some(failure))
            }
            Self::BranchUnacknowledged { attempt, failure } | Self::BranchDisagrees { attempt, failure } => {
                (attempt, AttemptEnd::GivenUp, Some(failure))
            }
            _ => return None,
        };
        Some(EndedAttempt { attempt, end, failure })
    }

    /// What it is counted as, if it is.
    pub(in crate::protocol) fn occurrence(&self) -> Option<Occurrence> {
        let ended = |end, held_ms: &u64| Some(Occurrence::BranchEnded { end, held_ms: *held_ms });
        match self {
            Self::TransactionStarted { .. } => Some(Occurrence::Started),
            Self::ActionSucceeded { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Succeeded)),
            Self::ActionFailed { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Refused)),
            Self::ActionUnknown { .. } => Some(Occurrence::AttemptEnded(Operation::Action, AttemptEnd::Unknown)),
            Self::BranchAttemptFailed { attempt, refused, .. } => {
                let end = if *refused { AttemptEnd::Refused } else { AttemptEnd::Unknown };
                Some(Occurrence::AttemptEnded(attempt.operation, end))
            }
            Self::BranchUnacknowledged { attempt, .. } => Some(Occurrence::AttemptEnded(attempt.operation, AttemptEnd::GivenUp)),
            Self::BranchVoted { held_ms: Some(held_ms), .. } => ended(BranchEnd::ReadOnly, held_ms),
            Self::BranchVoted { attempt, held_ms: None, .. } => Some(Occurrence::AttemptEnded(attempt.operation, AttemptEnd::Succeeded)),
            Self::BranchCommitted { held_ms, .. } => ended(BranchEnd::Committed, held_ms),
            Self::BranchRefused { held_ms, .. } | Self::BranchRolledBack { held_ms, .. } => ended(BranchEnd::RolledBack, held_ms),
            Self::CommitDecided => Some(Occurrence::Decided { commit: true }),
            Self::AbortDecided { .. } => Some(Occurrence::Decided { commit: false }),
            Self::BranchDisagrees { .. } => Some(Occurrence::Blocked),
            Self::BranchResolved { heuristic, .. } => heuristic.map(Occurrence::Heuristic),
            Self::ActionCalled { .. }
            | Self::CallNotSent { .. }
            | Self::BranchLocated { .. }
            | Self::BranchCalled { .. }
            | Self::BranchContradicted { .. }
            | Self::TransactionCommitted { .. }
            | Self::TransactionAborted
            | Self::TransactionUnknown => None,
        }
    }
}
