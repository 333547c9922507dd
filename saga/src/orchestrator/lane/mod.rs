//! A lane: the one task that owns the instances of a shard.
//!
//! Input, decide, apply, ONE commit (events, summary, marker, next commands, settled commands, cursor), and only when that is durable:
//! answers and calls. The task runs ahead of the disk; the commits of a shard become durable in their order, and what leaves
//! the lane waits for its commit in `follower`.

mod advance;
mod caller;
mod commands;
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
use crate::protocol::InstanceState;
use crate::store::LaneStore;
use commands::OpenCommands;
use core::time::Duration;
use follower::{DurableCommit, Following, Then};
use sagamq_api::saga::WORKER_GROUP;
use sagamq_api::{GroupName, SagaName};
use sagamq_broker::env::{Clock, Random};
use sagamq_broker::{Submitted, WriteError};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use timers::Timers;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Longest sleep between two looks at the clock, which may be set or, in a test, moved.
const CLOCK_LOOK_MAX: Duration = Duration::from_millis(100);

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
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
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
    quarantined: HashMap<Uuid, String>,
    commands: OpenCommands,
    timers: Timers,
    workers: GroupName,
    commits: u64,
    durable: DurableCommit,
    follower: mpsc::UnboundedSender<Following>,
}

impl Lane {
    /// Starts the follower and takes over what was recovered.
    pub(crate) fn new(parts: LaneParts, recovered: Recovered) -> Self {
        let (follower, following) = mpsc::unbounded_channel();
        let durable = DurableCommit::default();
        parts.tasks.spawn(follower::follow(following, durable.clone()));
        let workers = WORKER_GROUP.parse().expect("a constant that is a legal name");
        let mut lane = Self {
            parts,
            instances: HashMap::new(),
            keys: HashMap::new(),
            finished: VecDeque::new(),
            quarantined: recovered.quarantined,
            commands: recovered.commands,
            timers: Timers::default(),
            workers,
            commits: 0,
            durable,
            follower,
        };
        lane.resume(recovered.instances);
        lane
    }

    /// Works until the shutdown or until nobody can reach it any more.
    pub(crate) async fn run(mut self, mut inputs: mpsc::Receiver<LaneInput>) {
        let shutdown = self.parts.shutdown.clone();
        loop {
            self.fire_timers().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                input = inputs.recv() => match input {
                    Some(input) => self.handle(input).await,
                    None => break,
                },
                () = tokio::time::sleep(self.time_to_next_timer()), if self.timers.next_due_ms().is_some() => {}
            }
            self.forget_finished();
        }
    }

    async fn handle(&mut self, input: LaneInput) {
        match input {
            LaneInput::Start { definition, key, input, reply } => self.start(definition, key, input, reply).await,
            LaneInput::Complete { call, reply } => self.complete(call, reply).await,
            LaneInput::Outcome(call) => self.outcome(call).await,
            LaneInput::ReplyRecord { call, next } => self.reply_record(call, next).await,
            LaneInput::Cancel { id, reason, reply } => self.cancel(id, reason, reply).await,
            LaneInput::Get { id, reply } => {
                let state = match self.quarantined.get(&id) {
                    Some(reason) => Err(SagaError::Quarantined { id, reason: reason.clone() }),
                    None => Ok(self.instances.get(&id).map(|live| Box::new(live.state.clone()))),
                };
                self.when_durable(move |durable| {
                    // Whoever asked may have gone.
                    let _ = reply.send(durable.map_err(SagaError::from).and(state));
                });
            }
        }
    }

    fn time_to_next_timer(&self) -> Duration {
        let now_ms = self.parts.clock.now_ms();
        let left_ms = self.timers.next_due_ms().map_or(u64::MAX, |due_ms| due_ms.saturating_sub(now_ms));
        Duration::from_millis(left_ms.max(1)).min(CLOCK_LOOK_MAX)
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
