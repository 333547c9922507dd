//! Participants that are called over HTTP: `POST {base}/{call}` with the call as JSON; `answer.rs` says what an answer means.
//!
//! A call is made after the commit that decided it, and again after a crash: the key makes it the same call. How one goes, `perform.rs` says;
//! here is what all calls share.

use super::causes::describe;
use super::credentials::{Credentials, Ready};
use super::kind::Kind;
use super::services::Services;
use crate::config::{OrchestratorConfig, ParticipantProxy};
use crate::outgoing::{AddressRule, Denied, GuardedResolver, Reach, SecretSource};
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
    /// Whom the server may call.
    reach: Arc<Reach>,
    /// How a client is made, for a service that has certificates of its own.
    config: Arc<OrchestratorConfig>,
    secrets: Arc<SecretSource>,
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
        let reach = Arc::new(Reach::new(
            config.participant_hosts.clone(),
            config.participant_denied.clone().unwrap_or_else(|| vec![AddressRule::LinkLocal]),
        ));
        let client = match builder(config, &reach)?.build() {
            Ok(client) => client,
            // A machine without certificates, as a small container is: participants over plain HTTP must work there all the same.
            Err(error) => {
                tracing::warn!(%error, "no certificates are found: participants over https cannot be called");
                builder(config, &reach)?.tls_certs_only([]).build()?
            }
        };
        Ok(Self {
            client,
            services,
            places: Arc::default(),
            calls_max: config.participant_calls_max,
            reach,
            config: Arc::new(config.clone()),
            secrets: Arc::new(config.secrets.clone()),
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
        self.reach.judge(base).err().map(|reason| denied(&reason))
    }

    /// What a call to a service shows now. It reads the secrets that are due to be looked at.
    pub(super) async fn ready(&self, credentials: Option<Arc<Credentials>>) -> Result<Arc<Ready>, Failure> {
        let Some(credentials) = credentials else { return Ok(Arc::default()) };
        let (config, reach) = (Arc::clone(&self.config), Arc::clone(&self.reach));
        let ready = credentials.ready(Arc::clone(&self.secrets), self.now_ms(), move || builder(&config, &reach));
        ready.await.map_err(|error| Failure { code: codes::SECRET_UNAVAILABLE.to_owned(), message: error.to_string() })
    }

    pub(super) fn jitter(&self) -> f64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fraction()
    }

    /// The time that is this much later than now, in milliseconds since 1970.
    pub(super) fn after(&self, pause: Duration) -> u64 {
        later(self.now_ms(), pause)
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

fn builder(config: &OrchestratorConfig, reach: &Arc<Reach>) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let resolver = GuardedResolver::system(Arc::clone(reach), proxies(&config.participant_proxy));
    // A redirect could turn the POST into a GET that succeeds without any effect, and lead where nobody has looked; participants are called
    // where they are.
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(config.participant_connect_timeout)
        .dns_resolver(resolver);
    Ok(match &config.participant_proxy {
        ParticipantProxy::None => builder.no_proxy(),
        ParticipantProxy::Environment => builder,
        ParticipantProxy::Url(url) => builder.no_proxy().proxy(reqwest::Proxy::all(url.clone())?),
    })
}

/// The names of the hosts of proxies.
fn proxies(proxy: &ParticipantProxy) -> Vec<String> {
    let host = |url: &reqwest::Url| url.host_str().map(str::to_owned);
    match proxy {
        ParticipantProxy::None => Vec::new(),
        ParticipantProxy::Url(url) => host(url).into_iter().collect(),
        ParticipantProxy::Environment => {
            let variables = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].into_iter().flat_map(|name| [name.to_owned(), name.to_lowercase()]);
            let set = variables.filter_map(|name| std::env::var(name).ok());
            let read = |text: String| reqwest::Url::parse(&text).or_else(|_| reqwest::Url::parse(&format!("http://{text}"))).ok();
            set.filter_map(read).filter_map(|url| host(&url)).collect()
        }
    }
}

/// Why a host is not called, for histories.
fn denied(reason: &Denied) -> Failure {
    Failure { code: codes::PARTICIPANT_HOST_NOT_ALLOWED.to_owned(), message: reason.to_string() }
}

/// The time that is this much later than another one, both in milliseconds since 1970.
pub(super) fn later(from_ms: u64, pause: Duration) -> u64 {
    from_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
}

/// Why nothing was sent: no connection came about, or the name led where nothing is called.
pub(super) fn not_sent(error: &reqwest::Error) -> Failure {
    let mut cause = core::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(reason) = inner.downcast_ref::<Denied>() {
            return denied(reason);
        }
        cause = inner.source();
    }
    Failure { code: codes::NOT_SENT.to_owned(), message: describe(error) }
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

    fn with(hosts: &[&str], denied: &[&str]) -> HttpParticipants {
        let participant_hosts = hosts.iter().map(|rule| rule.parse().expect(rule)).collect();
        let participant_denied = Some(denied.iter().map(|rule| rule.parse().expect(rule)).collect());
        let config = OrchestratorConfig { participant_hosts, participant_denied, ..OrchestratorConfig::default() };
        HttpParticipants::new(&config, Services::new(Duration::ZERO), Arc::new(ManualClock::at(1)), Random::from_seed(1)).expect("a client")
    }

    #[test]
    fn a_host_that_is_not_listed_and_an_address_that_is_denied_are_forbidden() {
        let http = with(&["shop.example:8080", "10.0.0.0/8"], &["link-local"]);
        for base in ["http://shop.example:8080/base", "http://10.1.2.3"] {
            assert_eq!(http.forbids(base), None, "{base}");
        }
        for base in ["http://shop.example", "http://11.0.0.1"] {
            let failure = http.forbids(base).unwrap_or_else(|| panic!("{base} is not allowed"));
            assert_eq!(failure.code, "PARTICIPANT_HOST_NOT_ALLOWED");
            assert!(failure.message.contains("participant_allow_host"), "{failure:?}");
        }
        let failure = with(&[], &["link-local"]).forbids("http://169.254.169.254").expect("it is denied");
        assert!(failure.code == "PARTICIPANT_HOST_NOT_ALLOWED" && failure.message.contains("participant_deny_address"), "{failure:?}");
    }

    /// Says where the one name leads that is asked for, each time something else.
    struct Rebinding(Mutex<Vec<&'static str>>);

    impl reqwest::dns::Resolve for Rebinding {
        fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
            let next = self.0.lock().expect("no panic").remove(0);
            let addresses: Vec<std::net::SocketAddr> = vec![std::net::SocketAddr::new(next.parse().expect(next), 0)];
            Box::pin(async move { Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs) })
        }
    }

    /// Listens on all addresses of this machine, answers each request and ends the connection; gives its port and counts.
    async fn answering() -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4_096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            }
        });
        (port, asked)
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_by_the_time_of_the_connection_leads_nowhere() {
        let (port, asked) = answering().await;
        let reach = Arc::new(Reach::new(vec!["shop.test".parse().expect("a name")], vec!["127.0.0.2".parse().expect("an address")]));
        let rebinding = Arc::new(Rebinding(Mutex::new(vec!["127.0.0.1", "127.0.0.2", "::ffff:127.0.0.2", "127.0.0.1"])));
        let guarded = GuardedResolver::asking(Arc::clone(&reach), rebinding);
        let client = reqwest::Client::builder().no_proxy().dns_resolver(guarded).build().expect("a client");
        let url = format!("http://shop.test:{port}/");
        assert_eq!(reach.judge(&url), Ok(()), "its text may be called");
        client.post(&url).send().await.expect("it led to an address that is not denied");
        for _ in 0..2 {
            let error = client.post(&url).send().await.expect_err("it leads to one that is");
            assert!(error.is_connect(), "nothing was sent: {error:?}");
            let failure = not_sent(&error);
            assert_eq!(failure.code, "PARTICIPANT_HOST_NOT_ALLOWED", "{failure:?}");
            assert!(failure.message.contains("`shop.test` leads to 127.0.0.2"), "{failure:?}");
        }
        client.post(&url).send().await.expect("and when it leads back it is called again");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2, "nobody connected meanwhile");
    }

    #[tokio::test]
    async fn the_client_that_calls_participants_looks_where_a_name_leads() {
        let (port, asked) = answering().await;
        let url = format!("http://localhost:{port}/");
        with(&[], &["link-local"]).client.post(&url).send().await.expect("loopback is not denied");
        // What the text of the URL says is looked at elsewhere: this is the connection alone.
        let error = with(&["shop.example"], &["loopback"]).client.post(&url).send().await.expect_err("it is");
        assert_eq!(not_sent(&error).code, "PARTICIPANT_HOST_NOT_ALLOWED", "{error:?}");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_proxy_is_where_an_operator_says_whatever_is_denied() {
        let (port, asked) = answering().await;
        let participant_proxy = format!("http://localhost:{port}").parse().expect("a proxy");
        let config = OrchestratorConfig {
            participant_proxy,
            participant_denied: Some(vec![AddressRule::Loopback]),
            ..OrchestratorConfig::default()
        };
        let http = HttpParticipants::new(&config, Services::new(Duration::ZERO), Arc::new(ManualClock::at(1)), Random::from_seed(1));
        http.expect("a client").client.post("http://shop.invalid/").send().await.expect("the proxy answers");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}
