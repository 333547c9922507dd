//! Queue groups: receive and settle records, describe and delete groups.

use crate::broker::held::{RECORD_BYTES, buffer, held_json};
use crate::broker::{cloud_events, deliveries};
use crate::web::access::{Acting, Caller};
use crate::web::extract::{GroupPath, JsonBody, PathParams, TopicPath};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::access::Resource;
use sagamq_api::queue::{
    AckRequest, ExtendRequest, GroupDescription, GroupList, GroupPause, GroupSeek, GroupSeekResponse, NackRequest, PurgeRequest,
    PurgeResponse, ReceiveRequest, ReceiveResponse, SettleResponse, TerminateRequest,
};
use sagamq_api::record::write::{self, RecordOut};
use sagamq_api::routes::{GROUP, routed};
use sagamq_api::{Problem, routes};
use sagamq_broker::log::batch::StoredRecord;
use sagamq_broker::{Broker, Delivered, Received};

/// What a lease takes in an answer beside its receipt, about.
const LEASE_BYTES: usize = 72;

pub(super) fn routes() -> Router<Broker> {
    Router::new()
        .route(routes::GROUPS, get(list))
        .route(GROUP, get(describe).delete(delete))
        .route(&routed(GROUP, "receive"), post(receive))
        .route(&routed(GROUP, "ack"), post(ack))
        .route(&routed(GROUP, "nack"), post(nack))
        .route(&routed(GROUP, "extend"), post(extend))
        .route(&routed(GROUP, "terminate"), post(terminate))
        .route(&routed(GROUP, "pause"), post(pause))
        .route(&routed(GROUP, "resume"), post(resume))
        .route(&routed(GROUP, "purge"), post(purge))
        .route(&routed(GROUP, "seek"), post(seek))
}

/// Lists the groups of a topic and how far each is; to a key, those that it has a role for.
#[utoipa::path(get, path = "/v1/topics/{topic}/groups", operation_id = "listGroups", tag = "groups", params(("topic" = String, Path, description = "Name of the topic")), responses(
    (status = 200, description = "The groups by name", body = GroupList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(broker): State<Broker>, caller: Caller, PathParams(path): PathParams<TopicPath>) -> Result<Json<GroupList>, ApiError> {
    let mut groups = broker.groups(&path.topic).await?;
    groups.retain(|group| caller.may(&Resource::group(path.topic.as_str(), group.name.as_str())));
    Ok(Json(GroupList { groups }))
}

/// Describes a group: lag, records in flight, dead letters, by partition.
#[utoipa::path(get, path = "/v1/topics/{topic}/groups/{group}", operation_id = "describeGroup", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    responses(
        (status = 200, description = "The group", body = GroupDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn describe(State(broker): State<Broker>, PathParams(path): PathParams<GroupPath>) -> Result<Json<GroupDescription>, ApiError> {
    Ok(Json(broker.describe_group(&path.topic, &path.group).await?))
}

/// Deletes a group with its dead letters. Its receipts are not valid any more.
#[utoipa::path(delete, path = "/v1/topics/{topic}/groups/{group}", operation_id = "deleteGroup", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    responses(
        (status = 204, description = "The group is deleted"),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn delete(Acting(broker): Acting<Broker>, PathParams(path): PathParams<GroupPath>) -> Result<StatusCode, ApiError> {
    broker.delete_group(&path.topic, &path.group).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Leases records to the caller. The group is made by its first receive; the body may be left out.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:receive", operation_id = "receiveRecords", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = Option<ReceiveRequest>,
    responses(
        (status = 200, description = "The records, or why there are none. With `accept: application/vnd.sagamq.deliveries` the length of a head (u32, big-endian), the head as JSON with the leases, and record batches (Kafka's RecordBatch v2), each with its partition in front (u32, big-endian). With `accept: application/cloudevents-batch+json` a list of CloudEvents 1.0, each with its receipt in `sagamqreceipt`", content(
            (ReceiveResponse = "application/json"),
            (Vec<u8> = "application/vnd.sagamq.deliveries"),
            (Vec<serde_json::Value> = "application/cloudevents-batch+json"),
        )),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn receive(
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<GroupPath>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<ReceiveRequest>,
) -> Result<Response, ApiError> {
    if deliveries::is_wanted(&headers) {
        return Ok(deliveries::answer(broker.receive_as(&path.topic, &path.group, &request, deliveries::written).await?));
    }
    if cloud_events::are_wanted(&headers) {
        let (cluster, topic) = (broker.cluster(), path.topic.clone());
        let written = move |received: &Received| cloud_events::received(cluster, &topic, received);
        return Ok(cloud_events::answer(broker.receive_as(&path.topic, &path.group, &request, written).await?));
    }
    let answer = |received: &Received| {
        let size = |delivered: &Delivered| delivered.receipt.len() + LEASE_BYTES + RECORD_BYTES + delivered.record.payload.len();
        let mut out = buffer(received.deliveries.iter().map(size).sum());
        write_received(received, &mut out);
        out
    };
    Ok(held_json(broker.receive_as(&path.topic, &path.group, &request, answer).await?))
}

/// Writes a [`ReceiveResponse`].
fn write_received(received: &Received, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"deliveries":["#);
    for (index, delivered) in received.deliveries.iter().enumerate() {
        let Delivered { partition, record, .. } = delivered;
        deliveries::open_lease(out, index, delivered);
        out.push(b',');
        let StoredRecord { offset, timestamp_ms, payload } = record;
        write::fields(out, RecordOut { partition: *partition, offset: *offset, timestamp_ms: *timestamp_ms, payload });
        out.push(b'}');
    }
    out.push(b']');
    if let Some(reason) = &received.empty_reason {
        out.extend_from_slice(br#","empty_reason":"#);
        write::json(out, reason);
    }
    out.push(b'}');
}

/// Acknowledges records: they are done. Durable when it is answered.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:ack", operation_id = "ackRecords", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = AckRequest,
    responses(
        (status = 200, description = "What became of each receipt", body = SettleResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn ack(
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<AckRequest>,
) -> Result<Json<SettleResponse>, ApiError> {
    Ok(Json(broker.ack(&path.topic, &path.group, &request).await?))
}

/// Gives records back: they are delivered again after a delay, or become dead letters if this was their last delivery.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:nack", operation_id = "nackRecords", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = NackRequest,
    responses(
        (status = 200, description = "What became of each receipt", body = SettleResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn nack(
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<NackRequest>,
) -> Result<Json<SettleResponse>, ApiError> {
    Ok(Json(broker.nack(&path.topic, &path.group, &request).await?))
}

/// Keeps records longer: their leases end the given time from now.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:extend", operation_id = "extendLeases", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = ExtendRequest,
    responses(
        (status = 200, description = "What became of each receipt", body = SettleResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn extend(
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<ExtendRequest>,
) -> Result<Json<SettleResponse>, ApiError> {
    Ok(Json(broker.extend(&path.topic, &path.group, &request).await?))
}

/// Makes records dead letters now: they can never be processed.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:terminate", operation_id = "terminateRecords", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = TerminateRequest,
    responses(
        (status = 200, description = "What became of each receipt", body = SettleResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn terminate(
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<TerminateRequest>,
) -> Result<Json<SettleResponse>, ApiError> {
    Ok(Json(broker.terminate(&path.topic, &path.group, &request).await?))
}

/// Delivers nothing to a group until it is resumed. What is leased can be settled; an empty receive says `paused`.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:pause", operation_id = "pauseGroup", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    responses(
        (status = 200, description = "The group is paused", body = GroupPause),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn pause(Acting(broker): Acting<Broker>, PathParams(path): PathParams<GroupPath>) -> Result<Json<GroupPause>, ApiError> {
    Ok(Json(broker.pause_group(&path.topic, &path.group, true).await?))
}

/// Delivers to a paused group again.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:resume", operation_id = "resumeGroup", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    responses(
        (status = 200, description = "The group is not paused", body = GroupPause),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn resume(Acting(broker): Acting<Broker>, PathParams(path): PathParams<GroupPath>) -> Result<Json<GroupPause>, ApiError> {
    Ok(Json(broker.pause_group(&path.topic, &path.group, false).await?))
}

/// Settles every record that is there now, those that are leased included. Dead letters stay on their list. The body may be left out.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:purge", operation_id = "purgeGroup", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = Option<PurgeRequest>,
    responses(
        (status = 200, description = "How many records were settled", body = PurgeResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn purge(
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<PurgeRequest>,
) -> Result<Json<PurgeResponse>, ApiError> {
    Ok(Json(broker.purge_group(&path.topic, &path.group, &request).await?))
}

/// Sets where a group stands: what lies below is settled, what lies from there on is delivered, also what was settled before. Leases end.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:seek", operation_id = "seekGroup", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = GroupSeek,
    responses(
        (status = 200, description = "Where the group stands", body = GroupSeekResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn seek(
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<GroupSeek>,
) -> Result<Json<GroupSeekResponse>, ApiError> {
    Ok(Json(broker.seek_group(&path.topic, &path.group, &request).await?))
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, describe, delete, receive, ack, nack, extend, terminate, pause, resume, purge, seek))]
pub(super) struct Doc;
