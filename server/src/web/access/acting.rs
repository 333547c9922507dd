//! [`Acting`]: an engine for whoever asks, so that what he changes is in the audit log with his name, and what is leased to him is his.

use super::Caller;
use crate::web::problem::ApiError;
use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use sagamq_broker::Broker;
use sagamq_broker::audit::Act;
use sagamq_saga::orchestrator::Orchestrator;

/// What changes things in somebody's name.
pub(crate) trait Acts {
    /// The same one, for what somebody does.
    #[must_use]
    fn acting(&self, act: Act) -> Self;

    /// The same one, for what is leased to somebody.
    #[must_use]
    fn held_by(&self, principal: &str) -> Self;
}

/// In the place of the state, for the handlers of operations that change or settle something. Where no audit log is kept and nobody is asked who
/// he is, it is the state itself.
#[derive(Clone, Debug)]
pub(crate) struct Acting<T>(pub(crate) T);

impl Acts for Broker {
    fn acting(&self, act: Act) -> Self {
        Self::acting(self, act)
    }

    fn held_by(&self, principal: &str) -> Self {
        Self::held_by(self, principal)
    }
}

impl Acts for Orchestrator {
    fn acting(&self, act: Act) -> Self {
        Self::acting(self, act)
    }

    fn held_by(&self, principal: &str) -> Self {
        Self::held_by(self, principal)
    }
}

impl<S, T> FromRequestParts<S> for Acting<T>
where
    S: Send + Sync,
    T: Acts + FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let mut engine = T::from_ref(state);
        if let Some(act) = parts.extensions.get::<Act>() {
            engine = engine.acting(act.clone());
        }
        if let Some(principal) = parts.extensions.get::<Caller>().and_then(Caller::principal) {
            engine = engine.held_by(principal);
        }
        Ok(Self(engine))
    }
}
