//! The task: what it holds, and whose turn it is.

use super::adopted::Adopted;
use super::asleep::Asleep;
use super::batch::Batch;
use super::finished::Finished;
use super::follower::{DurableCommit, Following, Then, follow};
use super::forgotten::Forgotten;
use super::home_locks::HomeLocks;
use super::input::{LaneInput, Reply};
use super::open_repairs::{Repairs, Searches};
use super::recovery::Recovered;
use super::timers::Timers;
use super::waiters::Waiters;
use super::watches::Watches;
use crate::definition::Definition;
use crate::metrics::Metrics;
use crate::orchestrator::definitions::Definitions;
use crate::orchestrator::error::InstanceError;
use crate::orchestrator::lifecycle::Lifecycle;
use crate::orchestrator::quarantine::{Quarantine, SetAside};
use crate::participant::http::HttpCaller;
use crate::participant::{Dispatcher, Hold};
use crate::protocol::Instance;
use crate::store::LaneStore;
use core::time::Duration;
use sagamq_api::{Offset, SagaName, TopicName};
use sagamq_broker::env::{Clock, Random};
use sagamq_broker::spans::Tracer;
use sagamq_broker::{Liveness, PartGuard, Submitted, WriteError};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Longest sleep between two looks at the clock, which may be set or, in a test, moved.
const CLOCK_LOOK_MAX: Duration = Duration::from_millis(100);

/// Inputs that are handled before time has its turn, and that one commit answers at the most.
const INPUTS_AT_ONCE: usize = 256;

/// What a lane is made of.
pub(in crate::orchestrator) struct LaneParts {
    pub(in crate::orchestrator) store: LaneStore,
    pub(in crate::orchestrator) clock: Arc<dyn Clock>,
    pub(in crate::orchestrator) random: Random,
    pub(in crate::orchestrator) definitions: Definitions,
    pub(in crate::orchestrator) http: HttpCaller,
    pub(in crate::orchestrator) metrics: Arc<Metrics>,
    pub(in crate::orchestrator) liveness: Liveness,
    pub(in crate::orchestrator) tasks: TaskTracker,
    pub(in crate::orchestrator) shutdown: CancellationToken,
    pub(in crate::orchestrator) quarantine: Quarantine,
    pub(in crate::orchestrator) restart_grace: Duration,
    /// Instances of this lane that are not at their end, from which on none is started.
    pub(in crate::orchestrator) open_max: usize,
    /// While it holds, no time passes.
    pub(in crate::orchestrator) hold: Hold,
    /// The name of the broker's data: transactions say it to their participants.
    pub(in crate::orchestrator) cluster: Uuid,
    pub(in crate::orchestrator) lifecycle: Lifecycle,
    /// Number of lanes.
    pub(in crate::orchestrator) lanes: u16,
    /// Who looks for the sagas of repairs.
    pub(in crate::orchestrator) searches: Searches,
    /// Where spans go.
    pub(in crate::orchestrator) tracer: Tracer,
}

/// An instance in memory.
pub(super) struct Live {
    pub(super) definition: Arc<Definition>,
    pub(super) instance: Instance,
}

/// The task's state.
pub(in crate::orchestrator) struct Lane {
    pub(super) parts: LaneParts,
    pub(super) instances: HashMap<Uuid, Live>,
    /// Business keys of the instances in memory.
    pub(super) keys: HashMap<(SagaName, String), Uuid>,
    /// What the instances in memory took over of others.
    pub(super) adopted: Adopted,
    /// Instances at their end.
    pub(super) finished: Finished,
    /// Instances that are removed, and are on the disk still.
    pub(super) forgotten: Forgotten,
    /// Instances that only wait.
    pub(super) asleep: Asleep,
    /// Command records of instances that are set aside, to be settled.
    pub(super) stale: Vec<(TopicName, Offset)>,
    pub(super) dispatcher: Dispatcher,
    pub(super) timers: Timers,
    pub(super) waiters: Waiters,
    pub(super) repairs: Repairs,
    pub(super) watches: Watches,
    pub(super) locks: HomeLocks,
    /// The last message that was taken of each lane.
    pub(super) taken: Vec<u64>,
    /// What is decided and not committed yet.
    pub(super) batch: Batch,
    pub(super) commits: u64,
    durable: DurableCommit,
    follower: mpsc::UnboundedSender<Following>,
    /// Time says nothing before this moment, in milliseconds since 1970: what participants answered meanwhile is heard first.
    timers_from_ms: u64,
    /// Whether everything was held when time was looked at last.
    was_held: bool,
    /// Whether the replies that were there at the start are heard.
    are_replies_read: bool,
    /// What is to be taken over before anything else.
    pub(super) recovered: Vec<(Arc<Definition>, Instance)>,
    /// Instances that were asleep, and when each goes on by itself.
    pub(super) recovered_asleep: Vec<(Uuid, u64)>,
}

impl Lane {
    /// Starts the follower. What was recovered is taken over when the lane runs.
    pub(in crate::orchestrator) fn new(parts: LaneParts, recovered: Recovered) -> Self {
        let (follower, following) = mpsc::unbounded_channel();
        let durable = DurableCommit::default();
        let life = parts.liveness.guard(format!("the follower of lane {}", parts.store.0.shard()));
        parts.tasks.spawn(follow(following, durable.clone(), life));
        for (id, reason) in recovered.quarantined {
            parts.quarantine.add(id, SetAside::Unreadable(reason));
        }
        let is_held = parts.hold.is_held();
        let inbox = parts.store.0.inbox();
        let taken = (0..parts.lanes).map(|from| inbox.taken(from)).collect();
        let mut watches = Watches::default();
        for (saga, watch) in recovered.watches {
            watches.begin(saga, watch);
        }
        let (held, waiting) = recovered.locks.counts();
        let count = |number: usize| i64::try_from(number).expect("what is in memory is countable");
        parts.metrics.locks.changed(count(held), count(waiting));
        let locks = HomeLocks::new(recovered.locks, parts.clock.now_ms());
        let has_nothing = recovered.instances.is_empty();
        let grace_ms = u64::try_from(parts.restart_grace.as_millis()).unwrap_or(u64::MAX);
        let timers_from_ms = if has_nothing { 0 } else { parts.clock.now_ms().saturating_add(grace_ms) };
        Self {
            dispatcher: Dispatcher::new(recovered.commands, parts.http.clone()),
            batch: Batch::new(parts.store.0.begin()),
            parts,
            instances: HashMap::new(),
            keys: HashMap::new(),
            adopted: Adopted::default(),
            finished: Finished::default(),
            forgotten: Forgotten::default(),
            asleep: Asleep::default(),
            stale: recovered.stale,
            timers: Timers::default(),
            waiters: Waiters::default(),
            repairs: Repairs::new(recovered.repairs),
            watches,
            locks,
            taken,
            commits: 0,
            durable,
            follower,
            timers_from_ms,
            was_held: is_held,
            are_replies_read: has_nothing,
            recovered: recovered.instances,
            recovered_asleep: recovered.asleep,
        }
    }

    /// Works until the shutdown. What came in has its turn before time: an answer that is there is heard before its deadline counts.
    pub(in crate::orchestrator) async fn run(mut self, mut inputs: mpsc::Receiver<LaneInput>, life: PartGuard) {
        // Told before the channels close, should this task die.
        let life = life;
        let shutdown = self.parts.shutdown.clone();
        self.resume().await;
        self.search_all();
        while !shutdown.is_cancelled() {
            let mut left = self.take_in_all(&mut inputs, INPUTS_AT_ONCE).await;
            if left > 0 && !self.batch.is_empty() {
                // Whoever is ready to ask has its turn first: what comes of it is in the same commit. Where nobody is, this takes no time.
                tokio::task::yield_now().await;
                left = self.take_in_all(&mut inputs, left).await;
            }
            self.flush().await;
            if self.may_time_speak() {
                self.fire_timers().await;
                self.fire_watches().await;
                self.fire_locks().await;
            }
            self.fire_repairs().await;
            self.settle_stale().await;
            self.forget_finished();
            self.let_sleep();
            if left == 0 {
                continue;
            }
            let pause = self.time_to_next_timer();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                input = inputs.recv() => match input {
                    Some(input) => self.handle(input).await,
                    None => break,
                },
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
        life.ended();
    }

    /// Handles what has come in, so many inputs at the most; gives how many more there may be.
    async fn take_in_all(&mut self, inputs: &mut mpsc::Receiver<LaneInput>, most: usize) -> usize {
        let mut left = most;
        while left > 0
            && let Ok(input) = inputs.try_recv()
        {
            self.handle(input).await;
            left -= 1;
        }
        left
    }

    fn may_time_speak(&mut self) -> bool {
        if self.parts.hold.is_held() {
            return false;
        }
        if core::mem::take(&mut self.was_held) {
            // Calls that were held back leave only now: what comes of them is heard first, as after a restart.
            let grace_ms = u64::try_from(self.parts.restart_grace.as_millis()).unwrap_or(u64::MAX);
            self.timers_from_ms = self.parts.clock.now_ms().saturating_add(grace_ms);
        }
        self.are_replies_read && self.parts.clock.now_ms() >= self.timers_from_ms
    }

    /// What every saga needs. What few need has a future of its own: this one is moved for each input, as large as it is.
    async fn handle(&mut self, input: LaneInput) {
        match input {
            LaneInput::Start { wanted, reply } => self.start(wanted, reply).await,
            LaneInput::Complete { word, reply } => self.complete(word, reply).await,
            LaneInput::Told { instance, input } => self.take_in(instance, input).await,
            LaneInput::ReplyRecord { word, next } => self.reply_record(word, next).await,
            LaneInput::RepliesRead => self.are_replies_read = true,
            LaneInput::Wait { id, at_rest } => self.wait_for(id, Some(at_rest)),
            other => Box::pin(self.handle_rare(other)).await,
        }
    }

    async fn handle_rare(&mut self, input: LaneInput) {
        match input {
            LaneInput::Operate { id, verb, by, note, reply } => self.operate(id, verb, by, note, reply).await,
            LaneInput::Signal { to, signal, reply } => self.signal(to, signal, reply).await,
            // What commits by itself does so behind what was decided before.
            LaneInput::Message(message) => {
                self.flush().await;
                self.message(message).await;
            }
            LaneInput::Lock(input) => {
                self.flush().await;
                self.lock_input(input).await;
            }
            LaneInput::Repair(input) => {
                self.flush().await;
                self.repair_input(input).await;
            }
            // Who looks at all of them sees none between two states.
            LaneInput::Look { ids, reply } => {
                self.flush().await;
                self.look(&ids, reply).await;
            }
            LaneInput::Troubles { saga, reply } => {
                self.flush().await;
                self.troubles(saga.as_ref(), reply);
            }
            LaneInput::Forget { saga, ended, reply } => {
                self.flush().await;
                self.forget(&saga, &ended, reply).await;
            }
            // Whoever asked may have gone.
            LaneInput::Addressee { attempt, reply } => drop(reply.send(Ok(self.addressee(&attempt)))),
            LaneInput::Get { id, reply } => {
                if self.batch.holds(id) {
                    self.flush().await;
                }
                let instance = match self.parts.quarantine.reason(id) {
                    Some(reason) => Err(InstanceError::Quarantined { id, reason }),
                    None => Ok(self.instances.get(&id).map(|live| Box::new(live.instance.clone()))),
                };
                self.answer_when_durable(reply, instance);
            }
            LaneInput::Start { .. }
            | LaneInput::Complete { .. }
            | LaneInput::Told { .. }
            | LaneInput::ReplyRecord { .. }
            | LaneInput::RepliesRead
            | LaneInput::Wait { .. } => unreachable!("what every saga needs is handled before"),
        }
    }

    fn time_to_next_timer(&mut self) -> Option<Duration> {
        let of_sagas = self.timers.next_due_ms().into_iter().chain(self.watches.next_due_ms()).chain(self.locks.next_due_ms()).min();
        let of_sagas = of_sagas.map(|due_ms| due_ms.max(self.timers_from_ms));
        let due_ms = of_sagas.into_iter().chain(self.repairs.next_due_ms()).chain(self.asleep.next_due_ms()).min()?;
        let left_ms = due_ms.saturating_sub(self.parts.clock.now_ms());
        Some(Duration::from_millis(left_ms.max(1)).min(CLOCK_LOOK_MAX))
    }

    /// Runs `then` when everything that was decided so far is durable.
    pub(super) fn when_durable(&self, then: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.follow(None, Box::new(then));
    }

    /// Answers when everything that was decided so far is durable: also a refusal tells of a state.
    pub(super) fn answer_when_durable<T, E>(&self, reply: Reply<T, E>, answer: Result<T, E>)
    where
        T: Send + 'static,
        E: From<WriteError> + Send + 'static,
    {
        self.when_durable(move |durable| {
            // Whoever asked may have gone.
            let _ = reply.send(durable.map_err(E::from).and(answer));
        });
    }

    pub(super) fn follow(&self, submitted: Option<Submitted>, then: Then) {
        // The follower ends after the lane only.
        let _ = self.follower.send(Following { commit: self.commits, submitted, then });
    }

    /// The newest commit that is durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable.get()
    }

    /// Lets instances go whose end is durable, but for the last few.
    fn forget_finished(&mut self) {
        self.forgotten.durable(self.durable.get());
        while let Some(id) = self.finished.take(self.durable.get(), |id| self.batch.holds(id)) {
            if let Some(live) = self.instances.remove(&id) {
                self.let_go(&live.instance);
            }
        }
    }

    /// An instance left memory. Its key may have started the next one already.
    pub(super) fn let_go(&mut self, instance: &Instance) {
        let head = instance.head();
        let key = (head.saga.clone(), head.key.clone());
        if self.keys.get(&key) == Some(&head.id) {
            self.keys.remove(&key);
        }
        self.adopted.remove(instance);
    }
}
