//! A node of a cluster as it runs: it stands by and follows, takes over, serves, and ends. Which of these it does, the log says.

use super::cluster_metrics::ClusterMetrics;
use super::connection_metrics::ConnectionMetrics;
use super::drain::run;
use super::front::Front;
use super::parts::{Parts, Role};
use super::process::Process;
use super::{ServeConfig, StartError};
use crate::HttpMetrics;
use crate::web::{Standing, standing_by};
use prometheus_client::registry::Registry;
use sagamq_broker::env::{Clock as _, Random, SystemClock};
use sagamq_broker::storage::Moments;
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use sagamq_cluster::Cluster;
use sagamq_cluster::node::{BootClock, NodeParts, NodeSettings, Standby, place};
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Joins the cluster and begins to serve as one that stands by. What runs from then on is what is returned.
pub(super) async fn start(
    config: ServeConfig,
    mut front: Front,
    shutdown: CancellationToken,
) -> Result<impl Future<Output = Result<(), StartError>> + Send + 'static, StartError> {
    let (Some(url), Some(name)) = (config.cluster.log.clone(), config.cluster.node.clone()) else {
        return Err(StartError::Log("a node needs a log and a name".to_owned()));
    };
    let cluster = Cluster::open(&url).map_err(|error| StartError::Log(error.to_string()))?;
    let directory = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || open_copy(&directory)).await;
    let storage = opened.map_err(|error| StartError::Panicked(error.to_string()))??;
    let settings = NodeSettings {
        name,
        url: config.cluster.url.clone().unwrap_or_else(|| front.url()),
        shards: config.shards,
        lease: config.cluster.lease,
        heartbeat: config.cluster.heartbeat,
        claim_after: config.cluster.claim_after,
        snapshot_bytes: config.cluster.snapshot_bytes,
        accept_data_loss: config.accept_data_loss,
    };
    let place = place(&config.data_dir);
    let (clock, wall) = (Arc::new(BootClock), Arc::new(SystemClock));
    let parts = NodeParts { cluster, storage, settings, place, clock, wall, random: Random::from_system() };
    let standby = Standby::join(parts).await?;
    front.met = front.peers.take().map(|peers| peers.met(standby.boot()));
    front.serve_begins(&config, standby.shards());
    Ok(live(config, front, standby, shutdown))
}

/// The copy of the log on this machine.
fn open_copy(directory: &Path) -> Result<Arc<dyn Moments>, StartError> {
    let storage = RocksStorage::open(directory, &RocksOptions::default());
    let copy = storage.map_err(|error| StartError::Copy { data_dir: directory.to_owned(), error })?;
    Ok(Arc::new(copy))
}

async fn live(config: ServeConfig, front: Front, mut standby: Standby, shutdown: CancellationToken) -> Result<(), StartError> {
    let mut registry = Registry::default();
    let metrics = HttpMetrics::register(&mut registry);
    let connections = ConnectionMetrics::register(&mut registry);
    Process::register(&mut registry, SystemClock.now_ms());
    let shown = standby.shown();
    let of_node = ClusterMetrics::of_standby(shown.clone(), standby.log_age(), front.met.as_ref().map(|met| met.metrics.clone()));
    of_node.clone().register(&mut registry);
    // Whoever stands by must not find out that its certificate has run out when it takes over.
    front.register(&mut registry);
    let passing = front.met.as_ref().map(|met| met.passing(front.closing.clone()));
    let passes = passing.is_some();
    let everybody_may = !front.asks_for_keys || config.open_metrics;
    let interface = front.interface(&config);
    let application = standing_by(Standing { shown, passing }, everybody_may.then(|| Arc::new(registry)), metrics, &interface);
    let standing = CancellationToken::new();
    let mut server = front.serve(application, connections, standing.clone());
    let active = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(None),
        active = standby.until_active() => active,
    };
    let active = match active {
        Ok(Some(active)) => active,
        ended => {
            front.closing.cancel();
            standing.cancel();
            standby.leave().await;
            // Without passing on, nothing is under way that anybody waits for.
            if passes {
                tracing::info!("draining: requests that were passed on are answered");
                if tokio::time::timeout(config.shutdown_grace, &mut server).await.is_err() {
                    tracing::warn!("requests that were passed on are cut off: they were not answered within shutdown_grace");
                }
            }
            server.abort();
            return match ended {
                Err(error) if error.is_lost() => Err(StartError::SteppedDown(error.to_string())),
                ended => Ok(ended.map(drop)?),
            };
        }
    };
    let metrics = of_node.of_active(active.lease(), active.snapshots_made());
    let role = Role::Active { storage: active.storage(), lease: active.lease(), metrics };
    let parts = tokio::select! {
        biased;
        reason = active.lost() => Err(StartError::SteppedDown(reason)),
        parts = Parts::open(config.clone(), &front, role) => parts,
    };
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => {
            active.end().await;
            return Err(error);
        }
    };
    // Who is connected is told to connect anew, and new connections are served by what is there now.
    standing.cancel();
    drop(server);
    tracing::info!(shards = parts.broker.shards(), "this node is the active one");
    run(front, parts, Some(active), config.shutdown_grace, shutdown).await
}
