//! Bodies of the transaction routes: instances that run in two phases, as participants ask for them and operators look at them.

mod branch;
mod outcome;

pub use crate::saga::{Heuristic, Outcome, TransactionState, TransactionStatus};
pub use branch::{BranchOutcome, BranchState, Contradiction};
pub use outcome::{OutcomeQuery, TransactionOutcome};

use crate::json::JsonText;
use crate::names::{SagaName, StepId};
use crate::saga::{Failure, SagaState, StepFailure, Waits};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A transaction in one row of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TransactionSummary {
    /// Id of the instance.
    pub id: Uuid,
    /// Name of the definition.
    pub saga: SagaName,
    /// Version of the definition.
    pub version: u32,
    /// Business key.
    pub key: String,
    /// How it stands.
    #[serde(flatten)]
    pub status: TransactionStatus,
    /// How long it is in doubt, in milliseconds, by the server's clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_doubt_ms: Option<u64>,
    /// How it is shown where sagas are: `BLOCKED` if an operator has to look at a branch, `TERMINATED` if one said otherwise than was decided.
    pub saga_state: SagaState,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    /// When its last event happened, in milliseconds since 1970.
    pub updated_at_ms: u64,
    /// Number of its events.
    pub events: u64,
    /// Why it is rolled back, or blocked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// Why it does not move right now, if it is not at its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub waits: Option<Waits>,
}

/// `GET /v1/transactions/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TransactionDescription {
    /// The transaction in short.
    #[serde(flatten)]
    pub summary: TransactionSummary,
    /// The coordinator's data, which participants name when they ask.
    pub cluster: Uuid,
    /// What it was started with.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub input: JsonText,
    /// What it returned, once it is committed and the definition has an `output`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub output: Option<JsonText>,
    /// Its branches: who holds what.
    pub branches: Vec<BranchDescription>,
    /// Everything that went wrong, oldest first.
    pub failures: Vec<StepFailure>,
}

/// A branch: all that a transaction does at one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct BranchDescription {
    /// Its name, that of the service.
    pub branch: String,
    /// State.
    pub state: BranchState,
    /// Where its calls go: the worker that has it open, or else the service.
    pub address: String,
    /// The steps whose actions it does, in the order of the definition.
    pub steps: Vec<StepId>,
    /// Since when it keeps locks until it hears the decision, or may, in milliseconds since 1970; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_doubt_since_ms: Option<u64>,
    /// How long that is, in milliseconds, by the server's clock.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_doubt_ms: Option<u64>,
    /// What it said that does not fit the decision, or why it refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<Failure>,
    /// What it said that does not go with what it said before. It changed nothing.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub contradictions: Vec<Contradiction>,
    /// What an operator said became of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resolution: Option<BranchOutcome>,
}

/// Query of `GET /v1/transactions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct TransactionQuery {
    /// Only transactions in this state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<TransactionState>,
    /// `true`: only transactions with a branch that keeps locks until it hears the decision, or that disagrees with it and waits for an operator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_doubt: Option<bool>,
    /// Only transactions of this definition.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub saga: Option<SagaName>,
    /// Most rows (default 100, at most 1,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Continue after the page that returned this as `next`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
}

/// `GET /v1/transactions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct TransactionList {
    /// Transactions, those that started last first.
    pub transactions: Vec<TransactionSummary>,
    /// Where the next page begins, if there may be one: then a page can be shorter than its limit, or empty. It stays good whatever happens
    /// to transactions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// `POST /v1/transactions/{id}:resolve`: writes down what an operator found out about a branch that does not say so itself. It changes
/// nothing at the participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ResolveBranch {
    /// Name of the branch.
    pub branch: String,
    /// What became of it.
    pub outcome: BranchOutcome,
    /// Who says so, for the history.
    pub actor: String,
    /// How that is known, for the history.
    pub reason: String,
}
