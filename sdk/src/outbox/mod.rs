//! The outbox: produces what a transaction of the database has to say, if and only if that transaction commits.
//!
//! A transaction writes its records beside its other writes. A pump, one at a time however many processes run one, reads what is committed in
//! the order in which it was written, produces it, and deletes it. So a record is produced at least once, and stored once: it keeps one
//! idempotency key, and a repetition within the topic's deduplication window is not stored again. Records of one key keep their order, as far
//! as their transactions had one.
//!
//! A record that the broker can never store (it is too large, its partition does not exist) is set aside with the reason, and the others go on.

#[cfg(feature = "postgres")]
pub mod postgres;
mod pump;
#[cfg(feature = "rocksdb")]
pub mod rocks;
#[cfg(feature = "rocksdb")]
mod rocks_open;
#[cfg(feature = "rocksdb")]
mod rocks_row;

use crate::trace;
use sagamq_api::record::ProduceRecord;
use uuid::Uuid;

/// Why a record cannot be written to an outbox.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError<E: std::error::Error + 'static> {
    /// The record cannot be written as JSON.
    #[error("the record cannot be written as JSON")]
    Record(#[source] serde_json::Error),
    /// The database failed.
    #[error("the outbox's database failed")]
    Database(#[source] E),
}

/// A record that is set aside because the broker can never store it.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedRecord {
    /// Its number in the outbox.
    pub id: i64,
    /// Where it was to go.
    pub topic: String,
    /// The record as it was written, JSON.
    pub record: String,
    /// Why.
    pub reason: String,
}

/// The text of a record in an outbox: with an idempotency key, which it keeps however often it is produced.
fn record_text(mut record: ProduceRecord) -> Result<String, serde_json::Error> {
    record.idempotency_key.get_or_insert_with(|| Uuid::now_v7().to_string());
    // Whoever pumps it knows no more what it was for.
    trace::note(&mut record.headers);
    serde_json::to_string(&record)
}
