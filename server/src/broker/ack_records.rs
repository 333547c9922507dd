//! Acknowledge-with-records.

use crate::broker::records::{caused, new_record};
use crate::web::access::{Acting, Caller};
use crate::web::cause::Cause;
use crate::web::extract::{GroupPath, PathParams, RawJson};
use crate::web::problem::ApiError;
use axum::routing::post;
use axum::{Json, Router};
use sagamq_api::limits::BODY_BYTES_MAX;
use sagamq_api::pipeline::{AckWithRecordsIn, AckWithRecordsRequest, AckWithRecordsResponse, ProducedTo};
use sagamq_api::record::Decoded;
use sagamq_api::topic::ProducedRecord;
use sagamq_api::{Problem, TopicName, routes};
use sagamq_broker::{AckedWithRecords, Broker, NewRecord, Produced};

pub(super) fn routes() -> Router<Broker> {
    Router::new().route(&routes::routed(routes::GROUP, "ack-with-records"), post(ack_with_records))
}

/// Acknowledges records and stores what was made of them, in one commit: both, or neither. The receipts are of one partition. The same
/// request again, as after a lost answer, changes nothing and says so.
#[utoipa::path(post, path = "/v1/topics/{topic}/groups/{group}:ack-with-records", operation_id = "ackWithRecords", tag = "groups",
    params(("topic" = String, Path, description = "Name of the topic"), ("group" = String, Path, description = "Name of the group")),
    request_body = AckWithRecordsRequest,
    responses(
        (status = 200, description = "The records are acknowledged, and the others are stored or on their way", body = AckWithRecordsResponse),
        (status = 409, description = "A lease is over: nothing was acknowledged and nothing stored", content_type = "application/problem+json", body = Problem),
        (status = "default", description = "A problem", content_type = "application/problem+json", body = Problem),
    ))]
async fn ack_with_records(
    Acting(broker): Acting<Broker>,
    caller: Caller,
    PathParams(path): PathParams<GroupPath>,
    Cause(cause): Cause,
    body: RawJson<BODY_BYTES_MAX>,
) -> Result<Json<AckWithRecordsResponse>, ApiError> {
    let AckWithRecordsIn { receipts, produce } = body.read()?;
    let mut decoded = Decoded::of_body(body.body().len());
    let mut of_topics: Vec<(TopicName, Vec<NewRecord>)> = Vec::with_capacity(produce.len());
    for to in produce {
        caller.require_produce(&to.topic)?;
        let records = to.records.into_iter().enumerate();
        let mut records =
            records.map(|(index, record)| new_record(index, record, body.body(), &mut decoded)).collect::<Result<Vec<_>, _>>()?;
        caused(&mut records, cause.as_ref());
        of_topics.push((to.topic, records));
    }
    drop(body);
    let names: Vec<TopicName> = of_topics.iter().map(|(topic, _)| topic.clone()).collect();
    let AckedWithRecords { duplicate, produced } = broker.ack_with_records(&path.topic, &path.group, &receipts, of_topics).await?;
    let produced =
        names.into_iter().zip(produced).map(|(topic, records)| ProducedTo { topic, records: records.into_iter().map(shown).collect() });
    Ok(Json(AckWithRecordsResponse { duplicate, produced: produced.collect() }))
}

fn shown(produced: Produced) -> ProducedRecord {
    let Produced { partition, offset, schedule, timestamp_ms, duplicate } = produced;
    ProducedRecord { partition, offset, schedule, timestamp_ms, duplicate }
}

/// What the OpenAPI description takes from here.
#[derive(utoipa::OpenApi)]
#[openapi(paths(ack_with_records))]
pub(super) struct Doc;
