//! Repairs of many sagas: start, list, describe, results, pause, resume, cancel, preview.

use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams, QueryParams};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::repair::{
    OperateRepair, PreviewQuery, RepairDescription, RepairList, RepairPreview, RepairQuery, RepairResults, RepairResultsQuery, StartRepair,
    StartedRepair,
};
use sagamq_api::routes::{SAGA_REPAIR, SAGA_REPAIR_RESULTS, SAGA_REPAIRS, routed};
use sagamq_saga::orchestrator::Orchestrator;
use sagamq_saga::protocol::repair::RepairVerb;
use serde::Deserialize;
use uuid::Uuid;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route(SAGA_REPAIRS, get(list).post(start))
        .route(&routed(SAGA_REPAIRS, "preview"), post(preview))
        .route(SAGA_REPAIR, get(describe))
        .route(&routed(SAGA_REPAIR, "pause"), post(pause))
        .route(&routed(SAGA_REPAIR, "resume"), post(resume))
        .route(&routed(SAGA_REPAIR, "cancel"), post(cancel))
        .route(SAGA_REPAIR_RESULTS, get(results))
}

#[derive(Debug, Deserialize)]
struct RepairPath {
    id: Uuid,
}

type Asked = (Acting<Orchestrator>, Caller, PathParams<RepairPath>, JsonBody<OperateRepair>);

async fn operate(asked: Asked, verb: RepairVerb) -> Result<Json<RepairDescription>, ApiError> {
    let (Acting(orchestrator), caller, PathParams(path), JsonBody(mut request)) = asked;
    request.actor = caller.actor(request.actor);
    Ok(Json(orchestrator.operate_repair(path.id, verb, request).await?))
}

/// Starts a repair: an operator's verb for all sagas that fit, one after the other. It is durable when this is answered, and goes on over
/// restarts. With a `key` the same request again gives the same repair.
#[utoipa::path(post, path = "/v1/saga-repairs", operation_id = "startRepair", tag = "saga repairs", request_body = StartRepair, responses(
    (status = 201, description = "The repair is started", body = StartedRepair),
    (status = 200, description = "The key started this repair before, with the same request", body = StartedRepair),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn start(
    Acting(orchestrator): Acting<Orchestrator>,
    caller: Caller,
    JsonBody(mut request): JsonBody<StartRepair>,
) -> Result<(StatusCode, Json<StartedRepair>), ApiError> {
    request.operate.actor = caller.actor(request.operate.actor);
    let started = orchestrator.start_repair(request).await?;
    Ok((if started.duplicate { StatusCode::OK } else { StatusCode::CREATED }, Json(started)))
}

/// Lists repairs by id, a page at a time.
#[utoipa::path(get, path = "/v1/saga-repairs", operation_id = "listRepairs", tag = "saga repairs", params(RepairQuery), responses(
    (status = 200, description = "A page of repairs", body = RepairList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(
    State(orchestrator): State<Orchestrator>,
    QueryParams(query): QueryParams<RepairQuery>,
) -> Result<Json<RepairList>, ApiError> {
    Ok(Json(orchestrator.repairs(query).await?))
}

/// Describes a repair: how far it is, and how many sagas came out how.
#[utoipa::path(get, path = "/v1/saga-repairs/{id}", operation_id = "describeRepair", tag = "saga repairs", params(("id" = Uuid, Path, description = "Id of the repair")), responses(
    (status = 200, description = "The repair", body = RepairDescription),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn describe(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<RepairPath>,
) -> Result<Json<RepairDescription>, ApiError> {
    Ok(Json(orchestrator.repair(path.id).await?))
}

/// What became of each saga of a repair, in the order in which that was known, a page at a time.
#[utoipa::path(get, path = "/v1/saga-repairs/{id}/results", operation_id = "listRepairResults", tag = "saga repairs",
    params(("id" = Uuid, Path, description = "Id of the repair"), RepairResultsQuery),
    responses(
        (status = 200, description = "A page of results", body = RepairResults),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn results(
    State(orchestrator): State<Orchestrator>,
    PathParams(path): PathParams<RepairPath>,
    QueryParams(query): QueryParams<RepairResultsQuery>,
) -> Result<Json<RepairResults>, ApiError> {
    Ok(Json(orchestrator.repair_results(path.id, query).await?))
}

/// Begins no other saga until the repair is resumed. Sagas in progress go on and get their results.
#[utoipa::path(post, path = "/v1/saga-repairs/{id}:pause", operation_id = "pauseRepair", tag = "saga repairs",
    params(("id" = Uuid, Path, description = "Id of the repair")), request_body = OperateRepair,
    responses(
        (status = 200, description = "The repair", body = RepairDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn pause(asked: Asked) -> Result<Json<RepairDescription>, ApiError> {
    operate(asked, RepairVerb::Pause).await
}

/// Goes on with a paused repair.
#[utoipa::path(post, path = "/v1/saga-repairs/{id}:resume", operation_id = "resumeRepair", tag = "saga repairs",
    params(("id" = Uuid, Path, description = "Id of the repair")), request_body = OperateRepair,
    responses(
        (status = 200, description = "The repair", body = RepairDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn resume(asked: Asked) -> Result<Json<RepairDescription>, ApiError> {
    operate(asked, RepairVerb::Resume).await
}

/// Begins no other saga for good. What was repaired stays so; sagas in progress go on and get their results.
#[utoipa::path(post, path = "/v1/saga-repairs/{id}:cancel", operation_id = "cancelRepair", tag = "saga repairs",
    params(("id" = Uuid, Path, description = "Id of the repair")), request_body = OperateRepair,
    responses(
        (status = 200, description = "The repair", body = RepairDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn cancel(asked: Asked) -> Result<Json<RepairDescription>, ApiError> {
    operate(asked, RepairVerb::Cancel).await
}

/// What a repair would begin with. Nothing is called and nothing is written.
#[utoipa::path(post, path = "/v1/saga-repairs:preview", operation_id = "previewRepair", tag = "saga repairs", params(PreviewQuery),
    request_body = StartRepair,
    responses(
        (status = 200, description = "The first sagas that fit", body = RepairPreview),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn preview(
    State(orchestrator): State<Orchestrator>,
    QueryParams(query): QueryParams<PreviewQuery>,
    JsonBody(request): JsonBody<StartRepair>,
) -> Result<Json<RepairPreview>, ApiError> {
    Ok(Json(orchestrator.preview_repair(request, query).await?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(start, list, describe, results, pause, resume, cancel, preview))]
pub(super) struct Doc;
