//! Participants that are called over HTTP: `POST {base}/{call}` with the call as JSON; `answer.rs` says what an answer means.
//!
//! A call is made after the commit that decided it, and again after a crash: the key makes it the same call. How one goes, `perform.rs` says;
//! here is what all calls share.

use super::kind::Kind;
use super::services::Services;
use crate::config::{OrchestratorConfig, ParticipantProxy};
use crate::protocol::codes;
use core::time::Duration;
use sagamq_api::saga::Failure;
use sagamq_broker::env::{Clock, Random};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Base URLs from which on those are forgotten that nobody calls.
const BASES_MAX: usize = 1_024;

/// Longest sleep between two looks at the clock, which may be set or, in a test, moved.
const CLOCK_LOOK_MAX: Duration = Duration::from_millis(250);

/// The places of services, by base URL and kind of call.
type Places = HashMap<(String, Kind), Arc<Semaphore>>;

/// Calls HTTP participants; clones share the connections and the places.
#[derive(Clone, Debug)]
pub(crate) struct HttpParticipants {
    pub(super) client: reqwest::Client,
    /// Where services are.
    pub(super) services: Services,
    /// The bound on calls at a time, by base URL and kind: a service that hangs takes no place of another. A participant that works on holds no
    /// place while it is left alone.
    places: Arc<Mutex<Places>>,
    calls_max: usize,
    /// Hosts that may be called, as [`host_of`] gives them; empty: any.
    hosts: Arc<[String]>,
    clock: Arc<ClockRef>,
    random: Arc<Mutex<Random>>,
}

/// The clock, with a `Debug` that says nothing.
struct ClockRef(Arc<dyn Clock>);

impl core::fmt::Debug for ClockRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Clock")
    }
}

impl HttpParticipants {
    pub(crate) fn new(
        config: &OrchestratorConfig,
        services: Services,
        clock: Arc<dyn Clock>,
        random: Random,
    ) -> Result<Self, reqwest::Error> {
        let client = match builder(config)?.build() {
            Ok(client) => client,
            // A machine without certificates, as a small container is: participants over plain HTTP must work there all the same.
            Err(error) => {
                tracing::warn!(%error, "no certificates are found: participants over https cannot be called");
                builder(config)?.tls_certs_only([]).build()?
            }
        };
        Ok(Self {
            client,
            services,
            places: Arc::default(),
            calls_max: config.participant_calls_max,
            hosts: config.participant_hosts.iter().map(|host| host_as_in_urls(host)).collect(),
            clock: Arc::new(ClockRef(clock)),
            random: Arc::new(Mutex::new(random)),
        })
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.0.now_ms()
    }

    pub(super) fn places(&self, base: &str, kind: Kind) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= BASES_MAX {
            // Workers name addresses of their own, and come and go: those that nobody calls are let go.
            places.retain(|_, places| Arc::strong_count(places) > 1);
        }
        Arc::clone(places.entry((base.to_owned(), kind)).or_insert_with(|| Arc::new(Semaphore::new(self.calls_max))))
    }

    /// Most calls at a time to one address.
    pub(super) fn calls_max(&self) -> u64 {
        u64::try_from(self.calls_max).unwrap_or(u64::MAX)
    }

    /// Why a service must not be called, if it must not.
    pub(crate) fn forbids(&self, base: &str) -> Option<Failure> {
        if self.hosts.is_empty() {
            return None;
        }
        let host = host_of(base);
        if self.hosts.contains(&host) {
            return None;
        }
        let message = format!("`{host}` is not among the hosts that participants may have (setting `participant_allow_host`)");
        Some(Failure { code: codes::PARTICIPANT_HOST_NOT_ALLOWED.to_owned(), message })
    }

    pub(super) fn jitter(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fraction()
    }

    /// The time that is this much later than now, in milliseconds since 1970.
    pub(super) fn after(&self, pause: Duration) -> u64 {
        self.now_ms().saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
    }

    /// Waits until then, in milliseconds since 1970.
    pub(super) async fn pause(&self, until_ms: u64) {
        while let Some(left) = self.time_left(until_ms) {
            tokio::time::sleep(left.min(CLOCK_LOOK_MAX)).await;
        }
    }

    pub(super) fn time_left(&self, until_ms: u64) -> Option<Duration> {
        let left_ms = until_ms.saturating_sub(self.now_ms());
        (left_ms > 0).then(|| Duration::from_millis(left_ms))
    }
}

fn builder(config: &OrchestratorConfig) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    // A redirect could turn the POST into a GET that succeeds without any effect; participants are called where they are.
    let builder =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(config.participant_connect_timeout);
    Ok(match &config.participant_proxy {
        ParticipantProxy::None => builder.no_proxy(),
        ParticipantProxy::Environment => builder,
        ParticipantProxy::Url(url) => builder.no_proxy().proxy(reqwest::Proxy::all(url.clone())?),
    })
}

/// The host of a base URL, without its port, in the one form that URLs have (small letters, Punycode). The linter has checked the URL.
fn host_of(base: &str) -> String {
    let url = reqwest::Url::parse(base);
    url.ok().and_then(|url| url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned())).unwrap_or_default()
}

/// A host of the settings in the form of [`host_of`].
fn host_as_in_urls(host: &str) -> String {
    let host = host.trim_matches(['[', ']']);
    if host.contains(':') { host_of(&format!("http://[{host}]")) } else { host_of(&format!("http://{host}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::saga::Operation;
    use sagamq_broker::env::ManualClock;

    #[test]
    fn addresses_that_nobody_calls_any_more_are_forgotten_and_a_place_is_never_given_twice() {
        let config = OrchestratorConfig { participant_calls_max: 1, ..OrchestratorConfig::default() };
        let http = HttpParticipants::new(&config, Services::new(Duration::ZERO), Arc::new(ManualClock::at(1)), Random::from_seed(1))
            .expect("a client");
        let busy = http.places("http://busy", Kind::Work);
        let _place = busy.try_acquire().expect("it is free");
        for worker in 0..3 * BASES_MAX {
            drop(http.places(&format!("http://worker:{worker}"), Kind::Work));
        }
        assert!(http.places.lock().expect("no panic").len() <= BASES_MAX, "they do not grow with the workers that ever were");
        assert!(http.places("http://busy", Kind::Work).try_acquire().is_err(), "who is called keeps its places");
    }

    #[test]
    fn what_lets_locks_go_does_not_wait_behind_what_waits_for_them() {
        let config = OrchestratorConfig { participant_calls_max: 1, ..OrchestratorConfig::default() };
        let http = HttpParticipants::new(&config, Services::new(Duration::ZERO), Arc::new(ManualClock::at(1)), Random::from_seed(1))
            .expect("a client");
        let places = |operation| http.places("http://busy", Kind::of(operation));
        let (work, decisions) = (places(Operation::Action), places(Operation::Commit));
        let _works = work.try_acquire().expect("it is free");
        assert!(places(Operation::Compensation).try_acquire().is_err(), "a compensation may wait for locks as well");
        let _decides = decisions.try_acquire().expect("it has places of its own");
        for operation in [Operation::Prepare, Operation::Rollback, Operation::CommitOnePhase] {
            assert!(places(operation).try_acquire().is_err(), "and they are bounded too");
        }
    }

    #[test]
    fn hosts_are_compared_in_the_form_that_urls_have() {
        let hosts = ["Shop.Example", "bücher.example", "10.0.0.1", "[2001:DB8::1]", "::1"].map(str::to_owned).to_vec();
        let config = OrchestratorConfig { participant_hosts: hosts, ..OrchestratorConfig::default() };
        let http = HttpParticipants::new(&config, Services::new(Duration::ZERO), Arc::new(ManualClock::at(1)), Random::from_seed(1))
            .expect("a client");
        let allowed = ["http://shop.example/base", "https://SHOP.example:8080", "http://bücher.example", "http://10.0.0.1:9"];
        for base in allowed.into_iter().chain(["http://[2001:db8:0::1]:80/x", "http://[::1]:7070"]) {
            assert_eq!(http.forbids(base), None, "{base}");
        }
        for base in ["http://shop.example.org", "http://a.shop.example", "http://10.0.0.2", "http://[::2]", "http://user@evil.example"] {
            let failure = http.forbids(base).unwrap_or_else(|| panic!("{base} is not allowed"));
            assert_eq!(failure.code, "PARTICIPANT_HOST_NOT_ALLOWED");
        }
    }
}
