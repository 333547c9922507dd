//! Bodies of the service routes: where participants are that are called over HTTP, by name, and how the server gets along with them.

use crate::names::{SecretName, ServiceName};
use core::fmt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// Most endpoints of a service.
pub const SERVICE_ENDPOINTS_MAX: usize = 64;

/// Most services with an address of their own: each is in memory.
pub const SERVICES_MAX: usize = 10_000;

/// Connection failures in a row after which an endpoint is left alone, if its service does not say.
pub const EJECT_AFTER_DEFAULT: u32 = 5;

/// The most of these.
pub const EJECT_AFTER_MAX: u32 = 1_000;

/// How long an endpoint is left alone, in milliseconds, if its service does not say.
pub const EJECT_MS_DEFAULT: u64 = 5_000;

/// The shortest of these times, in milliseconds.
pub const EJECT_MS_MIN: u64 = 100;

/// The longest of these times, in milliseconds.
pub const EJECT_MS_MAX: u64 = 3_600_000;

/// The most calls at a time that can be set for a service.
pub const MAX_IN_FLIGHT_MAX: u32 = 100_000;

/// The most calls a second that can be set for a service.
pub const CALLS_PER_SECOND_MAX: u32 = 100_000;

/// The most calls in a row without an answer that can be set for a service.
pub const BREAK_AFTER_MAX: u32 = 100_000;

/// How long nobody calls a service whose breaker is open, in milliseconds, if it does not say.
pub const BREAK_MS_DEFAULT: u64 = 10_000;

/// The most patterns of definitions that may call a service.
pub const SERVICE_DEFINITIONS_MAX: usize = 64;

/// `PUT /v1/services/{service}`: where a service is from now on. What is left out has its default, whatever it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PutService {
    /// Base URLs, any of which serves every call: at least one, at most 64. An operation is `POST {base}/{operation}`.
    pub endpoints: Vec<String>,
    /// After so many connection failures in a row an endpoint is left alone (default 5, at most 1,000); 0: never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub eject_after: Option<u32>,
    /// How long it is left alone, in milliseconds (default 5,000; 100 to 3,600,000). Then one call is let through, and decides.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub eject_ms: Option<u64>,
    /// Most calls at a time, at all its endpoints together (at most 100,000); left out: as many as the endpoints have places for. More wait, and are not
    /// sent until there is room.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_in_flight: Option<u32>,
    /// Most calls that begin in a second, a tenth of them at once (at most 100,000); left out: any number. More wait, and are not sent until it is
    /// their turn.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls_per_second: Option<u32>,
    /// After so many calls in a row that had no answer, or one that leaves the outcome unknown, nobody calls it for a while (at most 100,000);
    /// left out: never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub break_after: Option<u32>,
    /// How long nobody calls it then, in milliseconds (default 10,000; 100 to 3,600,000). Then one call is let through, and decides.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub break_ms: Option<u64>,
    /// Headers of its calls (at most 32). In a value, `${secret:NAME}` stands for the content of a secret that the server has; headers that have
    /// secrets by their names (`authorization`, `cookie`, `x-api-key` …) must have one. To put a service with secrets takes an administrator.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub headers: BTreeMap<String, String>,
    /// Certificates of its connections, by the names of secrets.
    #[serde(skip_serializing_if = "ServiceTls::is_empty", default)]
    pub tls: ServiceTls,
    /// Whether secrets may be sent to it without TLS, where something else keeps them from being read on their way.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub allow_plain_http: bool,
    /// Definitions that may call it: names, or their beginnings and `*` (at most 64); left out: all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub definitions: Vec<String>,
}

/// Certificates of the connections to a service: each the name of a secret that has them in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ServiceTls {
    /// Authorities that vouch for it, in the place of the system's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ca: Option<SecretName>,
    /// The certificate that the server shows it, with those between it and the authority behind it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<SecretName>,
    /// The key of that certificate; left out: it stands with the certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<SecretName>,
}

impl ServiceTls {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `GET /v1/services/{service}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ServiceDescription {
    /// Its name, as definitions call it.
    pub name: ServiceName,
    /// Where it is.
    pub endpoints: Vec<EndpointDescription>,
    /// After so many connection failures in a row an endpoint is left alone; 0: never.
    pub eject_after: u32,
    /// How long it is left alone, in milliseconds.
    pub eject_ms: u64,
    /// Most calls at a time; left out: no bound of its own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_in_flight: Option<u32>,
    /// Most calls that begin in a second; left out: no bound.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls_per_second: Option<u32>,
    /// After so many calls in a row without an answer nobody calls it for a while; left out: never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub break_after: Option<u32>,
    /// How long nobody calls it then, in milliseconds.
    pub break_ms: u64,
    /// Whether it is called.
    pub breaker: BreakerState,
    /// When one call is let through that decides, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tried_again_in_ms: Option<u64>,
    /// Calls that run now, if they are bounded.
    pub in_flight: u32,
    /// Calls that are held back now by one of the two bounds.
    pub held_back: u32,
    /// Headers of its calls, with the names of secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub headers: BTreeMap<String, String>,
    /// Certificates of its connections, by the names of secrets.
    #[serde(skip_serializing_if = "ServiceTls::is_empty", default)]
    pub tls: ServiceTls,
    /// Whether secrets may be sent to it without TLS.
    #[serde(skip_serializing_if = "core::ops::Not::not", default)]
    pub allow_plain_http: bool,
    /// Definitions that may call it; left out: all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub definitions: Vec<String>,
    /// Of these, those that match no definition which is published: a slip, or one that is yet to come.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unmatched_definitions: Vec<String>,
    /// When it was last put, in milliseconds since 1970.
    pub updated_at_ms: u64,
}

/// Whether a service is called, by what its last calls came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BreakerState {
    /// It is.
    Closed,
    /// It is not: too many calls in a row had no answer.
    Open,
    /// One call was let through, and decides.
    Trying,
}

impl BreakerState {
    /// As it stands in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::Trying => "TRYING",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One endpoint of a service, and how this server gets along with it since its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct EndpointDescription {
    /// Base URL.
    pub url: String,
    /// Whether it is called.
    pub state: EndpointState,
    /// Connection failures in a row.
    pub failures: u32,
    /// How long it is left alone still, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ejected_for_ms: Option<u64>,
}

/// Whether an endpoint is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EndpointState {
    /// It is.
    Up,
    /// It is left alone: connections to it failed.
    Ejected,
    /// One call is let through, and decides.
    Probing,
}

impl EndpointState {
    /// As it stands in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "UP",
            Self::Ejected => "EJECTED",
            Self::Probing => "PROBING",
        }
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct ServiceList {
    /// Services by name: those that have an address of their own.
    pub services: Vec<ServiceDescription>,
}
