//! Replies of workers that were called through a topic.

use super::access::require_reply;
use crate::web::access::{Acting, Caller};
use crate::web::extract::JsonBody;
use crate::web::idempotency_key::IdempotencyKey;
use crate::web::problem::ApiError;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use sagamq_api::Problem;
use sagamq_api::access::Resource;
use sagamq_api::headers::APPLICATION_JSON;
use sagamq_api::limits::{BODY_BYTES_MAX, RECEIPTS_MAX};
use sagamq_api::routes::{SAGA_CALLS, routed};
use sagamq_api::saga::{CallResult, CompleteCall, CompleteCalls, CompletedCall, CompletedCalls, Completion, NextCall, WORKER_GROUP};
use sagamq_saga::orchestrator::{CallError, Completed, Orchestrator};

/// What surrounds the results and calls of an answer, about.
const ANSWER_BYTES: usize = 128;

/// What a result takes in an answer, about.
const RESULT_BYTES: usize = 64;

/// What a call takes in an answer beside its text, about.
const NEXT_BYTES: usize = 256;

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
    Acting(orchestrator): Acting<Orchestrator>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    JsonBody(body): JsonBody<Completion, BODY_BYTES_MAX>,
) -> Result<Response, ApiError> {
    match body {
        Completion::One(call) => {
            if !caller.is_admin() {
                require_reply(&orchestrator, &caller, &call.attempt).await??;
            }
            Ok(Json(orchestrator.complete(call).await?).into_response())
        }
        Completion::Many(calls) => {
            let only_waits = calls.calls.is_empty();
            let answer = async {
                if caller.is_admin() { many(&orchestrator, calls, key).await } else { limited(&orchestrator, &caller, calls, key).await }
            };
            if only_waits { caller.while_valid(answer).await? } else { answer.await }
        }
    }
}

/// As [`many`], for whoever may not do everything: nothing is done if a call or a topic is not his, and what there is no saga for is left out
/// of what is done.
async fn limited(orchestrator: &Orchestrator, caller: &Caller, calls: CompleteCalls, key: Option<String>) -> Result<Response, ApiError> {
    let CompleteCalls { calls, next } = calls;
    for topic in next.iter().flat_map(|next| &next.topics) {
        caller.require(&Resource::group(topic.as_str(), WORKER_GROUP))?;
    }
    // Before the first is looked up: what is looked up costs the server more than the client.
    if calls.len() > RECEIPTS_MAX {
        return many(orchestrator, CompleteCalls { calls, next }, key).await;
    }
    let mut missing: Vec<(usize, ApiError)> = Vec::new();
    let mut found: Vec<CompleteCall> = Vec::with_capacity(calls.len());
    for (index, call) in calls.into_iter().enumerate() {
        match require_reply(orchestrator, caller, &call.attempt).await? {
            Ok(()) => found.push(call),
            Err(error) => missing.push((index, CallError::Instance(error).into())),
        }
    }
    if found.is_empty() && next.is_none() && !missing.is_empty() {
        let calls = missing.into_iter().map(|(_, error)| CallResult::Problem(Box::new(error.into_problem()))).collect();
        return Ok(answer(&CompletedCalls { calls, next: Vec::new(), next_problem: None }));
    }
    let mut completed = completed(orchestrator, CompleteCalls { calls: found, next }, key).await?;
    // By their places, the lowest first: each goes where it was.
    for (index, error) in missing {
        completed.calls.insert(index, CallResult::Problem(Box::new(error.into_problem())));
    }
    Ok(answer(&completed))
}

async fn many(orchestrator: &Orchestrator, calls: CompleteCalls, key: Option<String>) -> Result<Response, ApiError> {
    Ok(answer(&completed(orchestrator, calls, key).await?))
}

/// The answer, written into a buffer that it fits.
fn answer(completed: &CompletedCalls) -> Response {
    let CompletedCalls { calls, next, .. } = completed;
    let room = ANSWER_BYTES + calls.len() * RESULT_BYTES + next.iter().map(|next| NEXT_BYTES + next.call.len()).sum::<usize>();
    let mut out = Vec::with_capacity(room);
    serde_json::to_writer(&mut out, completed).expect("an answer has text keys only, and a vector takes any bytes");
    ([(CONTENT_TYPE, APPLICATION_JSON)], out).into_response()
}

async fn completed(orchestrator: &Orchestrator, calls: CompleteCalls, key: Option<String>) -> Result<CompletedCalls, ApiError> {
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
    Ok(CompletedCalls { calls: calls.collect(), next, next_problem })
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
