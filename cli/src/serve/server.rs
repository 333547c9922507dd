//! [`Server`]: opens the data, starts broker and orchestrator, listens; and ends all of it in the right order.

use super::config::is_local;
use super::tls::Tls;
use super::{ServeConfig, connections, first_key};
use prometheus_client::registry::Registry;
use sagamq_broker::access::Tokens;
use sagamq_broker::env::{Random, SteadyClock};
use sagamq_broker::http::{self, Application, Authentication, HttpConfig, HttpMetrics, Quota, QuotaLimits};
use sagamq_broker::storage::rocks::{RocksOptions, RocksStorage};
use sagamq_broker::{Broker, BrokerConfig, KeyError};
use sagamq_saga::{Orchestrator, OrchestratorConfig};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Why a server did not start, or did not end well.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// Others than this machine could reach it, and nothing says who may use it.
    #[error(
        "the server would listen on {address}, where others can reach it, and everybody there could do everything: nobody is asked for a key"
    )]
    Unguarded {
        /// The address.
        address: SocketAddr,
    },
    /// The certificates cannot be used.
    #[error("TLS cannot be spoken: {0}")]
    Tls(String),
    /// The keys of the identity provider cannot be used.
    #[error("the keys of the identity provider cannot be used: {0}")]
    Provider(String),
    /// The data directory has keys, and nothing says whether they are asked for.
    #[error(
        "the data directory has {keys} API keys that can be used, and the setting is missing that asks for them: everybody who reaches the server could do everything"
    )]
    KeysNotAsked {
        /// How many can be used.
        keys: usize,
    },
    /// The file with the secret of an administrator's key cannot be read or written.
    #[error("the key file {} cannot be used: {reason}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The administrator's key could not be stored.
    #[error("an administrator's key could not be stored: {0}")]
    FirstKey(KeyError),
    /// The data directory is in use, damaged, of a newer format, or misses acknowledged records. It was not changed.
    #[error(transparent)]
    DataDirectory(#[from] sagamq_broker::storage::rocks::OpenError),
    /// What the data directory holds cannot be opened.
    #[error(transparent)]
    Broker(#[from] sagamq_broker::OpenError),
    /// What the sagas need cannot be opened.
    #[error("the sagas in the data directory cannot be taken over: {0}")]
    Orchestrator(#[from] sagamq_saga::OpenError),
    /// A part of the server died and took the process with it. What was answered is on disk.
    #[error("a part of the server died, so the server ended: {0}")]
    PartDied(String),
    /// A task of the server panicked. What was answered is on disk.
    #[error("a task of the server panicked: {0}")]
    Panicked(String),
    /// Requests were not answered within the grace. What was answered is on disk.
    #[error("the server was ended after {} ms with requests that were not answered", .0.as_millis())]
    GraceElapsed(Duration),
}

impl StartError {
    /// A stable code for scripts.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "LISTEN",
            Self::Unguarded { .. } | Self::KeysNotAsked { .. } => "UNGUARDED",
            Self::KeyFile { .. } => "KEY_FILE",
            Self::Tls(_) => "TLS",
            Self::Provider(_) => "PROVIDER",
            Self::DataDirectory(_) | Self::Broker(_) | Self::Orchestrator(_) | Self::FirstKey(_) => "DATA_DIRECTORY",
            Self::PartDied(_) => "PART_DIED",
            Self::Panicked(_) => "INTERNAL",
            Self::GraceElapsed(_) => "GRACE_ELAPSED",
        }
    }

    /// What to do, where the error does not say it itself.
    pub(crate) fn help(&self) -> Option<&'static str> {
        match self {
            Self::Listen { .. } => Some("choose another address with --listen, or stop what listens there"),
            Self::Unguarded { .. } => Some(
                "ask for keys with --authentication keys (the first start makes one for an administrator), listen on 127.0.0.1, or, where a \
                 proxy or the network sees to who gets there, say --insecure-no-auth",
            ),
            Self::KeysNotAsked { .. } => Some("ask for them with --authentication keys, or say that nobody is asked: --authentication off"),
            Self::GraceElapsed(_) => Some("give requests more time with --shutdown-grace"),
            Self::PartDied(_) => {
                Some("start it again: what was answered is on disk, and every saga goes on; keep the log, it has the panic")
            }
            Self::DataDirectory(_)
            | Self::Broker(_)
            | Self::Orchestrator(_)
            | Self::KeyFile { .. }
            | Self::Tls(_)
            | Self::Provider(_)
            | Self::FirstKey(_)
            | Self::Panicked(_) => None,
        }
    }
}

/// A running server. Dropping it does not end it: cancel the token it was started with, then [`Server::join`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    speaks_tls: bool,
    task: JoinHandle<Result<(), StartError>>,
}

impl Server {
    /// Opens the data directory, recovers what it holds, and listens. When this returns the server takes requests. It ends when
    /// `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left behind: the address and the data directory are free again.
    pub async fn start(config: ServeConfig, shutdown: CancellationToken) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { address: config.listen, error };
        let tokens = config.jwt_jwks.as_ref().map(|source| (source.clone(), Tokens::new(config.jwt.clone())));
        if let Some((source, tokens)) = &tokens {
            source.load(tokens).await.map_err(StartError::Provider)?;
        }
        let asks_for_keys = config.asks_for_keys().ok_or(StartError::Unguarded { address: config.listen })?;
        let tls = config.tls().map(Tls::load).transpose().map_err(StartError::Tls)?.map(Arc::new);
        // The address first: it fails at once, opening data may take its time.
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let hangups = tls.as_ref().map(|_| Tls::take_over_hangups()).transpose();
        let hangups = hangups.map_err(|error| StartError::Tls(format!("SIGHUP cannot be taken over: {error}")))?;
        let parts =
            Parts { tls, ..Parts::open(config.clone(), address, asks_for_keys, tokens.as_ref().map(|(_, tokens)| tokens.clone())).await? };
        if !is_local(address) {
            if !asks_for_keys {
                tracing::warn!(%address, "everybody who reaches the server may do everything (insecure_no_auth)");
            } else if parts.tls.is_none() {
                tracing::warn!(%address, "without TLS, keys and records can be read on their way (tls_cert_file)");
            }
        }
        if let (Some(tls), Some(hangups)) = (&parts.tls, hangups) {
            tokio::spawn(Arc::clone(tls).watch(hangups, parts.closing.clone()));
        }
        if let Some((source, tokens)) = tokens {
            tokio::spawn(source.follow(tokens, parts.closing.clone()));
        }
        let speaks_tls = parts.tls.is_some();
        tracing::info!(%address, data_dir = %config.data_dir.display(), shards = parts.broker.shards(), "listening");
        let task = tokio::spawn(run(listener, parts, config.shutdown_grace, shutdown));
        Ok(Self { address, speaks_tls, task })
    }

    /// Where it listens; the port is the real one, also if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a client takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http{}://{}", if self.speaks_tls { "s" } else { "" }, self.address)
    }

    /// Waits until the server has ended: requests are answered, everything is on disk, the data directory can be opened again.
    ///
    /// # Errors
    /// [`StartError::GraceElapsed`] when requests were cut off, [`StartError::Panicked`].
    pub async fn join(self) -> Result<(), StartError> {
        self.task.await.unwrap_or_else(|error| Err(StartError::Panicked(error.to_string())))
    }
}

/// What a server is made of.
struct Parts {
    broker: Broker,
    orchestrator: Orchestrator,
    application: Application,
    /// The certificates, if TLS is spoken.
    tls: Option<Arc<Tls>>,
    /// Cancelled when nothing new is taken.
    closing: CancellationToken,
}

impl Parts {
    async fn open(config: ServeConfig, address: SocketAddr, asks_for_keys: bool, tokens: Option<Tokens>) -> Result<Self, StartError> {
        let interface = HttpConfig {
            is_local: is_local(address),
            allow_hosts: config.allow_hosts.clone(),
            allow_origins: config.allow_origins.clone(),
            body_bytes_max: config.request_bytes_max,
            ..HttpConfig::default()
        };
        let (sagas, quota, open_metrics) = (config.sagas.clone(), config.quota, config.open_metrics);
        let says_off = config.says_off();
        let (data_dir, bootstrap) = (config.data_dir.clone(), config.bootstrap_key_file.clone());
        // Opening reads from disk: not on a thread that others wait for.
        let runtime = tokio::runtime::Handle::current();
        let opened = tokio::task::spawn_blocking(move || {
            let _entered = runtime.enter();
            open_broker(&config)
        });
        let (broker, registry) = opened.await.map_err(|error| StartError::Panicked(error.to_string()))??;
        let mut interface = interface;
        let usable = first_key::usable(&broker);
        if !asks_for_keys && usable > 0 {
            if !says_off {
                broker.shutdown().await;
                return Err(StartError::KeysNotAsked { keys: usable });
            }
            tracing::warn!(keys = usable, "the data directory has API keys, and nobody is asked for one");
        }
        if asks_for_keys {
            if let Err(error) = first_key::ensure(&broker, &data_dir, bootstrap.as_ref()).await {
                broker.shutdown().await;
                return Err(error);
            }
            let by_keys = Authentication::by_keys(&broker, open_metrics);
            interface.authentication = Some(match tokens {
                Some(tokens) => by_keys.and_tokens(tokens),
                None => by_keys,
            });
        }
        Self::over(broker, registry, interface, quota, sagas).await
    }

    /// The parts that stand on a broker.
    async fn over(
        broker: Broker,
        mut registry: Registry,
        interface: HttpConfig,
        quota: QuotaLimits,
        sagas: OrchestratorConfig,
    ) -> Result<Self, StartError> {
        let interface = HttpConfig { quota: Quota::new(quota, broker.clock(), &mut registry), ..interface };
        let opened = Orchestrator::open(broker.clone(), sagas, &mut registry).await;
        let orchestrator = match opened {
            Ok(orchestrator) => orchestrator,
            Err(error) => {
                broker.shutdown().await;
                return Err(error.into());
            }
        };
        let routes = http::router(broker.clone()).merge(sagamq_saga::http::router(orchestrator.clone()));
        let mut description = http::openapi();
        description.merge(sagamq_saga::http::openapi());
        let metrics = HttpMetrics::register(&mut registry);
        let application = http::application(routes, description, Arc::new(registry), metrics, &interface);
        Ok(Self { broker, orchestrator, application, tls: None, closing: interface.draining })
    }

    /// Ends everything below the interface, what stands on top first. Requests that wait are answered.
    async fn shutdown(&self) {
        self.orchestrator.shutdown().await;
        self.broker.shutdown().await;
    }
}

fn open_broker(config: &ServeConfig) -> Result<(Broker, Registry), StartError> {
    let options = RocksOptions { accept_data_loss: config.accept_data_loss, ..RocksOptions::default() };
    let storage = Arc::new(RocksStorage::open(&config.data_dir, &options)?);
    let broker = BrokerConfig {
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
    let broker = Broker::open(storage, broker, Arc::new(SteadyClock::start()), Random::from_system(), &mut registry)?;
    Ok((broker, registry))
}

/// How long requests may take to be answered when a part has died: what they wait for may never come.
const DEATH_GRACE: Duration = Duration::from_secs(2);

/// Serves until `shutdown` or the death of a part, then drains: no new connections, what is under way is answered, then the parts end.
async fn run(listener: TcpListener, parts: Parts, grace: Duration, shutdown: CancellationToken) -> Result<(), StartError> {
    let Parts { application, broker, tls, closing, .. } = &parts;
    let mut server =
        tokio::spawn(connections::serve(listener, application.clone(), tls.clone(), connections::HEAD_TIME_MAX, closing.clone()));
    let grace = tokio::select! {
        biased;
        () = broker.liveness().died() => grace.min(DEATH_GRACE),
        () = shutdown.cancelled() => grace,
        // It ends only when it is told to, which is looked at first, or by a panic.
        ended = &mut server => {
            parts.shutdown().await;
            return Err(StartError::Panicked(format!("the listener ended by itself: {ended:?}")));
        }
    };
    tracing::info!(grace_ms = grace.as_millis(), "draining");
    closing.cancel();
    let drained = async {
        // Long polls end, requests under way are answered, and only then what answers them ends.
        broker.begin_shutdown();
        let ended = (&mut server).await;
        parts.shutdown().await;
        ended
    };
    let drained = tokio::time::timeout(grace, drained).await;
    if let Some(death) = broker.liveness().death() {
        server.abort();
        return Err(StartError::PartDied(death.to_owned()));
    }
    match drained {
        Ok(Ok(())) => {
            tracing::info!("ended");
            Ok(())
        }
        Ok(Err(error)) => Err(StartError::Panicked(error.to_string())),
        Err(_) => {
            server.abort();
            Err(StartError::GraceElapsed(grace))
        }
    }
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod tests;
