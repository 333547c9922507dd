//! Dead letters of a group: list them, deliver them again, discard them.

use crate::broker::Broker;
use crate::http::extract::{GroupPath, JsonBody, PathParams, QueryParams};
use crate::http::held::HeldJson;
use crate::http::problem::ApiError;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::queue::{DeadLetterList, DeadLetterQuery, DiscardRequest, DiscardResponse, RedriveRequest, RedriveResponse};
use sagamq_api::{Problem, routes};

pub(super) fn routes() -> Router<Broker> {
    Router::new()
        .route(routes::DEAD_LETTERS, get(list))
        .route(&routes::routed(routes::GROUP, "redrive"), post(redrive))
        .route(&routes::routed(routes::GROUP, "discard"), post(discard))
}

/// Lists the group's dead letters that were neither redriven nor discarded, each with its cause, attempts and origin.
#[utoipa::path(get, path = "/v1/topics/{topic}/groups/{group}/dead-letters", operation_id = "listDeadLetters", tag = "dead letters",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("group" = String, Path, description = "Name of the group"),
        DeadLetterQuery,
    ),
    responses(
        (status = 200, description = "The dead letters, oldest first in each partition", body = DeadLetterList),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn list(
    State(broker): State<Broker>,
    PathParams(path): PathParams<GroupPath>,
    QueryParams(query): QueryParams<DeadLetterQuery>,
) -> Result<HeldJson<DeadLetterList>, ApiError> {
    Ok(HeldJson(broker.dead_letters_held(&path.topic, &path.group, &query).await?))
}

/// Delivers dead letters to the group again, with a fresh count of deliveries. The body may be left out: all of them, as far as
/// one request goes.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:redrive", operation_id = "redriveDeadLetters", tag = "dead letters",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = Option<RedriveRequest>,
    responses(
        (status = 200, description = "How many are delivered again and how many are left", body = RedriveResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn redrive(
    State(broker): State<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<RedriveRequest>,
) -> Result<Json<RedriveResponse>, ApiError> {
    Ok(Json(broker.redrive(&path.topic, &path.group, &request).await?))
}

/// Takes dead letters off the list without delivering them again; their records stay in the dead-letter topic. What is meant has to be
/// said: `all`, or at least one of `cause`, `partition` and `offsets`.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:discard", operation_id = "discardDeadLetters", tag = "dead letters",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = DiscardRequest,
    responses(
        (status = 200, description = "How many are discarded and how many are left", body = DiscardResponse),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn discard(
    State(broker): State<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<DiscardRequest>,
) -> Result<Json<DiscardResponse>, ApiError> {
    Ok(Json(broker.discard(&path.topic, &path.group, &request).await?))
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, redrive, discard))]
pub(super) struct Doc;
