//! Errors as problem documents. Which code an error of an engine has is said beside the routes (`broker/error.rs`, `saga/error.rs`).

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use core::any::Any;
use sagamq_api::headers::APPLICATION_PROBLEM_JSON;
use sagamq_api::{ErrorCode, Problem};
use xxhash_rust::xxh3::xxh3_64;

/// How long a client should wait before it tries again, in seconds: 1 to this, so that not all who were refused come back at once. The
/// queue in front of the disk empties within milliseconds and a restart takes seconds.
const RETRY_AFTER_S_MAX: u64 = 3;

/// The same where somebody has to make room first.
const RETRY_AFTER_DISK_S_MAX: u64 = 15;

/// An error answer. Handlers return it, and errors of the engines become one through `From`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    problem: Box<Problem>,
    /// When to come back, in seconds, if that is known.
    retry_after_s: Option<u64>,
}

impl ApiError {
    /// An error with this code. `detail` says what was wrong and what to do.
    #[must_use]
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// A request that is well formed but asks for what cannot be.
    #[must_use]
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail)
    }

    /// The document.
    #[must_use]
    pub(crate) fn into_problem(self) -> Problem {
        *self.problem
    }

    pub(super) fn code(&self) -> ErrorCode {
        self.problem.code
    }

    /// Whether it is one of the many that a low disk makes, or a node that stands by and is asked again and again whether it is ready.
    pub(super) fn is_told_once(&self) -> bool {
        matches!(self.problem.code, ErrorCode::DiskLow | ErrorCode::Standby)
    }

    /// The same error, with when to come back: for those that say `Retry-After`.
    #[must_use]
    pub(crate) fn with_retry_after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), retry_after_s: None }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = render(&self);
        // The outermost layer knows the request's id; it writes the document again with it.
        response.extensions_mut().insert(self);
        response
    }
}

fn render(ApiError { problem, retry_after_s }: &ApiError) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&**problem).expect("a problem has string keys only");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_PROBLEM_JSON));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let max_s = if problem.code == ErrorCode::DiskLow { RETRY_AFTER_DISK_S_MAX } else { RETRY_AFTER_S_MAX };
        let pause_s = retry_after_s.unwrap_or_else(|| pause_s(problem.request_id.as_deref().unwrap_or_default(), max_s));
        headers.insert(RETRY_AFTER, HeaderValue::from(pause_s));
    }
    response
}

/// Spread by the request's id, which differs from request to request: no other randomness is needed.
fn pause_s(request_id: &str, max_s: u64) -> u64 {
    1 + xxh3_64(request_id.as_bytes()) % max_s
}

/// Writes the request's id into the problem document of an error answer; other answers pass as they are.
pub(super) fn with_request_id(mut response: Response, request_id: &HeaderValue) -> Response {
    let Some(mut error) = response.extensions_mut().remove::<ApiError>() else { return response };
    error.problem.request_id = Some(request_id.to_str().unwrap_or_default().to_owned());
    // Only the body and the pause are new: headers that were added since (`Allow`) stay.
    let (named, body) = render(&error).into_parts();
    let (parts, _) = response.into_parts();
    let mut response = Response::from_parts(parts, body);
    response.headers_mut().remove(CONTENT_LENGTH);
    if let Some(pause) = named.headers.get(RETRY_AFTER) {
        response.headers_mut().insert(RETRY_AFTER, pause.clone());
    }
    response
}

/// The answer to a request whose handler panicked. What it was about stands in the log, not in the answer.
#[expect(clippy::needless_pass_by_value, reason = "who catches the panic has its payload and no more use for it")]
pub(super) fn of_panic(panic: Box<dyn Any + Send>) -> Response {
    let message = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = message.unwrap_or("(no message)"), "a handler panicked");
    ApiError::new(ErrorCode::Internal, "the server failed while it handled the request; its log has more under the request id")
        .into_response()
}
