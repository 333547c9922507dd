//! Stream groups: heartbeat, commit, offsets, seek, describe, delete.

use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams, StreamGroupPath};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::access::{Part, Resource};
use sagamq_api::routes::{STREAM_GROUP, routed};
use sagamq_api::stream::{
    StreamCommit, StreamCommitResponse, StreamGroupDescription, StreamGroupList, StreamHeartbeat, StreamHeartbeatResponse,
    StreamOffsetList, StreamSeek,
};
use sagamq_api::{GroupName, Problem, TopicName, routes};
use sagamq_broker::Broker;

pub(super) fn routes() -> Router<Broker> {
    Router::new()
        .route(routes::STREAM_GROUPS, get(list))
        .route(STREAM_GROUP, get(describe).delete(delete))
        .route(routes::STREAM_OFFSETS, get(offsets))
        .route(&routed(STREAM_GROUP, "heartbeat"), post(heartbeat))
        .route(&routed(STREAM_GROUP, "commit"), post(commit))
        .route(&routed(STREAM_GROUP, "seek"), post(seek))
}

/// Lists the stream groups.
#[utoipa::path(get, path = "/v1/stream-groups", operation_id = "listStreamGroups", tag = "stream groups", responses(
    (status = 200, description = "The groups by name", body = StreamGroupList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(broker): State<Broker>, caller: Caller) -> Json<StreamGroupList> {
    let StreamGroupList { mut groups } = broker.stream_groups();
    groups.retain(|group| may(&caller, &group.name, &group.topics));
    Json(StreamGroupList { groups })
}

/// Whether whoever asks may do it with the group in each topic that it reads. One that reads nothing any more is for those with all topics.
fn may(caller: &Caller, group: &GroupName, topics: &[TopicName]) -> bool {
    require_topics(caller, group, topics).is_ok()
}

/// That whoever asks may do it with the group in each topic that it reads.
fn require_group(caller: &Caller, broker: &Broker, group: &GroupName) -> Result<(), ApiError> {
    if caller.is_limited() { require_topics(caller, group, &broker.stream_group_topics(group)?) } else { Ok(()) }
}

fn require_topics(caller: &Caller, group: &GroupName, topics: &[TopicName]) -> Result<(), ApiError> {
    if topics.is_empty() {
        return caller.require(&Resource { topic: Part::All, group: Part::Named(group.as_str()), saga: Part::None });
    }
    topics.iter().try_for_each(|topic| caller.require_group(topic, group))
}

/// Describes a stream group: its members, and how far it has come in each partition.
#[utoipa::path(get, path = "/v1/stream-groups/{group}", operation_id = "describeStreamGroup", tag = "stream groups",
    params(("group" = String, Path, description = "Name of the group")),
    responses(
        (status = 200, description = "The group", body = StreamGroupDescription),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn describe(
    State(broker): State<Broker>,
    caller: Caller,
    PathParams(path): PathParams<StreamGroupPath>,
) -> Result<Json<StreamGroupDescription>, ApiError> {
    require_group(&caller, &broker, &path.group)?;
    Ok(Json(broker.describe_stream_group(&path.group).await?))
}

/// Deletes a stream group that has no members, with its offsets.
#[utoipa::path(delete, path = "/v1/stream-groups/{group}", operation_id = "deleteStreamGroup", tag = "stream groups",
    params(("group" = String, Path, description = "Name of the group")),
    responses(
        (status = 204, description = "The group is deleted"),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn delete(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    PathParams(path): PathParams<StreamGroupPath>,
) -> Result<StatusCode, ApiError> {
    require_group(&caller, &broker, &path.group)?;
    broker.delete_stream_group(&path.group).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How far a stream group has come.
#[utoipa::path(get, path = "/v1/stream-groups/{group}/offsets", operation_id = "getStreamOffsets", tag = "stream groups",
    params(("group" = String, Path, description = "Name of the group")),
    responses(
        (status = 200, description = "The next record to read in each partition", body = StreamOffsetList),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn offsets(
    State(broker): State<Broker>,
    caller: Caller,
    PathParams(path): PathParams<StreamGroupPath>,
) -> Result<Json<StreamOffsetList>, ApiError> {
    require_group(&caller, &broker, &path.group)?;
    Ok(Json(broker.stream_offsets(&path.group).await?))
}

/// Joins, stays, hands back or leaves, and says what the member is to read. The group is made by the first join.
#[utoipa::path(post, path = "/v1/stream-groups/{group}:heartbeat", operation_id = "streamHeartbeat", tag = "stream groups",
    params(("group" = String, Path, description = "Name of the group")),
    request_body = StreamHeartbeat,
    responses(
        (status = 200, description = "What the member is to read", body = StreamHeartbeatResponse),
        (status = "default", description = "A problem; FENCED: stop what was assigned, and join again", content_type = "application/problem+json", body = Problem),
    ))]
async fn heartbeat(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    PathParams(path): PathParams<StreamGroupPath>,
    JsonBody(request): JsonBody<StreamHeartbeat>,
) -> Result<Json<StreamHeartbeatResponse>, ApiError> {
    match &request.topics {
        // The first join makes the group.
        Some(topics) => {
            require_topics(&caller, &path.group, topics)?;
            if let Ok(known) = broker.stream_group_topics(&path.group) {
                require_topics(&caller, &path.group, &known)?;
            }
        }
        None => require_group(&caller, &broker, &path.group)?,
    }
    Ok(Json(broker.stream_heartbeat(&path.group, &request).await?))
}

/// Commits how far a member has come: all of it or nothing, and only in partitions that it holds.
#[utoipa::path(post, path = "/v1/stream-groups/{group}:commit", operation_id = "streamCommit", tag = "stream groups",
    params(("group" = String, Path, description = "Name of the group")),
    request_body = StreamCommit,
    responses(
        (status = 200, description = "It is stored", body = StreamCommitResponse),
        (status = "default", description = "A problem; FENCED: nothing was stored", content_type = "application/problem+json", body = Problem),
    ))]
async fn commit(
    State(broker): State<Broker>,
    caller: Caller,
    PathParams(path): PathParams<StreamGroupPath>,
    JsonBody(request): JsonBody<StreamCommit>,
) -> Result<Json<StreamCommitResponse>, ApiError> {
    require_group(&caller, &broker, &path.group)?;
    Ok(Json(broker.stream_commit(&path.group, &request).await?))
}

/// Sets how far a stream group has come. Members that read there begin anew from there.
#[utoipa::path(post, path = "/v1/stream-groups/{group}:seek", operation_id = "streamSeek", tag = "stream groups",
    params(("group" = String, Path, description = "Name of the group")),
    request_body = StreamSeek,
    responses(
        (status = 200, description = "Where it stands then", body = StreamOffsetList),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn seek(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    PathParams(path): PathParams<StreamGroupPath>,
    JsonBody(request): JsonBody<StreamSeek>,
) -> Result<Json<StreamOffsetList>, ApiError> {
    require_group(&caller, &broker, &path.group)?;
    Ok(Json(broker.stream_seek(&path.group, &request).await?))
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, describe, delete, offsets, heartbeat, commit, seek))]
pub(super) struct Doc;
