//! Settings of a node of a cluster.

use super::{is_origin, within};
use crate::args::values;
use sagamq_server::run::{ClusterSettings, ServeConfig};
use std::time::Duration;

pub(super) fn set(cluster: &mut ClusterSettings, key: &str, text: &str) -> Result<(), String> {
    match key {
        "log" if text.is_empty() => return Err("expected where the log is, such as file:///mnt/log or s3://bucket/path".to_owned()),
        "log" => cluster.log = Some(text.to_owned()),
        "node" if !is_name(text) => return Err("expected 1 to 64 letters, digits, `-`, `_` and `.`".to_owned()),
        "node" => cluster.node = Some(text.to_owned()),
        "node_url" if text == "null" || !is_origin(text) => return Err("expected an address such as https://a.example.com:7070".to_owned()),
        "node_url" => cluster.url = Some(text.trim_end_matches('/').to_owned()),
        "cluster_lease" => {
            cluster.lease = within(text, Duration::from_millis(200)..=Duration::from_secs(300), "expected a duration from 200ms to 5m")?;
        }
        "cluster_heartbeat" => {
            cluster.heartbeat = within(text, Duration::from_millis(20)..=Duration::from_secs(60), "expected a duration from 20ms to 1m")?;
        }
        "cluster_snapshot_bytes" => {
            let bytes = values::size(text)?;
            cluster.snapshot_bytes = Some(bytes).filter(|bytes| *bytes >= 4 << 10).ok_or("expected at least 4 KiB")?;
        }
        "cluster_key_file" | "cluster_ca_file" | "cluster_client_cert_file" | "cluster_client_key_file" if text.is_empty() => {
            return Err("expected a file".to_owned());
        }
        "cluster_key_file" => cluster.key_file = Some(text.into()),
        "cluster_ca_file" => cluster.ca_file = Some(text.into()),
        "cluster_client_cert_file" => cluster.client_cert_file = Some(text.into()),
        "cluster_client_key_file" => cluster.client_key_file = Some(text.into()),
        _ => {
            let range = Duration::from_millis(250)..=Duration::from_secs(600);
            cluster.claim_after = within(text, range, "expected a duration from 250ms to 10m")?;
        }
    }
    Ok(())
}

/// What does not fit together.
pub(super) fn faults(serve: &ServeConfig) -> Vec<String> {
    let ClusterSettings { log, node, url, lease, heartbeat, claim_after, key_file, ca_file, client_cert_file, client_key_file, .. } =
        &serve.cluster;
    let mut faults = Vec::new();
    if log.is_some() != node.is_some() {
        faults.push("a node of a cluster needs `log` (where the log is) and `node` (its name): set what is missing".to_owned());
    }
    if url.is_some() && log.is_none() {
        faults.push("node_url is set and log is not: set `log`, or leave it out".to_owned());
    }
    if key_file.is_some() && log.is_none() {
        faults.push("cluster_key_file is set and log is not: set `log`, or leave it out".to_owned());
    }
    if ca_file.is_some() && key_file.is_none() {
        faults.push("cluster_ca_file is set and cluster_key_file is not, so nobody would be asked: set it, or leave both out".to_owned());
    }
    if client_cert_file.is_some() != client_key_file.is_some() {
        faults.push(
            "what other nodes are shown is a certificate with its key: set cluster_client_cert_file and cluster_client_key_file".to_owned(),
        );
    }
    if client_cert_file.is_some() && key_file.is_none() {
        faults.push(
            "cluster_client_cert_file is set and cluster_key_file is not, so nobody would be shown it: set it, or leave both out"
                .to_owned(),
        );
    }
    if log.is_some() && url.is_none() && serve.listen.ip().is_unspecified() {
        faults.push(format!("the node listens on {}, which says nothing of how others reach it: set node_url", serve.listen));
    }
    if *heartbeat * 2 > *lease {
        faults.push("cluster_heartbeat is too long: expected at most half of cluster_lease, so that one may be lost".to_owned());
    }
    if *claim_after * 4 < *lease * 5 {
        faults.push("cluster_claim_after is too short: expected at least cluster_lease and a quarter of it".to_owned());
    }
    faults
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use crate::args::serve::ServeArgs;
    use crate::config::Settings;

    fn load(environment: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = environment.iter().map(|&(key, value)| (format!("SAGAMQ_{key}"), value.to_owned()));
        Settings::load(&ServeArgs::default(), environment).map_err(|error| error.to_string())
    }

    #[test]
    fn a_node_has_a_log_a_name_and_an_address() {
        let settings = load(&[("LOG", "file:///l"), ("NODE", "a.b-1"), ("NODE_URL", "https://a:7070/")]).expect("legal");
        let cluster = settings.serve.cluster;
        assert_eq!((cluster.log.as_deref(), cluster.node.as_deref()), (Some("file:///l"), Some("a.b-1")));
        assert_eq!(cluster.url.as_deref(), Some("https://a:7070"));
        for (given, fault) in [
            (&[("LOG", "file:///l")][..], "set what is missing"),
            (&[("NODE", "a")], "set what is missing"),
            (&[("NODE_URL", "http://a")], "log is not"),
            (&[("LOG", "file:///l"), ("NODE", "a b")], "expected 1 to 64 letters"),
            (&[("CLUSTER_KEY_FILE", "/k")], "log is not"),
            (&[("LOG", "file:///l"), ("NODE", "a"), ("CLUSTER_CA_FILE", "/ca")], "cluster_key_file is not"),
            (&[("CLUSTER_CLIENT_CERT_FILE", "/c")], "a certificate with its key"),
            (&[("CLUSTER_CLIENT_KEY_FILE", "/k")], "a certificate with its key"),
            (&[("CLUSTER_CLIENT_CERT_FILE", "/c"), ("CLUSTER_CLIENT_KEY_FILE", "/k")], "cluster_key_file is not"),
            (&[("LOG", "file:///l"), ("NODE", "a"), ("NODE_URL", "a:7070")], "expected an address"),
            (&[("LOG", "file:///l"), ("NODE", "a"), ("LISTEN", "0.0.0.0:7070"), ("INSECURE_NO_AUTH", "true")], "set node_url"),
        ] {
            let faults = load(given).expect_err(fault);
            assert!(faults.contains(fault), "{given:?}: {faults}");
        }
    }

    #[test]
    fn times_of_a_cluster_fit_together_whatever_is_set() {
        for (given, fault) in [
            (&[("CLUSTER_HEARTBEAT", "3s")][..], "half of cluster_lease"),
            (&[("CLUSTER_LEASE", "6s")], "a quarter"),
            (&[("CLUSTER_CLAIM_AFTER", "6s")], "a quarter"),
            (&[("CLUSTER_LEASE", "100ms")], "from 200ms to 5m"),
            (&[("CLUSTER_HEARTBEAT", "10ms")], "from 20ms to 1m"),
            (&[("CLUSTER_CLAIM_AFTER", "1h")], "from 250ms to 10m"),
            (&[("CLUSTER_SNAPSHOT_BYTES", "1KiB")], "at least 4 KiB"),
        ] {
            let faults = load(given).expect_err(fault);
            assert!(faults.contains(fault), "{given:?}: {faults}");
        }
        let short = load(&[("CLUSTER_LEASE", "1s"), ("CLUSTER_HEARTBEAT", "100ms"), ("CLUSTER_CLAIM_AFTER", "1250ms")]).expect("legal");
        assert_eq!(short.serve.cluster.claim_after.as_millis(), 1_250);
    }
}
