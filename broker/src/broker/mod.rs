//! The broker's one door: one method an operation. What is above it is transport.

mod api_keys;
mod audit;
mod catalogue;
mod compaction;
mod disk;
mod format;
mod held;
mod measure;
mod open;
mod open_error;
mod parameter;
mod partitions;
mod produce;
mod producers;
mod queue;
mod read;
mod relay;
mod retention;
mod rounds;
mod schedules;
mod seek_target;
mod streams;
mod topics;
mod update_topic;

pub use api_keys::{BROUGHT_KEY, KeyError};
pub use audit::AuditError;
pub use compaction::CompactionError;
pub use held::Held;
pub use open::stored_shards;
pub use open_error::OpenError;
pub use parameter::ParameterError;
pub use partitions::AddPartitionsError;
pub use produce::{AckRecordsError, AckedWithRecords, Due, NewRecord, ProduceError, Produced, ProducedBatch, SentBatch};
pub use producers::ProducerNameError;
pub use queue::{
    CreateGroupError, DeadLetter, DeadLetterError, DeadLetters, DeleteGroupError, Delivered, DescribeGroupError, FindGroupError,
    OperateGroupError, OwnGroupError, ReceiveError, Received, RedriveError, SettleError, Waiting,
};
pub use read::{Batches, ReadRequestError, Records};
pub use retention::RetentionError;
pub use schedules::{Schedule, ScheduleError, Schedules};
pub use streams::StreamGroupError;
pub use topics::{CreateTopicError, TopicError};
pub use update_topic::UpdateTopicError;

use crate::access::ApiKeys;
use crate::audit::{Act, Note};
use crate::env::{Clock, Random};
use crate::group::queue::Holder;
use crate::group::stream::StreamConfig;
use crate::ids::{PartitionKey, ShardId};
use crate::liveness::Liveness;
use crate::log::budget::ReadMemory;
use crate::log::tail::TailMemory;
use crate::metrics::Metrics;
use crate::shard::commit::WriteError;
use crate::shard::disk_guard::{DiskGuard, DiskLimits};
use crate::shard::input::{Input, ShardHandle};
use crate::shard::log::schedules::ScheduleConfig;
use crate::shard::outbox::marks::Marks;
use crate::shard::write_stop::WriteStops;
use crate::spans::Tracer;
use crate::storage::Storage;
use crate::topic::{AuditLog, Catalog, ProducerNames, StreamGroups};
use core::fmt::Display;
use core::time::Duration;
use sagamq_api::audit::AuditOutcome;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Sets the name of the data apart from all else that follows from the secret. Never changed.
const CLUSTER_CONTEXT: &str = "sagamq 2026-11 name of the data of a broker";

/// Settings of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// Shards of a data directory that is made now, 1 to 256; one that exists keeps its own number.
    pub shards: u16,
    /// Most bytes of records that are accepted and not durable yet; above it produce requests are answered with 429.
    pub staged_bytes_max: usize,
    /// Memory for the newest batches of all partitions together.
    pub tail_bytes_max: usize,
    /// Memory for all answers with records together, from reading until they are sent; above it answers are shorter, wait, and are
    /// then refused with 429.
    pub read_bytes_max: usize,
    /// How long an answer waits for memory for its first record.
    pub read_wait: Duration,
    /// What stream groups are held to.
    pub streams: StreamConfig,
    /// How many records may wait for their time.
    pub schedules: ScheduleConfig,
    /// How often it is looked which records their topics do not keep any longer; less than a second counts as one.
    pub retention_interval: Duration,
    /// How much of the disk is kept free.
    pub disk: DiskLimits,
    /// Within which time records of topics with the durability `interval` are synced.
    pub sync_interval: Duration,
    /// Where spans go, if they go anywhere.
    pub tracer: Tracer,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            shards: 16,
            staged_bytes_max: 64 * 1024 * 1024,
            tail_bytes_max: 64 * 1024 * 1024,
            read_bytes_max: 64 * 1024 * 1024,
            read_wait: Duration::from_secs(5),
            streams: StreamConfig::default(),
            schedules: ScheduleConfig::default(),
            retention_interval: Duration::from_secs(60),
            disk: DiskLimits::default(),
            sync_interval: Duration::from_millis(200),
            tracer: Tracer::default(),
        }
    }
}

/// A running broker; clones are the same one. It ends with [`Broker::shutdown`].
#[derive(Clone)]
pub struct Broker(pub(crate) Arc<Inner>, Asking);

/// For whom a handle of the broker works, as far as it matters: nobody in particular unless it is said.
#[derive(Clone, Default)]
struct Asking {
    /// In whose name changes are written down.
    act: Option<Act>,
    /// To whom receipts are made out.
    holder: Option<Holder>,
}

pub(crate) struct Inner {
    pub(crate) config: BrokerConfig,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
    random: Mutex<Random>,
    pub(crate) catalog: Catalog,
    /// Changed under the lock of the catalogue's changes.
    pub(crate) streams: StreamGroups,
    /// Changed under the same lock.
    pub(crate) producer_names: Arc<ProducerNames>,
    /// Changed under the same lock.
    pub(crate) api_keys: ApiKeys,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) shards: Vec<ShardHandle>,
    /// Signs receipts, and names the data.
    pub(crate) secret: [u8; 32],
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) write_stops: WriteStops,
    pub(crate) disk: DiskGuard,
    /// How far the messages between shards are durable.
    pub(crate) marks: Arc<Marks>,
    /// The same for records on their way to other shards.
    pub(crate) relay_marks: Arc<Marks>,
    pub(crate) liveness: Liveness,
    /// The bound on bytes that are not durable, one permit a byte.
    pub(crate) staged_bytes: Arc<Semaphore>,
    /// Memory for the newest batches.
    pub(crate) tail_memory: TailMemory,
    /// Memory for answers with records.
    pub(crate) read_memory: ReadMemory,
    /// Spreads requests without a key over the partitions.
    pub(crate) rotation: AtomicUsize,
    /// Spreads receives over the partitions: one rotation for both would let whoever takes turns meet the same partition each time.
    pub(crate) receive_rotation: AtomicUsize,
    /// Retention and compaction take turns: both go by the index of a log, and change it.
    pub(crate) upkeep: tokio::sync::Mutex<()>,
    /// No more waiting: long polls end.
    draining: CancellationToken,
    /// No more requests: the shards finish what they took.
    closing: CancellationToken,
    tasks: TaskTracker,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl core::fmt::Debug for Broker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Broker").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Broker {
    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self(inner, Asking::default())
    }

    /// The same broker, for what somebody does: what he changes is written down in the audit log, if it is kept.
    #[must_use]
    pub fn acting(&self, act: Act) -> Self {
        Self(Arc::clone(&self.0), Asking { act: Some(act), ..self.1.clone() })
    }

    /// The same broker, for whoever is called so (`key:NAME`, `token:SUBJECT`): what is leased is leased to him, and receipts of others do not
    /// count. A broker that is for nobody takes all receipts.
    #[must_use]
    pub fn held_by(&self, principal: &str) -> Self {
        let holder = Some(Holder::of(principal, &self.0.secret));
        Self(Arc::clone(&self.0), Asking { holder, ..self.1.clone() })
    }

    /// Whom [`Broker::held_by`] named.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        self.1.holder
    }

    /// What is to be written down with a change that somebody makes; nothing if nobody acts, or the audit log is not kept.
    #[must_use]
    pub fn note(&self, outcome: AuditOutcome, on: &[(&str, &dyn Display)]) -> Note {
        let act = self.1.act.as_ref().filter(|_| self.0.audit.is_kept());
        act.map_or_else(Note::nothing, |act| Note::of(act, outcome, on))
    }

    /// Number of shards of the data directory.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.0.shards_count()
    }

    /// The clock everything here goes by.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    /// Where spans go, if they go anywhere.
    #[must_use]
    pub fn tracer(&self) -> &Tracer {
        &self.0.config.tracer
    }

    /// Names the data of this broker: the same after every start and in every copy of the data directory, and another in every other one. So
    /// whoever holds something of this broker can tell whether a server that knows nothing of it is the one to ask.
    #[must_use]
    pub fn cluster(&self) -> Uuid {
        cluster(&self.0.secret)
    }

    /// A source of randomness of its own for a caller's task.
    #[must_use]
    pub fn random(&self) -> Random {
        self.0.random.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    /// Which shards write no more, and why, if there are any. Reads go on.
    #[must_use]
    pub fn writes_stopped(&self) -> Option<String> {
        let stopped: Vec<_> = self.0.write_stops.all().collect();
        let (_, reason) = stopped.first()?;
        let shards: Vec<String> = stopped.iter().map(|(shard, _)| shard.0.to_string()).collect();
        Some(format!("{reason} (shards {} of {})", shards.join(", "), self.shards()))
    }

    /// Whether all parts of the server live. Whatever stands on the broker attaches its own tasks with [`Liveness::guard`]; whoever runs
    /// the process ends it at [`Liveness::died`].
    #[must_use]
    pub fn liveness(&self) -> &Liveness {
        &self.0.liveness
    }

    /// Whether a shutdown has begun.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.0.draining.is_cancelled()
    }

    /// Ends long polls, so that the interface above can drain. Requests are still taken; [`Broker::shutdown`] follows.
    pub fn begin_shutdown(&self) {
        self.0.liveness.expect_end();
        self.0.draining.cancel();
    }

    /// Ends at the beginning of a shutdown; long polls end with it.
    pub async fn shutdown_begun(&self) {
        self.0.draining.cancelled().await;
    }

    /// Takes no more requests, finishes those that were taken, writes what is staged, and ends. Long polls end empty.
    pub async fn shutdown(&self) {
        self.begin_shutdown();
        self.0.closing.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        let committer = self.0.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(committer) = committer {
            // The shards were the only ones who staged, so the committer is at its end; joining it waits for its last write.
            let joined = tokio::task::spawn_blocking(move || committer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the committer's thread panicked");
            }
        }
    }

    /// Runs a change of the catalogue to its end even if the caller goes away in the middle, as a client that hangs up does:
    /// memory must not stay behind the disk.
    pub(crate) async fn finish<T: Send + 'static>(&self, change: impl Future<Output = T> + Send + 'static) -> T {
        let life = self.0.liveness.guard("a change of the catalogue");
        let change = async move {
            // Moved in, so that a panic tells of the death: memory is behind the disk then.
            let life = life;
            let result = change.await;
            life.ended();
            result
        };
        self.0.tasks.spawn(change).await.expect("a change of the catalogue is not aborted; its panic ends the process")
    }
}

/// The name of the data with this secret.
fn cluster(secret: &[u8; 32]) -> Uuid {
    let key = blake3::derive_key(CLUSTER_CONTEXT, secret);
    uuid::Builder::from_custom_bytes(*key.first_chunk().expect("a key is longer than an id")).into_uuid()
}

impl Inner {
    pub(crate) fn shards_count(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("a data directory has at most 256 shards")
    }

    /// The shards that have a partition of a topic of so many partitions.
    pub(crate) fn shards_of(&self, partitions: usize) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards_count()).take(partitions).map(ShardId)
    }

    pub(crate) fn shard(&self, shard: ShardId) -> &ShardHandle {
        &self.shards[usize::from(shard.0)]
    }

    /// Asks the shard of a partition.
    pub(crate) async fn ask<T>(&self, key: PartitionKey, make: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, WriteError> {
        self.shard(key.shard).ask(make).await
    }
}
