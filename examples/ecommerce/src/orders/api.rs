//! The API that customers see: `POST /orders`, `GET /orders/{id}`, and the book's sums.
//!
//! It takes an order by starting a saga. In the choreography there is none to start: then it writes the book itself.

use super::ends::Ends;
use super::reactions::{Cancelled, Placed, cancel as ask_to_cancel, place};
use super::{Order, OrderState, books};
use crate::domain::{Money, NewOrder, deposit, postage};
use crate::mode::Mode;
use crate::service::{self, problem};
use crate::store::{Store, StoreError};
use crate::telemetry::traced;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use sagamq_api::ErrorCode;
use sagamq_api::saga::{CancelSaga, SagaQuery, SagaState, SagaSummary, StartSaga};
use sagamq_sdk::{ClientError, SagaClient};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Longest time that a look waits for the end of an order.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// What the customer gets when an order is accepted. It will be completed or rejected, whatever crashes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// The order.
    pub(crate) order_id: String,
    /// The saga that works on it, if one does.
    pub(crate) saga: Option<Uuid>,
    /// What it costs.
    pub(crate) total: Money,
    /// Whether an earlier request had started it.
    pub(crate) duplicate: bool,
}

#[derive(Clone)]
struct Api {
    store: Store,
    sagas: SagaClient,
    mode: Mode,
    ends: Ends,
}

/// How `GET /orders/{id}` looks.
#[derive(Debug, Default, Deserialize)]
struct Look {
    /// How long to wait for the end of the order, in milliseconds.
    #[serde(default)]
    wait_ms: u64,
}

/// The routes of the order API.
pub(super) fn routes(store: Store, sagas: SagaClient, mode: Mode, ends: Ends) -> Router {
    Router::new()
        .route("/orders", post(accept))
        .route("/orders/{id}", get(look))
        .route("/orders/{id}/cancel", post(cancel))
        .route("/books", get(|State(api): State<Api>| async move { service::answer(api.store.with(books).await) }))
        .route_layer(middleware::from_fn(traced))
        .with_state(Api { store, sagas, mode, ends })
}

async fn accept(State(api): State<Api>, Json(order): Json<NewOrder>) -> Response {
    let total = match order.total() {
        Ok(total) => total,
        Err(fault) => return problem(StatusCode::BAD_REQUEST, "INVALID_ORDER", &fault.to_string()),
    };
    let Some(definition) = api.mode.definition() else { return api.place(order, total).await };
    let deposit = deposit(total);
    let input = json!({
        "order_id": order.order_id, "card": order.card, "country": order.country, "lines": order.lines,
        "total": total, "deposit": deposit, "rest": total.0 - deposit.0, "postage": postage(&order.country),
    });
    let start = StartSaga { saga: definition.parse().expect("a legal name"), version: None, mode: None, input: input.into() };
    match api.sagas.start(&start).await {
        Ok(started) => {
            let accepted = Accepted { order_id: order.order_id, saga: Some(started.id), total, duplicate: started.duplicate };
            (StatusCode::ACCEPTED, Json(accepted)).into_response()
        }
        Err(error) => refused(&error),
    }
}

async fn look(State(api): State<Api>, Path(id): Path<String>, Query(Look { wait_ms }): Query<Look>) -> Response {
    match api.entry(&id, Duration::from_millis(wait_ms).min(WAIT_MAX)).await {
        Ok(Some(order)) => return Json(order).into_response(),
        Ok(None) => {}
        Err(error) => return service::answer::<()>(Err(error)),
    }
    // Accepted a moment ago and not in the book yet; or it never will be, because a transaction leaves nothing behind when it is rolled
    // back.
    match api.saga_of(&id).await {
        Ok(Some(SagaSummary { state: SagaState::Failed, failure, .. })) => {
            Json(json!({ "state": OrderState::Rejected, "reason": failure.map(|failure| failure.code) })).into_response()
        }
        Ok(Some(_)) => Json(json!({ "state": OrderState::Pending })).into_response(),
        Ok(None) => not_found(&id),
        Err(error) => refused(&error),
    }
}

/// The customer does not want the order any more. Possible until it is paid.
async fn cancel(State(api): State<Api>, Path(id): Path<String>) -> Response {
    if api.mode.definition().is_none() {
        return api.ask_to_cancel(id).await;
    }
    let saga = match api.saga_of(&id).await {
        Ok(Some(saga)) => saga,
        Ok(None) => return not_found(&id),
        Err(error) => return refused(&error),
    };
    match api.sagas.cancel(saga.id, &CancelSaga { reason: Some("the customer changed his mind".to_owned()), actor: None }).await {
        Ok(_) => StatusCode::ACCEPTED.into_response(),
        Err(error) => refused(&error),
    }
}

impl Api {
    /// The order's entry in the book; if it is not at its end yet, when it is or the time is over.
    async fn entry(&self, id: &str, wait: Duration) -> Result<Option<Order>, StoreError> {
        let look = || {
            let id = id.to_owned();
            self.store.with(move |database| database.get::<Order>(&id))
        };
        let is_open = |entry: &Option<Order>| entry.as_ref().is_some_and(|order| order.state == OrderState::Pending);
        let entry = look().await?;
        if wait.is_zero() || !is_open(&entry) {
            return Ok(entry);
        }
        let end = self.ends.of(id);
        let reached = end.notified();
        let entry = look().await?;
        if !is_open(&entry) {
            return Ok(entry);
        }
        // The time is over, or the order's end was told: the book says which.
        let _ = tokio::time::timeout(wait, reached).await;
        look().await
    }

    /// Takes an order without a saga.
    async fn place(&self, order: NewOrder, total: Money) -> Response {
        let order_id = order.order_id.clone();
        let placed = self.store.with(move |database| database.change_and_tell(|rows| place(rows, &order, total)));
        match placed.await {
            Ok(Placed::Taken) => order_exists(),
            Ok(placed) => {
                let accepted = Accepted { order_id, saga: None, total, duplicate: placed == Placed::Before };
                (StatusCode::ACCEPTED, Json(accepted)).into_response()
            }
            Err(error) => try_again(&error),
        }
    }

    /// Asks for a cancellation without a saga. "Accepted" promises no more than that it was passed on.
    async fn ask_to_cancel(&self, id: String) -> Response {
        let order_id = id.clone();
        let asked = self.store.with(move |database| database.change_and_tell(|rows| ask_to_cancel(rows, &order_id)));
        match asked.await {
            Ok(Cancelled::Asked) => StatusCode::ACCEPTED.into_response(),
            Ok(Cancelled::TooLate) => too_late(),
            Ok(Cancelled::Unknown) => not_found(&id),
            Err(error) => try_again(&error),
        }
    }

    async fn saga_of(&self, order_id: &str) -> Result<Option<SagaSummary>, ClientError> {
        let Some(definition) = self.mode.definition() else { return Ok(None) };
        let query = SagaQuery { saga: definition.parse().ok(), key: Some(order_id.to_owned()), ..SagaQuery::default() };
        Ok(self.sagas.list(&query).await?.sagas.into_iter().next())
    }
}

/// The server's answer in the shop's words. "Send it again" is said only where that can help; then it is safe, because the order's id
/// makes it the same order. What is wrong for good is said to be wrong.
fn refused(error: &ClientError) -> Response {
    match error.code() {
        Some(ErrorCode::SagaKeyConflict) => order_exists(),
        Some(ErrorCode::SagaStateConflict) => too_late(),
        _ if error.is_retryable() || error.is_outcome_unknown() => try_again(error),
        _ => {
            tracing::error!(%error, "SagaMQ refuses what the order service asks for");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "the shop cannot take this order; sending it again does not help")
        }
    }
}

fn try_again(error: &dyn std::fmt::Display) -> Response {
    tracing::warn!(%error, "the order service has no answer");
    problem(StatusCode::SERVICE_UNAVAILABLE, "TRY_AGAIN", "send the same request again: it has no second effect")
}

fn order_exists() -> Response {
    problem(StatusCode::CONFLICT, "ORDER_EXISTS", "the order_id was used for another order")
}

fn too_late() -> Response {
    problem(StatusCode::CONFLICT, "TOO_LATE", "the order is paid, or at its end")
}

fn not_found(id: &str) -> Response {
    problem(StatusCode::NOT_FOUND, "ORDER_NOT_FOUND", &format!("there is no order `{id}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::Problem;

    fn status(code: ErrorCode) -> StatusCode {
        refused(&ClientError::from(Problem::new(code, "why"))).status()
    }

    #[test]
    fn a_customer_is_asked_to_send_again_only_what_can_succeed_later() {
        for &code in ErrorCode::ALL {
            let again = code.is_retryable() || code.is_outcome_unknown();
            assert_eq!(status(code) == StatusCode::SERVICE_UNAVAILABLE, again, "{code}");
        }
        assert_eq!(status(ErrorCode::DefinitionNotFound), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status(ErrorCode::InvalidSagaInput), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(status(ErrorCode::SagaKeyConflict), StatusCode::CONFLICT);
    }
}
