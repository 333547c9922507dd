//! The versions of a definition, with what runs or ran by each.

use super::{Mode, SagaState};
use crate::names::SagaName;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// `GET /v1/saga-definitions/{saga}/versions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DefinitionVersions {
    /// Name of the saga.
    pub saga: SagaName,
    /// Its versions, oldest first.
    pub versions: Vec<DefinitionVersion>,
}

/// A version of a definition, and what runs or ran by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct DefinitionVersion {
    /// The version.
    pub version: u32,
    /// How its instances are run when a start does not say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub published_at_ms: Option<u64>,
    /// Why it cannot be read, if that is so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<String>,
    /// How many instances it has in each state, without those states in which it has none.
    pub instances: Vec<StateCount>,
}

/// Instances in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct StateCount {
    /// The state, as it was last written.
    pub state: SagaState,
    /// How many.
    pub count: u64,
}
