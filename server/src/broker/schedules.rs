//! Records that wait for their time: list and cancel.

use crate::web::access::Acting;
use crate::web::extract::{PathParams, QueryParams, SchedulePath, TopicPath};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sagamq_api::schedule::{Schedule as Shown, ScheduleList, ScheduleQuery};
use sagamq_api::{Problem, routes};
use sagamq_broker::{Broker, Schedule, Schedules};

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(routes::SCHEDULES, get(list)).route(routes::SCHEDULE, delete(cancel))
}

/// Lists the topic's records that wait for their time, in the order in which they are due.
#[utoipa::path(get, path = "/v1/topics/{topic}/schedules", operation_id = "listSchedules", tag = "schedules",
    params(("topic" = String, Path, description = "Name of the topic"), ScheduleQuery),
    responses(
        (status = 200, description = "The records that wait", body = ScheduleList),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn list(
    State(broker): State<Broker>,
    PathParams(path): PathParams<TopicPath>,
    QueryParams(query): QueryParams<ScheduleQuery>,
) -> Result<Json<ScheduleList>, ApiError> {
    let Schedules { schedules, next_cursor } = broker.schedules(&path.topic, &query).await?;
    let schedules = schedules.into_iter().map(shown).collect();
    Ok(Json(ScheduleList { schedules, next_cursor: next_cursor.map(|id| id.to_string()) }))
}

fn shown(schedule: Schedule) -> Shown {
    let Schedule { id, partition, arrived_ms, key, bytes } = schedule;
    let (key, key_base64) = match key.map(|key| String::from_utf8(key.into())) {
        None => (None, None),
        Some(Ok(text)) => (Some(text), None),
        Some(Err(bytes)) => (None, Some(STANDARD.encode(bytes.as_bytes()))),
    };
    Shown { schedule: id, partition, deliver_at: id.due_ms, scheduled_at_ms: arrived_ms, key, key_base64, bytes: bytes.into() }
}

/// Cancels a record that waits: it is never appended, and its idempotency key is free again.
#[utoipa::path(delete, path = "/v1/topics/{topic}/schedules/{schedule}", operation_id = "cancelSchedule", tag = "schedules",
    params(
        ("topic" = String, Path, description = "Name of the topic"),
        ("schedule" = String, Path, description = "The schedule's id, as an answer gave it"),
    ),
    responses(
        (status = 204, description = "It is cancelled, durably"),
        (status = 404, description = "It was appended when it was due, it was cancelled, or it never was", content_type = "application/problem+json", body = Problem),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn cancel(Acting(broker): Acting<Broker>, PathParams(path): PathParams<SchedulePath>) -> Result<StatusCode, ApiError> {
    broker.cancel_schedule(&path.topic, path.schedule).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, cancel))]
pub(super) struct Doc;
