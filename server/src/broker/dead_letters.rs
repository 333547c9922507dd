//! Dead letters of a group: list them, deliver them again, discard them.

use crate::broker::held::{RECORD_BYTES, written};
use crate::web::access::{Acting, Caller};
use crate::web::extract::{GroupPath, JsonBody, PathParams, QueryParams};
use crate::web::problem::ApiError;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use sagamq_api::queue::{DeadLetterList, DeadLetterQuery, DiscardRequest, DiscardResponse, RedriveRequest, RedriveResponse};
use sagamq_api::record::write::{self, RecordOut};
use sagamq_api::{Problem, routes};
use sagamq_broker::log::batch::StoredRecord;
use sagamq_broker::{Broker, DeadLetter, DeadLetters};

/// What stands beside a dead letter's record in an answer, about.
const LETTER_BYTES: usize = 128;

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
) -> Result<Response, ApiError> {
    let letters = broker.dead_letters_held(&path.topic, &path.group, &query).await?;
    let size = |letter: &DeadLetter| LETTER_BYTES + RECORD_BYTES + letter.record.payload.len();
    Ok(written(letters, |letters| letters.dead_letters.iter().map(size).sum(), write_letters))
}

/// Writes a [`DeadLetterList`].
fn write_letters(letters: &DeadLetters, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"dead_letters":["#);
    for (index, letter) in letters.dead_letters.iter().enumerate() {
        let DeadLetter { cause, reason, attempts, origin_offset, dead_at_ms, partition, record } = letter;
        out.extend_from_slice(if index == 0 { br#"{"cause":"# } else { br#",{"cause":"# });
        write::text(out, cause);
        if let Some(reason) = reason {
            out.extend_from_slice(br#","reason":"#);
            write::text(out, reason);
        }
        out.extend_from_slice(br#","attempts":"#);
        write::json(out, attempts);
        out.extend_from_slice(br#","origin_offset":"#);
        write::json(out, origin_offset);
        out.extend_from_slice(br#","dead_at_ms":"#);
        write::json(out, dead_at_ms);
        out.extend_from_slice(br#","record":{"#);
        let StoredRecord { offset, timestamp_ms, payload } = record;
        write::fields(out, RecordOut { partition: *partition, offset: *offset, timestamp_ms: *timestamp_ms, payload });
        out.extend_from_slice(b"}}");
    }
    out.push(b']');
    if let Some(cursor) = &letters.next_cursor {
        out.extend_from_slice(br#","next_cursor":"#);
        write::text(out, cursor);
    }
    out.push(b'}');
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
    Acting(broker): Acting<Broker>,
    caller: Caller,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<RedriveRequest>,
) -> Result<Json<RedriveResponse>, ApiError> {
    // What an edit says is delivered as if it had been produced.
    if request.edit.is_some() {
        caller.require_produce(&path.topic)?;
    }
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
    Acting(broker): Acting<Broker>,
    PathParams(path): PathParams<GroupPath>,
    JsonBody(request): JsonBody<DiscardRequest>,
) -> Result<Json<DiscardResponse>, ApiError> {
    Ok(Json(broker.discard(&path.topic, &path.group, &request).await?))
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(list, redrive, discard))]
pub(super) struct Doc;
