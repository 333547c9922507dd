//! Saga instances: start, list, describe, history.

use crate::web::access::Caller;
use crate::web::cause::Cause;
use crate::web::extract::{JsonBody, PathParams, QueryParams};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::routes::{SAGA, SAGA_HISTORY, SAGA_INCIDENTS, SAGAS};
use sagamq_api::saga::{
    HistoryQuery, IncidentList, IncidentQuery, SagaDescription, SagaHistory, SagaList, SagaQuery, StartSaga, StartedSaga, WaitQuery,
};
use sagamq_saga::orchestrator::{Orchestrator, Wait};
use serde::Deserialize;
use uuid::Uuid;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route(SAGAS, get(list).post(start)).route(SAGA_INCIDENTS, get(incidents))
}

pub(super) fn routes_of_ids() -> Router<Orchestrator> {
    Router::new().route(SAGA, get(describe)).route(SAGA_HISTORY, get(history))
}

#[derive(Debug, Deserialize)]
pub(super) struct SagaPath {
    pub(super) id: Uuid,
}

/// Starts a saga once by its business key. The saga is durable when this is answered; the same request again gives the same saga. With
/// `wait_ms` the answer comes when the saga is at its end or blocked, or when that time is over.
#[utoipa::path(post, path = "/v1/sagas", operation_id = "startSaga", tag = "sagas", params(WaitQuery), request_body = StartSaga, responses(
    (status = 201, description = "The saga is started", body = StartedSaga),
    (status = 200, description = "The key started this saga before, with the same input", body = StartedSaga),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn start(
    State(orchestrator): State<Orchestrator>,
    caller: Caller,
    QueryParams(query): QueryParams<WaitQuery>,
    Cause(cause): Cause,
    JsonBody(request): JsonBody<StartSaga, BODY_BYTES_MAX>,
) -> Result<(StatusCode, Json<StartedSaga>), ApiError> {
    caller.require_saga(&request.saga)?;
    let started = orchestrator.start_and_wait(request, Wait::try_from(query.wait_ms)?, cause.map(|cause| (*cause).clone())).await?;
    Ok((if started.duplicate { StatusCode::OK } else { StatusCode::CREATED }, Json(started)))
}

/// Lists sagas by state, definition, key, code of failure and time, those that started last first, a page at a time.
#[utoipa::path(get, path = "/v1/sagas", operation_id = "listSagas", tag = "sagas", params(SagaQuery), responses(
    (status = 200, description = "A page of sagas", body = SagaList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(orchestrator): State<Orchestrator>, QueryParams(query): QueryParams<SagaQuery>) -> Result<Json<SagaList>, ApiError> {
    Ok(Json(orchestrator.list(query).await?))
}

/// What is wrong now: sagas that are blocked, are tried on again and again, or cannot reach a participant, grouped by saga, version, step,
/// operation and code of the last failure.
#[utoipa::path(get, path = "/v1/sagas/incidents", operation_id = "listSagaIncidents", tag = "sagas", params(IncidentQuery), responses(
    (status = 200, description = "The incidents", body = IncidentList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn incidents(
    State(orchestrator): State<Orchestrator>,
    QueryParams(query): QueryParams<IncidentQuery>,
) -> Result<Json<IncidentList>, ApiError> {
    Ok(Json(orchestrator.incidents(query).await?))
}

/// Describes a saga: its state, its steps, and everything that went wrong. With `wait_ms` the answer comes when the saga is at its end or
/// blocked, or when that time is over.
#[utoipa::path(get, path = "/v1/sagas/{id}", operation_id = "describeSaga", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga"), WaitQuery), responses(
    (status = 200, description = "The saga", body = SagaDescription),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn describe(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<SagaPath>,
    QueryParams(query): QueryParams<WaitQuery>,
) -> Result<Json<SagaDescription>, ApiError> {
    orchestrator.wait(path.id, Wait::try_from(query.wait_ms)?).await;
    Ok(Json(orchestrator.get(path.id).await?))
}

/// Events of a saga, oldest first, a page at a time.
#[utoipa::path(get, path = "/v1/sagas/{id}/history", operation_id = "getSagaHistory", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga"), HistoryQuery), responses(
    (status = 200, description = "The events", body = SagaHistory),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn history(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<SagaPath>,
    QueryParams(query): QueryParams<HistoryQuery>,
) -> Result<Json<SagaHistory>, ApiError> {
    Ok(Json(orchestrator.history(path.id, query).await?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(start, list, incidents, describe, history))]
pub(super) struct Doc;
