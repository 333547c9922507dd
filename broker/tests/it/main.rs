//! The broker through its door, on storage in memory and on the crash double.

mod clock;
mod common;
mod compaction;
mod crash;
mod dead_letters;
mod deaths;
mod disk;
mod durability;
mod edited_letters;
mod embedder;
mod fold;
mod group_bytes;
mod group_operations;
mod groups;
mod idempotency;
mod idle_groups;
mod ordering;
mod outbox;
mod positions;
mod produce;
mod receive;
mod retention;
mod retention_crash;
mod streams;
mod streams_retention;
mod topics;
