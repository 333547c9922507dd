//! Topics: create, describe, list, change, delete.

use crate::web::access::{Acting, Caller};
use crate::web::extract::{JsonBody, PathParams, TopicPath};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use sagamq_api::access::Resource;
use sagamq_api::topic::{CreateTopic, TopicDescription, TopicList, UpdateTopic};
use sagamq_api::{Problem, routes};
use sagamq_broker::Broker;

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::TOPICS, get(list).post(create)).route(routes::TOPIC, get(describe).patch(update).delete(delete))
}

/// Lists all topics by name; to a key, those that it has a role for.
#[utoipa::path(get, path = "/v1/topics", operation_id = "listTopics", tag = "topics", responses(
    (status = 200, description = "The topics", body = TopicList),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn list(State(broker): State<Broker>, caller: Caller) -> Json<TopicList> {
    let mut topics = broker.topics();
    topics.retain(|topic| caller.may(&Resource::topic_of_any_group(topic.name.as_str())));
    Json(TopicList { topics })
}

/// Creates a topic. Durable when it is answered; repeating it with the same configuration changes nothing.
#[utoipa::path(post, path = "/v1/topics", operation_id = "createTopic", tag = "topics", request_body = CreateTopic, responses(
    (status = 201, description = "The topic was created", body = TopicDescription),
    (status = 200, description = "It was there with the same configuration", body = TopicDescription),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn create(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    JsonBody(request): JsonBody<CreateTopic>,
) -> Result<(StatusCode, Json<TopicDescription>), ApiError> {
    caller.require_topic(&request.name)?;
    let (topic, is_new) = broker.create_topic(&request.name, request.config).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(topic)))
}

/// Describes a topic and which offsets of its partitions can be read.
#[utoipa::path(get, path = "/v1/topics/{topic}", operation_id = "describeTopic", tag = "topics", params(("topic" = String, Path, description = "Name of the topic")), responses(
    (status = 200, description = "The topic", body = TopicDescription),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn describe(State(broker): State<Broker>, PathParams(path): PathParams<TopicPath>) -> Result<Json<TopicDescription>, ApiError> {
    Ok(Json(broker.describe_topic(&path.topic)?))
}

/// Changes the configuration of a topic while it is in use. Durable when it is answered, and in force from then on; what is not named stays.
#[utoipa::path(patch, path = "/v1/topics/{topic}", operation_id = "updateTopic", tag = "topics", params(("topic" = String, Path, description = "Name of the topic")), request_body = UpdateTopic, responses(
    (status = 200, description = "The topic as it is now", body = TopicDescription),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn update(
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<TopicPath>,
    JsonBody(request): JsonBody<UpdateTopic>,
) -> Result<Json<TopicDescription>, ApiError> {
    Ok(Json(broker.update_topic(&path.topic, request.config).await?))
}

/// Deletes a topic with its records, its groups and their dead letters.
#[utoipa::path(delete, path = "/v1/topics/{topic}", operation_id = "deleteTopic", tag = "topics", params(("topic" = String, Path, description = "Name of the topic")), responses(
    (status = 204, description = "The topic is deleted"),
    (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
))]
async fn delete(Acting(broker): Acting<Broker>, PathParams(path): PathParams<TopicPath>) -> Result<StatusCode, ApiError> {
    broker.delete_topic(&path.topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, create, describe, update, delete))]
pub(super) struct Doc;
