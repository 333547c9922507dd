//! Records in JSON: how keys, values and headers of any bytes stand in a document.
//!
//! A value is bytes. Which JSON stands for which bytes depends on one thing, whether the record says that its value is JSON (its last
//! header `content-type` is `application/json`):
//!
//! - **Into the log.** A string in `value` is stored as its UTF-8 text, unless the record says JSON. Any other value, and any value of a
//!   record that says JSON, is stored as exactly its JSON text: numbers, spaces, order and repeated fields as they were sent. A value that
//!   is no string makes a record without a `content-type` say JSON. `value_base64` is stored as the bytes it stands for.
//! - **Out of it.** If the record says JSON and its value is one JSON text, nests at most [`JSON_DEPTH_MAX`](crate::limits::JSON_DEPTH_MAX)
//!   deep and has no white space around it, `value` is that very text. If the record does not say JSON and its value is UTF-8, `value` is a
//!   string. Else the bytes are in `value_base64`.
//!
//! So whatever comes out can be sent in again and is stored as the same bytes.
//!
//! Clients hold records as [`ProduceRecord`] and [`ConsumedRecord`]. A server, which has the bytes of thousands at a time, reads them with
//! [`RecordIn`] and writes them with [`mod@write`] without a copy of their texts; the two forms are one, which the tests hold.

mod base64;
mod consumed;
mod headers;
mod incoming;
mod payload;
mod produce;
#[cfg(test)]
mod tests;
mod value;
pub mod write;

pub use self::base64::Decoded;
pub use consumed::ConsumedRecord;
pub use headers::{Header, Headers};
pub(crate) use incoming::records_in;
pub use incoming::{RecordIn, RecordsIn, Text};
pub use payload::Payload;
pub use produce::ProduceRecord;
pub use value::PayloadError;
pub(crate) use value::value_in;
