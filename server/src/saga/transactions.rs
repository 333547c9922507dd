//! Transactions: instances that run in two phases.

use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams, QueryParams};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::routes::{TRANSACTION, TRANSACTION_HISTORY, TRANSACTION_OUTCOME, TRANSACTIONS, routed};
use sagamq_api::saga::{HistoryQuery, SagaHistory};
use sagamq_api::transaction::{OutcomeQuery, ResolveBranch, TransactionDescription, TransactionList, TransactionOutcome, TransactionQuery};
use sagamq_saga::orchestrator::{OperateError, Orchestrator, TransactionError};
use serde::Deserialize;
use uuid::Uuid;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route(TRANSACTIONS, get(list))
        .route(TRANSACTION, get(describe))
        .route(&routed(TRANSACTION, "resolve"), post(resolve))
        .route(TRANSACTION_HISTORY, get(history))
        .route(TRANSACTION_OUTCOME, get(outcome))
}

#[derive(Debug, Deserialize)]
struct TransactionPath {
    id: Uuid,
}

/// Lists transactions by state, definition and whether they are in doubt, a page at a time.
#[utoipa::path(get, path = "/v1/transactions", operation_id = "listTransactions", tag = "transactions", params(TransactionQuery), responses(
    (status = 200, description = "A page of transactions", body = TransactionList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(
    State(orchestrator): State<Orchestrator>,
    QueryParams(query): QueryParams<TransactionQuery>,
) -> Result<Json<TransactionList>, ApiError> {
    Ok(Json(orchestrator.transactions(query).await?))
}

/// Describes a transaction: what was decided, and its branches with what they hold.
#[utoipa::path(get, path = "/v1/transactions/{id}", operation_id = "describeTransaction", tag = "transactions",
    params(("id" = Uuid, Path, description = "Id of the transaction")),
    responses(
        (status = 200, description = "The transaction", body = TransactionDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn describe(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<TransactionPath>,
) -> Result<Json<TransactionDescription>, ApiError> {
    Ok(Json(orchestrator.transaction(path.id).await?))
}

/// Events of a transaction, oldest first, a page at a time.
#[utoipa::path(get, path = "/v1/transactions/{id}/history", operation_id = "getTransactionHistory", tag = "transactions",
    params(("id" = Uuid, Path, description = "Id of the transaction"), HistoryQuery),
    responses(
        (status = 200, description = "The events", body = SagaHistory),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn history(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<TransactionPath>,
    QueryParams(query): QueryParams<HistoryQuery>,
) -> Result<Json<SagaHistory>, ApiError> {
    Ok(Json(orchestrator.transaction_history(path.id, query).await?))
}

/// Writes down what an operator found out about a branch that does not say so itself, or says something else. Nothing changes at the
/// participant. The answer describes the transaction afterwards.
#[utoipa::path(post, path = "/v1/transactions/{id}:resolve", operation_id = "resolveTransaction", tag = "transactions",
    params(("id" = Uuid, Path, description = "Id of the transaction")),
    request_body = ResolveBranch,
    responses(
        (status = 200, description = "The transaction", body = TransactionDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn resolve(
    Acting(orchestrator): Acting<Orchestrator>,
    caller: Caller,
    PathParams(path): PathParams<TransactionPath>,
    JsonBody(mut request): JsonBody<ResolveBranch>,
) -> Result<Json<TransactionDescription>, ApiError> {
    request.actor = caller.actor(Some(request.actor)).unwrap_or_default();
    orchestrator.resolve(path.id, request).await.map_err(of_transaction)?;
    Ok(Json(orchestrator.transaction(path.id).await?))
}

/// Who asks for a transaction hears that there is none, and not that there is no saga.
fn of_transaction(error: OperateError) -> ApiError {
    match error {
        OperateError::Instance(error) => TransactionError::Instance(error).into(),
        other => other.into(),
    }
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
#[openapi(paths(list, describe, history, resolve, outcome))]
pub(super) struct Doc;
