//! Leased records in binary form: receipts in a head of JSON, and the records as batches, which cost neither side a JSON text for each value.

use crate::broker::held::{buffer, held_bytes};
use crate::web::extract::accepted;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use sagamq_api::headers::{APPLICATION_DELIVERIES, APPLICATION_JSON};
use sagamq_api::queue::write_head;
use sagamq_api::record::write;
use sagamq_broker::log::batch::{Batch, OFFSETS_MAX, frame};
use sagamq_broker::{Delivered, Held, Received};
use std::borrow::Cow;

/// What a record takes in an answer beside its receipt and its payload, about.
const RECORD_BYTES: usize = 128;

/// Whether a client names this form before JSON.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let known = |of: &Cow<'_, str>| [APPLICATION_DELIVERIES, APPLICATION_JSON, "*/*", "application/*"].contains(&&**of);
    accepted(headers).find(known).is_some_and(|first| first == APPLICATION_DELIVERIES)
}

/// The answer of these bytes.
pub(super) fn answer(bytes: Held<Vec<u8>>) -> Response {
    let mut response = held_bytes(bytes);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_DELIVERIES));
    response
}

/// Writes what is said of a lease, as fields of an object that is left open.
pub(super) fn open_lease(out: &mut Vec<u8>, index: usize, delivered: &Delivered) {
    let Delivered { receipt, attempt, returned, lease_until_ms, handed_out_ago_ms, .. } = delivered;
    out.extend_from_slice(if index == 0 { br#"{"receipt":"# } else { br#",{"receipt":"# });
    write::text(out, receipt);
    out.extend_from_slice(br#","attempt":"#);
    write::json(out, attempt);
    if *returned > 0 {
        out.extend_from_slice(br#","returned":"#);
        write::json(out, returned);
    }
    out.extend_from_slice(br#","lease_until_ms":"#);
    write::json(out, lease_until_ms);
    if let Some(ago_ms) = handed_out_ago_ms {
        out.extend_from_slice(br#","handed_out_ago_ms":"#);
        write::json(out, ago_ms);
    }
}

/// The leases in a [`LeasesHead`](sagamq_api::queue::LeasesHead), and the records behind them.
pub(super) fn written(received: &Received) -> Vec<u8> {
    let size = |delivered: &Delivered| delivered.receipt.len() + RECORD_BYTES + delivered.record.payload.len();
    let mut out = buffer(received.deliveries.iter().map(size).sum());
    write_head(&mut out, |out| {
        out.extend_from_slice(br#"{"leases":["#);
        for (index, delivered) in received.deliveries.iter().enumerate() {
            open_lease(out, index, delivered);
            out.push(b'}');
        }
        out.push(b']');
        if let Some(reason) = &received.empty_reason {
            out.extend_from_slice(br#","empty_reason":"#);
            write::json(out, reason);
        }
        out.push(b'}');
    });
    for records in received.deliveries.chunk_by(is_together) {
        match Batch::picked(records.iter().map(|delivered| &delivered.record)) {
            Ok(batch) => push(&mut out, &records[0], &batch),
            // Their times are too far apart for one.
            Err(_) => records.iter().for_each(|delivered| {
                let batch = Batch::picked(core::iter::once(&delivered.record)).expect("a record that was stored is a batch");
                push(&mut out, delivered, &batch);
            }),
        }
    }
    out
}

fn push(out: &mut Vec<u8>, first: &Delivered, batch: &Batch) {
    out.extend_from_slice(&frame(Some(first.partition)));
    out.extend_from_slice(batch.bytes());
}

/// Whether both fit one batch: their offsets rise, and are no further apart than it can say. A batch has at most the records of a receive.
fn is_together(one: &Delivered, next: &Delivered) -> bool {
    const APART_MAX: u64 = OFFSETS_MAX / sagamq_api::limits::RECEIVE_RECORDS_MAX as u64;
    one.partition == next.partition && (1..APART_MAX).contains(&next.record.offset.0.saturating_sub(one.record.offset.0))
}
