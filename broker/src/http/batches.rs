//! Record batches over HTTP: a body of them to store, and a read that answers with them.

use crate::broker::{Batches, Held, ProducedBatch, SentBatch};
use crate::http::extract::BatchBody;
use crate::http::held::held_bytes;
use crate::http::problem::ApiError;
use crate::log::batch::{BatchError, ReceivedBatch, take_framed};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use sagamq_api::headers::{APPLICATION_BATCH, HIGH_WATERMARK, LOG_START_OFFSET, NEXT_OFFSET};
use sagamq_api::limits::{PRODUCE_HEADERS_MAX, PRODUCE_RECORDS_MAX};
use sagamq_api::topic::{self, ProduceBatchesResponse};
use sagamq_api::{ErrorCode, Offset};

/// The batches of a body, each checked whole.
pub(super) fn sent_batches(body: BatchBody) -> Result<Vec<SentBatch>, ApiError> {
    let mut body = body.into_bytes();
    let mut batches = Vec::new();
    let at = |index: usize| move |reason: BatchError| ApiError::new(ErrorCode::InvalidBatch, format!("batch {index}: {reason}"));
    let (mut records, mut headers) = (0, 0);
    while let Some((partition, bytes)) = take_framed(&mut body).map_err(at(batches.len()))? {
        let batch = ReceivedBatch::parse(bytes).map_err(at(batches.len()))?;
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
