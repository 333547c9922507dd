//! What the orchestrator keeps in the broker's `saga` family: keys, values, and how they are read back.

mod codec;
mod control;
mod error;
pub mod keys;
mod lane;
pub mod listing;
mod lists;
mod locks;
mod message;
pub mod position;
mod repairs;

pub use codec::CodecError;
pub(crate) use control::{ControlStore, FoundDefinition, StoredDefinition};
pub use error::StoreError;
pub use lane::put_instance;
pub(crate) use lane::{FindDefinition, LaneStore, forget_instance, forget_known, put_command_floor, put_reply_cursor};
pub(crate) use lists::{Card, List};
pub(crate) use locks::put_lock;
pub(crate) use message::{AnsweredRepair, AskedRepair, ChildEnded, ChildNotStarted, LaneMessage, NamedChild, StartChild, UndoChild};
pub(crate) use repairs::{delete_watch, forget_repair, put_repair, put_watch};
