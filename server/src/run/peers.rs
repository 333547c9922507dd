//! [`Peers`]: the other nodes of a cluster, as far as requests are passed on to them: the key by which they know each other, and the way there.

use super::{ClusterSettings, ServeConfig, StartError, key_file, open_files};
use crate::web::{PassMetrics, Passing};
use crate::{ClusterKey, Proofs};
use reqwest::{Certificate, Client, Identity};
use sagamq_broker::env::SystemClock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
    http: Client,
}

/// The same for a start of this node, which others know by the log of members.
#[derive(Debug)]
pub(super) struct Met {
    /// By what requests are known that one of them passes on.
    pub(super) proofs: Proofs,
    /// What became of requests that were passed on, from here and to here.
    pub(super) metrics: PassMetrics,
    http: Client,
}

impl Peers {
    /// Reads the files; `None`: the server is alone, or the nodes have no key, so nothing is passed on.
    pub(super) fn open(config: &ServeConfig) -> Result<Option<Self>, StartError> {
        let (Some(path), Some(node)) = (&config.cluster.key_file, &config.cluster.node) else { return Ok(None) };
        let key = read_key(path).map_err(|reason| StartError::Peers(format!("{}: {reason}", path.display())))?;
        if key_file::is_open_to_others(path) {
            tracing::warn!(file = %path.display(), "others than its owner may read the file with the key of the cluster: chmod 600");
        }
        let http = client(config).map_err(StartError::Peers)?;
        Ok(Some(Self { key, node: node.clone(), http }))
    }

    /// This start of the node.
    pub(super) fn met(self, start: Uuid) -> Met {
        let metrics = PassMetrics::default();
        Met { proofs: Proofs::new(self.key, &self.node, start, Arc::new(SystemClock), metrics.clone()), metrics, http: self.http }
    }
}

impl Met {
    /// What passes requests on to them.
    pub(super) fn passing(&self, draining: CancellationToken) -> Passing {
        // Each takes a connection of a client and one to the active node.
        let at_a_time = open_files::connections_max() / 2;
        Passing::new(self.http.clone(), self.proofs.clone(), at_a_time, self.metrics.clone(), draining)
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

/// A client that goes where it is told and nowhere else.
fn client(config: &ServeConfig) -> Result<Client, String> {
    let builder = || {
        Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A connection for each request under way: of many on one, a slow answer would hold up the others.
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIME_MAX)
            .pool_idle_timeout(IDLE_TIME_MAX)
    };
    let unusable = |path: &Path, error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
    let shows = |builder: reqwest::ClientBuilder| match shown(config) {
        None => Ok::<_, String>(builder),
        Some((certificate, key)) => {
            let read = |path: &Path| std::fs::read(path).map_err(|error| unusable(path, &error));
            let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
            Ok(builder.identity(Identity::from_pem(&pem).map_err(|error| unusable(certificate, &error))?))
        }
    };
    if let Some(path) = &config.cluster.ca_file {
        let pem = std::fs::read(path).map_err(|error| unusable(path, &error))?;
        let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(path, &error))?;
        if authorities.is_empty() {
            return Err(unusable(path, &"it holds no certificate in PEM"));
        }
        return shows(builder())?.tls_certs_only(authorities).build().map_err(|error| unusable(path, &error));
    }
    shows(builder())?.build().or_else(|error| {
        // A machine without certificates, as a small container is: nodes without TLS must reach each other there all the same.
        tracing::warn!(%error, "no certificates are found: nodes with an https address are not reached");
        shows(builder())?.tls_certs_only([]).build().map_err(|error| error.to_string())
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
