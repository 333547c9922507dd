//! The sub-transaction barrier: makes a participant's effects happen once, in the right order, in its own database.
//!
//! A saga may call a participant twice, call the compensation before the action has arrived, or have the action arrive after its
//! compensation. The barrier records each call's outcome in the same transaction as the business writes:
//!
//! - **duplicate**: the call was recorded before; the recorded result is given again, the business does not run;
//! - **empty compensation**: the action never took effect; this is recorded, the business does not run, the result is success;
//! - **hanging action**: the action arrives after its compensation; it is refused with [`COMPENSATED`], the business does not run.
//!
//! # What lies on disk
//!
//! This is the format document: **never change a byte, never use a tag again.**
//!
//! ```text
//! key    prefix ‖ instance (16 bytes, the UUID) ‖ step (its text) ‖ 0x00 ‖ operation (1 byte)
//!          operation   0x01 action   0x02 compensation
//! value  version (1 byte, 0x01) ‖ kind (1 byte) ‖ recorded at (8 bytes, big-endian, milliseconds since 1970) ‖ payload
//!          kind        0x01 succeeded   payload: the output, JSON
//!                      0x02 refused     payload: the failure {"code": …, "message": …}, JSON
//!                      0x03 prevented   no payload; only an action: its compensation came first
//! ```
//!
//! A step's text is an identifier, so it holds no 0x00 and no key is the beginning of another. The rows of one instance lie side
//! by side.

mod rocksdb;
mod row;

pub use self::rocksdb::{BarrierError, RocksBarrier};
pub use row::{Recorded, RowError};

/// The failure code of an action that arrives after its compensation.
pub const COMPENSATED: &str = "COMPENSATED";
