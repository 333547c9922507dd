//! Instances in trouble, grouped by what went wrong.

use super::Operation;
use crate::names::{SagaName, StepId};
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Query of `GET /v1/sagas/incidents`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct IncidentQuery {
    /// Only instances of this definition.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub saga: Option<SagaName>,
    /// Most incidents (default 100, at most 1,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
}

/// `GET /v1/sagas/incidents`: what is wrong now. An instance is in trouble if it is `BLOCKED`, if attempts of one of its calls failed twice or
/// more and it is tried on, or if a participant cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct IncidentList {
    /// What went wrong, that of most instances first.
    pub incidents: Vec<Incident>,
    /// Instances in trouble, of all incidents together.
    pub instances: u64,
    /// Incidents that are left out because of the limit.
    pub left_out: u64,
    /// Instances that are set aside, of all definitions: `GET /v1/sagas?state=QUARANTINED` lists them.
    pub quarantined: u64,
}

/// Open instances in the same trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Incident {
    /// Name of the definition.
    pub saga: SagaName,
    /// Version of the definition.
    pub version: u32,
    /// The step that is in trouble.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<StepId>,
    /// What was called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<Operation>,
    /// Code of the last failure.
    pub code: String,
    /// What one of them says of it.
    pub message: String,
    /// How many instances.
    pub count: u64,
    /// How many of them are `BLOCKED`: they go on only if somebody helps.
    pub blocked: u64,
    /// Since when the first of them is in trouble, in milliseconds since 1970.
    pub oldest_since_ms: u64,
    /// Since when the last of them is in trouble, in milliseconds since 1970.
    pub newest_since_ms: u64,
    /// How long the first of them is in trouble, in milliseconds, by the server's clock.
    pub oldest_age_ms: u64,
    /// How long the last of them is in trouble, in milliseconds, by the server's clock.
    pub newest_age_ms: u64,
    /// Ids of some of them, those that are in trouble for the longest time first.
    pub examples: Vec<Uuid>,
}
