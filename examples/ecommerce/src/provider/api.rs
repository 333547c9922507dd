//! The provider over HTTP, and how its answers go astray.

use super::IDEMPOTENCY_KEY;
use super::faults::{Fault, Planned, strike};
use super::ledger::{self, Answer, NewCard, Request};
use crate::service::{self, ServiceError, problem};
use crate::store::{Store, StoreError};
use crate::telemetry::traced;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router, middleware};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How much later than the request a late one is done: after the merchant has given up and looked.
const LATE: Duration = Duration::from_millis(2_000);

/// How long a request without an answer is kept open. Merchants do not wait that long.
const SILENCE: Duration = Duration::from_secs(10);

/// The options of the provider.
#[derive(Clone, Debug, clap::Args)]
pub struct ProviderArgs {
    /// Address to serve HTTP on.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Directory of the ledger.
    #[arg(long)]
    pub data_dir: PathBuf,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

/// Runs the provider until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start.
pub async fn run(args: &ProviderArgs) -> Result<(), ServiceError> {
    service::listen(args.listen, routes(Store::open(&args.data_dir, &[])?), service::stop_on_signal()?).await
}

/// Everything that the provider can be asked for.
pub(crate) fn routes(store: Store) -> Router {
    Router::new()
        .route("/requests", post(ask).get(look_up))
        .route("/requests/close", post(close))
        .route_layer(middleware::from_fn(traced))
        .route("/cards", put(issue))
        .route("/faults", put(plan))
        .route("/books", get(|State(store): State<Store>| async move { service::answer(store.with(ledger::books).await) }))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(store)
}

async fn ask(State(store): State<Store>, headers: HeaderMap, Json(request): Json<Request>) -> Response {
    let Some(key) = headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).map(str::to_owned) else {
        return problem(StatusCode::BAD_REQUEST, "NO_KEY", "a request that moves money needs an idempotency-key");
    };
    whatever_the_merchant_does(async move {
        let id = Planned::id(&request.order_id, request.purpose);
        let fault = match planned(&store, &id).await {
            Ok(planned) => planned.and_then(|planned| planned.next()),
            Err(error) => return service::answer::<()>(Err(error)),
        };
        if fault == Some(Fault::Late) {
            tokio::time::sleep(LATE).await;
        }
        let done = store.with(move |database| {
            database.change(|rows| {
                let answer = match fault {
                    Some(Fault::Down) => None,
                    _ => Some(ledger::ask(rows, &key, &request)?),
                };
                if fault.is_some() {
                    strike(rows, &id, matches!(answer, Some(Answer::Done(_))))?;
                }
                Ok(answer)
            })
        });
        match (done.await, fault) {
            (Err(error), _) => service::answer::<()>(Err(error)),
            (Ok(_), Some(Fault::Down)) => problem(StatusCode::SERVICE_UNAVAILABLE, "DOWN", "try again later"),
            (Ok(_), Some(Fault::Error)) => problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "something went wrong"),
            (Ok(_), Some(Fault::LostAnswer | Fault::Late | Fault::Silent)) => silence().await,
            (Ok(Some(answer)), None) => reply(answer),
            (Ok(None), None) => problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "there is no answer"),
        }
    })
    .await
}

async fn look_up(State(store): State<Store>, Query(Key { key }): Query<Key>) -> Response {
    let found = store.with(move |database| -> Result<_, StoreError> {
        let Some((request, answer)) = ledger::look_up(database, &key)? else { return Ok(None) };
        Ok(Some((request.map(|request| Planned::id(&request.order_id, request.purpose)), answer)))
    });
    match found.await {
        Err(error) => service::answer::<()>(Err(error)),
        Ok(None) => problem(StatusCode::NOT_FOUND, "NOT_FOUND", "there was no request with this key, so far"),
        Ok(Some((id, answer))) => if_not_silent(&store, id, answer).await,
    }
}

async fn close(State(store): State<Store>, Query(Key { key }): Query<Key>) -> Response {
    whatever_the_merchant_does(async move {
        let closed = store.with(move |database| -> Result<_, StoreError> {
            let answer = database.change(|rows| ledger::close(rows, &key))?;
            let request = ledger::look_up(database, &key)?.and_then(|(request, _)| request);
            Ok((request.map(|request| Planned::id(&request.order_id, request.purpose)), answer))
        });
        match closed.await {
            Err(error) => service::answer::<()>(Err(error)),
            Ok((id, answer)) => if_not_silent(&store, id, answer).await,
        }
    })
    .await
}

async fn if_not_silent(store: &Store, id: Option<String>, answer: Answer) -> Response {
    let Some(id) = id else { return reply(answer) };
    match planned(store, &id).await {
        Ok(planned) if planned.and_then(|planned| planned.next_look_up()).is_none() => reply(answer),
        Ok(_) => match store.with(move |database| database.change(|rows| strike(rows, &id, false))).await {
            Ok(()) => silence().await,
            Err(error) => service::answer::<()>(Err(error)),
        },
        Err(error) => service::answer::<()>(Err(error)),
    }
}

async fn planned(store: &Store, id: &str) -> Result<Option<Planned>, StoreError> {
    let id = id.to_owned();
    store.with(move |database| database.get(&id)).await
}

async fn issue(State(store): State<Store>, Json(cards): Json<BTreeMap<String, NewCard>>) -> Response {
    service::answer(store.with(move |database| ledger::issue(database, &cards)).await)
}

async fn plan(State(store): State<Store>, Json(faults): Json<BTreeMap<String, Fault>>) -> Response {
    let planned =
        store.with(move |database| database.change(|rows| faults.iter().try_for_each(|(id, &fault)| rows.put(id, &Planned::new(fault)))));
    service::answer(planned.await)
}

/// Finishes `work` although the merchant may have hung up: what a request has begun is done.
async fn whatever_the_merchant_does(work: impl Future<Output = Response> + Send + 'static) -> Response {
    match tokio::spawn(work).await {
        Ok(response) => response,
        Err(panicked) => problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", &panicked.to_string()),
    }
}

async fn silence() -> Response {
    tokio::time::sleep(SILENCE).await;
    problem(StatusCode::GATEWAY_TIMEOUT, "SILENCE", "nobody should have waited for this")
}

fn reply(answer: Answer) -> Response {
    let status = match &answer {
        Answer::Done(_) => StatusCode::OK,
        Answer::Unconfirmed => StatusCode::ACCEPTED,
        Answer::Declined { .. } => StatusCode::PAYMENT_REQUIRED,
        Answer::Closed => StatusCode::CONFLICT,
        Answer::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, Json(answer)).into_response()
}
