//! The services that take part: processes of their own, each with a database of its own, whose locks are the database's.
//!
//! A service is called over HTTP, below `/work`: in sagas its handlers are those in `saga/`, behind the barrier, in two-phase commit those in
//! `twopc/`, within a branch. The other routes are for the comparison itself: they fill rows, read and touch them as others would, and tell
//! what was counted.

pub mod meter;
pub mod rows;
pub mod saga;
pub mod store;
pub mod twopc;

pub use meter::Stats;
pub use store::{StoreError, Table};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use meter::Meter;
use sagamq_api::saga::Call;
use sagamq_sdk::branch::rocks::RocksBranchesError;
use sagamq_sdk::branch::{BranchRouter, Resolver};
use sagamq_sdk::{CallError, CancellationToken, Client, ClientError, JsonText};
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
    /// Address of the coordinator, which is asked about branches in doubt.
    #[arg(long)]
    pub coordinator: String,
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
    /// Its branches.
    #[error(transparent)]
    Branches(#[from] RocksBranchesError),
    /// The coordinator's address.
    #[error(transparent)]
    Client(#[from] ClientError),
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
    let (meter, lock_timeout) = (Arc::new(Meter::default()), Duration::from_millis(args.lock_timeout_ms));
    let store = Arc::new(Store::open(&args.data_dir, lock_timeout, Arc::clone(&meter))?);
    // Right after the database: the locks of what was prepared before a crash are taken again first.
    let branches = twopc::branches(args.role, &store, &meter, lock_timeout)?;
    tokio::spawn(Resolver::new(Client::new(&args.coordinator)?, Arc::clone(&branches)).run(CancellationToken::new()));
    let service = Service { role: args.role, store, meter };
    let sagas = service.clone();
    let work = BranchRouter::new(branches).otherwise(move |call| serve(sagas.clone(), call)).build();
    let routes = Router::new()
        .route("/rows", put(fill))
        .route("/read", post(read))
        .route("/touch", post(touch))
        .route("/books", get(books))
        .route("/stats", get(stats))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(service)
        .nest("/work", work);
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
    pub(crate) fn refusal(&self, call: &Call) -> Option<CallError> {
        let is_told = self.fail_at.as_deref() == Some(call.call.as_str());
        is_told.then(|| CallError::refused("TOLD_TO", format!("`{}` was told to refuse", call.call)))
    }
}

/// Serves a call of a saga.
async fn serve(service: Service, call: Call) -> Result<JsonText, CallError> {
    service.meter.called(call.attempt.operation.as_str());
    let Some(&(_, handler)) = saga::handlers(service.role).iter().find(|&&(known, _)| known == call.call) else {
        return Err(CallError::unknown("UNKNOWN_CALL", format!("there is no call `{}`", call.call)));
    };
    let asked = Asked::of(&call);
    if let Some(pause) = asked.pause(&call) {
        tokio::time::sleep(pause).await;
    }
    let refusal = asked.refusal(&call);
    service.store.blocking(move |store| store.once(&call, refusal, handler)).await
}

async fn fill(State(service): State<Service>, Json(tables): Json<BTreeMap<String, Table>>) -> Response {
    answer(service.store.blocking(move |store| store.fill(&tables)).await)
}

async fn read(State(service): State<Service>, Json(row): Json<RowKey>) -> Response {
    answer(service.store.blocking(move |store| store.read(&row.key)).await)
}

async fn touch(State(service): State<Service>, Json(row): Json<RowKey>) -> Response {
    let began = store::now();
    let waited = service.store.blocking(move |store| store.touch(&row.key)).await;
    let had = waited.is_ok();
    let waited_us = u64::try_from(waited.unwrap_or_else(|_| began.elapsed()).as_micros()).unwrap_or(u64::MAX);
    Json(Touched { waited_us, had }).into_response()
}

async fn books(State(service): State<Service>) -> Response {
    answer(service.store.blocking(Store::books).await)
}

async fn stats(State(service): State<Service>) -> Json<Stats> {
    Json(service.meter.stats(service.store.forced_writes()))
}

fn answer<T: Serialize>(result: Result<T, StoreError>) -> Response {
    match result {
        Ok(body) => Json(body).into_response(),
        Err(error) => {
            let body = json!({ "code": "DATABASE", "message": error.to_string() });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
    }
}
