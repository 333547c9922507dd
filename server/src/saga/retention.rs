//! How long sagas that are at their end are kept.

use crate::web::access::Acting;
use crate::web::extract::{JsonBody, PathParams};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::routing::{get, put};
use axum::{Json, Router};
use sagamq_api::routes::{SAGA_RETENTION, SAGA_RETENTION_OF};
use sagamq_api::saga::{Retention, RetentionList};
use sagamq_api::{Problem, SagaName};
use sagamq_saga::orchestrator::Orchestrator;
use serde::Deserialize;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route(SAGA_RETENTION, get(list).put(set_default)).route(SAGA_RETENTION_OF, put(set).delete(unset))
}

#[derive(Debug, Deserialize)]
struct SagaPath {
    saga: SagaName,
}

/// How long sagas at their end are kept, of every definition.
#[utoipa::path(get, path = "/v1/saga-retention", operation_id = "getSagaRetention", tag = "sagas", responses(
    (status = 200, description = "The rules", body = RetentionList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(orchestrator): State<Orchestrator>) -> Json<RetentionList> {
    Json(orchestrator.retention())
}

/// Sets how long sagas at their end are kept, of all definitions that have no rule of their own. In force at once.
#[utoipa::path(put, path = "/v1/saga-retention", operation_id = "setSagaRetention", tag = "sagas", request_body = Retention, responses(
    (status = 200, description = "The rules afterwards", body = RetentionList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn set_default(
    Acting(orchestrator): Acting<Orchestrator>,
    JsonBody(retention): JsonBody<Retention>,
) -> Result<Json<RetentionList>, ApiError> {
    Ok(Json(orchestrator.set_retention(None, Some(retention)).await?))
}

/// Sets how long sagas of a definition are kept after their end. In force at once.
#[utoipa::path(put, path = "/v1/saga-retention/{saga}", operation_id = "setSagaRetentionOf", tag = "sagas",
    params(("saga" = String, Path, description = "Name of the definition")),
    request_body = Retention,
    responses(
        (status = 200, description = "The rules afterwards", body = RetentionList),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn set(
    Acting(orchestrator): Acting<Orchestrator>,
    PathParams(path): PathParams<SagaPath>,
    JsonBody(retention): JsonBody<Retention>,
) -> Result<Json<RetentionList>, ApiError> {
    Ok(Json(orchestrator.set_retention(Some(path.saga), Some(retention)).await?))
}

/// Takes away the rule of a definition: from then on the default holds for it.
#[utoipa::path(delete, path = "/v1/saga-retention/{saga}", operation_id = "unsetSagaRetentionOf", tag = "sagas",
    params(("saga" = String, Path, description = "Name of the definition")),
    responses(
        (status = 200, description = "The rules afterwards", body = RetentionList),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn unset(
    Acting(orchestrator): Acting<Orchestrator>,
    PathParams(path): PathParams<SagaPath>,
) -> Result<Json<RetentionList>, ApiError> {
    Ok(Json(orchestrator.set_retention(Some(path.saga), None).await?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(list, set_default, set, unset))]
pub(super) struct Doc;
