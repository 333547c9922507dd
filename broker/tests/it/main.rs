//! The broker through its door, on storage in memory and on the crash double.

mod common;
mod crash;
mod deaths;
mod embedder;
mod groups;
mod idempotency;
mod produce;
mod topics;
