//! Who asks, and whether he may: looked at for every request before anything of it is done. What is decided stands in
//! `sagamq_api::access`; this finds out who it is and what the request is about.

mod acting;
mod caller;
mod gate;

pub(crate) use acting::Acting;
pub(crate) use caller::Caller;
pub(super) use gate::Gate;

use core::fmt;
use sagamq_broker::Broker;
use sagamq_broker::access::{ApiKeys, Tokens};
use sagamq_broker::env::Clock;
use std::sync::Arc;

/// How it is found out who asks.
#[derive(Clone)]
pub struct Authentication {
    keys: ApiKeys,
    /// Tokens of an identity provider are taken as well.
    tokens: Option<Tokens>,
    clock: Arc<dyn Clock>,
    /// Whether the metrics are for everybody.
    open_metrics: bool,
}

impl Authentication {
    /// By the API keys of this broker.
    #[must_use]
    pub fn by_keys(broker: &Broker, open_metrics: bool) -> Self {
        Self { keys: broker.api_keys(), tokens: None, clock: broker.clock(), open_metrics }
    }

    /// And by tokens of this identity provider.
    #[must_use]
    pub fn and_tokens(self, tokens: Tokens) -> Self {
        Self { tokens: Some(tokens), ..self }
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication").field("open_metrics", &self.open_metrics).finish_non_exhaustive()
    }
}
