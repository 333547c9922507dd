//! Records: produce, and read by offset or by time.

use crate::broker::held::{RECORD_BYTES, json, written};
use crate::broker::produced::write_produced;
use crate::broker::{batches, cloud_events, events};
use crate::web::access::Caller;
use crate::web::cause::Cause;
use crate::web::extract::{BatchBody, PartitionPath, PathParams, QueryParams, RawJson, TopicPath, accepted, says_batches};
use crate::web::idempotency_key::IdempotencyKey;
use crate::web::problem::ApiError;
use axum::extract::{FromRequest, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use sagamq_api::cloud_event::APPLICATION_EVENTS;
use sagamq_api::headers::{APPLICATION_BATCH, APPLICATION_JSON, TEXT_EVENT_STREAM};
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::record::write::{self, RecordOut};
use sagamq_api::record::{Decoded, PayloadError, RecordIn, RecordsIn};
use sagamq_api::topic::{ProduceQuery, ProduceRequest, ProduceResponse, ReadQuery, ReadResponse};
use sagamq_api::{ErrorCode, PartitionId, Problem, TraceContext, routes};
use sagamq_broker::log::batch::StoredRecord;
use sagamq_broker::{Broker, Due, NewRecord, Records};
use std::sync::Arc;

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::RECORDS, post(produce)).route(routes::PARTITION_RECORDS, get(read))
}

/// Stores records. They are on disk when it is answered; one with `deliver_at` or `delay_ms` waits as a schedule until then; a record that was stored before, by its idempotency key, is answered
/// with its first place and `duplicate: true`.
#[utoipa::path(post, path = "/v1/topics/{topic}/records", operation_id = "produceRecords", tag = "records",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("idempotency-key" = Option<String>, Header, description = "One key for the whole request, 1 to 256 bytes, that holds over the topic: a retry with the same key and body is stored once, another body is refused"),
        ProduceQuery,
    ),
    request_body(content(
        (ProduceRequest = "application/json"),
        (Vec<u8> = "application/vnd.sagamq.batch"),
    ), description = "Records as JSON, or record batches (Kafka's RecordBatch v2, their records compressed with lz4 or zstd or not at all), each with its partition in front (u32, big-endian; all bits set: the broker chooses), which are stored as they come"),
    responses(
        (status = 200, description = "Where the records are, in the order of the request; of batches a `ProduceBatchesResponse`", body = ProduceResponse),
        (status = 429, description = "The queue in front of the disk is full; nothing was stored", content_type = "application/problem+json", body = Problem,
            headers(("retry-after" = u32, description = "Seconds to wait"))),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn produce(
    State(broker): State<Broker>,
    caller: Caller,
    PathParams(path): PathParams<TopicPath>,
    QueryParams(ProduceQuery { partitions }): QueryParams<ProduceQuery>,
    IdempotencyKey(key): IdempotencyKey,
    Cause(cause): Cause,
    body: ProduceBody,
) -> Result<Response, ApiError> {
    caller.require_produce(&path.topic)?;
    let body = match body {
        ProduceBody::Json(body) => body,
        ProduceBody::Batches(body) => {
            let produced = broker.produce_batches(partitions, &path.topic, batches::sent_batches(body).await?, key.as_deref()).await?;
            return Ok(Json(batches::stored(&produced)).into_response());
        }
    };
    let mut records = new_records(&body)?;
    caused(&mut records, cause.as_ref());
    // The records hold what they need of the body, and go when they are encoded.
    drop(body);
    let produced = broker.produce_for(partitions, &path.topic, records, key.as_deref()).await?;
    Ok(json(write_produced(&produced).into()))
}

/// Notes what the records are caused by.
pub(super) fn caused(records: &mut [NewRecord], cause: Option<&Arc<TraceContext>>) {
    if let Some(cause) = cause {
        records.iter_mut().for_each(|record| record.cause = Some(Arc::clone(cause)));
    }
}

/// What a client sends to be stored.
enum ProduceBody {
    Json(RawJson<BODY_BYTES_MAX>),
    Batches(BatchBody),
}

impl<S: Send + Sync> FromRequest<S> for ProduceBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if says_batches(&request) {
            BatchBody::from_request(request, state).await.map(Self::Batches)
        } else {
            RawJson::from_request(request, state).await.map(Self::Json)
        }
    }
}

/// The records of a body, as bytes. Those that stand in it as they are stored are not copied.
fn new_records(body: &RawJson<BODY_BYTES_MAX>) -> Result<Vec<NewRecord>, ApiError> {
    let RecordsIn { records } = body.read()?;
    let mut decoded = Decoded::of_body(body.body().len());
    records.into_iter().enumerate().map(|(index, record)| new_record(index, record, body.body(), &mut decoded)).collect()
}

pub(super) fn new_record(index: usize, mut record: RecordIn<'_>, body: &Bytes, decoded: &mut Decoded) -> Result<NewRecord, ApiError> {
    let payload = record.take_payload(body, decoded).map_err(|reason| {
        let code = match reason {
            PayloadError::Both(_) | PayloadError::NotText(_) => ErrorCode::InvalidRequest,
            PayloadError::Base64 { .. } => ErrorCode::InvalidBase64,
        };
        ApiError::new(code, format!("record {index}: {reason}"))
    })?;
    let RecordIn { partition, timestamp_ms, idempotency_key, deliver_at, delay_ms, .. } = record;
    let due = match (deliver_at, delay_ms) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid(format!("record {index} has `deliver_at` and `delay_ms`: give one or the other")));
        }
        (at, after) => at.map(Due::At).or(after.map(Due::After)),
    };
    Ok(NewRecord { payload, partition, timestamp_ms, idempotency_key: idempotency_key.map(|key| key.into_bytes(body)), due, cause: None })
}

/// Reads records of one partition, from an offset or a time on.
#[utoipa::path(get, path = "/v1/topics/{topic}/partitions/{partition}/records", operation_id = "readRecords", tag = "records",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("partition" = u32, Path, description = "Number of the partition"),
        ("last-event-id" = Option<u64>, Header, description = "Of events: the last one that was seen; the next is the first"),
        ReadQuery,
    ),
    responses(
        (status = 200, description = "The records, and where to read on. With `accept: application/vnd.sagamq.batch` the batches as they are stored (Kafka's RecordBatch v2), the first being the one that holds the offset; the headers say where to read on. With `accept: text/event-stream` an event `record` for each record, whose id is the offset, until the client goes; what retention took before it was sent is told by an event `trimmed`. With `accept: application/cloudevents-batch+json` a list of CloudEvents 1.0; the headers say where to read on", content(
            (ReadResponse = "application/json"),
            (Vec<u8> = "application/vnd.sagamq.batch"),
            (String = "text/event-stream"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
        ), headers(
            ("sagamq-next-offset" = u64, description = "Of batches and CloudEvents: where to read on"),
            ("sagamq-log-start-offset" = u64, description = "Of batches and CloudEvents: the first offset that is still there"),
            ("sagamq-high-watermark" = u64, description = "Of batches and CloudEvents: the offset behind the last durable record"),
        )),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn read(
    State(broker): State<Broker>,
    PathParams(path): PathParams<PartitionPath>,
    QueryParams(query): QueryParams<ReadQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    match wanted(&headers) {
        Wanted::Json => {}
        Wanted::Batches => return Ok(batches::answer(broker.read_batches(&path.topic, path.partition, &query).await?)),
        Wanted::Events => return events::answer(broker, path, query, &headers).await,
        Wanted::CloudEvents => {
            let records = broker.read_held(&path.topic, path.partition, &query).await?;
            return Ok(cloud_events::read(records, broker.cluster(), &path.topic, path.partition));
        }
    }
    let records = broker.read_held(&path.topic, path.partition, &query).await?;
    let size = |read: &Records| read.records.iter().map(|record| RECORD_BYTES + record.payload.len()).sum();
    Ok(written(records, size, |read, out| write_records(path.partition, read, out)))
}

/// As what a client wants the records of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Json,
    Batches,
    Events,
    CloudEvents,
}

/// The first media type that a client names and that there is; JSON if there is none.
fn wanted(headers: &HeaderMap) -> Wanted {
    let mut known = accepted(headers).filter_map(|media_type| match &*media_type {
        APPLICATION_BATCH => Some(Wanted::Batches),
        TEXT_EVENT_STREAM => Some(Wanted::Events),
        APPLICATION_EVENTS => Some(Wanted::CloudEvents),
        APPLICATION_JSON | "application/*" | "*/*" => Some(Wanted::Json),
        _ => None,
    });
    known.next().unwrap_or(Wanted::Json)
}

/// Writes a [`ReadResponse`].
fn write_records(partition: PartitionId, read: &Records, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"records":["#);
    for (index, record) in read.records.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        let StoredRecord { offset, timestamp_ms, payload } = record;
        write::fields(out, RecordOut { partition, offset: *offset, timestamp_ms: *timestamp_ms, payload });
        out.push(b'}');
    }
    out.extend_from_slice(br#"],"next_offset":"#);
    write::json(out, &read.next_offset);
    out.extend_from_slice(br#","log_start_offset":"#);
    write::json(out, &read.log_start);
    out.extend_from_slice(br#","high_watermark":"#);
    write::json(out, &read.high_watermark);
    out.push(b'}');
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(produce, read))]
pub(super) struct Doc;
