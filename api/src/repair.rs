//! Bodies of the repair routes: an operator's verb for many sagas, as a job of the server.

use crate::names::{SagaName, StepId};
#[cfg(feature = "openapi")]
use crate::saga::VerbFields;
use crate::saga::{OperateSaga, SagaPreview, SagaState, SagaSummary};
use core::fmt;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// `POST /v1/saga-repairs` and `POST /v1/saga-repairs:preview`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartRepair {
    /// The caller's name for this repair: the same request again gives the same repair. Without it each request starts another one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Which sagas. Either this or `ids`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub filter: Option<RepairFilter>,
    /// Which sagas, one by one, at most 1,000. Either this or `filter`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ids: Option<Vec<Uuid>>,
    /// What is done to each.
    #[cfg_attr(feature = "openapi", schema(value_type = VerbFields))]
    pub operate: OperateSaga,
    /// Most sagas that are repaired in a second (default 100, at most 10,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rate: Option<u32>,
    /// Most sagas altogether (default 10,000, at most 1,000,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_sagas: Option<u64>,
    /// How long a saga has to move on before it is reported that it did not, in milliseconds (default 60,000, at most 3,600,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub patience_ms: Option<u64>,
}

/// Which sagas. A saga must fit every field that is there, and one must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RepairFilter {
    /// Name of the definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saga: Option<SagaName>,
    /// Version of the definition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Its state. Without it, any but those at their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SagaState>,
    /// It stands at this step: the step is called or waits to be, or has failed for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// Code of its failure, or of the last failure of a step that it stands at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Nothing has happened to it for so long, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unchanged_for_ms: Option<u64>,
}

/// Where a repair stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RepairState {
    /// Sagas are looked for and repaired.
    Running,
    /// No other saga is begun; what is in progress goes on.
    Paused,
    /// No other saga will be begun; some are in progress.
    Cancelling,
    /// It was cancelled, and every saga that was begun has its result. Final.
    Cancelled,
    /// Every saga has its result. Final.
    Done,
}

impl RepairState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Running, Self::Paused, Self::Cancelling, Self::Cancelled, Self::Done];

    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Cancelling => "CANCELLING",
            Self::Cancelled => "CANCELLED",
            Self::Done => "DONE",
        }
    }

    /// Whether nothing will ever change it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::Done)
    }
}

impl fmt::Display for RepairState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of a saga in a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RepairOutcome {
    /// It moved on: it is at its end, or has left the steps behind that it stood at. Of `pause`, `resume` and `edit-input`: it is so. Of
    /// `rerun`: the rerun has done the step that it goes on with.
    Done,
    /// The verb was refused; `code` is the error's code.
    Refused,
    /// It, or its rerun, is `BLOCKED` again, or still; `code` is that of the failure.
    Blocked,
    /// The verb was applied, and the saga had not moved on when its time was over; or its rerun came to its end without having done the step
    /// that it goes on with.
    NotMoved,
    /// It is not there any more.
    Gone,
    /// It did not fit the filter any more when its turn came, and nothing was done.
    NoMatch,
}

impl RepairOutcome {
    /// Every outcome.
    pub const ALL: [Self; 6] = [Self::Done, Self::Refused, Self::Blocked, Self::NotMoved, Self::Gone, Self::NoMatch];

    /// As it stands in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::NotMoved => "not_moved",
            Self::Gone => "gone",
            Self::NoMatch => "no_match",
        }
    }
}

impl fmt::Display for RepairOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of a saga, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Repaired {
    /// What became of it.
    pub outcome: RepairOutcome,
    /// Its state then; of `rerun` that of the rerun.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<SagaState>,
    /// Of `rerun`: the rerun.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rerun_as: Option<Uuid>,
    /// Code of the refusal or of the failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}

/// How many sagas came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct RepairCounts {
    /// See [`RepairOutcome::Done`].
    pub done: u64,
    /// See [`RepairOutcome::Refused`].
    pub refused: u64,
    /// See [`RepairOutcome::Blocked`].
    pub blocked: u64,
    /// See [`RepairOutcome::NotMoved`].
    pub not_moved: u64,
    /// See [`RepairOutcome::Gone`].
    pub gone: u64,
    /// See [`RepairOutcome::NoMatch`].
    pub no_match: u64,
}

impl RepairCounts {
    /// Counts one more.
    pub fn add(&mut self, outcome: RepairOutcome) {
        *match outcome {
            RepairOutcome::Done => &mut self.done,
            RepairOutcome::Refused => &mut self.refused,
            RepairOutcome::Blocked => &mut self.blocked,
            RepairOutcome::NotMoved => &mut self.not_moved,
            RepairOutcome::Gone => &mut self.gone,
            RepairOutcome::NoMatch => &mut self.no_match,
        } += 1;
    }

    /// All of them.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.done + self.refused + self.blocked + self.not_moved + self.gone + self.no_match
    }
}

/// `GET /v1/saga-repairs/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct RepairDescription {
    /// Its id.
    pub id: Uuid,
    /// The caller's name for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Where it stands.
    pub state: RepairState,
    /// Which sagas, if they were not given one by one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub filter: Option<RepairFilter>,
    /// What is done to each.
    #[cfg_attr(feature = "openapi", schema(value_type = VerbFields))]
    pub operate: OperateSaga,
    /// Most sagas that are repaired in a second.
    pub rate: u32,
    /// Most sagas altogether.
    pub max_sagas: u64,
    /// How long a saga has to move on, in milliseconds.
    pub patience_ms: u64,
    /// When it was started, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When something happened to it last, in milliseconds since 1970.
    pub updated_at_ms: u64,
    /// Sagas that were found so far.
    pub found: u64,
    /// Whether all were found.
    pub is_all_found: bool,
    /// Of these, those whose turn has not come.
    pub waiting: u64,
    /// Those that are in progress.
    pub in_progress: u64,
    /// Those that have their result, by how they came out.
    pub results: RepairCounts,
}

/// Answer of `POST /v1/saga-repairs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StartedRepair {
    /// Whether the key had started it before.
    pub duplicate: bool,
    /// The repair.
    pub repair: RepairDescription,
}

/// Query of `GET /v1/saga-repairs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct RepairQuery {
    /// Only repairs in this state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<RepairState>,
    /// Most rows (default 100, at most 1,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<Uuid>,
}

/// `GET /v1/saga-repairs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct RepairList {
    /// Repairs, by id.
    pub repairs: Vec<RepairDescription>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Uuid>,
}

/// Query of `GET /v1/saga-repairs/{id}/results`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct RepairResultsQuery {
    /// Only results that came out so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<RepairOutcome>,
    /// Most rows (default 100, at most 1,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<u64>,
}

/// What became of one saga of a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct RepairResult {
    /// Its number in the repair, from 0.
    pub number: u64,
    /// The saga.
    pub saga: Uuid,
    /// What became of it.
    #[serde(flatten)]
    pub repaired: Repaired,
    /// When that was known, in milliseconds since 1970.
    pub at_ms: u64,
}

/// `GET /v1/saga-repairs/{id}/results`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct RepairResults {
    /// Results, in the order in which they came.
    pub results: Vec<RepairResult>,
    /// Where the next page begins, if there may be one. Of a repair that is not at its end, ask again with it later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<u64>,
}

/// `POST /v1/saga-repairs/{id}:pause`, `:resume` and `:cancel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct OperateRepair {
    /// Why, for the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who wants it, for the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
}

/// Query of `POST /v1/saga-repairs:preview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct PreviewQuery {
    /// Most sagas that are shown (default 10, at most 100).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
}

/// Answer of `POST /v1/saga-repairs:preview`: what a repair would begin with. Nothing is called and nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct RepairPreview {
    /// The first sagas that would be repaired.
    pub sagas: Vec<PreviewedSaga>,
    /// Whether there may be more.
    pub has_more: bool,
}

/// What a repair would do to a saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct PreviewedSaga {
    /// The saga as it is.
    pub saga: SagaSummary,
    /// What the verb would lead to if every participant answered with success. Absent: it would be refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preview: Option<SagaPreview>,
    /// Code of the refusal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Why it would be refused, for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
}
