//! The broker through its door, on storage in memory and on the crash double.

mod clock;
mod common;
mod crash;
mod dead_letters;
mod deaths;
mod embedder;
mod groups;
mod idempotency;
mod produce;
mod receive;
mod topics;
