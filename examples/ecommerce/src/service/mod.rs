//! What the processes have in common: options, the HTTP server, the saga worker, and how they stop.

mod answers;
pub(crate) mod branches;
pub(crate) mod checkpoint;
mod counts;
mod follower;
mod listener;
mod participant;

pub use answers::answer;
pub(crate) use answers::problem;
pub use counts::{BranchCounts, CallCounts};
pub(crate) use follower::follow;
pub use participant::{Local, Participant};

use crate::mishaps::{Fate, Mishaps};
use crate::store::{Effects, Store, StoreError};
use axum::Router;
use branches::Branches;
use sagamq_api::saga::Call;
use sagamq_sdk::participant::ParticipantRouter;
use sagamq_sdk::postgres::tokio_postgres::Config;
use sagamq_sdk::{CallError, CancellationToken, Client, ClientError, JsonText, SagaWorker};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Calls that a service works on at the same time: enough to share each sync of its disk among many.
const CONCURRENCY: usize = 48;

/// How long a command belongs to a worker that may have died. Short, because a killed service is the normal case here.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// How long a stop waits for calls that are being served.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The options of every service.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// Address of the SagaMQ server.
    #[arg(long, default_value = "http://127.0.0.1:7070", env = "SAGAMQ_SERVER")]
    pub server: String,
    /// Address to serve HTTP on.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Directory of the service's own database.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Keep the data in PostgreSQL instead: a connection string, for example `host=127.0.0.1 user=shop`.
    #[arg(long, value_name = "CONNECTION")]
    pub postgres: Option<String>,
    /// Its database, if it is another one than the connection string says. Each service wants one of its own.
    #[arg(long, value_name = "NAME", requires = "postgres")]
    pub database: Option<String>,
    /// Take part in the choreography: hear what the other services tell, and tell what came of it.
    #[arg(long)]
    pub choreography: bool,
    /// Let a drill hold calls of transactions at `/checkpoint`.
    #[arg(long)]
    pub checkpoint: bool,
    /// Ask the coordinator about a branch that has waited for its decision for so many milliseconds.
    #[arg(long, default_value_t = 5_000, value_name = "MILLISECONDS")]
    pub ask_after: u64,
    /// What goes wrong on purpose.
    #[command(flatten)]
    pub mishaps: Mishaps,
}

impl ServiceArgs {
    /// Opens the service's database. Transactions can call it for `branch_calls`, under this name of the service.
    pub(crate) async fn store(&self, service: &str, branch_calls: Effects) -> Result<Store, StoreError> {
        let Some(connection) = &self.postgres else { return Store::open(&self.data_dir, branch_calls) };
        let mut config: Config = connection.parse()?;
        if let Some(database) = &self.database {
            config.dbname(database);
        }
        Store::connect(&config, service, branch_calls).await
    }
}

/// Why a service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The client of another system.
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    /// Its address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Its HTTP server or its signals.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Serves a participant and `routes` until the process is told to stop. Sagas call it through its command topic or over HTTP, transactions
/// over HTTP.
///
/// # Errors
/// [`ServiceError`].
///
/// # Panics
/// Never: the names of the shop's topics are legal.
pub async fn run<P: Participant>(args: &ServiceArgs, topic: &str, participant: P, routes: Router) -> Result<(), ServiceError> {
    let topic = topic.parse().expect("the names of the shop's topics are legal");
    let (participant, fate) = (Arc::new(participant), Arc::new(Fate::new(&args.mishaps)));
    let mut worker = SagaWorker::builder(Client::new(&args.server)?, topic)
        .concurrency(CONCURRENCY)
        .prefetch(CONCURRENCY)
        .lease(LEASE)
        .stop_timeout(STOP_TIMEOUT);
    for name in participant.calls() {
        let (participant, fate) = (Arc::clone(&participant), Arc::clone(&fate));
        worker = worker.on(name, move |call: Call| serve(Arc::clone(&participant), Arc::clone(&fate), call));
    }
    let worker = worker.build();
    let shutdown = stop_on_signal()?;
    tokio::try_join!(
        async { worker.run(shutdown.clone()).await.map_err(ServiceError::from) },
        run_branches(args, participant, fate, routes, shutdown.clone()),
    )?;
    Ok(())
}

/// As [`run`], for a participant without a command topic.
///
/// # Errors
/// [`ServiceError`].
pub async fn run_http<P: Participant>(args: &ServiceArgs, participant: P, routes: Router) -> Result<(), ServiceError> {
    Box::pin(run_branches(args, Arc::new(participant), Arc::new(Fate::new(&args.mishaps)), routes, stop_on_signal()?)).await
}

/// Where sagas call a participant over HTTP, below the service's address.
fn over_http<P: Participant>(participant: &Arc<P>, fate: &Arc<Fate>) -> Router {
    let calls = participant.calls().into_iter().fold(ParticipantRouter::new(), |router, name| {
        let (participant, fate) = (Arc::clone(participant), Arc::clone(fate));
        router.on(name, move |call| serve(Arc::clone(&participant), Arc::clone(&fate), call))
    });
    Router::new().nest("/saga", calls.build())
}

/// Serves calls over HTTP and `routes`, hears events, and asks about branches in doubt.
async fn run_branches<P: Participant>(
    args: &ServiceArgs,
    participant: Arc<P>,
    fate: Arc<Fate>,
    routes: Router,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    let store = participant.store().clone();
    let calls = over_http(&participant, &fate);
    let listener = listener::listen(args, Arc::clone(&participant), Arc::clone(&fate), shutdown.clone());
    let Branches { routes: branches, resolver, counter } = branches::open(args, participant, fate)?;
    let routes = routes.merge(calls).merge(branches).merge(counts::routes(store.clone(), counter));
    let server = listen(args.listen, routes, shutdown.clone());
    tokio::select! {
        reason = store.failed() => Err(StoreError::Branches(reason).into()),
        served = async { tokio::try_join!(server, listener) } => served.map(drop),
        // It ends first when the service is told to stop; calls that are being served are not cut off for that.
        () = async { resolver.run(shutdown).await; std::future::pending().await } => Ok(()),
    }
}

async fn serve<P: Participant>(participant: Arc<P>, fate: Arc<Fate>, call: Call) -> Result<JsonText, CallError> {
    if !fate.arrives(&call, participant.store()).await {
        return Err(CallError::unknown("LOST", "the request was lost on the way"));
    }
    fate.dawdle().await;
    let result = participant.serve(call.clone()).await;
    fate.hold(&call).await;
    result
}

/// Returns when all consumers have ended, or with why one could not go on.
async fn all(mut consumers: JoinSet<Result<(), ClientError>>) -> Result<(), ServiceError> {
    while let Some(ended) = consumers.join_next().await {
        ended.map_err(std::io::Error::other)??;
    }
    Ok(())
}

/// Serves `routes` until `shutdown`.
pub(crate) async fn listen(address: SocketAddr, routes: Router, shutdown: CancellationToken) -> Result<(), ServiceError> {
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|source| ServiceError::Listen { address, source })?;
    tracing::info!(%address, "serving");
    let stop = shutdown.clone();
    let server = axum::serve(listener, routes).with_graceful_shutdown(async move { stop.cancelled().await });
    tokio::select! {
        ended = server => Ok(ended?),
        // Connections that are kept alive must not keep a stopped service alive.
        () = async { shutdown.cancelled().await; tokio::time::sleep(STOP_TIMEOUT).await } => Ok(()),
    }
}

/// Cancelled when the process is told to stop.
pub(crate) fn stop_on_signal() -> Result<CancellationToken, ServiceError> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stop.cancel();
    });
    Ok(shutdown)
}
