//! What the interface lets in: settings of the server, beside those of the broker.

use crate::web::access::Authentication;
use crate::web::pass::Proofs;
use crate::web::quota::Quota;
use crate::web::refusals::Audit;
use core::time::Duration;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_broker::spans::Tracer;
use sagamq_cluster::node::Lease;
use tokio_util::sync::CancellationToken;

/// Settings of the interface.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Whether the server is to be reached by the names of this machine only, because it listens on a loopback address.
    pub is_local: bool,
    /// Further names under which the server may be addressed. If there are any, others are refused, whatever it listens on.
    pub allow_hosts: Vec<String>,
    /// Web origins whose pages may use the server from a browser, such as `https://console.example.com`.
    pub allow_origins: Vec<String>,
    /// Bound on the bytes of request bodies that are worked on at a time; further ones wait for their turn.
    pub body_bytes_max: usize,
    /// How long a body waits for its turn before its request is refused with 429.
    pub turn_wait: Duration,
    /// How long a body may take to arrive, beside the time for its length at 512 KiB a second.
    pub body_time: Duration,
    /// How it is found out who asks. Without it everybody may do everything.
    pub authentication: Option<Authentication>,
    /// Where it is written down who changed what, and who was refused; without it, nowhere.
    pub audit: Option<Audit>,
    /// What each client may have, if that is bounded.
    pub quota: Option<Quota>,
    /// Where the spans of requests go.
    pub tracer: Tracer,
    /// Cancelled when the server is told to end: half-sent bodies are then not waited for.
    pub draining: CancellationToken,
    /// Of a node of a cluster: outside of this lease nothing is answered.
    pub lease: Option<Lease>,
    /// Of a node of a cluster whose nodes have a key: by what it knows the requests that others pass on.
    pub proofs: Option<Proofs>,
}

impl HttpConfig {
    /// The largest body must be able to pass, or it would be refused for ever with "try again".
    pub const BODY_BYTES_MIN: usize = BODY_BYTES_MAX;
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            is_local: false,
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            body_bytes_max: 40 << 20,
            turn_wait: Duration::from_secs(10),
            body_time: Duration::from_secs(10),
            authentication: None,
            audit: None,
            quota: None,
            tracer: Tracer::default(),
            draining: CancellationToken::new(),
            lease: None,
            proofs: None,
        }
    }
}
