//! Dead letters of a group: list them, and deliver them again.

use crate::broker::Broker;
use crate::http::extract::{GroupPath, JsonBody, PathParams, QueryParams};
use crate::http::held::HeldJson;
use crate::http::problem::ApiError;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::group::{DeadLetterList, DeadLetterQuery, RedriveRequest, RedriveResponse};
use sagamq_api::{Problem, routes};

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::DEAD_LETTERS, get(list)).route(&routes::routed(routes::GROUP, "redrive"), post(redrive))
}

/// Lists the group's dead letters that were not redriven, each with its cause, attempts and origin.
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

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, redrive))]
pub(super) struct Doc;
