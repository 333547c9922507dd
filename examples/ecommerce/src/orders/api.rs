//! The API that customers see: `POST /orders`, `GET /orders/{id}`, and the book's sums.

use super::{Order, books};
use crate::domain::{Money, NewOrder};
use crate::service;
use crate::store::Store;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::ErrorCode;
use sagamq_api::saga::{SagaQuery, StartSaga};
use sagamq_sdk::{ClientError, SagaClient};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// The definition that every order runs by.
const CHECKOUT: &str = "checkout";

/// What the customer gets when an order is accepted. It will be completed or rejected, whatever crashes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// The order.
    pub(crate) order_id: String,
    /// The saga that works on it.
    pub(crate) saga: Uuid,
    /// What it costs.
    pub(crate) total: Money,
    /// Whether an earlier request had started it.
    pub(crate) duplicate: bool,
}

#[derive(Clone)]
struct Api {
    store: Arc<Store>,
    sagas: SagaClient,
}

/// The routes of the order API.
pub(crate) fn routes(store: Arc<Store>, sagas: SagaClient) -> Router {
    Router::new()
        .route("/orders", post(accept))
        .route("/orders/{id}", get(look))
        .route("/books", get(|State(api): State<Api>| async move { service::answer(books(&api.store)) }))
        .with_state(Api { store, sagas })
}

async fn accept(State(api): State<Api>, Json(order): Json<NewOrder>) -> Response {
    let total = match order.total() {
        Ok(total) => total,
        Err(fault) => return problem(StatusCode::BAD_REQUEST, "INVALID_ORDER", &fault.to_string()),
    };
    let input = json!({
        "order_id": order.order_id, "card": order.card, "country": order.country, "lines": order.lines, "total": total,
    });
    let start = StartSaga { saga: CHECKOUT.parse().expect("a legal name"), version: None, input: input.into() };
    match api.sagas.start(&start).await {
        Ok(started) => {
            let accepted = Accepted { order_id: order.order_id, saga: started.id, total, duplicate: started.duplicate };
            (StatusCode::ACCEPTED, Json(accepted)).into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn look(State(api): State<Api>, Path(id): Path<String>) -> Response {
    match api.store.get::<Order>(&id) {
        Ok(Some(order)) => return Json(order).into_response(),
        Ok(None) => {}
        Err(error) => return service::answer::<()>(Err(error)),
    }
    // Accepted a moment ago, and the saga has not entered it into the book yet?
    let query = SagaQuery { saga: CHECKOUT.parse().ok(), key: Some(id.clone()), ..SagaQuery::default() };
    match api.sagas.list(&query).await {
        Ok(found) if !found.sagas.is_empty() => Json(json!({ "state": "PENDING" })).into_response(),
        Ok(_) => problem(StatusCode::NOT_FOUND, "ORDER_NOT_FOUND", &format!("there is no order `{id}`")),
        Err(error) => refused(&error),
    }
}

/// The server's answer in the shop's words. An unknown outcome stays one: the customer sends the same order again.
fn refused(error: &ClientError) -> Response {
    match error.code() {
        Some(ErrorCode::SagaKeyConflict) => problem(StatusCode::CONFLICT, "ORDER_EXISTS", "the order_id was used for another order"),
        _ => {
            tracing::warn!(%error, "the order service has no answer from SagaMQ");
            problem(StatusCode::SERVICE_UNAVAILABLE, "TRY_AGAIN", "send the same order again: it will not become a second one")
        }
    }
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "code": code, "message": message }))).into_response()
}
