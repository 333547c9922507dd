//! Where services are that are called over HTTP, by name: put, looked at and removed while sagas run. One commit of the control shard each; then
//! calls that wait, and all later ones, go there.

use super::door::Orchestrator;
use crate::definition::{Definition, HttpTarget, ServiceAddress, Target};
use crate::dsl::base_url;
use crate::store::ControlStore;
use sagamq_api::ServiceName;
use sagamq_api::service::{
    BREAK_AFTER_MAX, BREAK_MS_DEFAULT, CALLS_PER_SECOND_MAX, EJECT_AFTER_DEFAULT, EJECT_AFTER_MAX, EJECT_MS_DEFAULT, EJECT_MS_MAX,
    EJECT_MS_MIN, MAX_IN_FLIGHT_MAX, PutService, SERVICE_ENDPOINTS_MAX, SERVICES_MAX, ServiceDescription,
};
use sagamq_broker::WriteError;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why the address of a service was not changed, or cannot be told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServiceError {
    /// No address of its own was put.
    #[error("the service `{0}` has no address of its own here: `sagamq service set {0} URL` sets one")]
    NotFound(ServiceName),
    /// There are none, or too many.
    #[error("a service has 1 to {SERVICE_ENDPOINTS_MAX} endpoints, and these are {0}")]
    Endpoints(usize),
    /// An endpoint cannot be called.
    #[error("the endpoint `{url}` cannot be called: {reason}")]
    Url {
        /// As it was given.
        url: String,
        /// Why.
        reason: String,
    },
    /// An endpoint is named twice.
    #[error("the endpoint `{0}` is named twice")]
    Twice(String),
    /// The settings do not allow the host of an endpoint.
    #[error("{0}")]
    HostNotAllowed(String),
    /// A number is out of its range.
    #[error("`eject_after` is at most {EJECT_AFTER_MAX}, and this is {0}")]
    EjectAfter(u32),
    /// A time is out of its range.
    #[error("`eject_ms` is {EJECT_MS_MIN} to {EJECT_MS_MAX}, and this is {0}")]
    EjectMs(u64),
    /// A bound on calls is out of its range.
    #[error("`{name}` is 1 to {most}, or left out for no bound, and this is {given}")]
    Bound {
        /// The field.
        name: &'static str,
        /// The most.
        most: u32,
        /// What was given.
        given: u32,
    },
    /// The time of a breaker is out of its range.
    #[error("`break_ms` is {EJECT_MS_MIN} to {EJECT_MS_MAX}, and this is {0}")]
    BreakMs(u64),
    /// There are too many services.
    #[error(
        "{SERVICES_MAX} services have an address of their own, and there is no room for another one: remove one that is not called any more"
    )]
    TooMany,
    /// The commit did not become durable, as far as it is known.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Orchestrator {
    /// Says where a service is, whatever its definitions say: durable when it returns, and then calls go there that wait, and all later ones.
    ///
    /// # Errors
    /// When an endpoint cannot be called or a number is out of its range.
    pub async fn put_service(&self, name: ServiceName, service: PutService) -> Result<ServiceDescription, ServiceError> {
        let stored = self.checked(service)?;
        let turn = Arc::clone(&self.0.configuring).lock_owned().await;
        if !self.0.services.has(&name) && self.0.services.len() >= SERVICES_MAX {
            return Err(ServiceError::TooMany);
        }
        self.change(turn, name.clone(), Some(stored)).await?;
        self.service(&name)
    }

    /// Forgets the address of a service; durable when it returns. From then on it is where each definition says.
    ///
    /// # Errors
    /// When it has none of its own.
    pub async fn delete_service(&self, name: ServiceName) -> Result<(), ServiceError> {
        let turn = Arc::clone(&self.0.configuring).lock_owned().await;
        if !self.0.services.has(&name) {
            return Err(ServiceError::NotFound(name));
        }
        self.change(turn, name, None).await
    }

    /// One service that has an address of its own.
    ///
    /// # Errors
    /// When it has none.
    pub fn service(&self, name: &ServiceName) -> Result<ServiceDescription, ServiceError> {
        self.0.services.describe(name, self.0.broker.clock().now_ms()).ok_or_else(|| ServiceError::NotFound(name.clone()))
    }

    /// Every service that has an address of its own, by name.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceDescription> {
        self.0.services.all(self.0.broker.clock().now_ms())
    }

    /// A service that the definition calls and that has no address, if there is one.
    pub(super) fn without_address(&self, definition: &Definition) -> Option<String> {
        let service = definition.calls().find_map(|call| match &call.target {
            Target::Http(HttpTarget::Service { name, default: None }) => self.0.services.urls(name).is_none().then_some(name),
            Target::Http(_) | Target::Topic(_) | Target::Saga(_) => None,
        });
        service.cloned()
    }

    fn checked(&self, service: PutService) -> Result<ServiceAddress, ServiceError> {
        let PutService { endpoints, eject_after, eject_ms, max_in_flight, calls_per_second, break_after, break_ms } = service;
        if !(1..=SERVICE_ENDPOINTS_MAX).contains(&endpoints.len()) {
            return Err(ServiceError::Endpoints(endpoints.len()));
        }
        let mut bases = BTreeSet::new();
        let mut checked = Vec::with_capacity(endpoints.len());
        for url in endpoints {
            let base = base_url(&url).map_err(|reason| ServiceError::Url { url, reason })?;
            if let Some(failure) = self.0.http.forbids(&base) {
                return Err(ServiceError::HostNotAllowed(failure.message));
            }
            if !bases.insert(base.clone()) {
                return Err(ServiceError::Twice(base));
            }
            checked.push(base);
        }
        let eject_after = eject_after.unwrap_or(EJECT_AFTER_DEFAULT);
        if eject_after > EJECT_AFTER_MAX {
            return Err(ServiceError::EjectAfter(eject_after));
        }
        let eject_ms = eject_ms.unwrap_or(EJECT_MS_DEFAULT);
        if !(EJECT_MS_MIN..=EJECT_MS_MAX).contains(&eject_ms) {
            return Err(ServiceError::EjectMs(eject_ms));
        }
        let break_ms = break_ms.unwrap_or(BREAK_MS_DEFAULT);
        if !(EJECT_MS_MIN..=EJECT_MS_MAX).contains(&break_ms) {
            return Err(ServiceError::BreakMs(break_ms));
        }
        Ok(ServiceAddress {
            endpoints: checked,
            eject_after,
            eject_ms,
            max_in_flight: bound("max_in_flight", max_in_flight, MAX_IN_FLIGHT_MAX)?,
            calls_per_second: bound("calls_per_second", calls_per_second, CALLS_PER_SECOND_MAX)?,
            break_after: bound("break_after", break_after, BREAK_AFTER_MAX)?,
            break_ms,
            updated_at_ms: self.0.broker.clock().now_ms(),
        })
    }

    /// Writes what a service has, and learns it. Whoever asked may go: what is stored must be known here all the same, and until then nobody
    /// else has a turn.
    async fn change(
        &self,
        turn: tokio::sync::OwnedMutexGuard<()>,
        name: ServiceName,
        stored: Option<ServiceAddress>,
    ) -> Result<(), ServiceError> {
        let (control, services) = (ControlStore::of(&self.0.broker), self.0.services.clone());
        let changed = self.0.tasks.spawn(async move {
            let _turn = turn;
            control.put_service(&name, stored.as_ref()).await?;
            services.learn(&name, stored);
            Ok(())
        });
        changed.await.expect("it does not panic, and nobody aborts it")
    }
}

/// A bound that may be left out; 0 stands for that where it is stored, and is refused: nobody means a service that is never called.
fn bound(name: &'static str, given: Option<u32>, most: u32) -> Result<u32, ServiceError> {
    match given {
        None => Ok(0),
        Some(given) if (1..=most).contains(&given) => Ok(given),
        Some(given) => Err(ServiceError::Bound { name, most, given }),
    }
}
