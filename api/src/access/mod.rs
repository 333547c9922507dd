//! Who may do what: roles, the patterns they are given for, and the table of all operations. Pure: the server asks it before it does
//! anything, and the documentation's table is made of it.

mod grant;
mod key;
mod operation;
mod pattern;
mod quota;
mod resource;
mod rights;
mod role;
mod table;

pub use grant::{Grant, GrantError};
pub use key::{CreateKey, CreatedKey, KeyDescription, KeyList, KeyState, RotateKey};
pub use operation::{Effect, Need, Operation, Place};
pub use pattern::{Pattern, PatternError};
pub use quota::KeyQuota;
pub use resource::{Part, Resource};
pub use rights::Rights;
pub use role::Role;
pub use table::OPERATIONS;

#[cfg(test)]
mod tests;
