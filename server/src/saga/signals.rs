//! Signals: what somebody outside tells a saga that waits for it.

use super::sagas::SagaPath;
use crate::web::access::Caller;
use crate::web::extract::{JsonBody, PathParams};
use crate::web::idempotency_key::IdempotencyKey;
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::routes::{SAGA, SAGAS, routed};
use sagamq_api::saga::{SendSignal, SendSignalByKey, SentSignal};
use sagamq_saga::orchestrator::Orchestrator;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route(&routed(SAGA, "signal"), post(signal)).route(&routed(SAGAS, "signal"), post(signal_by_key))
}

/// Sends a signal to a saga: the first step that waits for its name ends, with the payload as its output. One that comes before a step
/// waits for it is kept. It is durable when this is answered; the same `signal_id` again changes nothing, and is answered with `duplicate`.
#[utoipa::path(post, path = "/v1/sagas/{id}:signal", operation_id = "signalSaga", tag = "sagas",
    params(
        ("id" = Uuid, Path, description = "Id of the saga"),
        ("Idempotency-Key" = Option<String>, Header, description = "Stands for `signal_id`, if the body has none"),
    ),
    request_body = SendSignal,
    responses(
        (status = 200, description = "The saga has the signal", body = SentSignal),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn signal(
    State(orchestrator): State<Orchestrator>,
    caller: Caller,
    PathParams(path): PathParams<SagaPath>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(mut request): JsonBody<SendSignal, BODY_BYTES_MAX>,
) -> Result<Json<SentSignal>, ApiError> {
    request.actor = caller.actor(request.actor);
    Ok(Json(orchestrator.signal(path.id, request, key).await?))
}

/// Sends a signal to the saga that a business key started last.
#[utoipa::path(post, path = "/v1/sagas:signal", operation_id = "signalSagaByKey", tag = "sagas",
    params(("Idempotency-Key" = Option<String>, Header, description = "Stands for `signal_id`, if the body has none")),
    request_body = SendSignalByKey,
    responses(
        (status = 200, description = "The saga has the signal", body = SentSignal),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn signal_by_key(
    State(orchestrator): State<Orchestrator>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(mut request): JsonBody<SendSignalByKey, BODY_BYTES_MAX>,
) -> Result<Json<SentSignal>, ApiError> {
    caller.require_saga(&request.saga)?;
    request.actor = caller.actor(request.actor);
    Ok(Json(orchestrator.signal_by_key(request, key).await?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(signal, signal_by_key))]
pub(super) struct Doc;
