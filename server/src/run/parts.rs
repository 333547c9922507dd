//! [`Parts`]: broker, orchestrator and their interface, opened and put together, and ended in the right order.

use super::cluster_metrics::ClusterMetrics;
use super::config::is_local;
use super::connection_metrics::ConnectionMetrics;
use super::front::Front;
use super::process::Process;
use super::{ServeConfig, StartError, first_key, telemetry};
use crate::{Application, Audit, Authentication, HttpConfig, HttpMetrics, Quota, QuotaLimits, application};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use sagamq_broker::audit::Act;
use sagamq_broker::env::{Random, SteadyClock};
use sagamq_broker::storage::Storage;
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use sagamq_broker::{Broker, BrokerConfig};
use sagamq_cluster::node::Lease;
use sagamq_saga::{AddressRule, Orchestrator, OrchestratorConfig};
use sagamq_telemetry::Exporter;
use std::net::SocketAddr;
use std::sync::Arc;

/// What the server is: alone with its data, or the active node of a cluster.
pub(super) enum Role {
    /// Its data directory is the truth.
    Alone,
    /// The log of a cluster is, and this is the storage that writes to it.
    Active {
        /// Writes to the log, and then to the copy.
        storage: Arc<dyn Storage>,
        /// Within which it answers.
        lease: Lease,
        /// What it shows of itself as a node.
        metrics: ClusterMetrics,
    },
}

/// What others may make the server call: whatever listens on this machine for itself alone is not for them.
fn participants(config: &OrchestratorConfig, address: SocketAddr) -> OrchestratorConfig {
    let denied = if is_local(address) { vec![AddressRule::LinkLocal] } else { vec![AddressRule::LinkLocal, AddressRule::Loopback] };
    OrchestratorConfig { participant_denied: Some(config.participant_denied.clone().unwrap_or(denied)), ..config.clone() }
}

/// What a server is made of.
pub(super) struct Parts {
    pub(super) broker: Broker,
    pub(super) orchestrator: Orchestrator,
    pub(super) application: Application,
    pub(super) connections: ConnectionMetrics,
    /// Where traces and metrics go, if they go anywhere.
    exporter: Option<Exporter>,
}

impl Parts {
    pub(super) async fn open(config: ServeConfig, front: &Front, role: Role) -> Result<Self, StartError> {
        let Front { address, asks_for_keys, .. } = *front;
        let (storage, lease, of_node) = match role {
            Role::Alone => (None, None, None),
            Role::Active { storage, lease, metrics } => (Some(storage), Some(lease), Some(metrics)),
        };
        let interface = HttpConfig { lease, ..front.interface(&config) };
        let (sagas, quota, open_metrics) = (participants(&config.sagas, address), config.quota, config.open_metrics);
        let (says_off, audit) = (config.says_off(), config.audit);
        let (data_dir, bootstrap) = (config.data_dir.clone(), config.bootstrap_key_file.clone());
        let exporter = telemetry::start(config.telemetry.as_ref()).map_err(StartError::Telemetry)?;
        let tracing_to = exporter.clone();
        // Opening reads from disk: not on a thread that others wait for.
        let runtime = tokio::runtime::Handle::current();
        let opened = tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            open_broker(&config, storage, tracing_to.as_ref())
        });
        let (broker, mut registry) = opened.await.map_err(|error| StartError::Panicked(error.to_string()))??;
        front.register(&mut registry);
        if let Some(of_node) = of_node {
            of_node.register(&mut registry);
        }
        let mut interface = interface;
        let usable = first_key::usable(&broker);
        if !asks_for_keys && usable > 0 {
            if !says_off {
                broker.shutdown().await;
                return Err(StartError::KeysNotAsked { keys: usable });
            }
            tracing::warn!(keys = usable, "the data directory has API keys, and nobody is asked for one");
        }
        if audit.is_kept.unwrap_or(asks_for_keys) {
            if let Err(error) = broker.keep_audit(audit.retention).await {
                broker.shutdown().await;
                return Err(StartError::Audit(error));
            }
            interface.audit = Some(Audit::new(&broker, audit.refusals_per_minute, &mut registry));
        }
        if asks_for_keys {
            if let Err(error) = first_key::ensure(&broker.acting(Act::of_settings("key.create")), &data_dir, bootstrap.as_ref()).await {
                broker.shutdown().await;
                return Err(error);
            }
            let by_keys = Authentication::by_keys(&broker, open_metrics);
            interface.authentication = Some(match &front.tokens {
                Some(tokens) => by_keys.and_tokens(tokens.clone()),
                None => by_keys,
            });
        }
        let parts = Self::over(broker, registry, interface, quota, sagas, exporter.as_ref()).await?;
        Ok(Self { exporter, ..parts })
    }

    /// The parts that stand on a broker.
    pub(super) async fn over(
        broker: Broker,
        mut registry: Registry,
        interface: HttpConfig,
        quota: QuotaLimits,
        sagas: OrchestratorConfig,
        exporter: Option<&Exporter>,
    ) -> Result<Self, StartError> {
        // Where keys are asked for, each may have its own.
        let is_bounded = quota != QuotaLimits::default() || interface.authentication.is_some();
        let quota = is_bounded.then(|| Quota::new(quota, broker.clock(), &mut registry));
        let interface = HttpConfig { quota, tracer: broker.tracer().clone(), ..interface };
        let opened = Orchestrator::open(broker.clone(), sagas, &mut registry).await;
        let orchestrator = match opened {
            Ok(orchestrator) => orchestrator,
            Err(error) => {
                broker.shutdown().await;
                return Err(error.into());
            }
        };
        let routes = crate::broker::router(broker.clone()).merge(crate::saga::router(orchestrator.clone()));
        let mut description = crate::broker::openapi();
        description.merge(crate::saga::openapi());
        let metrics = HttpMetrics::register(&mut registry);
        Process::register(&mut registry, broker.clock().now_ms());
        let connections = ConnectionMetrics::register(&mut registry);
        if let Some(exporter) = exporter {
            telemetry::register(exporter, &mut registry);
        }
        let registry = Arc::new(registry);
        if let Some(exporter) = exporter {
            let shown = Arc::clone(&registry);
            exporter.export_metrics(move || {
                let mut metrics = String::new();
                // A string takes everything.
                text::encode(&mut metrics, &shown).unwrap_or_default();
                metrics
            });
        }
        let application = application(routes, description, registry, metrics, &interface);
        Ok(Self { broker, orchestrator, application, connections, exporter: None })
    }

    /// Ends everything below the interface, what stands on top first. Requests that wait are answered.
    pub(super) async fn shutdown(&self) {
        self.orchestrator.shutdown().await;
        self.broker.shutdown().await;
    }

    /// Exports what is left, for a bounded time.
    pub(super) async fn flush(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.shutdown().await;
        }
    }
}

/// The storage of a server that is alone.
fn open_storage(config: &ServeConfig) -> Result<Arc<dyn Storage>, StartError> {
    let options = RocksOptions { accept_data_loss: config.accept_data_loss, ..RocksOptions::default() };
    let storage = RocksStorage::open(&config.data_dir, &options)?;
    if sagamq_cluster::node::cluster_of(&storage)?.is_some() {
        return Err(StartError::OfCluster { data_dir: config.data_dir.clone() });
    }
    Ok(Arc::new(storage))
}

fn open_broker(
    config: &ServeConfig,
    storage: Option<Arc<dyn Storage>>,
    exporter: Option<&Exporter>,
) -> Result<(Broker, Registry), StartError> {
    let storage = storage.map_or_else(|| open_storage(config), Ok)?;
    let clock = Arc::new(SteadyClock::start());
    let broker = BrokerConfig {
        tracer: telemetry::tracer(exporter, clock.clone(), Random::from_system()),
        shards: config.shards,
        staged_bytes_max: config.in_flight_bytes_max,
        read_bytes_max: config.read_bytes_max,
        tail_bytes_max: config.tail_bytes_max,
        streams: config.streams,
        schedules: config.schedules,
        retention_interval: config.retention_interval,
        disk: config.disk(),
        sync_interval: config.sync_interval,
        ..BrokerConfig::default()
    };
    let mut registry = Registry::default();
    let broker = Broker::open(storage, broker, clock, Random::from_system(), &mut registry)?;
    Ok((broker, registry))
}
