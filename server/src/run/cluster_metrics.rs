//! How it stands with a node of a cluster, at the moment somebody asks.

use crate::web::PassMetrics;
use core::fmt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use sagamq_cluster::node::{Lease, LogAge, Shown, SnapshotsMade};
use tokio::sync::watch;

/// What a node of a cluster shows of itself.
#[derive(Clone, Debug)]
pub(super) struct ClusterMetrics {
    shown: watch::Receiver<Shown>,
    log_age: LogAge,
    /// Of a node that knows others by a key.
    passed: Option<PassMetrics>,
    /// Of the active node.
    lease: Option<Lease>,
    /// Of the active node.
    snapshots: Option<SnapshotsMade>,
}

impl ClusterMetrics {
    /// Of a node that stands by.
    pub(super) fn of_standby(shown: watch::Receiver<Shown>, log_age: LogAge, passed: Option<PassMetrics>) -> Self {
        Self { shown, log_age, passed, lease: None, snapshots: None }
    }

    /// Of the same node, when it is the active one.
    pub(super) fn of_active(self, lease: Lease, snapshots: SnapshotsMade) -> Self {
        Self { lease: Some(lease), snapshots: Some(snapshots), ..self }
    }

    /// Shows it.
    pub(super) fn register(self, registry: &mut Registry) {
        if let Some(passed) = &self.passed {
            passed.register(registry);
        }
        registry.register_collector(Box::new(self));
    }
}

impl Collector for ClusterMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut show = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        let shown = self.shown.borrow().clone();
        let integer = |number: u64| ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX));
        let is_active = self.lease.as_ref().is_some_and(Lease::holds);
        let lease = self.lease.as_ref().map_or(0.0, |lease| lease.left().as_secs_f64());
        show("sagamq_cluster_active", "Whether this node is the active one, within its lease", &integer(u64::from(is_active)))?;
        show("sagamq_cluster_lease_seconds", "How long the lease of the active node holds still", &ConstGauge::new(lease))?;
        show("sagamq_cluster_term", "The last term that this node knows of", &integer(shown.term))?;
        show("sagamq_cluster_lag_entries", "Entries of the log that this node knows of and has not folded", &integer(shown.lag))?;
        let age = ConstGauge::new(self.log_age.get().as_secs_f64());
        show("sagamq_cluster_log_age_seconds", "How long ago this node has last read the log of members to its end", &age)?;
        let mut count = |name: &str, help: &str, of: fn(&SnapshotsMade) -> u64| {
            let counter = ConstCounter::new(self.snapshots.as_ref().map_or(0, of));
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
        };
        count("sagamq_cluster_committed_bytes", "Bytes of all commits in the log of the cluster", SnapshotsMade::committed_bytes)?;
        count("sagamq_cluster_snapshots", "Snapshots that this process has made", SnapshotsMade::snapshots)?;
        count("sagamq_cluster_snapshot_read_bytes", "Bytes of rows that were read for snapshots", SnapshotsMade::read_bytes)?;
        count("sagamq_cluster_snapshot_written_bytes", "Bytes of snapshots that were written", SnapshotsMade::written_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use prometheus_client::encoding::text::encode;
    use sagamq_cluster::node::{BootClock, Uptime as _};
    use std::sync::Arc;

    fn shown(metrics: ClusterMetrics) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        metrics.register(&mut registry);
        encode(&mut text, &registry).expect("it is written");
        text
    }

    #[test]
    fn a_node_is_active_as_long_as_its_lease_holds() {
        let (_sender, receiver) = watch::channel(Shown { active: None, term: 7, lag: 5 });
        let standby = ClusterMetrics::of_standby(receiver, LogAge::new(Arc::new(BootClock)), None);
        let text = shown(standby.clone());
        for line in ["sagamq_cluster_active 0", "sagamq_cluster_term 7", "sagamq_cluster_lag_entries 5", "sagamq_cluster_lease_seconds 0.0"]
        {
            assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
        }
        let lease = Lease::new(Arc::new(BootClock), Duration::from_secs(1_000));
        lease.renew(BootClock.now());
        assert!(shown(standby.clone().of_active(lease.clone(), SnapshotsMade::default())).contains("sagamq_cluster_active 1\n"));
        lease.end();
        let text = shown(standby.of_active(lease, SnapshotsMade::default()));
        assert!(text.contains("sagamq_cluster_active 0\n") && text.contains("sagamq_cluster_log_age_seconds "), "{text}");
    }
}
