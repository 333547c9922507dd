//! Records: produce, and read by offset or by time.

use crate::broker::{Broker, NewRecord, Produced, Records};
use crate::http::extract::{PartitionPath, PathParams, QueryParams, RawJson, TopicPath};
use crate::http::held::{RECORD_BYTES, json, written};
use crate::http::problem::ApiError;
use crate::log::batch::StoredRecord;
use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use sagamq_api::headers::IDEMPOTENCY_KEY;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::record::write::{self, RecordOut};
use sagamq_api::record::{PayloadError, RecordIn, RecordsIn};
use sagamq_api::topic::{ProduceRequest, ProduceResponse, ProducedRecord, ReadQuery, ReadResponse};
use sagamq_api::{ErrorCode, PartitionId, Problem, routes};

/// What the answer says of a record, about.
const PRODUCED_BYTES: usize = 96;

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::RECORDS, post(produce)).route(routes::PARTITION_RECORDS, get(read))
}

/// Stores records. They are on disk when it is answered; a record that was stored before, by its idempotency key, is answered
/// with its first place and `duplicate: true`.
#[utoipa::path(post, path = "/v1/topics/{topic}/records", operation_id = "produceRecords", tag = "records",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("idempotency-key" = Option<String>, Header, description = "One key for the whole request, 1 to 256 bytes, that holds over the topic: a retry with the same key and body is stored once, another body is refused"),
    ),
    request_body = ProduceRequest,
    responses(
        (status = 200, description = "Where the records are, in the order of the request", body = ProduceResponse),
        (status = 429, description = "The queue in front of the disk is full; nothing was stored", content_type = "application/problem+json", body = Problem,
            headers(("retry-after" = u32, description = "Seconds to wait"))),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn produce(
    State(broker): State<Broker>,
    PathParams(path): PathParams<TopicPath>,
    IdempotencyKey(key): IdempotencyKey,
    body: RawJson<BODY_BYTES_MAX>,
) -> Result<Response, ApiError> {
    let records = new_records(&body)?;
    // The records hold what they need of the body, and go when they are encoded.
    drop(body);
    let produced = broker.produce(&path.topic, records, key.as_deref()).await?;
    let shown = |Produced { partition, offset, timestamp_ms, duplicate }| ProducedRecord { partition, offset, timestamp_ms, duplicate };
    let mut bytes = Vec::with_capacity((produced.len() + 1) * PRODUCED_BYTES);
    write::json(&mut bytes, &ProduceResponse { records: produced.into_iter().map(shown).collect() });
    Ok(json(bytes.into()))
}

/// The records of a body, as bytes. Those that stand in it as they are stored are not copied.
fn new_records(body: &RawJson<BODY_BYTES_MAX>) -> Result<Vec<NewRecord>, ApiError> {
    let RecordsIn { records } = body.read()?;
    records.into_iter().enumerate().map(|(index, record)| new_record(index, record, body.body())).collect()
}

fn new_record(index: usize, mut record: RecordIn<'_>, body: &Bytes) -> Result<NewRecord, ApiError> {
    let payload = record.take_payload(body).map_err(|reason| {
        let code = match reason {
            PayloadError::Both(_) | PayloadError::NotText(_) => ErrorCode::InvalidRequest,
            PayloadError::Base64 { .. } => ErrorCode::InvalidBase64,
        };
        ApiError::new(code, format!("record {index}: {reason}"))
    })?;
    let RecordIn { partition, timestamp_ms, idempotency_key, .. } = record;
    Ok(NewRecord { payload, partition, timestamp_ms, idempotency_key: idempotency_key.map(|key| key.into_bytes(body)) })
}

/// Reads records of one partition, from an offset or a time on.
#[utoipa::path(get, path = "/v1/topics/{topic}/partitions/{partition}/records", operation_id = "readRecords", tag = "records",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("partition" = u32, Path, description = "Number of the partition"),
        ReadQuery,
    ),
    responses(
        (status = 200, description = "The records, and where to read on", body = ReadResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn read(
    State(broker): State<Broker>,
    PathParams(path): PathParams<PartitionPath>,
    QueryParams(query): QueryParams<ReadQuery>,
) -> Result<Response, ApiError> {
    let records = broker.read_held(&path.topic, path.partition, &query).await?;
    let capacity = |read: &Records| read.records.iter().map(|record| RECORD_BYTES + record.payload.len()).sum();
    Ok(written(records, capacity, |read, out| write_records(path.partition, read, out)))
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

/// The key of the request, if it has one.
struct IdempotencyKey(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut keys = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
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

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(produce, read))]
pub(super) struct Doc;
