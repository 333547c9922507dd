//! How a record travels: in a binary batch, or as JSON.

use crate::error::ClientError;
use bytes::Bytes;
use sagamq_api::PartitionId;
use sagamq_api::batch::{self, BatchBuffer, Compression, FRAME_LEN, HEADER_LEN, NewBatch, Record, Stamp, frame};
use sagamq_api::record::ProduceRecord;

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

    /// Whether it says to which partition it goes.
    pub(super) fn names_partition(&self) -> bool {
        matches!(self, Self::Binary { partition: Some(_), .. })
    }

    /// Whether it can go to one partition only: it names it, or has a key.
    pub(super) fn is_bound(&self) -> bool {
        matches!(self, Self::Binary { record, partition } if partition.is_some() || record.payload.key.is_some())
    }

    /// The time that a binary record came with, in milliseconds since 1970.
    pub(super) fn given_ms(&self) -> Option<i64> {
        match self {
            Self::Binary { record, .. } => Some(record.timestamp_ms).filter(|&time_ms| time_ms != NO_TIME_MS),
            Self::Json(_) => None,
        }
    }
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

/// Bodies with fewer bytes are not compressed: there is little to gain, and both sides would work for it.
const COMPRESSED_BYTES_MIN: usize = 1024;

/// What is compressed on the thread that sends, in bytes: more would keep others waiting.
const COMPRESSED_AT_ONCE_MAX: usize = 64 * 1024;

/// The body with its batch compressed, if that makes it smaller; always the same of the same.
pub(super) async fn compressed(body: Bytes, compression: Compression) -> Bytes {
    let packed = if compression == Compression::None || body.len() < COMPRESSED_BYTES_MIN {
        None
    } else if body.len() <= COMPRESSED_AT_ONCE_MAX {
        pack(&body, compression)
    } else {
        let whole = body.clone();
        // Without an answer the runtime ends, and nothing will be sent.
        tokio::task::spawn_blocking(move || pack(&whole, compression)).await.ok().flatten()
    };
    packed.unwrap_or(body)
}

fn pack(body: &[u8], compression: Compression) -> Option<Bytes> {
    let (frame, batch) = body.split_at_checked(FRAME_LEN)?;
    Some([frame, &batch::compressed(batch, compression)?].concat().into())
}

/// The body of a request that has these records as one binary batch, with what it says of its producer, if anything.
///
/// # Errors
/// When they cannot stand in one batch, for example for their times.
pub(super) fn encode<'a>(
    records: impl Iterator<Item = &'a Form> + Clone,
    partition: PartitionId,
    stamp: Option<Stamp>,
) -> Result<Bytes, ClientError> {
    let records = records.map(|form| match form {
        Form::Binary { record, .. } => record,
        Form::Json(_) => unreachable!("a batch never mixes JSON and binary records"),
    });
    let batch = NewBatch::encode_each(records, &mut BatchBuffer::default())
        .map_err(|reason| ClientError::InvalidRequest { reason: reason.to_string() })?;
    let batch = match stamp {
        Some(stamp) => batch.stamped(stamp),
        None => batch,
    };
    let mut body = Vec::with_capacity(FRAME_LEN + batch.len());
    body.extend_from_slice(&frame(Some(partition)));
    body.extend_from_slice(batch.bytes());
    Ok(body.into())
}
