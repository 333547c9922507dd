//! Tests of the SDK against a scripted server (and of the barrier against a RocksDB). They show what the client sends, when it sends
//! it again, and what it tells its caller.

#[cfg(feature = "rocksdb")]
mod barrier;
#[cfg(feature = "rocksdb")]
mod barrier_model;
#[cfg(all(feature = "branch", feature = "rocksdb"))]
mod branch;
#[cfg(all(feature = "branch", feature = "rocksdb"))]
mod branch_http;
#[cfg(all(feature = "branch", feature = "rocksdb"))]
mod branch_kill;
#[cfg(all(feature = "branch", feature = "rocksdb"))]
mod branch_model;
mod client;
mod consumer;
mod group;
#[cfg(feature = "rocksdb")]
mod inbox;
#[cfg(feature = "rocksdb")]
#[path = "../model/barrier.rs"]
mod model;
#[cfg(feature = "rocksdb")]
mod outbox;
#[cfg(all(feature = "participant", feature = "conformance", feature = "rocksdb"))]
mod participant;
#[cfg(all(feature = "participant", feature = "conformance", feature = "rocksdb"))]
#[path = "../model/participant.rs"]
mod participant_model;
mod producer;
mod returned;
mod sagas;
mod streams;
mod support;
mod worker;
