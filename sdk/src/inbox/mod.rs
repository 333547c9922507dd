//! The inbox: makes the effect of a consumer's handler happen once, in the database that it writes to.
//!
//! A group delivers a record at least once: again when the handler's process dies, when its lease runs out, when its acknowledgement is lost. An
//! inbox writes a row a record in the transaction of the handler's own writes. A delivery that finds the row is acknowledged and does
//! nothing.
//!
//! A record is known by its topic, group, partition, offset and time. Old rows are [swept](postgres::PostgresInbox::sweep); how far, is kept.
//! A repeated delivery that finds no row where one may have been swept becomes a dead letter with [`INBOX_SWEPT`] in its reason: nobody knows
//! whether it was handled, so somebody has to look, and to redrive it if it was not.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "rocksdb")]
pub mod rocks;
#[cfg(feature = "rocksdb")]
mod rocks_row;

use crate::consumer::HandlerError;
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

/// When a record counts as handled: a clock that was set back must not have it swept too early.
fn handled_at_ms(now_ms: i64, delivery: &Delivery) -> i64 {
    now_ms.max(delivery.record.timestamp_ms)
}

/// Whether a row may be missing because it was swept. A first delivery has none, and what was handled after the watermark was not swept.
fn asks_for_watermark(delivery: &Delivery) -> bool {
    delivery.attempt > 1
}

fn refuse_swept(delivery: &Delivery, before_ms: i64) -> Result<(), HandlerError> {
    let record = &delivery.record;
    if record.timestamp_ms >= before_ms {
        return Ok(());
    }
    Err(HandlerError::terminate(format!(
        "{INBOX_SWEPT}: the record at offset {} of partition {} was delivered {} times, and rows of records handled before {before_ms} were \
         swept: whether it was handled is not known; look, and redrive it if it was not",
        record.offset, record.partition, delivery.attempt
    )))
}

#[expect(clippy::disallowed_methods, reason = "the time is only a mark for sweeping old rows")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
