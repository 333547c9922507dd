//! Semantic locks: which are held, who waits, and taking one away.

use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, QueryParams};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::routes::{SAGA_LOCKS, routed};
use sagamq_api::saga::{BreakLock, BrokenLock, LockList, LockQuery};
use sagamq_saga::orchestrator::Orchestrator;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route(SAGA_LOCKS, get(list)).route(&routed(SAGA_LOCKS, "break"), post(break_lock))
}

/// Semantic locks that sagas hold, by key, with who waits for each.
#[utoipa::path(get, path = "/v1/saga-locks", operation_id = "listSagaLocks", tag = "saga locks",
    params(LockQuery),
    responses(
        (status = 200, description = "A page of locks", body = LockList),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn list(State(orchestrator): State<Orchestrator>, QueryParams(query): QueryParams<LockQuery>) -> Result<Json<LockList>, ApiError> {
    Ok(Json(orchestrator.locks(query).await?))
}

/// Takes a lock away from the saga that holds it: the first that waits has it then, with a larger token. The saga that loses it is not stopped;
/// that it lost the lock, who took it and why is in its history. Its calls bear the old token, which participants refuse that have seen the new one.
#[utoipa::path(post, path = "/v1/saga-locks:break", operation_id = "breakSagaLock", tag = "saga locks",
    request_body = BreakLock,
    responses(
        (status = 200, description = "It is taken away", body = BrokenLock),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn break_lock(
    Acting(orchestrator): Acting<Orchestrator>,
    caller: Caller,
    JsonBody(mut request): JsonBody<BreakLock, BODY_BYTES_MAX>,
) -> Result<Json<BrokenLock>, ApiError> {
    request.actor = caller.actor(request.actor);
    Ok(Json(orchestrator.break_lock(request).await?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(list, break_lock))]
pub(super) struct Doc;
