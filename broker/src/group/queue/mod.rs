//! Queue groups: which records of a partition a group has settled, which are leased, and which wait for a redelivery.
//!
//! Everything here is pure: the clock, the jitter and the lease numbers are passed in, and nothing is written. The shard's
//! task calls it, encodes the state it gets and puts it into the same commit as what follows from it (dead letters, records).

mod codec;
mod deliver;
mod edited;
mod ended_letters;
mod holder;
mod invariants;
mod journal;
mod key_lines;
mod key_order;
mod policy;
mod ranges;
mod receipt;
mod row;
mod runs;
mod seek;
mod settle;
mod state;
mod trimmed;
mod view;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod key_order_tests;
#[cfg(test)]
mod model_tests;

pub use crate::group::decode_error::DecodeError;
pub use deliver::{LeaseTerms, Leased, Reserved};
pub use holder::Holder;
pub use key_lines::{KeyGate, KeyHash};
pub use policy::QueuePolicy;
pub use receipt::{Receipt, ReceiptError};
pub use seek::Sought;
pub use settle::{DeadLetterCause, DeadLettered, Redriven, Settled};
pub use state::{HandOut, QueueState};

pub(crate) use edited::EditedRecords;
pub(crate) use ended_letters::{EndedLetters, MayEnd};
pub(crate) use journal::{Journal, StoredQueue, StoredRows};
pub(crate) use key_lines::key_hash;
pub(crate) use row::QueueRow;
pub(crate) use trimmed::TrimmedCount;
pub(crate) use view::QueueView;
