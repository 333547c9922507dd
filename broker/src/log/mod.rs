//! The log of a partition: batches, positions, the tail in memory, reading.

pub use sagamq_api::batch;
pub(crate) mod budget;
pub(crate) mod compaction;
pub(crate) mod cut;
pub(crate) mod expiry;
mod index;
pub(crate) mod offsets;
pub(crate) mod owned;
pub(crate) mod partition;
pub(crate) mod positions;
mod rate;
pub(crate) mod reader;
pub(crate) mod recovery;
pub(crate) mod tail;
pub(crate) mod work;

pub use budget::{MemoryShare, ReadMemoryFull};
pub use reader::ReadError;
