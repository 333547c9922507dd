//! [`Peers`]: the other nodes of a cluster, as far as requests are passed on to them: the key by which they know each other, and the way there.

use super::renewal::{Expires, Renewal};
use super::tls::{certificates, pair};
use super::{ClusterSettings, ServeConfig, StartError, key_file, open_files};
use crate::web::{PassMetrics, Passing, ToOthers, described};
use crate::{ClusterKey, Proofs};
use prometheus_client::registry::Registry;
use reqwest::{Certificate, Client, Identity};
use sagamq_broker::env::SystemClock;
use sagamq_saga::first_expiry_s;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a connection to the active node may take to come about: it is near, and whoever asks waits.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// How long a connection without a request is kept: shorter than the other node keeps it, so that none is used that it closes at that moment.
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);

/// Longest file with a secret, in bytes.
const KEY_FILE_BYTES_MAX: usize = 4 * 1024;

/// The other nodes of a cluster.
#[derive(Debug)]
pub(super) struct Peers {
    key: ClusterKey,
    /// This node's name.
    node: String,
    way: Arc<Renewal<Way>>,
}

/// The way to them, as certificates are now.
#[derive(Clone, Debug)]
struct Way {
    to_others: ToOthers,
    /// When the first certificate that they are shown runs out, in seconds since 1970, if they are shown one.
    expires_s: Option<i64>,
}

impl Expires for Way {
    fn expires_s(&self) -> Option<i64> {
        self.expires_s
    }
}

/// The same for a start of this node, which others know by the log of members.
#[derive(Debug)]
pub(super) struct Met {
    /// By what requests are known that one of them passes on.
    pub(super) proofs: Proofs,
    /// What became of requests that were passed on, from here and to here.
    pub(super) metrics: PassMetrics,
    way: Arc<Renewal<Way>>,
}

impl Peers {
    /// Reads the files; `None`: the server is alone, or the nodes have no key, so nothing is passed on.
    pub(super) fn open(config: &ServeConfig) -> Result<Option<Self>, StartError> {
        let (Some(path), Some(node)) = (&config.cluster.key_file, &config.cluster.node) else { return Ok(None) };
        let key = read_key(path).map_err(|reason| StartError::Peers(format!("{}: {reason}", path.display())))?;
        if key_file::is_open_to_others(path) {
            tracing::warn!(file = %path.display(), "others than its owner may read the file with the key of the cluster: chmod 600");
        }
        let way = Way::open(config).map_err(StartError::Peers)?;
        Ok(Some(Self { key, node: node.clone(), way: Arc::new(way) }))
    }

    /// Reads the certificates anew whenever they change, until `closing`.
    pub(super) fn renew(&self, closing: CancellationToken) -> Result<(), StartError> {
        self.way.begin(closing)
    }

    /// This start of the node.
    pub(super) fn met(self, start: Uuid) -> Met {
        let metrics = PassMetrics::default();
        Met { proofs: Proofs::new(self.key, &self.node, start, Arc::new(SystemClock), metrics.clone()), metrics, way: self.way }
    }
}

impl Met {
    /// What passes requests on to them.
    pub(super) fn passing(&self, draining: CancellationToken) -> Passing {
        // Each takes a connection of a client and one to the active node.
        let at_a_time = open_files::connections_max() / 2;
        let way = Arc::clone(&self.way);
        Passing::new(move || way.current().to_others, self.proofs.clone(), at_a_time, self.metrics.clone(), draining)
    }

    /// Shows when the certificate runs out that other nodes are shown.
    pub(super) fn register(&self, registry: &mut Registry) {
        let name = "sagamq_cluster_certificate_expiry_timestamp_seconds";
        self.way.register(registry, name, "When the first certificate runs out that other nodes are shown, in seconds since 1970");
    }
}

/// What stands in the file is never repeated.
fn read_key(path: &Path) -> Result<ClusterKey, String> {
    let content = std::fs::read(path).map_err(|error| error.to_string())?;
    let secret = content.trim_ascii();
    if secret.len() > KEY_FILE_BYTES_MAX {
        return Err(format!("it has more than {KEY_FILE_BYTES_MAX} bytes, so it is no secret"));
    }
    let least = ClusterKey::SECRET_BYTES_MIN;
    ClusterKey::of(secret).ok_or_else(|| format!("the secret in it has less than {least} bytes: make one with `openssl rand -hex 32`"))
}

impl Way {
    /// Reads the files, and again when they change.
    fn open(config: &ServeConfig) -> Result<Renewal<Self>, String> {
        let (authorities, shown) =
            (config.cluster.ca_file.clone(), shown(config).map(|(certificate, key)| (certificate.clone(), key.clone())));
        let pair = shown.clone().map(|(certificate, key)| [certificate, key]);
        let files = authorities.iter().cloned().chain(pair.into_iter().flatten()).collect();
        let made = AtomicU64::new(0);
        let read = move || {
            let shown = shown.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
            let http = client(authorities.as_deref(), shown)?;
            let expires_s = match shown {
                Some((certificate, _)) => first_expiry_s(certificates(certificate)?.iter().map(AsRef::as_ref)),
                None => None,
            };
            Ok(Self { to_others: ToOthers { http, made: made.fetch_add(1, Ordering::Relaxed) }, expires_s })
        };
        Renewal::load("the way to other nodes", files, read)
    }
}

/// A client that goes where it is told and nowhere else.
fn client(authorities: Option<&Path>, shown: Option<(&Path, &Path)>) -> Result<Client, String> {
    let unusable = |path: &Path, error: &dyn core::fmt::Display| format!("{} cannot be used: {error}", path.display());
    let identity = match shown {
        None => None,
        Some((certificate, key)) => {
            // It says which file it is.
            pair(certificate, key)?;
            let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, &error));
            let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
            Some(Identity::from_pem(&pem).map_err(|error| unusable(certificate, &described(error)))?)
        }
    };
    let builder = || {
        let builder = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A connection for each request under way: of many on one, a slow answer would hold up the others.
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIME_MAX)
            .pool_idle_timeout(IDLE_TIME_MAX);
        match &identity {
            None => builder,
            Some(identity) => builder.identity(identity.clone()),
        }
    };
    if let Some(path) = authorities {
        let pem = std::fs::read(path).map_err(|error| unusable(path, &error))?;
        let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(path, &described(error)))?;
        if authorities.is_empty() {
            return Err(unusable(path, &"it holds no certificate in PEM"));
        }
        return builder().tls_certs_only(authorities).build().map_err(|error| unusable(path, &described(error)));
    }
    builder().build().or_else(|error| {
        // A machine without certificates, as a small container is: nodes without TLS must reach each other there all the same.
        tracing::warn!(error = described(error), "no certificates are found: nodes with an https address are not reached");
        builder().tls_certs_only([]).build().map_err(described)
    })
}

/// The certificate and its key that other nodes are shown which ask for one: what is set for that, else the node's own.
fn shown(config: &ServeConfig) -> Option<(&PathBuf, &PathBuf)> {
    let ClusterSettings { client_cert_file, client_key_file, .. } = &config.cluster;
    let own = || config.tls_cert_file.as_ref().zip(config.tls_key_file.as_ref());
    client_cert_file.as_ref().zip(client_key_file.as_ref()).or_else(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_holds_a_secret_of_32_bytes_at_least_and_what_is_in_it_is_not_repeated() {
        let folder = std::env::temp_dir().join(format!("sagamq-cluster-key-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("key");
        let open = |content: &str| {
            std::fs::write(&path, content).expect("written");
            let mut config = ServeConfig::default();
            (config.cluster.node, config.cluster.key_file) = (Some("a".to_owned()), Some(path.clone()));
            Peers::open(&config).map(|peers| peers.is_some()).map_err(|error| error.to_string())
        };
        assert_eq!(open(&format!(" {}\n", "k".repeat(32))), Ok(true));
        for bad in ["", &"k".repeat(31), &format!("{}     \n", "k".repeat(31)), &"k".repeat(KEY_FILE_BYTES_MAX + 1)] {
            let error = open(bad).expect_err("no secret");
            assert!(error.contains("key: ") && !error.contains("kkk"), "{error}");
        }
        std::fs::remove_file(&path).expect("ours");
        let mut config = ServeConfig::default();
        (config.cluster.node, config.cluster.key_file) = (Some("a".to_owned()), Some(path));
        assert!(Peers::open(&config).is_err(), "a file that is not there");
        config.cluster.key_file = None;
        assert!(Peers::open(&config).expect("nothing is asked for").is_none());
        std::fs::remove_dir_all(&folder).expect("ours");
    }
}
