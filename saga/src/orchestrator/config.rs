//! Settings of the orchestrator.

use core::time::Duration;

/// Settings of an orchestrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrchestratorConfig {
    /// Most calls to one HTTP service at a time; more wait for a place. A service that hangs takes no place of another.
    pub participant_calls_max: usize,
    /// How long a connection to an HTTP participant may take to come about.
    pub participant_connect_timeout: Duration,
    /// Hosts that HTTP participants may have, as they stand in the URL, without a port; empty: any.
    pub participant_hosts: Vec<String>,
    /// The way to HTTP participants.
    pub participant_proxy: ParticipantProxy,
    /// How long after a start time says nothing yet: participants that answered meanwhile are heard first.
    pub restart_grace: Duration,
}

/// The way to HTTP participants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ParticipantProxy {
    /// They are called directly, whatever the environment says.
    #[default]
    None,
    /// As `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
    Environment,
    /// Through this proxy.
    Url(String),
}

impl Default for OrchestratorConfig {
    fn default() -> Self {
        Self {
            participant_calls_max: 64,
            participant_connect_timeout: Duration::from_secs(5),
            participant_hosts: Vec::new(),
            participant_proxy: ParticipantProxy::None,
            restart_grace: Duration::from_secs(5),
        }
    }
}
