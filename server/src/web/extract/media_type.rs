//! What a body says that it is, and what a client takes.

use crate::web::gzip::Encoding;
use crate::web::problem::ApiError;
use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use sagamq_api::ErrorCode;
use sagamq_api::headers::APPLICATION_BATCH;
use std::borrow::Cow;

/// Refuses a body that does not say that it is of this type, or that is encoded in another way. No body needs no type: a page in a browser
/// cannot send a request without its origin.
pub(super) fn require_type(request: &Request, wanted: &str, is_wanted: fn(&str) -> bool, encodings: &[Encoding]) -> Result<(), ApiError> {
    let refused = |what: String| Err(ApiError::new(ErrorCode::UnsupportedMediaType, format!("{what}: send {wanted}")));
    let encoding = Encoding::of(request.headers());
    if encoding != Encoding::Identity && !encodings.contains(&encoding) {
        let said = request.headers().get(CONTENT_ENCODING).and_then(|encoding| encoding.to_str().ok()).unwrap_or("(not text)");
        let taken = if encodings.is_empty() {
            "no encoding is taken: batches compress their records themselves"
        } else {
            "gzip is taken, one time"
        };
        return refused(format!("the body has the content encoding `{said:.100}`, and {taken}"));
    }
    let mut types = request.headers().get_all(CONTENT_TYPE).iter().peekable();
    if types.peek().is_none() && request.body().is_end_stream() {
        return Ok(());
    }
    if types.peek().is_none() {
        return refused("the body has no content type".to_owned());
    }
    for content_type in types {
        let content_type = content_type.to_str().unwrap_or("(not text)");
        if !is_wanted(&essence(content_type)) {
            return refused(format!("the body has the content type `{content_type:.100}`"));
        }
    }
    Ok(())
}

/// The media types that a client names, in its order.
pub(crate) fn accepted(headers: &HeaderMap) -> impl Iterator<Item = Cow<'_, str>> {
    let named = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    named.flat_map(|accept| accept.split(',')).map(essence)
}

/// A media type without its parameters, in small letters, as nearly every client writes it.
pub(super) fn essence(media_type: &str) -> Cow<'_, str> {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if essence.bytes().any(|byte| byte.is_ascii_uppercase()) { essence.to_ascii_lowercase().into() } else { essence.into() }
}

pub(super) fn is_batch(essence: &str) -> bool {
    essence == APPLICATION_BATCH
}

pub(super) fn is_json(essence: &str) -> bool {
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

pub(super) fn is_yaml(essence: &str) -> bool {
    matches!(essence, "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" | "text/vnd.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_json_are_taken_and_those_a_page_can_send_are_not() {
        let of = |content_types: &[&str], body: &'static str| {
            let request = content_types.iter().fold(axum::http::Request::post("/"), |request, of| request.header(CONTENT_TYPE, *of));
            require_type(&request.body(body.into()).expect("a request"), "JSON", is_json, &[]).is_ok()
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"] {
            assert!(of(&[good], "{}"), "{good}");
        }
        assert!(of(&[], ""), "no body needs no type");
        assert!(!of(&[], "{}"));
        let form = "application/x-www-form-urlencoded";
        for bad in [form, "text/plain", "multipart/form-data; boundary=x", "application/octet-stream", "", "text/plain; application/json"] {
            assert!(!of(&[bad], "{}"), "{bad}");
            assert!(!of(&[bad], ""), "{bad}");
        }
        assert!(!of(&["application/json", "text/plain"], "{}"), "two types are no type");
    }
}
