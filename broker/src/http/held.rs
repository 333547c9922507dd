//! JSON answers that keep their share of the memory for answers until they are sent.

use crate::broker::Held;
use crate::http::problem::ApiError;
use crate::log::MemoryShare;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use sagamq_api::ErrorCode;
use sagamq_api::headers::APPLICATION_JSON;
use serde::Serialize;

/// A JSON answer.
pub(super) struct HeldJson<T>(pub(super) Held<T>);

/// The body's bytes: the connection drops them when they are written.
struct HeldBytes {
    bytes: Vec<u8>,
    _share: MemoryShare,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: Serialize> IntoResponse for HeldJson<T> {
    fn into_response(self) -> Response {
        let (value, share) = self.0.into_parts();
        let bytes = match serde_json::to_vec(&value) {
            Ok(bytes) => bytes,
            Err(error) => return ApiError::new(ErrorCode::Internal, format!("the answer cannot be written: {error}")).into_response(),
        };
        drop(value);
        let body = Body::from(Bytes::from_owner(HeldBytes { bytes, _share: share }));
        ([(CONTENT_TYPE, APPLICATION_JSON)], body).into_response()
    }
}
