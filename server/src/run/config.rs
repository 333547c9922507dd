//! What a server needs to know to start.

use super::places::Places;
use super::{KeySource, TlsFiles, open_files};
use crate::QuotaLimits;
use sagamq_broker::access::TokenRules;
use sagamq_broker::ids::ShardId;
use sagamq_broker::{DiskLimits, ScheduleConfig, StreamConfig};
use sagamq_cluster::node::NodeSettings;
use sagamq_saga::OrchestratorConfig;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a server. Where they come from is not its business.
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
    /// Connections that one client may have at a time, by its address; left out: half of all that there may be, of this machine all.
    pub client_connections_max: Option<usize>,
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
    /// Who changed what, and who was refused.
    pub audit: AuditSettings,
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
    /// Where traces and metrics are exported to, if they are.
    pub telemetry: Option<sagamq_telemetry::Settings>,
    /// How sagas run and HTTP participants are called.
    pub sagas: OrchestratorConfig,
    /// What stream groups are held to.
    pub streams: StreamConfig,
    /// How many records may wait for their time.
    pub schedules: ScheduleConfig,
    /// The cluster that the server is a node of, if it is one of one.
    pub cluster: ClusterSettings,
}

/// Settings of a node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Where the log is. Without one the server is alone, and its data directory is the truth.
    pub log: Option<String>,
    /// The node's name.
    pub node: Option<String>,
    /// Where clients reach it, if not where it listens.
    pub url: Option<String>,
    /// How long the active node may answer after it has sent a heartbeat.
    pub lease: Duration,
    /// How often nodes say that they live.
    pub heartbeat: Duration,
    /// After which time without a heartbeat another node takes over.
    pub claim_after: Duration,
    /// After how many bytes of commits of a shard a snapshot of it is made.
    pub snapshot_bytes: u64,
    /// File with the secret that all nodes share: then one that stands by passes requests on to the active one.
    pub key_file: Option<PathBuf>,
    /// File with the authorities (PEM) that vouch for the other nodes; left out: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    /// File with the certificate (PEM) that the other nodes are shown; left out: the node's own, if it has one.
    pub client_cert_file: Option<PathBuf>,
    /// File with the private key of that certificate (PEM).
    pub client_key_file: Option<PathBuf>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            log: None,
            node: None,
            url: None,
            lease: NodeSettings::LEASE,
            heartbeat: NodeSettings::HEARTBEAT,
            claim_after: NodeSettings::CLAIM_AFTER,
            snapshot_bytes: NodeSettings::SNAPSHOT_BYTES,
            key_file: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
        }
    }
}

/// Settings of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// Whether it is kept; left out: where keys are asked for.
    pub is_kept: Option<bool>,
    /// How long entries are kept.
    pub retention: Duration,
    /// Most refused requests in a minute that get an entry.
    pub refusals_per_minute: u32,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { is_kept: None, retention: Duration::from_secs(90 * 86_400), refusals_per_minute: 20 }
    }
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
    pub const SHARDS_MAX: u16 = ShardId::COUNT_MAX;

    /// Shards of a data directory that is made on a machine with so many cores, if nobody says otherwise: two a core, so that none is idle, and
    /// not more, because what comes at the same time to different shards is decided, staged and woken for apart.
    pub(super) fn shards_of(cores: usize) -> u16 {
        u16::try_from(cores.saturating_mul(2).clamp(4, 16)).expect("at most sixteen")
    }

    /// Where the certificates lie, if TLS is spoken.
    pub(super) fn tls(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.tls_cert_file.clone()?, self.tls_key_file.clone()?);
        Some(TlsFiles { certificate, key, client_authorities: self.tls_client_ca_file.clone() })
    }

    /// The places for connections.
    pub(super) fn places(&self) -> Places {
        Places::new(open_files::connections_max(), self.client_connections_max)
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
            shards: Self::shards_of(std::thread::available_parallelism().map_or(1, usize::from)),
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
            client_connections_max: None,
            quota: QuotaLimits::default(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            authentication: None,
            insecure_no_auth: false,
            bootstrap_key_file: None,
            open_metrics: false,
            audit: AuditSettings::default(),
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
            telemetry: None,
            sagas: OrchestratorConfig::default(),
            streams: StreamConfig::default(),
            schedules: ScheduleConfig::default(),
            cluster: ClusterSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_has_two_shards_a_core_within_bounds() {
        assert_eq!([1, 2, 3, 8, 9, usize::MAX].map(ServeConfig::shards_of), [4, 4, 6, 16, 16, 16]);
    }

    #[test]
    fn only_what_this_machine_alone_reaches_is_local() {
        for (address, wanted) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("[::ffff:0.0.0.0]:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(is_local(address.parse().expect(address)), wanted, "{address}");
        }
    }
}
