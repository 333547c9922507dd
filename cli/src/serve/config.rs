//! What a server needs to know to start.

use super::{KeySource, TlsFiles};
use sagamq_broker::access::TokenRules;
use sagamq_broker::http::QuotaLimits;
use sagamq_broker::{DiskLimits, ScheduleConfig, StreamConfig};
use sagamq_saga::OrchestratorConfig;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a server. Where they come from is not its business; see [`crate::config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Directory of the data; it is made if it is not there.
    pub data_dir: PathBuf,
    /// Number of shards of a data directory that is made now. One that exists keeps its own.
    pub shards: u16,
    /// Open the data although acknowledged records are missing from it.
    pub accept_data_loss: bool,
    /// How long requests may take to finish when the server is told to end.
    pub shutdown_grace: Duration,
    /// Bound on the bytes of records that wait for the disk; above it, requests are answered 429.
    pub in_flight_bytes_max: usize,
    /// Memory for all answers with records together.
    pub read_bytes_max: usize,
    /// Memory for the newest records of all partitions together.
    pub tail_bytes_max: usize,
    /// Bound on the bytes of request bodies that are worked on at a time; further ones wait for their turn.
    pub request_bytes_max: usize,
    /// How often it is looked which records their topics do not keep any longer.
    pub retention_interval: Duration,
    /// Bytes of the disk that are kept free: below it, what adds to the data is refused. 0: nothing is refused.
    pub disk_reserve_bytes: u64,
    /// Bytes that must be free before it is taken again; a fourth more than the reserve if nothing is said.
    pub disk_resume_bytes: Option<u64>,
    /// Within which time records of topics with the durability `interval` are synced.
    pub sync_interval: Duration,
    /// What each client may have in a second.
    pub quota: QuotaLimits,
    /// Names under which the server may be addressed, beside those of this machine where it listens on loopback.
    pub allow_hosts: Vec<String>,
    /// Web origins whose pages may use the server from a browser.
    pub allow_origins: Vec<String>,
    /// Who may use the server; left out: everybody on this machine, and nobody else can reach it. With keys in the data directory it must be said.
    pub authentication: Option<AuthenticationMode>,
    /// Everybody may use it, although others than this machine can reach it.
    pub insecure_no_auth: bool,
    /// File with the secret of an administrator's key.
    pub bootstrap_key_file: Option<PathBuf>,
    /// Whether the metrics are for everybody.
    pub open_metrics: bool,
    /// Where the keys of an identity provider come from, whose tokens are taken as well.
    pub jwt_jwks: Option<KeySource>,
    /// What its tokens must say.
    pub jwt: TokenRules,
    /// File with the server's certificate (PEM): then it speaks TLS, and nothing else.
    pub tls_cert_file: Option<PathBuf>,
    /// File with the private key of the certificate (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// File with the authorities that vouch for clients (PEM).
    pub tls_client_ca_file: Option<PathBuf>,
    /// How sagas run and HTTP participants are called.
    pub sagas: OrchestratorConfig,
    /// What stream groups are held to.
    pub streams: StreamConfig,
    /// How many records may wait for their time.
    pub schedules: ScheduleConfig,
}

/// Who may use a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationMode {
    /// Everybody who reaches it.
    Off,
    /// Who shows an API key.
    Keys,
}

/// Whether only this machine reaches what listens there, under whichever form of the address.
pub(super) fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

impl ServeConfig {
    /// Whether it is said in so many words that nobody is asked for a key.
    pub(super) fn says_off(&self) -> bool {
        self.insecure_no_auth || self.authentication == Some(AuthenticationMode::Off)
    }

    /// Whether keys are asked for; `None`: nothing says so, and others than this machine can reach the server.
    pub(super) fn asks_for_keys(&self) -> Option<bool> {
        let asks = self.authentication == Some(AuthenticationMode::Keys);
        (asks || self.insecure_no_auth || is_local(self.listen)).then_some(asks)
    }

    /// Most shards a data directory may have: each is a task and a queue of its own.
    pub const SHARDS_MAX: u16 = 256;

    /// Where the certificates lie, if TLS is spoken.
    pub(super) fn tls(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.tls_cert_file.clone()?, self.tls_key_file.clone()?);
        Some(TlsFiles { certificate, key, client_authorities: self.tls_client_ca_file.clone() })
    }

    /// How much of the disk is kept free.
    #[must_use]
    pub fn disk(&self) -> DiskLimits {
        let limits = DiskLimits::with_reserve(self.disk_reserve_bytes);
        DiskLimits { resume_bytes: self.disk_resume_bytes.unwrap_or(limits.resume_bytes), ..limits }
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            data_dir: PathBuf::from("data"),
            shards: 16,
            accept_data_loss: false,
            shutdown_grace: Duration::from_secs(30),
            in_flight_bytes_max: 64 << 20,
            read_bytes_max: 64 << 20,
            tail_bytes_max: 32 << 20,
            request_bytes_max: 40 << 20,
            retention_interval: Duration::from_secs(60),
            disk_reserve_bytes: DiskLimits::default().reserve_bytes,
            disk_resume_bytes: None,
            sync_interval: Duration::from_millis(200),
            quota: QuotaLimits::default(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            authentication: None,
            insecure_no_auth: false,
            bootstrap_key_file: None,
            open_metrics: false,
            jwt_jwks: None,
            jwt: TokenRules {
                issuer: String::new(),
                audience: String::new(),
                roles_claim: "roles".to_owned(),
                skew: Duration::from_secs(60),
            },
            tls_cert_file: None,
            tls_key_file: None,
            tls_client_ca_file: None,
            sagas: OrchestratorConfig::default(),
            streams: StreamConfig::default(),
            schedules: ScheduleConfig::default(),
        }
    }
}
