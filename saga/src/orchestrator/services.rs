//! Where services are that are called over HTTP, by name: put, looked at and removed while sagas run. One commit of the control shard each; then
//! calls that wait, and all later ones, go there.

use super::door::Orchestrator;
use crate::definition::{Definition, HttpTarget, ServiceAddress, Target};
use crate::dsl::base_url;
use crate::outgoing::{HEADERS_MAX, HeaderTemplate, header_name, is_in_the_clear, needs_a_secret};
use crate::store::ControlStore;
use sagamq_api::access::Pattern;
use sagamq_api::audit::AuditOutcome;
use sagamq_api::service::{
    BREAK_AFTER_MAX, BREAK_MS_DEFAULT, CALLS_PER_SECOND_MAX, EJECT_AFTER_DEFAULT, EJECT_AFTER_MAX, EJECT_MS_DEFAULT, EJECT_MS_MAX,
    EJECT_MS_MIN, MAX_IN_FLIGHT_MAX, PutService, SERVICE_DEFINITIONS_MAX, SERVICE_ENDPOINTS_MAX, SERVICES_MAX, ServiceDescription,
    ServiceTls,
};
use sagamq_api::{SagaName, ServiceName};
use sagamq_broker::WriteError;
use sagamq_broker::audit::Note;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
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
    /// There are too many headers.
    #[error("a service has at most {HEADERS_MAX} headers, and these are {0}")]
    Headers(usize),
    /// A header cannot be set. Its value is not repeated: it may be a secret in the wrong place.
    #[error("the header `{name}` cannot be set: {reason}")]
    Header {
        /// The header.
        name: String,
        /// Why.
        reason: String,
    },
    /// A secret stands where a name of one should.
    #[error(
        "the header `{0}` has a secret, and what is set here is stored and shown: write `${{secret:NAME}}` for it, and put it into a file of \
         `secrets_dir` or into SAGAMQ_SECRET_NAME"
    )]
    NotByName(String),
    /// A secret would be sent where it can be read.
    #[error(
        "`{0}` is not https, and a secret that is sent there can be read on its way: use https, or say `allow_plain_http` if something else \
         keeps it"
    )]
    InTheClear(String),
    /// There is a key without its certificate.
    #[error("`tls.key` is the key of `tls.certificate`, and that is not set")]
    NoCertificate,
    /// Certificates are set for what has none.
    #[error("`tls` is set, and `{0}` is not https")]
    NoTls(String),
    /// There are too many patterns.
    #[error("a service has at most {SERVICE_DEFINITIONS_MAX} patterns of definitions, and these are {0}")]
    Definitions(usize),
    /// A pattern of definitions matches none.
    #[error("`definitions`: {0}")]
    Pattern(String),
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
        let before = self.service(&name).ok();
        let outcome = if before.is_some() { AuditOutcome::Changed } else { AuditOutcome::Created };
        let note = self.note(outcome, &[("service", &name)]).after(&settings_of(&stored));
        let note = before.iter().fold(note, |note, before| note.before(&described(before)));
        self.change(turn, name.clone(), Some(stored), note).await?;
        let put = self.service(&name)?;
        tell_unmatched(&put);
        Ok(put)
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
        let before = self.service(&name)?;
        let note = self.note(AuditOutcome::Deleted, &[("service", &name)]).before(&described(&before));
        self.change(turn, name, None, note).await
    }

    /// One service that has an address of its own.
    ///
    /// # Errors
    /// When it has none.
    pub fn service(&self, name: &ServiceName) -> Result<ServiceDescription, ServiceError> {
        let service = self.0.services.describe(name, self.0.broker.clock().now_ms());
        let mut service = service.ok_or_else(|| ServiceError::NotFound(name.clone()))?;
        service.unmatched_definitions = unmatched(&service.definitions, &self.0.definitions.names());
        Ok(service)
    }

    /// Every service that has an address of its own, by name.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceDescription> {
        let (mut services, names) = (self.0.services.all(self.0.broker.clock().now_ms()), self.0.definitions.names());
        for service in &mut services {
            service.unmatched_definitions = unmatched(&service.definitions, &names);
        }
        services
    }

    /// Says in the log which services name definitions that are not there.
    pub(super) fn tell_unmatched(&self) {
        self.services().iter().for_each(tell_unmatched);
    }

    /// Whether calls to a service show secrets, as it is or as it is to be. Then only an administrator may say where it is.
    #[must_use]
    pub fn shows_secrets(&self, name: &ServiceName, service: Option<&PutService>) -> bool {
        let is_to = |service: &PutService| !service.tls.is_empty() || service.headers.values().any(|value| value.contains("${"));
        self.0.services.has_secrets(name) || service.is_some_and(is_to)
    }

    /// Why a definition may not call one of its services, if it may not.
    pub(super) fn forbidden_service(&self, definition: &Definition, saga: &SagaName) -> Option<String> {
        definition.calls().find_map(|call| match &call.target {
            Target::Http(HttpTarget::Service { name, .. }) => self.0.services.forbids(name, saga).map(|failure| failure.message),
            Target::Http(HttpTarget::Worker { .. }) | Target::Topic(_) | Target::Saga(_) => None,
        })
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
        let PutService { endpoints, eject_after, eject_ms, max_in_flight, calls_per_second, break_after, break_ms, .. } = service;
        let PutService { headers, tls, allow_plain_http, definitions, .. } = service;
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
        let has_secrets = check_headers(&headers)?;
        check_tls(&tls, &checked)?;
        if let Some(base) = checked.iter().find(|base| has_secrets && !allow_plain_http && is_in_the_clear(base)) {
            return Err(ServiceError::InTheClear(base.clone()));
        }
        if definitions.len() > SERVICE_DEFINITIONS_MAX {
            return Err(ServiceError::Definitions(definitions.len()));
        }
        for pattern in &definitions {
            pattern.parse::<Pattern>().map_err(|error| ServiceError::Pattern(error.to_string()))?;
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
            headers,
            tls,
            allow_plain_http,
            definitions,
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
        note: Note,
    ) -> Result<(), ServiceError> {
        let (control, services) = (ControlStore::of(&self.0.broker), self.0.services.clone());
        let changed = self.0.tasks.spawn(async move {
            let _turn = turn;
            control.put_service(&name, stored.as_ref(), note).await?;
            services.learn(&name, stored);
            Ok(())
        });
        changed.await.expect("it does not panic, and nobody aborts it")
    }
}

/// Of these patterns those that match no definition. That is no error: a service may be put before the definitions that are to call it.
fn unmatched(patterns: &[String], names: &[SagaName]) -> Vec<String> {
    let matches =
        |pattern: &String| pattern.parse::<Pattern>().is_ok_and(|pattern| names.iter().any(|name| pattern.matches(name.as_str())));
    patterns.iter().filter(|pattern| !matches(pattern)).cloned().collect()
}

fn tell_unmatched(service: &ServiceDescription) {
    if !service.unmatched_definitions.is_empty() {
        let (service, definitions) = (&service.name, service.unmatched_definitions.join(", "));
        tracing::warn!(%service, definitions, "a service may be called by definitions that are not published: a slip, or they are yet to come");
    }
}

/// What is set of a service, for the audit log. Of headers their names: what is in them is for the service alone.
fn settings_of(service: &ServiceAddress) -> Value {
    let ServiceAddress { endpoints, eject_after, eject_ms, max_in_flight, calls_per_second, break_after, break_ms, headers, .. } = service;
    let headers: Vec<&String> = headers.keys().collect();
    json!({
        "endpoints": endpoints, "eject_after": eject_after, "eject_ms": eject_ms, "max_in_flight": max_in_flight,
        "calls_per_second": calls_per_second, "break_after": break_after, "break_ms": break_ms, "headers": headers,
        "tls": service.tls, "allow_plain_http": service.allow_plain_http, "definitions": service.definitions,
    })
}

/// The same of one that is there.
fn described(service: &ServiceDescription) -> Value {
    let endpoints: Vec<&str> = service.endpoints.iter().map(|endpoint| endpoint.url.as_str()).collect();
    let headers: Vec<&String> = service.headers.keys().collect();
    json!({
        "endpoints": endpoints, "eject_after": service.eject_after, "eject_ms": service.eject_ms,
        "max_in_flight": service.max_in_flight.unwrap_or(0), "calls_per_second": service.calls_per_second.unwrap_or(0),
        "break_after": service.break_after.unwrap_or(0), "break_ms": service.break_ms, "headers": headers,
        "tls": service.tls, "allow_plain_http": service.allow_plain_http, "definitions": service.definitions,
    })
}

/// A bound that may be left out; 0 stands for that where it is stored, and is refused: nobody means a service that is never called.
fn bound(name: &'static str, given: Option<u32>, most: u32) -> Result<u32, ServiceError> {
    match given {
        None => Ok(0),
        Some(given) if (1..=most).contains(&given) => Ok(given),
        Some(given) => Err(ServiceError::Bound { name, most, given }),
    }
}

/// Looks at headers and gives whether one of them has a secret.
fn check_headers(headers: &BTreeMap<String, String>) -> Result<bool, ServiceError> {
    if headers.len() > HEADERS_MAX {
        return Err(ServiceError::Headers(headers.len()));
    }
    let (mut names, mut has_secrets) = (BTreeSet::new(), false);
    for (name, value) in headers {
        let refused = |reason: String| ServiceError::Header { name: name.clone(), reason };
        let parsed = header_name(name).map_err(refused)?;
        let template = HeaderTemplate::parse(value).map_err(refused)?;
        let by_name = template.secrets().next().is_some();
        if needs_a_secret(&parsed) && !by_name {
            return Err(ServiceError::NotByName(name.clone()));
        }
        if !names.insert(parsed.as_str().to_owned()) {
            return Err(refused("it is named twice".to_owned()));
        }
        has_secrets |= by_name;
    }
    Ok(has_secrets)
}

fn check_tls(tls: &ServiceTls, endpoints: &[String]) -> Result<(), ServiceError> {
    if tls.key.is_some() && tls.certificate.is_none() {
        return Err(ServiceError::NoCertificate);
    }
    match endpoints.iter().find(|base| !tls.is_empty() && !base.starts_with("https://")) {
        Some(base) => Err(ServiceError::NoTls(base.clone())),
        None => Ok(()),
    }
}
