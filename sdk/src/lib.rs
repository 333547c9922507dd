//! Rust client of SagaMQ: producer, consumer, saga worker and saga client.
//!
//! | you want to | use |
//! |---|---|
//! | manage topics, produce or read once | [`Client`] |
//! | produce much, in order | [`Producer`] |
//! | consume as a queue group | [`Consumer`] |
//! | read partitions in order, as a member of a stream group | [`StreamConsumer`] |
//! | publish, start and watch sagas | [`SagaClient`] |
//! | do something to many sagas | [`RepairClient`] |
//! | say where services are that sagas call over HTTP | [`ServiceClient`] |
//! | make, rotate and revoke API keys | [`KeyClient`] |
//! | reach a server as the environment or a profile says | [`Client::from_environment`] |
//! | ask what was decided about a transaction, look at transactions | [`TransactionClient`] |
//! | take part in sagas as a service, called through a topic | [`SagaWorker`] |
//! | the same, called over HTTP | `participant::ParticipantRouter` (feature `participant`) |
//! | make a participant's effects happen once, in its own RocksDB and outside of it | `barrier::RocksBarrier` (feature `rocksdb`) |
//! | the same in its own PostgreSQL | `barrier::PostgresBarrier` (feature `postgres`) |
//! | make a consumer's effects happen once in its database | `inbox` |
//! | produce what a transaction of a database has written, if it commits | `outbox` |
//! | take part in two-phase commit | `branch::BranchManager` (feature `branch`) |
//! | go on with a trace, and see handlers in it | [`trace`] |
//! | see whether a participant does what it must, whatever it is written in | `conformance` (feature `conformance`) |
//!
//! # What is promised
//!
//! **Produce.** When a record's place is returned, the record is as durable as its topic promises (by default synced). Every request carries an idempotency key, or as a
//! [`Producer`]'s batch a sequence, so the client's own retries never store a record twice. A key of your own makes the retries of your whole program safe too, within the topic's
//! deduplication window. Records with the same key keep the order in which one producer sent them.
//!
//! **Consume.** At least once: a record is delivered again until it is acknowledged, so a handler must bear repetition. At most once
//! is [`Client::receive`] with `auto_ack`. Effectively once is at least once with a handler that remembers what it has done. A consumer
//! that ends gives back what it had not begun. What a killed process had begun counts as a delivery; what it had only fetched does not, three times a record. A handler whose lease is
//! lost is cut off and told so ([`lease_lost`]), because its record is somebody else's by then. A group keeps the order of
//! a key in a topic with `ordering: key` only.
//!
//! **Sagas.** A call reaches its participant at least once, always with the same idempotency key. The reply and the command's
//! acknowledgement are one durable commit. With the barrier, the effect happens once, whatever is repeated or reordered; an action of
//! which nobody knows whether it took effect outside is compensated by code that is told so.
//!
//! **Errors.** [`ClientError::is_outcome_unknown`] keeps "it failed" and "nobody knows" apart: one attempt that may have taken effect
//! makes the outcome unknown, whatever a later one is told. An unknown outcome is repeated with the same key
//! ([`ClientError::idempotency_key`]) or looked at; it is never taken for a failure.
//!
//! # Example
//!
//! ```no_run
//! use sagamq_sdk::{CancellationToken, Client, api::{record::ProduceRecord, topic::TopicConfig}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:7070")?;
//! let topic: sagamq_sdk::api::TopicName = "greetings".parse()?;
//! client.create_topic(&topic, TopicConfig::default()).await?;
//! client.producer(topic.clone()).build().send(ProduceRecord::text("hello")).await?;
//!
//! let shutdown = CancellationToken::new();
//! let stop = shutdown.clone();
//! client
//!     .consumer(topic, "readers".parse()?)
//!     .run(shutdown, move |delivery| {
//!         println!("{:?}", delivery.record.text());
//!         stop.cancel();
//!         async { Ok(()) }
//!     })
//!     .await?;
//! # Ok(()) }
//! ```

#[cfg(any(feature = "rocksdb", feature = "postgres"))]
pub mod barrier;
mod batches;
#[cfg(feature = "branch")]
pub mod branch;
mod client;
mod cloud_events;
#[cfg(feature = "conformance")]
pub mod conformance;
mod consumer;
#[cfg(doctest)]
mod documents;
mod error;
mod groups;
mod history;
#[cfg(any(feature = "rocksdb", feature = "postgres"))]
pub mod inbox;
mod keys;
#[cfg(any(feature = "rocksdb", feature = "postgres"))]
pub mod outbox;
#[cfg(feature = "participant")]
pub mod participant;
#[cfg(feature = "postgres")]
pub mod postgres;
mod produced;
mod producer;
mod producers;
mod profile;
mod repairs;
mod retry;
mod sagas;
mod services;
mod streams;
mod topics;
pub mod trace;
mod transactions;
mod transport;
mod worker;

pub use client::{Client, ClientBuilder};
pub use cloud_events::EventsRead;
pub use consumer::{Consumer, ConsumerBuilder, HandlerError, lease_lost};
pub use error::ClientError;
pub use keys::KeyClient;
pub use produced::Produced;
pub use producer::{Encoding, PendingRecord, Producer, ProducerBuilder, SendAllError};
pub use profile::Profile;
pub use repairs::RepairClient;
pub use retry::{RetryPolicy, RetrySchedule};
pub use sagamq_api as api;
pub use sagamq_api::JsonText;
pub use sagamq_api::batch::Compression;
pub use sagamq_api::pipeline::ProduceTo;
pub use sagamq_api::queue::Delivery;
pub use sagamq_api::record::ProduceRecord;
pub use sagamq_api::saga::Call;
pub use sagas::SagaClient;
pub use services::ServiceClient;
pub use streams::{Holding, Rebalance, StreamBatch, StreamConsumer, StreamConsumerBuilder, TopicPartition};
pub use tokio_util::sync::CancellationToken;
pub use transactions::TransactionClient;
pub use worker::{CallError, SagaWorker, SagaWorkerBuilder};
