//! What the services say over HTTP.

use crate::store::StoreError;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sagamq_api::saga::Failure;
use sagamq_sdk::{CallError, JsonText};
use serde::Serialize;
use serde_json::json;

/// The answer of an HTTP participant: 2xx done, 409 refused, 202 still at work, anything else: outcome unknown, call again.
pub(super) fn reply(result: Result<JsonText, CallError>) -> Response {
    let problem = |status: StatusCode, failure: Failure| (status, Json(failure)).into_response();
    match result {
        Ok(output) => Json(output).into_response(),
        Err(CallError::Refused(failure)) => problem(StatusCode::CONFLICT, failure),
        Err(CallError::Unknown { failure, .. }) => problem(StatusCode::SERVICE_UNAVAILABLE, failure),
        Err(CallError::Ongoing { .. }) => StatusCode::ACCEPTED.into_response(),
    }
}

/// An answer from the database, or what is wrong with it.
pub fn answer<T: Serialize>(result: Result<T, StoreError>) -> Response {
    match result {
        Ok(body) => Json(body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the database failed");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "DATABASE", &error.to_string())
        }
    }
}

/// An answer that says what is wrong.
pub(crate) fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "code": code, "message": message }))).into_response()
}
