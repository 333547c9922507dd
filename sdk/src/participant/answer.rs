//! What a participant answers over HTTP, and how it reads what it is asked.
//!
//! | answer | means |
//! |---|---|
//! | 200 | succeeded; the body is the output |
//! | 409 | refused, `{code, message}` |
//! | 202 | ongoing; `Retry-After` says when to ask again |
//! | 503, 400, 404 | unknown, `{code, message}`; 400 and 404 say that no handler has run |

use super::{CALL_MISMATCH, INVALID_CALL};
use crate::trace::HandlerSpan;
use crate::worker::{CallError, outcome_of};
use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use sagamq_api::JsonText;
use sagamq_api::headers::APPLICATION_JSON;
use sagamq_api::limits::SAGA_PAYLOAD_BYTES_MAX;
use sagamq_api::saga::{Call, Failure};
use serde_json::json;
use std::time::Duration;

/// Most bytes of a call: its arguments, an output, and what stands around them.
pub(crate) const CALL_BYTES_MAX: usize = 2 * SAGA_PAYLOAD_BYTES_MAX + 64 * 1024;

/// What a request is answered with.
pub(crate) enum Answer {
    Output(JsonText),
    Refused(Failure),
    Unknown { failure: Failure, retry_after: Option<Duration> },
    Ongoing { retry_after: Option<Duration> },
    Invalid(Failure),
    NotFound(Failure),
}

impl Answer {
    /// The answer for what a handler returned.
    pub(crate) fn of(result: Result<JsonText, CallError>) -> Self {
        match result {
            Ok(output) => Self::Output(output),
            Err(CallError::Refused(failure)) => Self::Refused(failure),
            Err(CallError::Unknown { failure, retry_after }) => Self::Unknown { failure, retry_after },
            Err(CallError::Ongoing { retry_after }) => Self::Ongoing { retry_after },
        }
    }

    pub(crate) fn response(self) -> Response {
        let (status, body, retry_after) = match self {
            Self::Output(output) => (StatusCode::OK, output.as_str().to_owned(), None),
            Self::Refused(failure) => (StatusCode::CONFLICT, text(&failure), None),
            Self::Unknown { failure, retry_after } => (StatusCode::SERVICE_UNAVAILABLE, text(&failure), retry_after),
            Self::Ongoing { retry_after } => (StatusCode::ACCEPTED, "{}".to_owned(), retry_after),
            Self::Invalid(failure) => (StatusCode::BAD_REQUEST, text(&failure), None),
            Self::NotFound(failure) => (StatusCode::NOT_FOUND, text(&failure), None),
        };
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_JSON));
        if let Some(wait) = retry_after {
            // Whole seconds, never sooner than asked.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        response
    }
}

/// What a handler returned, run in its span.
pub(crate) async fn answered(span: HandlerSpan, handling: impl Future<Output = Result<JsonText, CallError>>) -> Answer {
    let result = span.run(handling).await;
    span.end(outcome_of(&result), result.as_ref().err().and_then(CallError::failure).map(|failure| failure.code.as_str()));
    Answer::of(result)
}

/// Runs in a task of its own: what was begun comes to its end when the caller hangs up. A panic is an unknown outcome with this code.
pub(crate) async fn detached(panicked: &str, doing: impl Future<Output = Answer> + Send + 'static) -> Answer {
    match tokio::spawn(doing).await {
        Ok(answer) => answer,
        Err(_) => Answer::Unknown { failure: failure(panicked, "the task of the call panicked"), retry_after: None },
    }
}

/// The call in a body, or what is wrong with it.
pub(crate) fn read(body: &Bytes) -> Result<Call, Answer> {
    serde_json::from_slice(body).map_err(|error| Answer::Invalid(failure(INVALID_CALL, format!("the body is no call: {error}"))))
}

pub(crate) fn failure(code: &str, message: impl Into<String>) -> Failure {
    Failure { code: code.to_owned(), message: message.into() }
}

pub(crate) fn mismatch(path: &str, body: &str) -> Answer {
    Answer::Invalid(failure(CALL_MISMATCH, format!("the path asks for `{path}` and the body for `{body}`")))
}

fn text(failure: &Failure) -> String {
    json!({ "code": failure.code, "message": failure.message }).to_string()
}
