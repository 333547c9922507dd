//! The protocols of consumer groups, pure and with a folder each: what a group has settled, what it is given next, who reads what.

mod decode_error;
pub mod queue;
pub mod stream;
mod varint;
