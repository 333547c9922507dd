//! What the four processes have in common: options, the HTTP server, the saga worker, and how they stop.

use crate::lost_replies::LostReplies;
use crate::store::{Effect, Store, StoreError};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::saga::{Call, Failure};
use sagamq_sdk::{CallError, CancellationToken, Client, ClientError, SagaWorker};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Calls that a service works on at the same time: enough to share each sync of its disk among many.
const CONCURRENCY: usize = 48;

/// How long a command belongs to a worker that may have died. Short, because a killed service is the normal case here.
const LEASE: Duration = Duration::from_secs(5);

/// How long a stop waits for calls that are being served.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Share of replies (0 to 1) to lose on purpose after their effect was committed.
    #[arg(long, default_value_t = 0.0)]
    pub lose_replies: f64,
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

/// How many calls a service served since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCounts {
    /// Calls.
    pub calls: u64,
    /// Those among them that were known from before: the barrier gave the first answer again, or prevented the effect.
    pub repeated: u64,
}

/// Serves a participant that is called through its command topic, and `routes` over HTTP, until the process is told to stop.
///
/// # Errors
/// [`ServiceError`].
///
/// # Panics
/// Never: the names of the shop's topics are legal.
pub async fn run(
    args: &ServiceArgs,
    topic: &str,
    calls: &'static [(&'static str, Effect)],
    store: Arc<Store>,
    routes: Router,
) -> Result<(), ServiceError> {
    let topic = topic.parse().expect("the names of the shop's topics are legal");
    let losses = LostReplies::new(args.lose_replies);
    let mut worker = SagaWorker::builder(Client::new(&args.server)?, topic)
        .concurrency(CONCURRENCY)
        .prefetch(CONCURRENCY)
        .lease(LEASE)
        .stop_timeout(STOP_TIMEOUT);
    for &(name, effect) in calls {
        let store = Arc::clone(&store);
        worker = worker.on(name, move |call: Call| serve(Arc::clone(&store), losses, call, effect));
    }
    let worker = worker.build();
    let shutdown = stop_on_signal()?;
    tokio::try_join!(
        async { worker.run(shutdown.clone()).await.map_err(ServiceError::from) },
        listen(args.listen, routes.merge(common(store)), shutdown.clone()),
    )?;
    Ok(())
}

/// Serves a participant that is called over HTTP, and `routes`, until the process is told to stop.
///
/// # Errors
/// [`ServiceError`].
pub async fn run_http(
    args: &ServiceArgs,
    calls: &'static [(&'static str, Effect)],
    store: Arc<Store>,
    routes: Router,
) -> Result<(), ServiceError> {
    let losses = LostReplies::new(args.lose_replies);
    let participant = Router::new()
        .route(
            "/saga/{call}",
            post(move |State(store): State<Arc<Store>>, Path(name): Path<String>, Json(call): Json<Call>| async move {
                match calls.iter().find(|&&(known, _)| known == name) {
                    Some(&(_, effect)) => reply(serve(store, losses, call, effect).await),
                    None => (StatusCode::NOT_FOUND, Json(json!({ "code": "UNKNOWN_CALL", "message": format!("no call `{name}`") })))
                        .into_response(),
                }
            }),
        )
        .with_state(Arc::clone(&store));
    listen(args.listen, routes.merge(participant).merge(common(store)), stop_on_signal()?).await
}

async fn serve(store: Arc<Store>, losses: LostReplies, call: Call, effect: Effect) -> Result<serde_json::Value, CallError> {
    let result = store.once(call.clone(), effect).await;
    losses.hold(&call).await;
    result
}

/// The answer of an HTTP participant: 2xx done, 409 refused, 202 still at work, anything else: outcome unknown, call again.
fn reply(result: Result<serde_json::Value, CallError>) -> Response {
    let problem = |status: StatusCode, failure: Failure| (status, Json(failure)).into_response();
    match result {
        Ok(output) => Json(output).into_response(),
        Err(CallError::Refused(failure)) => problem(StatusCode::CONFLICT, failure),
        Err(CallError::Unknown { failure, .. }) => problem(StatusCode::SERVICE_UNAVAILABLE, failure),
        Err(CallError::Ongoing { .. }) => StatusCode::ACCEPTED.into_response(),
    }
}

fn common(store: Arc<Store>) -> Router {
    let counts = move || {
        let (calls, repeated) = store.counts();
        std::future::ready(Json(CallCounts { calls, repeated }))
    };
    Router::new().route("/healthz", get(|| async { "ok" })).route("/calls", get(counts))
}

async fn listen(address: SocketAddr, routes: Router, shutdown: CancellationToken) -> Result<(), ServiceError> {
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

fn stop_on_signal() -> Result<CancellationToken, ServiceError> {
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

/// An answer from the database, or what is wrong with it.
pub fn answer<T: Serialize>(result: Result<T, StoreError>) -> Response {
    match result {
        Ok(body) => Json(body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the database failed");
            (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "code": "DATABASE", "message": error.to_string() }))).into_response()
        }
    }
}
