//! CloudEvents 1.0 over HTTP: stored as records, and records read and received as events. What an event is as a record, `sagamq_api::cloud_event` says.

use crate::broker::held::{RECORD_BYTES, buffer, held_bytes, json};
use crate::broker::produced::write_produced;
use crate::web::access::Caller;
use crate::web::cause::Cause;
use crate::web::extract::{EventBody, PathParams, TopicPath, accepted};
use crate::web::problem::ApiError;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use axum::routing::post;
use sagamq_api::cloud_event::{APPLICATION_EVENTS, CloudEvent, Place};
use sagamq_api::headers::{APPLICATION_DELIVERIES, APPLICATION_JSON, HIGH_WATERMARK, LOG_START_OFFSET, NEXT_OFFSET, TRACEPARENT};
use sagamq_api::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use sagamq_api::topic::ProduceResponse;
use sagamq_api::{PartitionId, Problem, TopicName, routes};
use sagamq_broker::log::batch::StoredRecord;
use sagamq_broker::{Broker, Held, NewRecord, Received, Records};
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

/// What the attributes of an event take in an answer, about.
const EVENT_BYTES: usize = 256;

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::EVENTS, post(produce))
}

/// Stores CloudEvents, each as a record. They are on disk when it is answered. An event that was stored before, by its source and its id, is answered with its
/// first place and `duplicate: true`; the extension `partitionkey` is the key.
#[utoipa::path(post, path = "/v1/topics/{topic}/events", operation_id = "produceEvents", tag = "records",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("ce-specversion" = Option<String>, Header, description = "Of an event in headers (binary mode): 1.0"),
        ("ce-id" = Option<String>, Header, description = "Tells it from all others of its source"),
        ("ce-source" = Option<String>, Header, description = "Where it comes from"),
        ("ce-type" = Option<String>, Header, description = "What happened"),
        ("ce-traceparent" = Option<String>, Header, description = "The trace that the event belongs to, where the header `traceparent` says none; with `ce-tracestate`"),
        ("ce-partitionkey" = Option<String>, Header, description = "The key: events of a key are in order. Further attributes are headers that begin with `ce-`"),
    ),
    request_body(content(
        (serde_json::Value = "application/cloudevents+json"),
        (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
        (Vec<u8> = "*/*"),
    ), description = "One event as JSON, a list of them, or the data of one whose attributes are headers, with the content type of the data"),
    responses(
        (status = 200, description = "Where the events are, in the order of the request", body = ProduceResponse),
        (status = 429, description = "The queue in front of the disk is full; nothing was stored", content_type = "application/problem+json", body = Problem,
            headers(("retry-after" = u32, description = "Seconds to wait"))),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn produce(
    State(broker): State<Broker>,
    caller: Caller,
    PathParams(path): PathParams<TopicPath>,
    Cause(cause): Cause,
    headers: HeaderMap,
    EventBody(events): EventBody,
) -> Result<Response, ApiError> {
    caller.require_produce(&path.topic)?;
    let is_said = headers.contains_key(TRACEPARENT);
    let caused_by = |event: &CloudEvent| {
        // What the request says is nearer than what the event says of its beginnings; if it says nothing, the event goes on with its own trace.
        let own = event.trace().filter(|own| !is_said && cause.as_ref().is_none_or(|cause| cause.trace_id() != own.trace_id()));
        own.map(Arc::new).or_else(|| cause.clone())
    };
    let records = events.into_iter().map(|event| NewRecord { cause: caused_by(&event), ..record_of(event) }).collect();
    Ok(json(write_produced(&broker.produce(&path.topic, records, None).await?).into()))
}

fn record_of(event: CloudEvent) -> NewRecord {
    let identity = event.identity();
    // It has to be known again, not read.
    let key = if identity.len() > IDEMPOTENCY_KEY_BYTES_MAX { blake3::hash(identity.as_bytes()).to_hex().to_string() } else { identity };
    NewRecord { payload: event.into_payload(), idempotency_key: Some(key.into()), ..NewRecord::default() }
}

/// Whether a client names a list of events before the other forms of leased records.
pub(super) fn are_wanted(headers: &HeaderMap) -> bool {
    let known = |of: &Cow<'_, str>| [APPLICATION_EVENTS, APPLICATION_DELIVERIES, APPLICATION_JSON, "*/*", "application/*"].contains(&&**of);
    accepted(headers).find(known).is_some_and(|first| first == APPLICATION_EVENTS)
}

/// The answer to a read, as a list of events; where to read on stands in the headers.
pub(super) fn read(held: Held<Records>, cluster: Uuid, topic: &TopicName, partition: PartitionId) -> Response {
    let mut places = [sagamq_api::Offset(0); 3];
    let bytes = held.map(|read| {
        places = [read.next_offset, read.log_start, read.high_watermark];
        let mut out = buffer(read.records.iter().map(|record| EVENT_BYTES + RECORD_BYTES + record.payload.len()).sum());
        list(&mut out, read.records.into_iter().map(|record| event_of(cluster, topic, partition, record)));
        out
    });
    let mut response = answer(bytes);
    for (name, offset) in [NEXT_OFFSET, LOG_START_OFFSET, HIGH_WATERMARK].into_iter().zip(places) {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(offset.0));
    }
    response
}

/// Leased records as a list of events, each with its receipt.
pub(super) fn received(cluster: Uuid, topic: &TopicName, received: &Received) -> Vec<u8> {
    let mut out =
        buffer(received.deliveries.iter().map(|of| EVENT_BYTES + RECORD_BYTES + of.receipt.len() + of.record.payload.len()).sum());
    list(
        &mut out,
        received.deliveries.iter().map(|delivered| {
            let mut event = event_of(cluster, topic, delivered.partition, delivered.record.clone());
            event.extensions.insert("sagamqreceipt".to_owned(), delivered.receipt.clone());
            event.extensions.insert("sagamqattempt".to_owned(), delivered.attempt.to_string());
            event
        }),
    );
    out
}

/// The answer of these bytes.
pub(super) fn answer(bytes: Held<Vec<u8>>) -> Response {
    let mut response = held_bytes(bytes);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_EVENTS));
    response
}

fn event_of(cluster: Uuid, topic: &TopicName, partition: PartitionId, record: StoredRecord) -> CloudEvent {
    let StoredRecord { offset, timestamp_ms, payload } = record;
    CloudEvent::of_record(Place { cluster, topic, partition, offset, timestamp_ms }, payload)
}

fn list(out: &mut Vec<u8>, events: impl Iterator<Item = CloudEvent>) {
    out.push(b'[');
    for (index, event) in events.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, &event).expect("an event is JSON, and memory can be written to");
    }
    out.push(b']');
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(produce))]
pub(super) struct Doc;
