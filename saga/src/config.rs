//! Settings of the orchestrator.

use crate::outgoing::{AddressRule, HostRule, SecretSource};
use core::fmt;
use core::ops::RangeInclusive;
use core::str::FromStr;
use core::time::Duration;
use reqwest::Url;

/// Settings of an orchestrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrchestratorConfig {
    /// Most calls to one HTTP service at a time; more wait for a place. A service that hangs takes no place of another. Votes
    /// and decisions of two-phase commit have as many of their own, so that they never wait behind work that waits for locks.
    pub participant_calls_max: usize,
    /// Most sagas and transactions that are not at their end, of all shards together: each shard takes its share of them, rounded up. Then starts are
    /// refused. What is under way goes on, and operators can rerun.
    pub open_max: usize,
    /// How long a connection to an HTTP participant may take to come about.
    pub participant_connect_timeout: Duration,
    /// Hosts that HTTP participants may have; empty: any.
    pub participant_hosts: Vec<HostRule>,
    /// Addresses that are not called, whatever name leads there, unless `participant_hosts` says the address itself; `None`: link-local ones.
    pub participant_denied: Option<Vec<AddressRule>>,
    /// Where secrets are found that services are shown.
    pub secrets: SecretSource,
    /// The way to HTTP participants.
    pub participant_proxy: ParticipantProxy,
    /// How long after a start time says nothing yet: participants that answered meanwhile are heard first.
    pub restart_grace: Duration,
    /// How long repairs are kept after their end, with their results.
    pub repair_retention: Duration,
    /// Whether the turns of sagas are told in a topic.
    pub lifecycle_events: bool,
    /// States that are looked at when a definition is verified before it is published, at most; 0: it is not, unless the request asks for it.
    pub verify_states_max: usize,
    /// Whether nobody is called, and no time passes, until [`Orchestrator::release`](crate::Orchestrator::release).
    pub hold: bool,
}

impl OrchestratorConfig {
    /// What [`participant_calls_max`](Self::participant_calls_max) may be.
    pub const PARTICIPANT_CALLS_MAX: RangeInclusive<usize> = 1..=10_000;

    /// What [`open_max`](Self::open_max) may be.
    pub const OPEN_MAX: RangeInclusive<usize> = 1..=100_000_000;

    /// What [`participant_connect_timeout`](Self::participant_connect_timeout) may be.
    pub const PARTICIPANT_CONNECT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);

    /// What [`repair_retention`](Self::repair_retention) may be: a minute to ten years.
    pub const REPAIR_RETENTION: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(10 * 366 * 24 * 3_600);

    /// What [`verify_states_max`](Self::verify_states_max) may be.
    pub const VERIFY_STATES_MAX: RangeInclusive<usize> = 0..=10_000_000;

    /// The longest [`restart_grace`](Self::restart_grace).
    pub const RESTART_GRACE_MAX: Duration = Duration::from_secs(24 * 3_600);
}

/// The way to HTTP participants. As text: `none`, `environment`, or the proxy's URL. Its `Debug` hides the credentials of a URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum ParticipantProxy {
    /// They are called directly, whatever the environment says.
    #[default]
    None,
    /// As `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
    Environment,
    /// Through this proxy. User and password in the URL are sent to it.
    Url(Url),
}

/// Why a text names no way to HTTP participants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected none, environment, or the URL of a proxy without a path, such as http://proxy.example.com:3128")]
pub struct NoProxy;

impl FromStr for ParticipantProxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        match text {
            "none" => Ok(Self::None),
            "environment" => Ok(Self::Environment),
            url => {
                let is_proxy = |url: &Url| matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none();
                url.parse().ok().filter(is_proxy).map(Self::Url).ok_or(NoProxy)
            }
        }
    }
}

impl fmt::Debug for ParticipantProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Environment => f.write_str("Environment"),
            Self::Url(url) => write!(f, "Url({}://{}:{:?})", url.scheme(), url.host_str().unwrap_or_default(), url.port_or_known_default()),
        }
    }
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self {
            participant_calls_max: 64,
            open_max: 1_000_000,
            participant_connect_timeout: Duration::from_secs(5),
            participant_hosts: Vec::new(),
            participant_denied: None,
            secrets: SecretSource::default(),
            participant_proxy: ParticipantProxy::None,
            restart_grace: Duration::from_secs(5),
            repair_retention: Duration::from_secs(30 * 24 * 3_600),
            lifecycle_events: false,
            verify_states_max: 0,
            hold: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_word_or_a_url_and_its_password_does_not_show() {
        assert_eq!("none".parse(), Ok(ParticipantProxy::None));
        assert_eq!("environment".parse(), Ok(ParticipantProxy::Environment));
        let proxy: ParticipantProxy = "http://user:secret@proxy.example:3128".parse().expect("a proxy");
        let shown = format!("{proxy:?}");
        assert!(shown.contains("proxy.example") && !shown.contains("secret") && !shown.contains("user"), "{shown}");
        for bad in ["", "proxy.example", "proxy.example:3128", "socks5://proxy.example", "http://", "http://proxy.example/path", "yes"] {
            assert_eq!(bad.parse::<ParticipantProxy>(), Err(NoProxy), "{bad}");
        }
    }
}
