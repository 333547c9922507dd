//! Participants that are called over HTTP: `POST {base}/{call}` with the call as JSON; `answer.rs` says what an answer means.
//!
//! A call is made after the commit that decided it, and again after a crash: the key makes it the same call. It waits for a place among the
//! calls of its service and for a connection as long as its attempt lives, because until it is sent it had no effect; the time of its
//! run begins when it is sent.

use super::address::{address_of, located};
use super::answer::{describe, unknown, word_of};
use super::progress::Progress;
use super::register::HttpCalls;
use crate::config::{OrchestratorConfig, ParticipantProxy};
use crate::definition::RetryPolicy;
use crate::participant::headers::call_headers;
use crate::protocol::codes;
use core::time::Duration;
use http::{HeaderMap, HeaderName, HeaderValue};
use sagamq_api::saga::{Call, CallOutcome, Failure, Operation};
use sagamq_broker::env::{Clock, Random};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// How long to wait before a participant that works on is asked again, if it does not say.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Shortest wait before a participant is asked again: `Retry-After: 0` must not become a busy loop.
const ASK_AGAIN_MIN: Duration = Duration::from_millis(50);

/// Base URLs from which on those are forgotten that nobody calls.
const SERVICES_MAX: usize = 1_024;

/// Longest sleep between two looks at the clock, which may be set or, in a test, moved.
const CLOCK_LOOK_MAX: Duration = Duration::from_millis(250);

/// The places of services, by base URL and kind of call.
type Places = HashMap<(String, Kind), Arc<Semaphore>>;

/// Calls HTTP participants; clones share the connections and the places.
#[derive(Clone, Debug)]
pub(crate) struct HttpParticipants {
    client: reqwest::Client,
    /// The bound on calls at a time, by base URL and kind: a service that hangs takes no place of another. A participant that works on holds no
    /// place while it is left alone.
    services: Arc<Mutex<Places>>,
    calls_max: usize,
    /// Hosts that may be called, as [`host_of`] gives them; empty: any.
    hosts: Arc<[String]>,
    clock: Arc<ClockRef>,
    random: Arc<Mutex<Random>>,
}

/// What a call is to its service, as far as places go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// It may wait for locks.
    Work,
    /// It lets locks go: were it to wait behind work that waits for them, nothing would go on.
    Decision,
}

impl Kind {
    const fn of(operation: Operation) -> Self {
        match operation {
            Operation::Action | Operation::Compensation => Self::Work,
            Operation::Prepare | Operation::Commit | Operation::Rollback | Operation::CommitOnePhase => Self::Decision,
        }
    }
}

/// The clock, with a `Debug` that says nothing.
struct ClockRef(Arc<dyn Clock>);

impl core::fmt::Debug for ClockRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Clock")
    }
}

impl HttpParticipants {
    pub(crate) fn new(config: &OrchestratorConfig, clock: Arc<dyn Clock>, random: Random) -> Result<Self, reqwest::Error> {
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
            services: Arc::default(),
            calls_max: config.participant_calls_max,
            hosts: config.participant_hosts.iter().map(|host| host_as_in_urls(host)).collect(),
            clock: Arc::new(ClockRef(clock)),
            random: Arc::new(Mutex::new(random)),
        })
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.0.now_ms()
    }

    /// Calls until the participant has a word other than "ongoing", or the run's time is over. `report` hears of every word, and once if
    /// nothing can be sent; after the deadline it hears nothing, because the attempt's timer speaks then.
    pub(super) async fn perform<F: Future<Output = ()>>(
        &self,
        base: &str,
        call: &Call,
        retry: &RetryPolicy,
        calls: &HttpCalls,
        report: impl Fn(Progress) -> F,
    ) {
        let url = format!("{base}/{}", call.call);
        let attempt = &call.attempt;
        if let Some(failure) = self.forbids(base) {
            report(Progress::NotSent(failure)).await;
            // The attempt's end ends this task: another configuration needs another process.
            return core::future::pending().await;
        }
        let service = self.service(base, Kind::of(attempt.operation));
        let mut refused_connections = 0;
        loop {
            let Ok(place) = service.acquire().await else { return };
            let Some(sent_ms) = calls.begin(attempt, self.now_ms()) else { return };
            let deadline_ms = sent_ms.saturating_add(call.timeout_ms);
            let Some(left) = self.time_left(deadline_ms) else { return };
            let sent = self.request(&url, call, deadline_ms).timeout(left).send().await;
            let progress = match sent {
                Err(error) if error.is_connect() && calls.not_sent(attempt) => {
                    drop(place);
                    refused_connections += 1;
                    if refused_connections == 1 {
                        report(Progress::NotSent(Failure { code: codes::NOT_SENT.to_owned(), message: describe(&error) })).await;
                    }
                    let pause = retry.backoff(refused_connections, self.jitter());
                    self.pause(pause.max(ASK_AGAIN_MIN), u64::MAX).await;
                    continue;
                }
                Err(error) => unknown("NO_ANSWER", describe(&error), None),
                Ok(response) => {
                    let address = address_of(response.headers(), call, |base| self.forbids(base));
                    located(word_of(response, attempt.operation).await, address)
                }
            };
            drop(place);
            let Progress::Word { reply: CallOutcome::Ongoing { retry_after_ms }, .. } = progress else { return report(progress).await };
            calls.was_sent(attempt);
            report(progress).await;
            let pause = retry_after_ms.map_or(ASK_AGAIN, Duration::from_millis).max(ASK_AGAIN_MIN);
            self.pause(pause, deadline_ms).await;
        }
    }

    /// The request. Its body is made here, with a place in hand: what waits for one takes no more memory than its arguments.
    fn request(&self, url: &str, call: &Call, deadline_ms: u64) -> reqwest::RequestBuilder {
        let call = Call { deadline_ms, ..call.clone() };
        let body = serde_json::to_vec(&call).expect("a call is JSON");
        self.client.post(url).headers(request_headers(&call)).body(body)
    }

    fn service(&self, base: &str, kind: Kind) -> Arc<Semaphore> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if services.len() >= SERVICES_MAX {
            // Workers name addresses of their own, and come and go: those that nobody calls are let go.
            services.retain(|_, places| Arc::strong_count(places) > 1);
        }
        Arc::clone(services.entry((base.to_owned(), kind)).or_insert_with(|| Arc::new(Semaphore::new(self.calls_max))))
    }

    /// Why a service must not be called, if it must not.
    pub(crate) fn forbids(&self, base: &str) -> Option<Failure> {
        let host = host_of(base);
        if self.hosts.is_empty() || self.hosts.contains(&host) {
            return None;
        }
        let message = format!("`{host}` is not among the hosts that participants may have (setting `participant_allow_host`)");
        Some(Failure { code: codes::PARTICIPANT_HOST_NOT_ALLOWED.to_owned(), message })
    }

    fn jitter(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fraction()
    }

    async fn pause(&self, pause: Duration, latest_ms: u64) {
        let until_ms = self.now_ms().saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)).min(latest_ms);
        while let Some(left) = self.time_left(until_ms) {
            tokio::time::sleep(left.min(CLOCK_LOOK_MAX)).await;
        }
    }

    fn time_left(&self, until_ms: u64) -> Option<Duration> {
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

fn request_headers(call: &Call) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(sagamq_api::headers::APPLICATION_JSON));
    for (name, value) in call_headers(call) {
        // A business key may hold what a header cannot; the body has it all the same.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_broker::env::ManualClock;

    #[test]
    fn addresses_that_nobody_calls_any_more_are_forgotten_and_a_place_is_never_given_twice() {
        let config = OrchestratorConfig { participant_calls_max: 1, ..OrchestratorConfig::default() };
        let http = HttpParticipants::new(&config, Arc::new(ManualClock::at(1)), Random::from_seed(1)).expect("a client");
        let busy = http.service("http://busy", Kind::Work);
        let _place = busy.try_acquire().expect("it is free");
        for worker in 0..3 * SERVICES_MAX {
            drop(http.service(&format!("http://worker:{worker}"), Kind::Work));
        }
        assert!(http.services.lock().expect("no panic").len() <= SERVICES_MAX, "they do not grow with the workers that ever were");
        assert!(http.service("http://busy", Kind::Work).try_acquire().is_err(), "who is called keeps its places");
    }

    #[test]
    fn what_lets_locks_go_does_not_wait_behind_what_waits_for_them() {
        let config = OrchestratorConfig { participant_calls_max: 1, ..OrchestratorConfig::default() };
        let http = HttpParticipants::new(&config, Arc::new(ManualClock::at(1)), Random::from_seed(1)).expect("a client");
        let places = |operation| http.service("http://busy", Kind::of(operation));
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
        let http = HttpParticipants::new(&config, Arc::new(ManualClock::at(1)), Random::from_seed(1)).expect("a client");
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
