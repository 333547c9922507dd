//! The idempotency key in the header of a request.

use crate::web::names;
use crate::web::problem::ApiError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sagamq_api::headers::IDEMPOTENCY_KEY;

/// The key of the request, if it has one.
#[derive(Clone, Debug)]
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut keys = parts.headers.get_all(&names::IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else { return Ok(Self(None)) };
        if keys.next().is_some() {
            // Two would make it unclear which one a retry has to repeat.
            return Err(ApiError::invalid(format!("the header `{IDEMPOTENCY_KEY}` is there more than once: send one key")));
        }
        match key.to_str() {
            Ok(key) => Ok(Self(Some(key.to_owned()))),
            Err(_) => Err(ApiError::invalid(format!("the header `{IDEMPOTENCY_KEY}` has bytes that are not visible ASCII"))),
        }
    }
}
