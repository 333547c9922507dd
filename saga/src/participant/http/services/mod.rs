//! Where services are, by name: what was configured, and how each endpoint gets along. The fold of what the control shard says of services,
//! and beside it what this process has seen of connections.

use super::credentials::Credentials;
use super::ejections::Ejections;
use super::endpoint::{Admission, Ejection, Health};
use super::kind::Kind;
use super::limits::{Bounds, Limits, Throttle};
use crate::definition::{HttpTarget, ServiceAddress};
use crate::protocol::codes;
use core::time::Duration;
use prometheus_client::registry::Registry;
use sagamq_api::access::Pattern;
use sagamq_api::saga::{Failure, HeldBy, ServiceBound};
use sagamq_api::service::{EndpointDescription, EndpointState, ServiceDescription};
use sagamq_api::{SagaName, SecretName, ServiceName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The services; clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    known: Arc<Mutex<BTreeMap<ServiceName, Service>>>,
    /// Counts changes that a call which waits may want to know of.
    changes: Arc<watch::Sender<u64>>,
    /// How long a connection may take to come about.
    connecting: Duration,
    ejections: Ejections,
}

#[derive(Debug)]
struct Service {
    endpoints: Vec<Endpoint>,
    ejection: Ejection,
    limits: Limits,
    /// What its calls show.
    credentials: Option<Arc<Credentials>>,
    /// As it was put, for whoever looks.
    stored: ServiceAddress,
    /// Whose turn it is among those that are equally good.
    turn: usize,
}

#[derive(Debug)]
struct Endpoint {
    url: String,
    health: Health,
}

/// Where a call may go now.
#[derive(Debug)]
pub(super) enum Choice {
    /// There.
    At(Chosen),
    /// Nowhere yet.
    Nowhere {
        /// Why.
        failure: Failure,
        /// The bound that says so, if one does.
        held: Option<HeldBy>,
        /// When it is worth another look, in milliseconds since 1970, if nothing changes before.
        until_ms: Option<u64>,
    },
}

/// An endpoint that was chosen. Whoever has it says how the connection went; if nobody does, and it was to decide about the endpoint, another
/// call will.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Base URL.
    pub(super) base: String,
    /// The service, if its endpoints are watched.
    watched: Option<ServiceName>,
    /// Whether it decides about the endpoint.
    decides: bool,
    /// Whether what becomes of it counts for the service.
    counts: bool,
    /// Whether it decides about the service.
    tries: bool,
    services: Services,
}

impl Services {
    pub(crate) fn new(connecting: Duration) -> Self {
        Self { known: Arc::default(), changes: Arc::new(watch::Sender::new(0)), connecting, ejections: Ejections::default() }
    }

    /// Shows how often endpoints are left alone and come back.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.ejections.register(registry);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Service>> {
        // Nothing that can panic stands between two assignments under this lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// What is known of the endpoints that a service keeps stays known.
    pub(crate) fn learn(&self, name: &ServiceName, stored: Option<ServiceAddress>) {
        let mut known = self.lock();
        let before = known.remove(name);
        if let Some(stored) = stored {
            let ServiceAddress { eject_after, eject_ms, max_in_flight, calls_per_second, break_after, break_ms, .. } = stored;
            let bounds = Bounds { in_flight: max_in_flight, per_second: calls_per_second, break_after, break_ms };
            let health = |url: &str| {
                let same = before.iter().flat_map(|service| &service.endpoints).find(|endpoint| endpoint.url == url);
                same.map_or_else(Health::default, |endpoint| endpoint.health)
            };
            let endpoints = stored.endpoints.iter().map(|url| Endpoint { health: health(url), url: url.clone() }).collect();
            let ejection = Ejection { after: eject_after, ms: eject_ms };
            let limits = before.map_or_else(|| Limits::new(bounds), |service| service.limits.renewed(bounds));
            let credentials = Credentials::of(name.as_str(), &stored);
            known.insert(name.clone(), Service { endpoints, ejection, limits, credentials, stored, turn: 0 });
        } else {
            // Under the lock, as those who count.
            self.ejections.forget(name);
        }
        drop(known);
        self.changed();
    }

    /// How many services have an address of their own.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether the service has an address of its own.
    pub(crate) fn has(&self, name: &ServiceName) -> bool {
        self.lock().contains_key(name)
    }

    /// The base URLs of the service, if it has addresses of its own.
    pub(crate) fn urls(&self, name: &str) -> Option<Vec<String>> {
        let name: ServiceName = name.parse().ok()?;
        self.lock().get(&name).map(|service| service.endpoints.iter().map(|endpoint| endpoint.url.clone()).collect())
    }

    /// The secrets with the certificates that calls to services show.
    pub(super) fn certificates(&self) -> Vec<(ServiceName, SecretName)> {
        let known = self.lock();
        known.iter().filter_map(|(name, service)| Some((name.clone(), service.stored.tls.certificate.clone()?))).collect()
    }

    /// One service.
    pub(crate) fn describe(&self, name: &ServiceName, now_ms: u64) -> Option<ServiceDescription> {
        self.lock().get(name).map(|service| service.describe(name, now_ms, self.connecting))
    }

    /// All of them, by name.
    pub(crate) fn all(&self, now_ms: u64) -> Vec<ServiceDescription> {
        self.lock().iter().map(|(name, service)| service.describe(name, now_ms, self.connecting)).collect()
    }

    /// A number that is another one after every change. Take it before the choice that may be worth nothing.
    pub(super) fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Returns when something has changed since that version.
    pub(super) async fn changed_since(&self, version: u64) {
        // The sender lives as long as this.
        let _ = self.changes.subscribe().wait_for(|changes| *changes != version).await;
    }

    /// What holds calls of this kind back by number, if something does.
    pub(super) fn throttle(&self, target: &HttpTarget, kind: Kind) -> Option<Throttle> {
        let HttpTarget::Service { name, .. } = target else { return None };
        let name: ServiceName = name.parse().ok().filter(|_| kind == Kind::Work)?;
        self.lock().get(&name).map(|service| service.limits.throttle())
    }

    /// Where a call goes now: the endpoint with the most free places, in turn, of those that are called and were not tried in vain. `stays`:
    /// the endpoint that works on it already.
    pub(super) fn choose(
        &self,
        (target, kind): (&HttpTarget, Kind),
        stays: Option<&str>,
        in_vain: &[String],
        free: impl Fn(&str) -> usize,
        now_ms: u64,
    ) -> Choice {
        let unwatched = |base: &str| {
            let (base, services) = (base.to_owned(), self.clone());
            Choice::At(Chosen { base, watched: None, decides: false, counts: false, tries: false, services })
        };
        let (name, default) = match target {
            HttpTarget::Worker { base, .. } => return unwatched(base),
            HttpTarget::Service { name, default } => (name, default),
        };
        let mut known = self.lock();
        let service = name.parse::<ServiceName>().ok().and_then(|name| known.get_mut(&name).map(|service| (name, service)));
        let Some((name, service)) = service else {
            return match default {
                Some(base) => unwatched(base),
                None => Choice::Nowhere { failure: no_address(name), held: None, until_ms: None },
            };
        };
        // What lets locks go is never held back.
        let counts = kind == Kind::Work;
        let admission = if counts { service.limits.admission(now_ms) } else { Admission::Open };
        if let Admission::Closed { until_ms } = admission {
            let limit = service.limits.bounds.break_after.into();
            let held = HeldBy { service: name.to_string(), bound: ServiceBound::BreakAfter, limit };
            return Choice::Nowhere { failure: broken(&name), held: Some(held), until_ms: (until_ms < u64::MAX).then_some(until_ms) };
        }
        match service.choose(stays, in_vain, free, now_ms, self.connecting) {
            Ok((base, decides)) => {
                let tries = admission == Admission::Probe;
                if tries {
                    service.limits.probe(now_ms);
                }
                Choice::At(Chosen { base, watched: Some(name), decides, counts, tries, services: self.clone() })
            }
            Err(until_ms) => Choice::Nowhere { failure: all_ejected(&name), held: None, until_ms: Some(until_ms) },
        }
    }

    /// What a call shows that may still go where it was to go, after it has waited; `Err`: it may not. One look for both: what is shown is for the
    /// place that was put with it.
    pub(super) fn still(&self, target: &HttpTarget, chosen: &Chosen, now_ms: u64) -> Result<Option<Arc<Credentials>>, Moved> {
        let known = self.lock();
        match target {
            // It was found where a definition says, and what is shown is for where an operator says.
            HttpTarget::Worker { is_foreign: true, .. } => Ok(None),
            HttpTarget::Worker { service, .. } => {
                let service = service.parse::<ServiceName>().ok().and_then(|name| known.get(&name));
                Ok(service.and_then(|service| service.credentials.clone()))
            }
            HttpTarget::Service { name, .. } if is_still(&known, name, chosen, now_ms, self.connecting) => {
                let service = chosen.watched.as_ref().and_then(|name| known.get(name));
                Ok(service.and_then(|service| service.credentials.clone()))
            }
            HttpTarget::Service { .. } => Err(Moved),
        }
    }

    /// Why a definition may not call a service, if it may not.
    pub(crate) fn forbids(&self, name: &str, saga: &SagaName) -> Option<Failure> {
        let known = self.lock();
        let allowed = &known.get(&name.parse::<ServiceName>().ok()?)?.stored.definitions;
        let is_allowed = |pattern: &String| pattern.parse::<Pattern>().is_ok_and(|pattern| pattern.matches(saga.as_str()));
        if allowed.is_empty() || allowed.iter().any(is_allowed) {
            return None;
        }
        let message = format!("the service `{name}` may not be called by `{saga}`: its `definitions` are {}", allowed.join(", "));
        Some(Failure { code: codes::SERVICE_NOT_ALLOWED.to_owned(), message })
    }

    /// Whether calls to a service show secrets.
    pub(crate) fn has_secrets(&self, name: &ServiceName) -> bool {
        self.lock().get(name).is_some_and(|service| service.stored.has_secrets())
    }
}

/// A call may not go where it was to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved;

fn is_still(known: &BTreeMap<ServiceName, Service>, name: &str, chosen: &Chosen, now_ms: u64, connecting: Duration) -> bool {
    let Some(watched) = &chosen.watched else { return name.parse::<ServiceName>().is_ok_and(|name| !known.contains_key(&name)) };
    let service = known.get(watched);
    let is_broken = |service: &Service| chosen.counts && !chosen.tries && service.limits.admission(now_ms) != Admission::Open;
    if service.is_some_and(is_broken) {
        return false;
    }
    let endpoint = service.and_then(|service| service.endpoints.iter().find(|endpoint| endpoint.url == chosen.base));
    endpoint.is_some_and(|endpoint| chosen.decides || !matches!(endpoint.health.admission(now_ms, connecting), Admission::Closed { .. }))
}

impl Services {
    /// Endpoints that a call could go to at once, of those that were not tried in vain.
    pub(super) fn others(&self, target: &HttpTarget, in_vain: &[String], now_ms: u64) -> usize {
        let HttpTarget::Service { name, .. } = target else { return 0 };
        let known = self.lock();
        let service = name.parse::<ServiceName>().ok().and_then(|name| known.get(&name));
        service.map_or(0, |service| {
            let is_called = |endpoint: &&Endpoint| !matches!(endpoint.health.admission(now_ms, self.connecting), Admission::Closed { .. });
            service.endpoints.iter().filter(is_called).filter(|endpoint| !in_vain.contains(&endpoint.url)).count()
        })
    }
}

impl Service {
    /// The base URL, and whether the call decides about it; or when it is worth another look.
    fn choose(
        &mut self,
        stays: Option<&str>,
        in_vain: &[String],
        free: impl Fn(&str) -> usize,
        now_ms: u64,
        connecting: Duration,
    ) -> Result<(String, bool), u64> {
        let count = self.endpoints.len();
        let (mut best, mut until_ms) = (None, u64::MAX);
        for step in 0..count {
            let at = (self.turn + step) % count;
            let endpoint = &self.endpoints[at];
            let is_tried = in_vain.contains(&endpoint.url);
            let rank = match endpoint.health.admission(now_ms, connecting) {
                Admission::Closed { until_ms: at_ms } => {
                    until_ms = until_ms.min(at_ms);
                    continue;
                }
                admission => (
                    !is_tried,
                    stays == Some(endpoint.url.as_str()),
                    admission == Admission::Probe,
                    if count > 1 { free(&endpoint.url) } else { 0 },
                ),
            };
            if best.is_none_or(|(_, other)| rank > other) {
                best = Some((at, rank));
            }
        }
        let Some((at, (_, _, decides, _))) = best else { return Err(until_ms) };
        self.turn = (at + 1) % count;
        let endpoint = &mut self.endpoints[at];
        if decides {
            endpoint.health.probe(now_ms);
        }
        Ok((endpoint.url.clone(), decides))
    }

    fn describe(&self, name: &ServiceName, now_ms: u64, connecting: Duration) -> ServiceDescription {
        let endpoints = self.endpoints.iter().map(|Endpoint { url, health }| {
            let admission = health.admission(now_ms, connecting);
            let state = match admission {
                Admission::Open => EndpointState::Up,
                Admission::Closed { .. } if health.is_probed(now_ms) => EndpointState::Probing,
                Admission::Probe | Admission::Closed { .. } => EndpointState::Ejected,
            };
            let ejected_for_ms = match admission {
                Admission::Closed { until_ms } if state == EndpointState::Ejected => Some(until_ms.saturating_sub(now_ms)),
                Admission::Probe => Some(0),
                Admission::Open | Admission::Closed { .. } => None,
            };
            EndpointDescription { url: url.clone(), state, failures: health.failures(), ejected_for_ms }
        });
        let Bounds { in_flight, per_second, break_after, break_ms } = self.limits.bounds;
        let bound = |number: u32| (number > 0).then_some(number);
        let (breaker, tried_again_in_ms) = self.limits.breaker(now_ms);
        let (running, held_back) = self.limits.load();
        let ServiceAddress { headers, tls, allow_plain_http, definitions, updated_at_ms, .. } = &self.stored;
        ServiceDescription {
            name: name.clone(),
            endpoints: endpoints.collect(),
            eject_after: self.ejection.after,
            eject_ms: self.ejection.ms,
            max_in_flight: bound(in_flight),
            calls_per_second: bound(per_second),
            break_after: bound(break_after),
            break_ms,
            breaker,
            tried_again_in_ms,
            in_flight: running,
            held_back,
            headers: headers.clone(),
            tls: tls.clone(),
            allow_plain_http: *allow_plain_http,
            definitions: definitions.clone(),
            unmatched_definitions: Vec::new(),
            updated_at_ms: *updated_at_ms,
        }
    }
}

impl Chosen {
    /// Whether it is where an operator has put the service.
    pub(super) const fn is_of_the_service(&self) -> bool {
        self.watched.is_some()
    }

    /// A connection came about.
    pub(super) fn connected(&mut self) {
        if self.with(|endpoint, _| endpoint.health.connected()) == Some(true) {
            self.count(Ejections::readmitted);
            tracing::info!(service = ?self.watched, endpoint = %self.base, "an endpoint answers again");
            self.services.changed();
        }
        self.decides = false;
    }

    /// No connection came about.
    pub(super) fn refused(&mut self, now_ms: u64) {
        if self.with(|endpoint, ejection| endpoint.health.refused(now_ms, ejection)) == Some(true) {
            self.count(Ejections::ejected);
            tracing::warn!(service = ?self.watched, endpoint = %self.base, "an endpoint cannot be reached and is left alone for a while");
        }
        self.decides = false;
        // It is over with trying: who waits for that would wait for the pause of this call.
        if self.tries {
            self.unanswered(now_ms);
        }
    }

    /// The participant answered, and said what became of the call or that it works on it.
    pub(super) fn answered(&mut self) {
        if self.with_limits(Limits::answered) == Some(true) {
            self.count(Ejections::closed);
            tracing::info!(service = ?self.watched, "a service answers again, and is called by all");
            self.services.changed();
        }
        self.tries = false;
    }

    /// The call was sent, and there was no answer, or one that says nothing.
    pub(super) fn unanswered(&mut self, now_ms: u64) {
        if self.with_limits(|limits| limits.unanswered(now_ms)) == Some(true) {
            self.count(Ejections::broken);
            tracing::warn!(service = ?self.watched, "calls to a service have no answer, one after the other: nobody calls it for a while");
        }
        // Others wait for what this one came to.
        if core::mem::take(&mut self.tries) {
            self.services.changed();
        }
    }

    /// Only for a service that is known: what is counted of one that was just removed nobody would take away again.
    fn count(&self, count: fn(&Ejections, &ServiceName)) {
        if let Some(service) = &self.watched {
            let known = self.services.lock();
            if known.contains_key(service) {
                count(&self.services.ejections, service);
            }
        }
    }

    fn with_limits<T>(&self, change: impl FnOnce(&mut Limits) -> T) -> Option<T> {
        let watched = self.watched.as_ref().filter(|_| self.counts)?;
        self.services.lock().get_mut(watched).map(|service| change(&mut service.limits))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Endpoint, Ejection) -> T) -> Option<T> {
        let mut known = self.services.lock();
        let service = known.get_mut(self.watched.as_ref()?)?;
        let ejection = service.ejection;
        let endpoint = service.endpoints.iter_mut().find(|endpoint| endpoint.url == self.base)?;
        Some(change(endpoint, ejection))
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        if self.decides {
            self.with(|endpoint, _| endpoint.health.give_probe_back());
        }
        if self.tries {
            self.with_limits(Limits::give_probe_back);
        }
        if self.decides || self.tries {
            self.services.changed();
        }
    }
}

fn no_address(name: &str) -> Failure {
    let message = format!("the service `{name}` has no address: set one (`sagamq service set {name} URL`)");
    Failure { code: codes::NO_ADDRESS.to_owned(), message }
}

fn all_ejected(name: &ServiceName) -> Failure {
    let message = format!("no endpoint of the service `{name}` can be reached; one call tries again in a while");
    Failure { code: codes::ENDPOINTS_EJECTED.to_owned(), message }
}

fn broken(name: &ServiceName) -> Failure {
    let message =
        format!("too many calls to the service `{name}` in a row had no answer: nobody calls it for a while, then one call tries again");
    Failure { code: codes::BREAKER_OPEN.to_owned(), message }
}

#[cfg(test)]
mod tests;
