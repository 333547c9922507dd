//! Records: produce, and read by offset or by time.

use crate::broker::Broker;
use crate::http::extract::{JsonBody, PartitionPath, PathParams, QueryParams, TopicPath};
use crate::http::held::HeldJson;
use crate::http::problem::ApiError;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::headers::IDEMPOTENCY_KEY;
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::topic::{ProduceRequest, ProduceResponse, ReadQuery, ReadResponse};
use sagamq_api::{Problem, routes};

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
    headers: HeaderMap,
    JsonBody(request): JsonBody<ProduceRequest, BODY_BYTES_MAX>,
) -> Result<Json<ProduceResponse>, ApiError> {
    let key = idempotency_key(&headers)?;
    let records = broker.produce(&path.topic, request.records, key).await?;
    Ok(Json(ProduceResponse { records }))
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
) -> Result<HeldJson<ReadResponse>, ApiError> {
    Ok(HeldJson(broker.read_held(&path.topic, path.partition, &query).await?))
}

/// The key of the request, if it has one. Two would make it unclear which one a retry has to repeat.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    if keys.next().is_some() {
        return Err(ApiError::invalid(format!("the header `{IDEMPOTENCY_KEY}` is there more than once: send one key")));
    }
    match key.to_str() {
        Ok(key) => Ok(Some(key)),
        Err(_) => Err(ApiError::invalid(format!("the header `{IDEMPOTENCY_KEY}` has bytes that are not visible ASCII"))),
    }
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(produce, read))]
pub(super) struct Doc;
