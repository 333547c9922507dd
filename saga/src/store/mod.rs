//! What the orchestrator keeps in the broker's `saga` family: keys, values, and how they are read back.

mod codec;
mod control;
mod error;
pub mod keys;
mod lane;

pub use codec::CodecError;
pub(crate) use codec::decode_summary;
pub(crate) use control::{ControlStore, FoundDefinition, StoredDefinition};
pub use error::StoreError;
pub(crate) use lane::{FindDefinition, LaneStore, put_command_floor, put_instance, put_reply_cursor};
