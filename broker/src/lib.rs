//! The log engine of SagaMQ: shards, group commit, queue groups, idempotency.
//!
//! A record's journey: `broker/produce/` finds its partition and encodes the batch, the task of
//! the partition's shard (`shard/`) looks for a duplicate, gives the offset and stages a commit, the one committer writes what all
//! shards have staged with one sync, and only then the high watermark rises and the answer goes out. Consumers lease it
//! through `broker/queue/receive.rs` and the pure protocol in `group/queue/`.
//!
//! [`Broker`] is the only door. This crate never hears of sagas: [`ShardEmbedder`] lets an embedder commit records,
//! settled records and keys of its own together, in one write of one shard.

pub mod access;
pub mod audit;
mod broker;
mod dedup;
mod embed;
pub mod env;
pub mod group;
mod growing;
pub mod ids;
mod liveness;
pub mod log;
mod metrics;
mod shard;
pub mod spans;
pub mod storage;
mod topic;

pub use broker::{
    AckRecordsError, AckedWithRecords, AddPartitionsError, AuditError, Batches, Broker, BrokerConfig, CompactionError, CreateTopicError,
    Due, Held, NewRecord, OpenError, ParameterError, ProduceError, Produced, ProducedBatch, ReadRequestError, Records, RetentionError,
    Schedule, ScheduleError, Schedules, SentBatch, TopicError, UpdateTopicError,
};
pub use broker::{BROUGHT_KEY, KeyError, stored_shards};
pub use broker::{
    CreateGroupError, DeadLetter, DeadLetterError, DeadLetters, DeleteGroupError, Delivered, DescribeGroupError, FindGroupError,
    OperateGroupError, OwnGroupError, ProducerNameError, ReceiveError, Received, RedriveError, SettleError, StreamGroupError, Waiting,
};
pub use embed::{EmbedError, ShardCommit, ShardEmbedder, Submitted};
pub use group::queue::{HandOut, Holder};
pub use group::stream::StreamConfig;
pub use liveness::{Liveness, PartGuard};
pub use shard::ack_records::AckRecordsRefused;
pub use shard::commit::WriteError;
pub use shard::disk_guard::{DiskLimits, Room};
pub use shard::embedded::SubmitError;
pub use shard::log::append_error::AppendError;
pub use shard::log::at::At;
pub use shard::log::schedules::ScheduleConfig;
pub use shard::outbox::inbox::{Inbox, Message};
pub use shard::outbox::owner::NotNext;
pub use shard::queues::request::QueueError;
