//! The services that take part: processes of their own, each with a database of its own, whose locks are the database's.
//!
//! A service is called over HTTP. Below `/saga` it takes part in sagas, with the handlers in `saga/` behind the barrier. The other routes
//! are for the comparison itself: they fill rows, read and touch them as others would, and tell what was counted.

pub mod meter;
pub mod rows;
pub mod saga;
pub mod store;

pub use meter::Stats;
pub use store::{StoreError, Table};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use meter::Meter;
use sagamq_api::saga::{Call, Failure};
use sagamq_sdk::{CallError, JsonText};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::Store;

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Orders of customers.
    Orders,
    /// Customers' money.
    Payments,
    /// Pieces of products.
    Stock,
    /// Parcels.
    Shipping,
    /// Accounts of a bank.
    Bank,
}

/// The options of a service.
#[derive(Clone, Debug, clap::Args)]
pub struct ServiceArgs {
    /// What it is for.
    #[arg(long)]
    pub role: Role,
    /// Address to serve HTTP on.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Directory of its database.
    #[arg(long)]
    pub data_dir: PathBuf,
    /// How long a row's lock is waited for, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pub lock_timeout_ms: u64,
}

/// Why a service ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its address or its HTTP server.
    #[error("cannot serve on {address}: {source}")]
    Serve {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// What the routes share.
#[derive(Clone, Debug)]
struct Service {
    role: Role,
    store: Arc<Store>,
    meter: Arc<Meter>,
}

/// A row that somebody else than a coordinator asks for, by its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RowKey {
    /// `table/id`.
    pub key: String,
}

/// What became of touching a row.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Touched {
    /// How long its lock was waited for, in microseconds.
    pub waited_us: u64,
    /// Whether it was had.
    pub had: bool,
}

/// Serves until the process is ended.
///
/// # Errors
/// [`ServiceError`].
pub async fn run(args: &ServiceArgs) -> Result<(), ServiceError> {
    let meter = Arc::new(Meter::default());
    let store = Arc::new(Store::open(&args.data_dir, Duration::from_millis(args.lock_timeout_ms), Arc::clone(&meter))?);
    let service = Service { role: args.role, store, meter };
    let routes = Router::new()
        .route("/saga/{call}", post(called))
        .route("/rows", put(fill))
        .route("/read", post(read))
        .route("/touch", post(touch))
        .route("/books", get(books))
        .route("/stats", get(stats))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(service);
    let failed = |source| ServiceError::Serve { address: args.listen, source };
    let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(failed)?;
    axum::serve(listener, routes).await.map_err(failed)
}

/// What a caller asks of any step, beside what the step is for.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Asked {
    /// The step in which the service is to say no.
    #[serde(default)]
    fail_at: Option<String>,
    /// The step that takes time before its work begins, as one that asks somebody outside.
    #[serde(default)]
    wait_at: Option<String>,
    /// How much, in milliseconds.
    #[serde(default)]
    wait_ms: u64,
}

impl Asked {
    pub(crate) fn of(call: &Call) -> Self {
        call.arguments.read().unwrap_or_default()
    }

    /// How long to wait before the work of this call.
    pub(crate) fn pause(&self, call: &Call) -> Option<Duration> {
        (self.wait_at.as_deref() == Some(call.call.as_str())).then(|| Duration::from_millis(self.wait_ms))
    }

    /// The refusal that was asked for.
    pub(crate) fn refusal(&self, call: &Call) -> Result<(), CallError> {
        if self.fail_at.as_deref() == Some(call.call.as_str()) {
            return Err(CallError::refused("TOLD_TO", format!("`{}` was told to refuse", call.call)));
        }
        Ok(())
    }
}

async fn called(State(service): State<Service>, Path(name): Path<String>, Json(call): Json<Call>) -> Response {
    service.meter.called(call.attempt.operation.as_str());
    let Some(&(_, handler)) = saga::handlers(service.role).iter().find(|&&(known, _)| known == name) else {
        return problem(StatusCode::NOT_FOUND, "UNKNOWN_CALL", &format!("there is no call `{name}`"));
    };
    let asked = Asked::of(&call);
    if let Some(pause) = asked.pause(&call) {
        tokio::time::sleep(pause).await;
    }
    let work = move || {
        service.store.once(&call, |rows, call| {
            asked.refusal(call)?;
            handler(rows, call)
        })
    };
    match blocking(work).await {
        Ok(result) => reply(result),
        Err(response) => response,
    }
}

/// The answer of an HTTP participant: 2xx done, 409 refused, 202 still at work, anything else: outcome unknown.
fn reply(result: Result<JsonText, CallError>) -> Response {
    let problem = |status: StatusCode, failure: Failure| (status, Json(failure)).into_response();
    match result {
        Ok(output) => Json(output).into_response(),
        Err(CallError::Refused(failure)) => problem(StatusCode::CONFLICT, failure),
        Err(CallError::Unknown { failure, .. }) => problem(StatusCode::SERVICE_UNAVAILABLE, failure),
        Err(CallError::Ongoing { .. }) => StatusCode::ACCEPTED.into_response(),
    }
}

async fn fill(State(service): State<Service>, Json(tables): Json<BTreeMap<String, Table>>) -> Response {
    answer(blocking(move || service.store.fill(&tables)).await)
}

async fn read(State(service): State<Service>, Json(row): Json<RowKey>) -> Response {
    answer(blocking(move || service.store.read(&row.key)).await)
}

async fn touch(State(service): State<Service>, Json(row): Json<RowKey>) -> Response {
    let touched = move || {
        let began = store::now();
        let waited = service.store.touch(&row.key);
        let had = waited.is_ok();
        let waited_us = u64::try_from(waited.unwrap_or_else(|_| began.elapsed()).as_micros()).unwrap_or(u64::MAX);
        Ok::<_, StoreError>(Touched { waited_us, had })
    };
    answer(blocking(touched).await)
}

async fn books(State(service): State<Service>) -> Response {
    answer(blocking(move || service.store.books()).await)
}

async fn stats(State(service): State<Service>) -> Json<Stats> {
    Json(service.meter.stats(service.store.forced_writes()))
}

/// Runs what waits for locks and the disk on a thread that may, and goes on when the caller hangs up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Response> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panicked| problem(StatusCode::INTERNAL_SERVER_ERROR, "HANDLER_PANICKED", &panicked.to_string()))
}

fn answer<T: Serialize>(result: Result<Result<T, StoreError>, Response>) -> Response {
    match result {
        Ok(Ok(body)) => Json(body).into_response(),
        Ok(Err(error)) => problem(StatusCode::INTERNAL_SERVER_ERROR, "DATABASE", &error.to_string()),
        Err(response) => response,
    }
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "code": code, "message": message }))).into_response()
}
