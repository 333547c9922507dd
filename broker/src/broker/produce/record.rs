//! A record on its way into the log, as bytes: what any transport makes of its own form.

pub use crate::dedup::Due;

use bytes::Bytes;
use sagamq_api::record::Payload;
use sagamq_api::{Offset, PartitionId, ScheduleId, TraceContext};
use std::sync::Arc;

/// A record to store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Key, value and headers. The key decides the partition if nothing else does.
    pub payload: Payload,
    /// The partition; without it the key decides, else the idempotency key, else the broker.
    pub partition: Option<PartitionId>,
    /// Time of the record, in milliseconds since 1970; without it the broker's time of arrival.
    pub timestamp_ms: Option<i64>,
    /// A record with a key that its partition has seen within the topic's deduplication window is not stored again.
    pub idempotency_key: Option<Bytes>,
    /// When it is to be appended; without it at once. Not together with `timestamp_ms`: its time is that of its appending.
    pub due: Option<Due>,
    /// The span that it is caused by, if its headers say nothing of that and there is room for it.
    pub cause: Option<Arc<TraceContext>>,
}

/// Where a record was stored, or under which id it waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// Partition of the topic.
    pub partition: PartitionId,
    /// Place in the partition; none as long as it waits.
    pub offset: Option<Offset>,
    /// Names it as long as it waits.
    pub schedule: Option<ScheduleId>,
    /// Milliseconds since 1970; of one that waits, when it is due.
    pub timestamp_ms: i64,
    /// Whether the record was stored or scheduled by an earlier request; all of this is that one's.
    pub duplicate: bool,
}

impl NewRecord {
    /// A record with this value and nothing else.
    #[must_use]
    pub fn of(value: impl Into<Bytes>) -> Self {
        Self { payload: Payload { value: Some(value.into()), ..Payload::default() }, ..Self::default() }
    }

    /// The same record with a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.payload.key = Some(key.into());
        self
    }

    /// The same record with this text as the only header of its name.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.payload.headers.set(name, value);
        self
    }

    /// The same record for this partition.
    #[must_use]
    pub fn with_partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The same record, to be appended then.
    #[must_use]
    pub fn with_due(mut self, due: Due) -> Self {
        self.due = Some(due);
        self
    }

    /// The same record with an idempotency key of its own.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<Bytes>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }
}
