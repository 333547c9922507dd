//! The log engine of SagaMQ: shards, group commit, queue groups, idempotency, and their HTTP interface.

pub mod env;
