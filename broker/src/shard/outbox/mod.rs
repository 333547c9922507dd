//! Messages from shard to shard: durable, in the order of each pair, and each taken once.
//!
//! A message is written in a commit of its sender, and that it was taken in a commit of its receiver. So what led to it and what follows
//! from it are one write each, and no write ever spans two shards. The sender's task lets go of messages when it sees that their taking is
//! durable; nobody has to tell it.

pub(crate) mod find;
pub(crate) mod inbox;
pub(crate) mod marks;
pub(crate) mod owner;
mod row;
