//! The sub-transaction barrier: makes a participant's effects happen once, in the right order, in its own database and outside of it.
//!
//! A saga may call a participant twice, call the compensation before the action has arrived, or have the action arrive after its
//! compensation. The barrier records each call's outcome in the same transaction as the business writes:
//!
//! - **duplicate**: the call was recorded before; the recorded result is given again, the business does not run;
//! - **empty compensation**: the action never took effect; this is recorded, the business does not run, the result is success;
//! - **hanging action**: the action arrives after its compensation, for the first time or again; it is refused with [`COMPENSATED`], the business does not run;
//! - **in doubt**: the action was begun and nobody knows what came of it outside (no answer of a payment provider, a crash); its
//!   compensation runs the business, which is told so; a repetition of the action runs again, and its success ends the doubt;
//! - **swept**: old rows are deleted, and the barrier knows up to when: a call that may be older than that and finds no row is an
//!   unknown outcome with [`SWEPT`], never an empty success and never a second effect.
//!
//! The rules are one pure module, `rules`; each database has a barrier of its own that locks rows and asks there: `RocksBarrier` (feature
//! `rocksdb`) and `PostgresBarrier` (feature `postgres`).
//!
//! # What lies on disk in PostgreSQL
//!
//! One table, `barrier`, in the schema that the service names; its columns are told in the migration that makes it
//! (`PostgresSchema::migrations`).
//!
//! # What lies on disk in RocksDB
//!
//! This is the format document: **never change a byte, never use a tag again.**
//!
//! ```text
//! key    prefix ‖ instance (16 bytes, the UUID) ‖ step (its text) ‖ item ‖ operation (1 byte)
//!          item        0x00 for none   0x01 ‖ number (4 bytes, big-endian) for an item of a step that fans out
//!          operation   0x01 action   0x02 compensation   (0x03 to 0x06 vote and decisions of a two-phase commit: no row has them)
//! value  version (1 byte, 0x02) ‖ kind (1 byte) ‖ recorded at (8 bytes, big-endian, milliseconds since 1970) ‖ payload
//!          kind        0x01 succeeded   payload: the output, JSON
//!                      0x02 refused     payload: the failure {"code": …, "message": …}, JSON
//!                      0x03 prevented   no payload; only an action: its compensation succeeded, before or after it
//!                      0x04 in doubt    payload: the id of the run that began last (16 bytes, a UUID); only an action
//!
//! key    prefix
//! value  version (1 byte, 0x02) ‖ 0x05 ‖ watermark (8 bytes, big-endian, milliseconds since 1970): what was recorded before it may
//!        have been deleted
//! ```
//!
//! *Recorded at* is never before the start of the saga as its calls tell it (`started_at_ms`), and for a compensation never before its
//! action. So what has started at or after the watermark was not swept, whatever the clocks of the machines show. A step's text is an
//! identifier, so it holds neither 0x00 nor 0x01 and no key is the beginning of another. The rows of one instance lie side by side. Rows of version
//! 0x01 are refused.

mod known;
mod operations;
#[cfg(feature = "postgres")]
mod postgres;
mod recorded;
#[cfg(feature = "rocksdb")]
mod rocks;
#[cfg(feature = "rocksdb")]
mod rocks_operations;
#[cfg(feature = "rocksdb")]
mod row;
mod rules;
#[cfg(feature = "rocksdb")]
mod sweep;

#[cfg(feature = "rocksdb")]
pub use ::rocksdb;
pub use known::Known;
pub use operations::Handling;
#[cfg(feature = "postgres")]
pub use postgres::{Business, PostgresBarrier, PostgresBarrierError, PostgresOperations, PostgresRowError};
pub use recorded::Recorded;
#[cfg(feature = "rocksdb")]
pub use rocks::{BarrierError, RocksBarrier};
#[cfg(feature = "rocksdb")]
pub use rocks_operations::RocksOperations;
#[cfg(feature = "rocksdb")]
pub use row::RowError;

/// The failure code of an action that arrives after its compensation.
pub const COMPENSATED: &str = "COMPENSATED";

/// The failure code of a call that asks for a vote or tells a decision: no saga makes such a call, and no barrier can answer it.
pub const NOT_OF_A_SAGA: &str = "NOT_OF_A_SAGA";

/// The failure code of a call that found no row where one may have been swept: whether it took effect is not known here any more.
pub const SWEPT: &str = "BARRIER_SWEPT";

/// The failure code of a compensation by a barrier's `run_local` whose action, by its `run`, is in doubt.
pub const IN_DOUBT: &str = "BARRIER_IN_DOUBT";
