//! How a record travels: in a binary batch, or as JSON.

use crate::client::Client;
use crate::error::ClientError;
use bytes::Bytes;
use sagamq_api::batch::{BatchBuffer, FRAME_LEN, HEADER_LEN, NewBatch, Record, frame};
use sagamq_api::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use sagamq_api::partitioner::partition_of;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::ProducedRecord;
use sagamq_api::{PartitionId, TopicName};

/// What a record without a time says in a binary batch: it gets that of its arrival.
const NO_TIME_MS: i64 = -1;

/// Bytes of a record in a binary batch beside its payload, at most.
const RECORD_BYTES: usize = 36;

/// Bytes of the lengths of a header.
const HEADER_BYTES: usize = 10;

/// Bytes around a binary batch.
pub(super) const AROUND_BATCH_BYTES: usize = FRAME_LEN + HEADER_LEN;

/// How a producer sends its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// In batches that the server stores as they come: the fastest, and the smallest on the wire. Records with idempotency keys of their own,
    /// and those for later, travel as JSON, which alone can say that.
    #[default]
    Binary,
    /// As JSON, which people and proxies can read.
    Json,
}

/// One record, ready to travel.
#[derive(Debug)]
pub(super) enum Form {
    /// As JSON.
    Json(Vec<u8>),
    /// In a binary batch.
    Binary { record: Record, partition: Option<PartitionId> },
}

impl Form {
    pub(super) fn of(record: ProduceRecord, encoding: Encoding) -> Result<Self, ClientError> {
        // What a binary batch cannot say.
        let is_only_json = record.idempotency_key.is_some()
            || record.timestamp_ms == Some(NO_TIME_MS)
            || record.deliver_at.is_some()
            || record.delay_ms.is_some();
        if encoding == Encoding::Json || is_only_json {
            let json = serde_json::to_vec(&record)
                .map_err(|reason| ClientError::InvalidRequest { reason: format!("the record cannot be written as JSON: {reason}") })?;
            return Ok(Self::Json(json));
        }
        let (partition, timestamp_ms) = (record.partition, record.timestamp_ms.unwrap_or(NO_TIME_MS));
        let payload = record.into_payload().map_err(|reason| ClientError::InvalidRequest { reason: format!("the record: {reason}") })?;
        Ok(Self::Binary { record: Record { timestamp_ms, payload }, partition })
    }

    /// Bytes it takes in a request, at most.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Json(json) => json.len(),
            Self::Binary { record, .. } => RECORD_BYTES + HEADER_BYTES * record.payload.headers.len() + record.payload.len(),
        }
    }

    pub(super) fn is_json(&self) -> bool {
        matches!(self, Self::Json(_))
    }
}

/// Whether the record's key decides where it goes.
pub(super) fn decides_by_key(form: &Form) -> bool {
    matches!(form, Form::Binary { record, partition: None } if record.payload.key.is_some())
}

/// The body of a request that has these records as JSON.
pub(super) fn json_body<'a>(records: impl Iterator<Item = &'a Form>, bytes: usize) -> Bytes {
    const OPEN: &[u8] = br#"{"records":["#;
    const CLOSE: &[u8] = b"]}";
    let mut body = Vec::with_capacity(OPEN.len() + bytes + CLOSE.len() + 1_024);
    body.extend_from_slice(OPEN);
    for (index, form) in records.enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let Form::Json(json) = form else { unreachable!("a batch never mixes JSON and binary records") };
        body.extend_from_slice(json);
    }
    body.extend_from_slice(CLOSE);
    body.into()
}

/// A body of binary batches, and which records each of them has.
#[derive(Debug)]
pub(super) struct BinaryBody {
    bytes: Bytes,
    /// The places of each batch's records among all.
    places: Vec<Vec<usize>>,
    /// The times that the records came with, in their order.
    given_ms: Vec<Option<i64>>,
    /// Among how many partitions their keys chose.
    partitions: Option<u32>,
}

impl BinaryBody {
    /// Batches of these records: one a partition, or as many as the bounds ask for. `partitions`: how many the topic has; asked for only
    /// where a key decides.
    pub(super) fn of<'a>(records: impl Iterator<Item = &'a Form>, partitions: Option<u32>) -> Result<Self, ClientError> {
        let records: Vec<(&Record, Option<PartitionId>)> = records
            .map(|form| {
                let Form::Binary { record, partition } = form else { unreachable!("a batch never mixes JSON and binary records") };
                let by_key = |key| partition_of(key, partitions.expect("who has keys asked how many partitions there are"));
                (record, partition.or_else(|| record.payload.key.as_deref().map(by_key)))
            })
            .collect();
        let mut order: Vec<usize> = (0..records.len()).collect();
        // Stable: records of one partition keep their order.
        order.sort_by_key(|&place| records[place].1);
        let (mut body, mut places) = (Vec::new(), Vec::new());
        let mut buffer = BatchBuffer::default();
        for of_partition in order.chunk_by(|&a, &b| records[a].1 == records[b].1) {
            for batch in cut(of_partition, |place| records[place].0) {
                let encoded = NewBatch::encode_each(batch.iter().map(|&place| records[place].0), &mut buffer)
                    .map_err(|reason| ClientError::InvalidRequest { reason: reason.to_string() })?;
                body.extend_from_slice(&frame(records[batch[0]].1));
                body.extend_from_slice(encoded.bytes());
                places.push(batch.to_vec());
            }
        }
        let given_ms = records.iter().map(|(record, _)| Some(record.timestamp_ms).filter(|&time_ms| time_ms != NO_TIME_MS)).collect();
        Ok(Self { bytes: body.into(), places, given_ms, partitions })
    }

    /// Sends it; where each record is, in their order.
    pub(super) async fn send(&self, client: &Client, topic: &TopicName, key: Option<String>) -> Result<Vec<ProducedRecord>, ClientError> {
        let told = client.produce_batches(topic, self.bytes.clone(), key, self.partitions).await?;
        let is_whole = told.len() == self.places.len() && told.iter().zip(&self.places).all(|(told, of)| told.records as usize == of.len());
        if !is_whole {
            let reason = format!("{} batches were sent, the answer is about others: {told:?}", self.places.len());
            return Err(ClientError::Decode {
                url: client.url().to_owned(),
                source: std::sync::Arc::new(serde::ser::Error::custom(reason)),
            });
        }
        let mut produced: Vec<Option<ProducedRecord>> = vec![None; self.given_ms.len()];
        for (told, of) in told.iter().zip(&self.places) {
            for (delta, &place) in (0..).zip(of) {
                let timestamp_ms = self.given_ms[place].unwrap_or(told.timestamp_ms);
                let offset = told.offset.plus(delta);
                produced[place] = Some(ProducedRecord {
                    partition: told.partition,
                    offset: Some(offset),
                    schedule: None,
                    timestamp_ms,
                    duplicate: told.duplicate,
                });
            }
        }
        Ok(produced.into_iter().map(|one| one.expect("every record is in one batch")).collect())
    }
}

/// Parts that are small enough for one batch, and in which all records have a time or none has.
fn cut<'a>(places: &'a [usize], record: impl Fn(usize) -> &'a Record) -> Vec<&'a [usize]> {
    let mut parts = Vec::with_capacity(1);
    let (mut start, mut bytes) = (0, HEADER_LEN);
    for (at, &place) in places.iter().enumerate() {
        let next = record(place);
        let size = RECORD_BYTES + HEADER_BYTES * next.payload.headers.len() + next.payload.len();
        let is_timeless = |place: usize| record(place).timestamp_ms == NO_TIME_MS;
        let is_over = at - start >= BATCH_RECORDS_MAX as usize || bytes + size > BATCH_BYTES_MAX;
        if at > start && (is_over || is_timeless(place) != is_timeless(places[start])) {
            parts.push(&places[start..at]);
            (start, bytes) = (at, HEADER_LEN);
        }
        bytes += size;
    }
    parts.push(&places[start..]);
    parts
}
