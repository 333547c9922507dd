//! Transactions: instances that run in two phases.

use crate::orchestrator::Orchestrator;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::routes::TRANSACTION_OUTCOME;
use sagamq_api::transaction::{OutcomeQuery, TransactionOutcome};
use sagamq_broker::http::extract::{PathParams, QueryParams};
use sagamq_broker::http::problem::ApiError;
use serde::Deserialize;
use uuid::Uuid;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route(TRANSACTION_OUTCOME, get(outcome))
}

#[derive(Debug, Deserialize)]
struct TransactionPath {
    id: Uuid,
}

/// What was decided about a transaction: the question of a participant that has prepared. A decision that is told is durable. One that the
/// server has never heard of, or has forgotten, was rolled back. An error is no sign of a rollback: keep the locks, and ask again.
#[utoipa::path(get, path = "/v1/transactions/{id}/outcome", operation_id = "getTransactionOutcome", tag = "transactions",
    params(("id" = Uuid, Path, description = "Id of the transaction"), OutcomeQuery),
    responses(
        (status = 200, description = "What was decided", body = TransactionOutcome),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn outcome(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<TransactionPath>,
    QueryParams(query): QueryParams<OutcomeQuery>,
) -> Result<Json<TransactionOutcome>, ApiError> {
    Ok(Json(orchestrator.outcome(path.id, query.cluster).await?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(outcome))]
pub(super) struct Doc;
