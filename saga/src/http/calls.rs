//! Replies of workers that were called through a topic.

use crate::orchestrator::Orchestrator;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::routes::{SAGA_CALLS, routed};
use sagamq_api::saga::{CompleteCall, CompletedCall};
use sagamq_broker::http::extract::JsonBody;
use sagamq_broker::http::problem::ApiError;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route(&routed(SAGA_CALLS, "complete"), post(complete))
}

/// Completes a call: acknowledges its command and applies the reply, in one commit that is durable when this is answered.
#[utoipa::path(post, path = "/v1/saga-calls:complete", operation_id = "completeSagaCall", tag = "saga calls", request_body = CompleteCall, responses(
    (status = 200, description = "The reply is applied", body = CompletedCall),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn complete(
    State(orchestrator): State<Orchestrator>,
    JsonBody(call): JsonBody<CompleteCall, BODY_BYTES_MAX>,
) -> Result<Json<CompletedCall>, ApiError> {
    Ok(Json(orchestrator.complete(call).await?))
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(complete))]
pub(super) struct Doc;
