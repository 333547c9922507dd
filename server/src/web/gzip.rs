//! Texts that travel compressed with gzip: bodies of requests that say so, and answers to who takes them so. Record batches have a compression of
//! their own, and events are to be seen at once.

use crate::web::problem::ApiError;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{Extensions, HeaderMap, StatusCode, Version};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use sagamq_api::ErrorCode;
use sagamq_api::headers::{APPLICATION_JSON, APPLICATION_YAML};
use std::io::Read as _;
use tower_http::CompressionLevel;
use tower_http::compression::predicate::{And, SizeAbove};
use tower_http::compression::{Compression, Predicate as _};

/// Bytes that one byte of gzip stands for, at most: so much a length of 258 bytes in two bits is.
const RATIO_MAX: usize = 1_032;

/// Longest body that is decompressed on the thread that answers requests, in bytes: it becomes at most a thousand times as much.
const AT_ONCE_BYTES_MAX: usize = 2 * 1024;

/// Shortest answer that is compressed, in bytes: a shorter one travels in one packet anyway.
const ANSWER_BYTES_MIN: u64 = 1_024;

/// How the body of a request is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Other,
}

impl Encoding {
    /// As the headers say.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut said = headers.get_all(CONTENT_ENCODING).iter().map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase());
        match (said.next().as_deref(), said.next()) {
            (None | Some(b"identity" | b""), None) => Self::Identity,
            (Some(b"gzip" | b"x-gzip"), None) => Self::Gzip,
            _ => Self::Other,
        }
    }
}

/// Bytes that a body of gzip may become, and itself, where more than `max` is refused.
pub(super) fn memory(compressed: usize, max: usize) -> usize {
    compressed.saturating_add(compressed.saturating_mul(RATIO_MAX).min(max))
}

/// What a body is decompressed to.
///
/// # Errors
/// When it is no gzip, is cut or damaged, or becomes more than `max` bytes, of which no more than one is looked at.
pub(super) async fn decompressed(body: Bytes, max: usize) -> Result<Bytes, ApiError> {
    if body.len() <= AT_ONCE_BYTES_MAX {
        return decompress(&body, max);
    }
    tokio::task::spawn_blocking(move || decompress(&body, max)).await.expect("decompressing neither panics nor is aborted")
}

fn decompress(body: &[u8], max: usize) -> Result<Bytes, ApiError> {
    let mut out = Vec::with_capacity(max.min(4 * body.len()));
    MultiGzDecoder::new(body).take(max as u64 + 1).read_to_end(&mut out).map_err(|reason| {
        ApiError::new(ErrorCode::MalformedRequest, format!("the body is not gzip, as its content encoding says: {reason}"))
    })?;
    if out.len() > max {
        let detail = format!("the body is larger than {max} bytes when it is decompressed: send less at a time");
        return Err(ApiError::new(ErrorCode::BodyTooLarge, detail));
    }
    out.shrink_to_fit();
    Ok(out.into())
}

/// Whether an answer may be compressed. Clients that do not name gzip cost nothing.
pub(super) fn may_answer(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().any(|accepted| accepted.to_str().is_ok_and(|text| text.contains("gzip") || text.contains('*')))
}

/// Which answers are compressed.
pub(super) type Zipped = And<SizeAbove, fn(StatusCode, Version, &HeaderMap, &Extensions) -> bool>;

/// A route whose answers are compressed if the client takes that.
pub(super) fn zipping<S>(route: S) -> Compression<S, Zipped> {
    Compression::new(route).quality(CompressionLevel::Fastest).compress_when(SizeAbove::new(ANSWER_BYTES_MIN).and(is_text as _))
}

/// Problems are left as they are: they get the request's id later.
fn is_text(status: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    // As the server's own handlers write them.
    let content_type = headers.get(CONTENT_TYPE).and_then(|of| of.to_str().ok()?.split(';').next());
    let is_text = |of| matches!(of, APPLICATION_JSON | APPLICATION_YAML | "text/plain" | "application/openmetrics-text");
    status.is_success() && content_type.is_some_and(is_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression as Level;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    /// Its last bytes, the checksum, are wrong: whoever reads to the end says so.
    #[test]
    fn a_body_is_decompressed_no_further_than_it_may_grow() {
        let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(&vec![0; 1 << 20]).expect("memory takes it");
        let mut bomb = encoder.finish().expect("memory takes it");
        let checksum = bomb.len() - 8;
        bomb[checksum] ^= 1;
        let code = |max| decompress(&bomb, max).expect_err("it is refused").into_problem().code;
        assert_eq!(code(1 << 20), ErrorCode::MalformedRequest, "all of it was read");
        assert_eq!(code(100_000), ErrorCode::BodyTooLarge);
    }
}
