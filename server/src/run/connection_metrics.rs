//! What is counted of connections, whatever is asked on them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Connections that there are, and those that came to nothing. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionMetrics {
    open: Gauge,
    max: Gauge,
    refused: Family<ReasonLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Why nothing was asked on a connection, or nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its handshake failed: no TLS, a version that is too old, no certificate that is trusted.
    Handshake,
    /// Its handshake did not come to its end in time.
    HandshakeTime,
    /// What was sent is no request, or its head is too large.
    Head,
    /// Its client has as many as it may have.
    ClientMax,
}

/// One connection. It is counted until this is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection(Gauge);

impl ConnectionMetrics {
    /// Registers the metrics.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("sagamq_connections", "Connections that are open", metrics.open.clone());
        registry.register(
            "sagamq_connections_max",
            "Most connections at a time; further ones wait in the system's queue",
            metrics.max.clone(),
        );
        let help = "Connections that were given up: the TLS handshake failed or took too long, what was sent is no request, or its client has too many";
        registry.register("sagamq_connections_refused", help, metrics.refused.clone());
        metrics
    }

    /// So many can be open at a time.
    pub(super) fn bounded(&self, max: usize) {
        self.max.set(i64::try_from(max).unwrap_or(i64::MAX));
    }

    /// One is there.
    pub(super) fn opened(&self) -> OpenConnection {
        self.open.inc();
        OpenConnection(self.open.clone())
    }

    /// One is given up.
    pub(super) fn refused(&self, why: Refused) {
        let reason = match why {
            Refused::Handshake => "handshake",
            Refused::HandshakeTime => "handshake_time",
            Refused::Head => "head",
            Refused::ClientMax => "client_max",
        };
        self.refused.get_or_create_owned(&ReasonLabel { reason }).inc();
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
