//! Replies of workers that were called through a topic.

use crate::orchestrator::{Completed, Orchestrator};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::routes::{SAGA_CALLS, routed};
use sagamq_api::saga::{CallResult, CompleteCalls, CompletedCall, CompletedCalls, Completion, NextCall};
use sagamq_broker::http::extract::JsonBody;
use sagamq_broker::http::idempotency_key::IdempotencyKey;
use sagamq_broker::http::problem::ApiError;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new().route(&routed(SAGA_CALLS, "complete"), post(complete))
}

/// Completes a call: acknowledges its command and applies the reply, in one commit that is durable when this is answered. With `calls` it
/// completes several, each by itself, and with `next` the answer brings the worker's next calls.
#[utoipa::path(post, path = "/v1/saga-calls:complete", operation_id = "completeSagaCall", tag = "saga calls",
    params(("Idempotency-Key" = Option<String>, Header, description = "With `next`: the same request again gets the same leases")),
    request_body = Completion,
    responses(
        (status = 200, description = "The reply is applied; with `calls` or `next`: what became of each, and the next calls", body = CompletionAnswer),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn complete(
    State(orchestrator): State<Orchestrator>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<Completion, BODY_BYTES_MAX>,
) -> Result<Response, ApiError> {
    match body {
        Completion::One(call) => Ok(Json(orchestrator.complete(call).await?).into_response()),
        Completion::Many(calls) => many(&orchestrator, calls, key).await,
    }
}

async fn many(orchestrator: &Orchestrator, calls: CompleteCalls, key: Option<String>) -> Result<Response, ApiError> {
    let Completed { calls, next } = orchestrator.complete_many(calls, key).await?;
    let problem = |error: ApiError| Box::new(error.into_problem());
    let calls = calls.into_iter().map(|result| match result {
        Ok(completed) => CallResult::Completed(completed),
        Err(error) => CallResult::Problem(problem(error.into())),
    });
    let (next, next_problem) = match next {
        Ok(next) => (next.iter().map(NextCall::clone).collect(), None),
        Err(error) => (Vec::new(), Some(problem(error.into()))),
    };
    Ok(Json(CompletedCalls { calls: calls.collect(), next, next_problem }).into_response())
}

/// What is answered, by the form of the request.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it stands for the answers in the description of the interface")]
#[schema(as = CompletionAnswer)]
enum CompletionAnswer {
    #[schema(title = "one")]
    One(CompletedCall),
    #[schema(title = "many")]
    Many(CompletedCalls),
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(complete))]
pub(super) struct Doc;
