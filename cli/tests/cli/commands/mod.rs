//! What the commands ask of the server, and what they do with its answers.

mod group;
mod produce;
mod read;

use crate::support::{Asked, Scripted, json, problem, sagamq, until, wait};
use axum::response::Response;
use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process};
use sagamq_api::ErrorCode;
use sagamq_api::batch::{Batch, Compression, take_framed};
use sagamq_api::headers::APPLICATION_BATCH;
use sagamq_api::queue::{Delivery, EmptyReason, ReceiveResponse, SettleResponse, SettleResult, SettleStatus};
use sagamq_api::record::{ConsumedRecord, Payload, ProduceRecord};
use sagamq_api::topic::{
    PartitionDescription, ProduceBatchesResponse, ProduceRequest, ProduceResponse, ProducedBatch, ProducedRecord, ReadResponse,
    TopicConfig, TopicDescription,
};
use sagamq_api::{JsonText, Offset, PartitionId};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

/// A record as a request has it.
#[derive(Debug, PartialEq)]
struct Sent {
    payload: Payload,
    /// As it was named; a binary batch does not tell that from the one of a key.
    partition: Option<PartitionId>,
    idempotency_key: Option<String>,
}

fn sent(record: ProduceRecord) -> Sent {
    let (partition, idempotency_key) = (record.partition, record.idempotency_key.clone());
    Sent { payload: record.into_payload().expect("a record"), partition, idempotency_key }
}

/// The records of a produce request, and of a binary one how many each batch has.
fn records_of(asked: &Asked) -> (Vec<Sent>, Option<Vec<usize>>) {
    if asked.headers.get("content-type").is_none_or(|of| of != APPLICATION_BATCH) {
        let request: ProduceRequest = serde_json::from_value(asked.json()).expect("a produce request");
        return (request.records.into_iter().map(sent).collect(), None);
    }
    let (mut body, mut all, mut counts) = (BytesMut::from(&asked.body[..]), Vec::new(), Vec::new());
    while let Some((_, bytes)) = take_framed(&mut body).expect("whole batches") {
        let records = Batch::parse(bytes.freeze()).and_then(|batch| batch.records()).expect("a sound batch");
        counts.push(records.len());
        all.extend(records.into_iter().map(|record| Sent { payload: record.payload, partition: None, idempotency_key: None }));
    }
    (all, Some(counts))
}

fn is_produce(asked: &Asked) -> bool {
    asked.line.starts_with("POST ")
}

/// Answers a produce request whose records are stored in partition 0 from here on, and tells how far they reach.
fn store(asked: &Asked, next: &mut u64) -> Response {
    let (records, batches) = records_of(asked);
    let mut place = |records: usize| {
        *next += records as u64;
        *next - records as u64
    };
    let Some(batches) = batches else {
        let of = |_| {
            let offset = Some(Offset(place(1)));
            ProducedRecord { partition: PartitionId(0), offset, schedule: None, timestamp_ms: 0, duplicate: false }
        };
        return json(&ProduceResponse { records: records.into_iter().map(of).collect() });
    };
    let of = |records: usize| ProducedBatch {
        partition: PartitionId(0),
        offset: Offset(place(records)),
        records: u32::try_from(records).expect("few"),
        timestamp_ms: 0,
        duplicate: false,
    };
    json(&ProduceBatchesResponse { batches: batches.into_iter().map(of).collect() })
}

/// Stores everything in partition 0, in order, of a topic that has no other.
fn storing() -> Scripted {
    let mut next = 0;
    Scripted::new(move |asked| if is_produce(asked) { store(asked, &mut next) } else { one_partition() })
}

fn one_partition() -> Response {
    json(&json!({ "name": "orders", "config": { "partitions": 1 }, "created_at_ms": 0, "partitions": [] }))
}

fn produced(server: &Scripted) -> Vec<Sent> {
    server.asked().iter().filter(|asked| is_produce(asked)).flat_map(|asked| records_of(asked).0).collect()
}

fn record(partition: u32, offset: u64, value: &str) -> ConsumedRecord {
    let payload = ProduceRecord::text(value).into_payload().expect("a record");
    ConsumedRecord::new(PartitionId(partition), Offset(offset), 0, payload)
}
