//! A lane: the one task that owns the instances of a shard.
//!
//! Input, decide, apply, ONE commit (events, summary, marker, next commands, settled commands, cursor), and only when that is durable:
//! answers and calls. The task runs ahead of the disk; the commits of a shard become durable in their order, and what leaves
//! the lane waits for its commit in `follower`.

mod advance;
mod caller;
mod commands;
mod due;
mod follower;
mod input;
mod recovery;
mod replies;
mod start;
mod timers;

pub(crate) use caller::HttpCaller;
pub(crate) use input::{LaneHandle, LaneInput};
pub use recovery::RecoveryError;
pub(crate) use recovery::{Recovered, recover};
pub(crate) use replies::read_replies;

use crate::definition::Definition;
use crate::metrics::Metrics;
use crate::orchestrator::SagaError;
use crate::orchestrator::definitions::Definitions;
use crate::orchestrator::quarantine::{Quarantine, SetAside};
use crate::protocol::{Input, InstanceState};
use crate::store::LaneStore;
use commands::OpenCommands;
use core::time::Duration;
use follower::{DurableCommit, Following, Then};
use sagamq_api::saga::WORKER_GROUP;
use sagamq_api::{GroupName, Offset, SagaName, TopicName};
use sagamq_broker::env::{Clock, Random};
use sagamq_broker::{Liveness, PartGuard, Submitted, WriteError};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use timers::Timers;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Longest sleep between two looks at the clock, which may be set or, in a test, moved.
const CLOCK_LOOK_MAX: Duration = Duration::from_millis(100);

/// Inputs that are handled before time has its turn.
const INPUTS_AT_ONCE: usize = 256;

/// Finished instances that stay in memory, so that a late or repeated reply is answered without the disk.
const FINISHED_MAX: usize = 256;

/// What a lane is made of.
pub(crate) struct LaneParts {
    pub(crate) store: LaneStore,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) definitions: Definitions,
    pub(crate) caller: HttpCaller,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) liveness: Liveness,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) quarantine: Quarantine,
    pub(crate) restart_grace: Duration,
}

/// An instance in memory.
pub(crate) struct Live {
    pub(crate) definition: Arc<Definition>,
    pub(crate) state: InstanceState,
}

/// The task's state.
pub(crate) struct Lane {
    parts: LaneParts,
    instances: HashMap<Uuid, Live>,
    /// Business keys of the instances in memory.
    keys: HashMap<(SagaName, String), Uuid>,
    /// Instances at their end, with the commit that ended them: they leave memory when it is durable and others push.
    finished: VecDeque<(u64, Uuid)>,
    /// Command records of instances that are set aside, to be settled.
    stale: Vec<(TopicName, Offset)>,
    commands: OpenCommands,
    timers: Timers,
    workers: GroupName,
    commits: u64,
    durable: DurableCommit,
    follower: mpsc::UnboundedSender<Following>,
    /// Time says nothing before this moment, in milliseconds since 1970: what participants answered meanwhile is heard first.
    timers_from_ms: u64,
    /// Whether the replies that were there at the start are heard.
    are_replies_read: bool,
}

impl Lane {
    /// Starts the follower and takes over what was recovered.
    pub(crate) fn new(parts: LaneParts, recovered: Recovered) -> Self {
        let (follower, following) = mpsc::unbounded_channel();
        let durable = DurableCommit::default();
        let life = parts.liveness.guard(format!("the follower of lane {}", parts.store.0.shard()));
        parts.tasks.spawn(follower::follow(following, durable.clone(), life));
        for (id, reason) in recovered.quarantined {
            parts.quarantine.add(id, SetAside::Unreadable(reason));
        }
        let has_nothing = recovered.instances.is_empty();
        let grace_ms = u64::try_from(parts.restart_grace.as_millis()).unwrap_or(u64::MAX);
        let timers_from_ms = if has_nothing { 0 } else { parts.clock.now_ms().saturating_add(grace_ms) };
        let workers = WORKER_GROUP.parse().expect("a constant that is a legal name");
        let mut lane = Self {
            parts,
            instances: HashMap::new(),
            keys: HashMap::new(),
            finished: VecDeque::new(),
            stale: recovered.stale,
            commands: recovered.commands,
            timers: Timers::default(),
            workers,
            commits: 0,
            durable,
            follower,
            timers_from_ms,
            are_replies_read: has_nothing,
        };
        lane.resume(recovered.instances);
        lane
    }

    /// Works until the shutdown. What came in has its turn before time: an answer that is there is heard before its deadline counts.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<LaneInput>, life: PartGuard) {
        // Told before the channels close, should this task die.
        let life = life;
        let shutdown = self.parts.shutdown.clone();
        while !shutdown.is_cancelled() {
            let mut left = INPUTS_AT_ONCE;
            while left > 0
                && let Ok(input) = inputs.try_recv()
            {
                self.handle(input).await;
                left -= 1;
            }
            if self.may_time_speak() {
                self.fire_timers().await;
            }
            self.settle_stale().await;
            self.forget_finished();
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

    fn may_time_speak(&self) -> bool {
        self.are_replies_read && self.parts.clock.now_ms() >= self.timers_from_ms
    }

    async fn handle(&mut self, input: LaneInput) {
        match input {
            LaneInput::Start { definition, key, input, reply } => self.start(definition, key, input, reply).await,
            LaneInput::Complete { word, reply } => self.complete(word, reply).await,
            LaneInput::Outcome(word) => self.outcome(word).await,
            LaneInput::NotSent { instance, call, failure } => self.take_in(instance, Input::NotSent { call, failure }).await,
            LaneInput::ReplyRecord { word, next } => self.reply_record(word, next).await,
            LaneInput::RepliesRead => self.are_replies_read = true,
            LaneInput::Cancel { id, reason, reply } => self.cancel(id, reason, reply).await,
            LaneInput::Get { id, reply } => {
                let state = match self.parts.quarantine.reason(id) {
                    Some(reason) => Err(SagaError::Quarantined { id, reason }),
                    None => Ok(self.instances.get(&id).map(|live| Box::new(live.state.clone()))),
                };
                self.when_durable(move |durable| {
                    // Whoever asked may have gone.
                    let _ = reply.send(durable.map_err(SagaError::from).and(state));
                });
            }
        }
    }

    fn time_to_next_timer(&mut self) -> Option<Duration> {
        let due_ms = self.timers.next_due_ms()?.max(self.timers_from_ms);
        let left_ms = due_ms.saturating_sub(self.parts.clock.now_ms());
        Some(Duration::from_millis(left_ms.max(1)).min(CLOCK_LOOK_MAX))
    }

    /// Runs `then` when everything that was decided so far is durable.
    fn when_durable(&self, then: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.follow(None, Box::new(then));
    }

    fn follow(&self, submitted: Option<Submitted>, then: Then) {
        // The follower ends after the lane only.
        let _ = self.follower.send(Following { commit: self.commits, submitted, then });
    }

    /// Lets instances go whose end is durable, but for the last few.
    fn forget_finished(&mut self) {
        let durable = self.durable.get();
        while self.finished.len() > FINISHED_MAX
            && let Some(&(commit, id)) = self.finished.front()
            && commit <= durable
        {
            self.finished.pop_front();
            if let Some(live) = self.instances.remove(&id) {
                self.keys.remove(&(live.state.saga, live.state.key));
            }
        }
    }
}
