//! The sub-transaction barrier: makes a participant's effects happen once, in the right order, in its own database.
//!
//! A saga may call a participant twice, call the compensation before the action has arrived, or have the action arrive after its
//! compensation. The barrier records each call's outcome in the same transaction as the business writes:
//!
//! - **duplicate**: the call was recorded before; the recorded result is given again, the business does not run;
//! - **empty compensation**: the action never took effect; this is recorded, the business does not run, the result is success;
//! - **hanging action**: the action arrives after its compensation; it is refused with [`COMPENSATED`], the business does not run.

mod row;

mod rocksdb;

pub use self::rocksdb::{BarrierError, RocksBarrier};
pub use row::{Recorded, RowError};

/// The failure code of an action that arrives after its compensation.
pub const COMPENSATED: &str = "COMPENSATED";
