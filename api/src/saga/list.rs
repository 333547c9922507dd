//! Listing instances.

use super::{SagaState, SagaSummary};
use crate::names::SagaName;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};

/// Query of `GET /v1/sagas`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct SagaQuery {
    /// Only instances in this state.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<SagaState>,
    /// Only instances of this definition.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub saga: Option<SagaName>,
    /// Only instances of this version of the definition, which `saga` names.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<u32>,
    /// Only instances with this business key: one a definition, and one more for each time that it was started anew.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
    /// Only instances whose `failure` has this code.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
    /// Only instances that started at this time or later, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_from_ms: Option<u64>,
    /// Only instances that started before this time, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_before_ms: Option<u64>,
    /// Most rows (default 100, at most 1,000).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Continue after the page that returned this as `next`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<String>,
}

/// `GET /v1/sagas`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SagaList {
    /// Instances, those that started last first. Of one that is not at its end, `updated_at_ms` and `events` are those of its last change of
    /// state.
    pub sagas: Vec<SagaSummary>,
    /// Where the next page begins, if there may be one: then a page can be shorter than its limit, or empty. It stays good whatever happens
    /// to instances.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}
