//! Which versions of a definition new sagas take.

use crate::names::SagaName;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};

/// Query of `POST /v1/saga-definitions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema, IntoParams))]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
pub struct PublishQuery {
    /// Whether new sagas take this version from now on (default `false`). The first version of a name is taken in any case.
    #[serde(default)]
    pub activate: bool,
    /// Whether it is published only if verification finds nothing wrong with it (default `false`). The server's settings may ask for that in any
    /// case.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub verify: bool,
}

/// Body of `PUT /v1/saga-definitions/{saga}/activation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ActivateVersion {
    /// The version that new sagas take, unless they name another.
    pub version: u32,
    /// A second version that a share of them takes; without it there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub canary: Option<Canary>,
    /// Who wants it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// A version that is tried with a share of the new sagas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The version.
    pub version: u32,
    /// Its share of the new sagas that name no version, 1 to 99 of a hundred. The business key decides: the same key takes the same version
    /// as long as the share is not made smaller.
    pub percent: u8,
}

/// Answer of `GET` and `PUT /v1/saga-definitions/{saga}/activation`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct Activation {
    /// Name of the definition.
    pub saga: SagaName,
    /// The version that new sagas take, unless they name another.
    pub version: u32,
    /// The version that a share of them takes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub canary: Option<Canary>,
    /// Since when, in milliseconds since 1970.
    pub changed_at_ms: u64,
    /// Who wanted it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

impl Activation {
    /// The share of new sagas without a version that take this one, of a hundred.
    #[must_use]
    pub fn percent_of(&self, version: u32) -> u8 {
        let canary = self.canary.map_or(0, |canary| canary.percent);
        match self.canary {
            Some(canary) if canary.version == version => canary.percent,
            _ if self.version == version => 100 - canary,
            _ => 0,
        }
    }
}
