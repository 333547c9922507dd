//! Who is a member, and who is the active one: what the log of members says and what follows from it.

pub mod decide;
pub mod entry;
pub mod roll;
pub mod view;
