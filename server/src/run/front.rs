//! [`Front`]: what stands in front of the parts of a server and is there before them: the address, TLS, whom is asked for keys.

use super::config::is_local;
use super::connection_metrics::ConnectionMetrics;
use super::connections::{self, Serving};
use super::peers::{Met, Peers};
use super::places::Places;
use super::refusals::STALL_MAX;
use super::tls::Tls;
use super::{ServeConfig, StartError};
use crate::{Application, HttpConfig};
use prometheus_client::registry::Registry;
use sagamq_broker::access::Tokens;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What stands in front of the parts and is there before them.
pub(super) struct Front {
    pub(super) listener: Arc<TcpListener>,
    pub(super) address: SocketAddr,
    pub(super) asks_for_keys: bool,
    /// The certificates, if TLS is spoken.
    pub(super) tls: Option<Tls>,
    pub(super) tokens: Option<Tokens>,
    pub(super) places: Places,
    /// The other nodes of a cluster, if its nodes have a key.
    pub(super) peers: Option<Peers>,
    /// The same when this one has joined.
    pub(super) met: Option<Met>,
    /// Cancelled when nothing new is taken.
    pub(super) closing: CancellationToken,
}

impl Front {
    pub(super) async fn open(config: &ServeConfig) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { address: config.listen, error };
        let tokens = config.jwt_jwks.as_ref().map(|source| (source.clone(), Tokens::new(config.jwt.clone())));
        if let Some((source, tokens)) = &tokens {
            source.load(tokens).await.map_err(StartError::Provider)?;
        }
        let asks_for_keys = config.asks_for_keys().ok_or(StartError::Unguarded { address: config.listen })?;
        let tls = config.tls().map(Tls::load).transpose().map_err(StartError::Tls)?;
        let peers = Peers::open(config)?;
        // The address first: it fails at once, opening data may take its time.
        let listener = Arc::new(TcpListener::bind(config.listen).await.map_err(failed)?);
        let address = listener.local_addr().map_err(failed)?;
        let closing = CancellationToken::new();
        // What follows files ends with it, also where something fails from here on.
        let ends = closing.clone().drop_guard();
        if let Some(tls) = &tls {
            tls.renew(closing.clone())?;
        }
        if let Some(peers) = &peers {
            peers.renew(closing.clone())?;
        }
        let known = tokens.as_ref().map(|(_, tokens)| tokens.clone());
        if let Some((source, tokens)) = tokens {
            tokio::spawn(source.follow(tokens, closing));
        }
        let closing = ends.disarm();
        Ok(Self { listener, address, asks_for_keys, tls, tokens: known, places: config.places(), peers, met: None, closing })
    }

    /// Says in the log that requests are taken, and what is to be said about how safe that is.
    pub(super) fn serve_begins(&self, config: &ServeConfig, shards: u16) {
        let address = self.address;
        if !is_local(address) {
            if !self.asks_for_keys {
                tracing::warn!(%address, "everybody who reaches the server may do everything (insecure_no_auth)");
            } else if self.tls.is_none() {
                tracing::warn!(%address, "without TLS, keys and records can be read on their way (tls_cert_file)");
            }
        }
        tracing::info!(%address, data_dir = %config.data_dir.display(), shards, "listening");
    }

    /// Shows when certificates run out.
    pub(super) fn register(&self, registry: &mut Registry) {
        if let Some(tls) = &self.tls {
            tls.register(registry);
        }
        if let Some(met) = &self.met {
            met.register(registry);
        }
    }

    /// Where clients reach it, as far as the address says that.
    pub(super) fn url(&self) -> String {
        url(self.tls.is_some(), self.address)
    }

    /// What the interface lets in, wherever it leads.
    pub(super) fn interface(&self, config: &ServeConfig) -> HttpConfig {
        HttpConfig {
            is_local: is_local(self.address),
            allow_hosts: config.allow_hosts.clone(),
            allow_origins: config.allow_origins.clone(),
            body_bytes_max: config.request_bytes_max,
            draining: self.closing.clone(),
            proofs: self.met.as_ref().map(|met| met.proofs.clone()),
            ..HttpConfig::default()
        }
    }

    /// Serves an application over the listener until `closing` is cancelled.
    pub(super) fn serve(&self, application: Application, metrics: ConnectionMetrics, closing: CancellationToken) -> JoinHandle<()> {
        let serving = Serving {
            application,
            tls: self.tls.clone(),
            places: self.places.clone(),
            idle_max: connections::HEAD_TIME_MAX,
            stall_max: STALL_MAX,
            closing,
            metrics,
        };
        tokio::spawn(connections::serve(Arc::clone(&self.listener), serving))
    }
}

impl Drop for Front {
    /// What follows certificates and keys ends with it, also where the parts could not be opened.
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// An address as clients take it.
pub(super) fn url(speaks_tls: bool, address: SocketAddr) -> String {
    format!("http{}://{address}", if speaks_tls { "s" } else { "" })
}
