//! `StreamConsumer`: a member of a stream group. It reads the partitions that the group gives it, in order, and commits how far it has come.
//!
//! ```text
//! heart ──▶ heartbeat ──▶ what is assigned ──▶ share ──▶ poll: hand over, fetch, give records ──▶ commit
//!   ▲                                                       │
//!   └────────────── what it has, and has handed back ───────┘
//! ```

mod builder;
mod consumer;
mod fetch;
mod heart;
mod process;
mod requests;
mod share;

pub use builder::{Rebalance, StreamConsumerBuilder};
pub use consumer::{Holding, StreamBatch, StreamConsumer};
pub use share::TopicPartition;
