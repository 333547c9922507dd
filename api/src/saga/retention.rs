//! How long instances that are at their end are kept.

use crate::names::SagaName;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// How long instances at their end are kept: an instance is removed with its history once one of the two says so. Without either they are kept
/// for ever. Instances that are not at their end are never removed, nor transactions of which a branch has not acknowledged its end itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// How long an instance is kept after its end, in milliseconds: 1 minute to 10 years.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub keep_ms: Option<u64>,
    /// How many instances of a definition are kept, of all its versions together, those that ended last: 1 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub keep_count: Option<u32>,
}

/// The retention of one definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct SagaRetention {
    /// Name of the definition.
    pub saga: SagaName,
    /// How long its instances are kept.
    pub retention: Retention,
}

/// `GET /v1/saga-retention`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct RetentionList {
    /// Of every definition that has none of its own.
    pub default: Retention,
    /// Of those that have one, by name.
    pub sagas: Vec<SagaRetention>,
}
