//! [`Act`]: who acts, and what he has asked for.

use core::net::IpAddr;
use sagamq_api::audit::ACTOR_CONFIG;
use std::sync::Arc;

/// Who acts, and what he has asked for. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Act(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    actor: String,
    operation: &'static str,
    request_id: Option<String>,
    address: Option<IpAddr>,
}

impl Act {
    /// Somebody's request for an operation, by the name in the table of operations.
    #[must_use]
    pub fn of_request(actor: String, operation: &'static str, request_id: Option<String>, address: Option<IpAddr>) -> Self {
        Self(Arc::new(Asked { actor, operation, request_id, address }))
    }

    /// The server itself does it, because a setting says so.
    #[must_use]
    pub fn of_settings(operation: &'static str) -> Self {
        Self::of_request(ACTOR_CONFIG.to_owned(), operation, None, None)
    }

    /// Who: `key:NAME`, `token:SUBJECT`, `anonymous` or `config`.
    #[must_use]
    pub fn actor(&self) -> &str {
        &self.0.actor
    }

    pub(super) fn operation(&self) -> &'static str {
        self.0.operation
    }

    pub(super) fn request_id(&self) -> Option<&String> {
        self.0.request_id.as_ref()
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.0.address
    }
}
