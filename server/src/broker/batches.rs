//! Record batches over HTTP: a body of them to store, and a read that answers with them.

use crate::broker::held::held_bytes;
use crate::web::extract::BatchBody;
use crate::web::problem::ApiError;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use bytes::BytesMut;
use sagamq_api::headers::{APPLICATION_BATCH, HIGH_WATERMARK, LOG_START_OFFSET, NEXT_OFFSET};
use sagamq_api::limits::{DECOMPRESSED_BYTES_MAX, PRODUCE_HEADERS_MAX, PRODUCE_RECORDS_MAX};
use sagamq_api::topic::{self, ProduceBatchesResponse};
use sagamq_api::{ErrorCode, Offset};
use sagamq_broker::log::batch::{BatchError, ReceivedBatch, take_framed};
use sagamq_broker::{Batches, Held, ProducedBatch, SentBatch};

/// What is decompressed on the thread that answers requests, in bytes: more would keep others waiting.
const UNPACKED_AT_ONCE_MAX: usize = 256 * 1024;

/// The batches of a body, each checked whole.
pub(super) async fn sent_batches(body: BatchBody) -> Result<Vec<SentBatch>, ApiError> {
    if body.unpacked_bytes() <= UNPACKED_AT_ONCE_MAX {
        return check(body);
    }
    tokio::task::spawn_blocking(move || check(body)).await.expect("a look at batches neither panics nor is aborted")
}

fn check(mut body: BatchBody) -> Result<Vec<SentBatch>, ApiError> {
    let mut bytes = body.take_bytes();
    let batches = batches_of(&mut bytes);
    body.checked();
    batches
}

fn batches_of(body: &mut BytesMut) -> Result<Vec<SentBatch>, ApiError> {
    let mut batches = Vec::new();
    let (mut records, mut headers, mut unpacked_left) = (0, 0, DECOMPRESSED_BYTES_MAX);
    while let Some((partition, bytes)) = take_framed(body).map_err(|reason| refused(batches.len(), &reason, unpacked_left))? {
        let batch = ReceivedBatch::parse_within(bytes, unpacked_left).map_err(|reason| refused(batches.len(), &reason, unpacked_left))?;
        if batch.is_compressed() {
            unpacked_left -= batch.unpacked_bytes();
        }
        (records, headers) = (records + batch.records_count() as usize, headers + batch.headers());
        for (what, count, max) in [("records", records, PRODUCE_RECORDS_MAX), ("headers", headers, PRODUCE_HEADERS_MAX)] {
            if count > max {
                return Err(ApiError::invalid(format!(
                    "the batches have more than {max} {what} together: send them with several requests"
                )));
            }
        }
        batches.push(SentBatch { partition, batch });
    }
    Ok(batches)
}

fn refused(index: usize, reason: &BatchError, unpacked_left: usize) -> ApiError {
    let code = match *reason {
        BatchError::Compression(_) => ErrorCode::UnsupportedCompression,
        BatchError::DecompressedTooLarge(max) if max == unpacked_left => {
            return ApiError::new(
                ErrorCode::BodyTooLarge,
                format!(
                    "the batches have more than {DECOMPRESSED_BYTES_MAX} bytes together when they are decompressed: send less at a time"
                ),
            );
        }
        _ => ErrorCode::InvalidBatch,
    };
    ApiError::new(code, format!("batch {index}: {reason}"))
}

/// What is answered about batches that are stored.
pub(super) fn stored(produced: &[ProducedBatch]) -> ProduceBatchesResponse {
    let tell = |&ProducedBatch { partition, offset, records, timestamp_ms, duplicate }: &ProducedBatch| topic::ProducedBatch {
        partition,
        offset,
        records,
        timestamp_ms,
        duplicate,
    };
    ProduceBatchesResponse { batches: produced.iter().map(tell).collect() }
}

/// An answer with batches: the bytes as they are stored, and where they stand in the headers.
pub(super) fn answer(held: Held<Batches>) -> Response {
    let mut places = [Offset(0); 3];
    let bytes = held.map(|Batches { bytes, next_offset, log_start, high_watermark }| {
        places = [next_offset, log_start, high_watermark];
        bytes
    });
    let mut response = held_bytes(bytes);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_BATCH));
    for (name, Offset(place)) in [NEXT_OFFSET, LOG_START_OFFSET, HIGH_WATERMARK].into_iter().zip(places) {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(place));
    }
    response
}
