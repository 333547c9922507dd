//! Where a service is, whatever definitions say: what is stored under its name.

use sagamq_api::service::ServiceTls;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The endpoints of a service, and how they are got along with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceAddress {
    /// Base URLs, without a slash at their ends.
    pub(crate) endpoints: Vec<String>,
    /// Connection failures in a row after which an endpoint is left alone; 0: never.
    pub(crate) eject_after: u32,
    /// How long it is left alone, in milliseconds.
    pub(crate) eject_ms: u64,
    /// Most calls at a time; 0: any number.
    #[serde(default)]
    pub(crate) max_in_flight: u32,
    /// Most calls that begin in a second; 0: any number.
    #[serde(default)]
    pub(crate) calls_per_second: u32,
    /// Calls in a row without an answer after which nobody calls it for a while; 0: never.
    #[serde(default)]
    pub(crate) break_after: u32,
    /// How long nobody calls it then, in milliseconds.
    #[serde(default)]
    pub(crate) break_ms: u64,
    /// Headers of its calls, with the names of secrets in their values.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Certificates of its connections, by the names of the secrets that have them.
    #[serde(default)]
    pub(crate) tls: ServiceTls,
    /// Whether secrets may be sent to it without TLS.
    #[serde(default)]
    pub(crate) allow_plain_http: bool,
    /// Patterns of the definitions that may call it; empty: all.
    #[serde(default)]
    pub(crate) definitions: Vec<String>,
    /// When it was put, in milliseconds since 1970.
    pub(crate) updated_at_ms: u64,
}

impl ServiceAddress {
    /// Whether its calls show secrets: then only an administrator may say where it is, because that is who gets them.
    pub(crate) fn has_secrets(&self) -> bool {
        self.tls != ServiceTls::default() || self.headers.values().any(|value| value.contains("${"))
    }

    /// At these endpoints, with nothing else.
    #[cfg(test)]
    pub(crate) fn at(endpoints: &[&str]) -> Self {
        Self {
            endpoints: endpoints.iter().map(|&url| url.to_owned()).collect(),
            eject_after: 0,
            eject_ms: 1_000,
            max_in_flight: 0,
            calls_per_second: 0,
            break_after: 0,
            break_ms: 500,
            headers: BTreeMap::new(),
            tls: ServiceTls::default(),
            allow_plain_http: false,
            definitions: Vec::new(),
            updated_at_ms: 0,
        }
    }
}
