//! What operators do to sagas, a route each.

use super::sagas::SagaPath;
use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams};
use crate::web::problem::ApiError;
use axum::routing::post;
use axum::{Json, Router};
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::routes::{SAGA, SAGAS, routed};
use sagamq_api::saga::{NoVerb, OperateSaga, OperatedSaga, ReleasedSagas, SagaPreview, VerbFields, VerbName};
use sagamq_api::{ErrorCode, Problem};
use sagamq_saga::orchestrator::Orchestrator;

type Asked = (Acting<Orchestrator>, Caller, PathParams<SagaPath>, JsonBody<VerbFields, BODY_BYTES_MAX>);

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route(&routed(SAGA, "cancel"), post(cancel))
        .route(&routed(SAGA, "pause"), post(pause))
        .route(&routed(SAGA, "resume"), post(resume))
        .route(&routed(SAGA, "terminate"), post(terminate))
        .route(&routed(SAGA, "retry"), post(retry))
        .route(&routed(SAGA, "skip"), post(skip))
        .route(&routed(SAGA, "resolve"), post(resolve))
        .route(&routed(SAGA, "edit-input"), post(edit_input))
        .route(&routed(SAGA, "rerun"), post(rerun))
        .route(&routed(SAGA, "preview"), post(preview))
        .route(&routed(SAGAS, "release"), post(release))
}

async fn operate(asked: Asked, verb: VerbName) -> Result<Json<OperatedSaga>, ApiError> {
    let (Acting(orchestrator), caller, PathParams(path), JsonBody(mut fields)) = asked;
    fields.actor = caller.actor(fields.actor);
    let request = fields.of(verb).map_err(|error| no_verb(&error))?;
    let operated = orchestrator.operate(path.id, request).await?;
    Ok(Json(OperatedSaga { duplicate: operated.duplicate, saga: orchestrator.get(path.id).await? }))
}

/// Cancels a saga: what was done is undone. If its pivot is in flight, the pivot's outcome decides. The answer describes the saga as it
/// was cancelled; undoing goes on.
#[utoipa::path(post, path = "/v1/sagas/{id}:cancel", operation_id = "cancelSaga", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn cancel(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::Cancel).await
}

/// Pauses a saga: nobody is called until it is resumed. Attempts in flight run on, and what is said of them counts.
#[utoipa::path(post, path = "/v1/sagas/{id}:pause", operation_id = "pauseSaga", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn pause(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::Pause).await
}

/// Lets a paused saga go on. Its timeout is later by the pause.
#[utoipa::path(post, path = "/v1/sagas/{id}:resume", operation_id = "resumeSaga", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn resume(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::Resume).await
}

/// Ends a saga as it is, also one that is blocked or past its pivot: nothing more is called, and nothing is undone. The answer says in
/// `standing` which effects stand.
#[utoipa::path(post, path = "/v1/sagas/{id}:terminate", operation_id = "terminateSaga", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn terminate(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::Terminate).await
}

/// Tries again what waits for its next attempt and what failed for good, or that `step` alone: attempts are counted anew, and the next one is
/// due now.
#[utoipa::path(post, path = "/v1/sagas/{id}:retry", operation_id = "retrySaga", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn retry(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::Retry).await
}

/// Leaves a `step` out that waits or was not called, or its compensation that waits or failed for good: its effect stands then.
#[utoipa::path(post, path = "/v1/sagas/{id}:skip", operation_id = "skipSagaStep", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn skip(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::Skip).await
}

/// Says what is true of a `step`: that its action took effect (with `output`), that it never did and never will, or that its effect is undone.
#[utoipa::path(post, path = "/v1/sagas/{id}:resolve", operation_id = "resolveSagaStep", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn resolve(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::Resolve).await
}

/// Gives a saga another `input` with the same business key. What was called keeps its arguments; what is called from now on sees the new one.
#[utoipa::path(post, path = "/v1/sagas/{id}:edit-input", operation_id = "editSagaInput", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn edit_input(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::EditInput).await
}

/// Runs a saga at rest again `from` a step: the next generation of its key takes over what stands, with the right to undo it, and calls that
/// step and what comes after it. The answer describes the saga that was rerun; its rerun is `rerun_as`. With `input` it works on another one.
#[utoipa::path(post, path = "/v1/sagas/{id}:rerun", operation_id = "rerunSaga", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "The saga afterwards", body = OperatedSaga),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn rerun(asked: Asked) -> Result<Json<OperatedSaga>, ApiError> {
    operate(asked, VerbName::Rerun).await
}

/// What a verb would lead to if every participant answered with success: the calls in their order, and what stands at the end. The body is
/// that of the verb, with its `verb`. Nobody is called, and nothing is written.
#[utoipa::path(post, path = "/v1/sagas/{id}:preview", operation_id = "previewSaga", tag = "sagas", params(("id" = Uuid, Path, description = "Id of the saga")),
    request_body = VerbFields,
    responses(
        (status = 200, description = "What would follow", body = SagaPreview),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn preview(asked: Asked) -> Result<Json<SagaPreview>, ApiError> {
    let (Acting(orchestrator), _, PathParams(path), JsonBody(fields)) = asked;
    let request = OperateSaga::try_from(fields).map_err(|error| no_verb(&error))?;
    Ok(Json(orchestrator.preview(path.id, request).await?))
}

/// Lets sagas go that are held since the start of the server: calls leave, commands are handed out, and time passes.
#[utoipa::path(post, path = "/v1/sagas:release", operation_id = "releaseSagas", tag = "sagas", responses(
    (status = 200, description = "Nothing is held any more", body = ReleasedSagas),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn release(Acting(orchestrator): Acting<Orchestrator>) -> Result<Json<ReleasedSagas>, ApiError> {
    Ok(Json(ReleasedSagas { duplicate: !orchestrator.release().await? }))
}

fn no_verb(error: &NoVerb) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, error.to_string())
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(cancel, pause, resume, terminate, retry, skip, resolve, edit_input, rerun, preview, release))]
pub(super) struct Doc;
