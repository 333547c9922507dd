//! The task that owns a shard: it takes what has come in, lets the owners decide in memory, and stages one commit for all of it.
//!
//! It may run ahead of the disk: the next inputs are handled while the committer syncs. Readers may not, because only the
//! committer moves the high watermark, and answers go out only behind it.

use crate::group::queue::StoredQueue;
use crate::group::stream::{StoredStream, Terms};
use crate::ids::GroupKey;
use crate::liveness::PartGuard;
use crate::shard::core::Core;
use crate::shard::input::Input;
use crate::shard::log::schedules::ScheduleConfig;
use crate::shard::log::{Log, StoredLog};
use crate::shard::outbox::owner::Outbox;
use crate::shard::queues::Queues;
use crate::shard::streams::Streams;
use crate::shard::streams::request::StreamRequest;
use crate::shard::{ack_records, catalogue, embedded, relay, trim};
use crate::topic::{Group, StreamGroup};
use core::time::Duration;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::shard::core::CoreParts;

/// Inputs that become one commit at the most: bounds how long the first of them waits.
const INPUTS_PER_COMMIT_MAX: usize = 256;

/// How often leases that nobody polls for are looked at.
const TICK: Duration = Duration::from_millis(250);

/// A shard in the hands of its task.
pub(crate) struct Shard {
    core: Core,
    log: Log,
    queues: Queues,
    streams: Streams,
    outbox: Outbox,
    relays: Outbox,
}

/// What a shard has stored, taken over into memory.
pub(crate) struct Stored {
    /// What lies beside its records.
    pub(crate) log: StoredLog,
    /// The groups that have queues there.
    pub(crate) groups: Vec<Arc<Group>>,
    /// The queues with a state of their own.
    pub(crate) queues: Vec<(GroupKey, StoredQueue)>,
    /// The stream groups whose home it is, with what is stored of each.
    pub(crate) streams: Vec<(Arc<StreamGroup>, Option<StoredStream>)>,
    /// What stream groups are held to.
    pub(crate) terms: Terms,
    /// Messages to and from other shards.
    pub(crate) outbox: Outbox,
    /// Records on their way to and from other shards.
    pub(crate) relays: Outbox,
    /// How many records may wait for their time.
    pub(crate) schedules: ScheduleConfig,
    /// How many shards the server has.
    pub(crate) shards: u16,
}

impl Shard {
    /// A shard that goes on from what it has stored.
    pub(crate) fn new(parts: CoreParts, stored: Stored) -> Self {
        let Stored { log, groups, queues: stored, streams: stored_streams, terms, outbox, relays, schedules, shards } = stored;
        let mut queues = Queues::default();
        for group in groups {
            queues.add_group(group);
        }
        for (key, stored) in stored {
            queues.load(key, stored);
        }
        let core = Core::new(parts);
        let mut streams = Streams::new(terms);
        for (group, stored) in stored_streams {
            streams.add(&core, group, stored);
        }
        let log = Log::new(&core, log, schedules, shards);
        Self { core, log, queues, streams, outbox, relays }
    }

    /// Runs until the shutdown, and then stages what was asked before it.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<Input>, shutdown: CancellationToken, life: PartGuard) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut taken = Vec::with_capacity(INPUTS_PER_COMMIT_MAX);
        // Behind `inputs`, so that a panic tells of the death before the channel closes.
        let life = life;
        let mut ending = core::pin::pin!(shutdown.cancelled());
        loop {
            // First, so that inputs that fill each commit cannot keep it waiting.
            let is_at_work = self.queues.go_on(&mut self.core);
            let is_at_work = self.log.go_on(&mut self.core) || is_at_work;
            tokio::select! {
                // In this order: time must not wait for ever behind inputs. The shutdown may, and time looks after it.
                biased;
                _ = tick.tick() => {
                    self.tick();
                    if shutdown.is_cancelled() {
                        inputs.close();
                    }
                }
                () = core::future::ready(()), if is_at_work && inputs.is_empty() => {}
                count = inputs.recv_many(&mut taken, INPUTS_PER_COMMIT_MAX) => {
                    if count == 0 && !is_at_work {
                        self.log.end(&mut self.core);
                        self.stage().await;
                        life.ended();
                        break;
                    }
                    for input in taken.drain(..) {
                        self.handle(input);
                    }
                }
                () = self.log.woken(&self.core) => {}
                () = &mut ending, if !inputs.is_closed() => inputs.close(),
            }
            if !self.stage().await {
                break;
            }
        }
    }

    fn handle(&mut self, input: Input) {
        let Self { core, log, queues, streams, outbox, relays } = self;
        match input {
            Input::Log(op) => log.handle(core, op),
            Input::Queue(request) => queues.handle(core, request),
            Input::Stream(StreamRequest { group, op }) => streams.handle(core, group, op),
            Input::Embedded(commit) => embedded::handle(core, queues, outbox, commit),
            Input::Catalogue(op) => catalogue::handle(core, log, queues, streams, op),
            Input::Trim(op) => trim::handle(core, queues, op),
            Input::AckRecords(request) => ack_records::handle(core, log, queues, relays, *request),
            Input::Relay(relay) => relay::handle(core, relays, relay),
        }
    }

    /// What time alone brings about: leases and sessions run out, old idempotency entries go, and messages that others have taken.
    fn tick(&mut self) {
        self.queues.tick(&mut self.core);
        self.streams.tick(&mut self.core);
        self.outbox.tick(&mut self.core);
        self.relays.tick(&mut self.core);
        self.log.tick(&mut self.core);
    }

    /// Hands the commit to the committer. `false` when there is no committer any more.
    async fn stage(&mut self) -> bool {
        self.queues.stage(&mut self.core);
        self.streams.stage(&mut self.core);
        self.outbox.stage(&mut self.core);
        self.relays.stage(&mut self.core);
        self.log.stage(&mut self.core);
        self.core.stage().await
    }
}
