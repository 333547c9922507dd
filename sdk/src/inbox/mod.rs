//! The inbox: makes the effect of a consumer's handler happen once, in the database that it writes to.
//!
//! A group delivers a record at least once: again when the handler's process dies, when its lease runs out, when its acknowledgement is lost. An
//! inbox writes a row a record in the transaction of the handler's own writes. A delivery that finds the row is acknowledged and does
//! nothing.
//!
//! A record is known by its topic, group, partition, offset and time. Old rows are swept; up to which record of each partition, is kept. A
//! delivery that finds no row where one may have been swept becomes a dead letter with [`INBOX_SWEPT`] in its reason: nobody knows whether it
//! was handled, so somebody has to look, and if it was not, to say so (`resolve`) and to redrive it. How often it was delivered says nothing
//! about that: a redrive begins the count anew.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "rocksdb")]
pub mod rocks;
#[cfg(feature = "rocksdb")]
mod rocks_row;

use crate::consumer::HandlerError;
use sagamq_api::ids::Offset;
use sagamq_api::queue::Delivery;

/// How the reason begins of a delivery that may have been handled so long ago that its row is swept.
pub const INBOX_SWEPT: &str = "INBOX_SWEPT";

/// What an inbox did with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// It was the first: the effect ran, returned this, and is committed.
    First(T),
    /// It was handled before: the effect did not run.
    Again,
}

/// The refusal of a delivery without a row, of a record up to which rows were swept.
fn swept(delivery: &Delivery, up_to: Offset) -> HandlerError {
    let record = &delivery.record;
    HandlerError::terminate(format!(
        "{INBOX_SWEPT}: rows up to offset {up_to} of partition {} were swept: whether the record at offset {} was handled is not known; look, \
         and if it was not, say so with `resolve` and redrive it",
        record.partition, record.offset
    ))
}

#[expect(clippy::disallowed_methods, reason = "the time is only a mark for sweeping old rows")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
