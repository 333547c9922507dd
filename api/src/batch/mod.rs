//! A record batch: the unit that is stored, checked and numbered together, in the bytes of Kafka's RecordBatch v2.
//!
//! Kafka's format was chosen because its base offset lies in front of the checksummed part: a batch is encoded and hashed where
//! the request arrives, and gets its offset later for the price of eight bytes ([`NewBatch::at`]).
//!
//! | bytes | field | written |
//! |---|---|---|
//! | 0..8 | base offset, i64 | 0 until an offset is assigned |
//! | 8..12 | length of what follows, i32 | |
//! | 12..16 | partition leader epoch, i32 | -1 |
//! | 16 | magic, i8 | 2 |
//! | 17..21 | CRC-32C of everything behind it, u32 | |
//! | 21..23 | attributes, i16 | times of creation; the lowest three bits: 0 not compressed, 3 LZ4 frame, 4 Zstandard |
//! | 23..27 | last offset delta, i32 | |
//! | 27..35 | base timestamp in ms, i64 | the lowest of the batch |
//! | 35..43 | maximum timestamp in ms, i64 | |
//! | 43..51 | producer id, i64 | -1: none |
//! | 51..53 | producer epoch, i16 | -1: none |
//! | 53..57 | base sequence, i32 | -1: none |
//! | 57..61 | number of records, i32 | |
//! | 61.. | records, compressed or not | |
//!
//! Records are written by `encode` and read by `decode`. They are our own, because the crate `kafka-protocol` keeps
//! headers in a map, which loses repeated ones, and its decoder trusts lengths; the tests read and write with that crate as well.

mod codec;
mod compacted;
mod compression;
mod decode;
mod encode;
mod encoded;
mod error;
mod frame;
mod header;
mod layout;
mod lz4_frame;
mod new;
mod received;
mod record;
mod stamp;
#[cfg(test)]
mod tests;
mod unpacked;

pub use compacted::OFFSETS_MAX;
pub use compression::{Compression, CompressionError};
pub use decode::Records;
pub use encoded::{Batch, check};
pub use error::{BatchError, EncodeError};
pub use frame::{FRAME_LEN, frame, framed, take, take_framed, take_framed_bytes};
pub use header::BatchHeader;
pub use layout::HEADER_LEN;
pub use new::{BatchBuffer, NewBatch, compressed};
pub use received::ReceivedBatch;
pub use record::{Record, StoredRecord};
pub use stamp::{EPOCH_MAX, PRODUCER_ID_MAX, SEQUENCE_MAX, Stamp, sequence_after};
pub use unpacked::{Unpacked, sent_unpacked_bytes_max, unpacked_bytes_max};
