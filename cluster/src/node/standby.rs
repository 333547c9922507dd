//! [`Standby`]: a node that follows the logs of all shards, and takes over when nobody is active any more.

use super::active::{Active, Loss, Maker};
use super::beats::{Beats, Handover};
use super::clock::Uptime;
use super::copy::{Copy, CopyError};
use super::join::{JoinError, join};
use super::lease::Lease;
use super::members::decide::{Decision, decide};
use super::members::entry::{Identity, Process, Says};
use super::members::roll::{LogAge, Roll, RollError, SayError};
use super::settings::NodeSettings;
use super::snapshots::{Committed, SnapshotMaker, SnapshotsMade};
use super::storage::{Progress, ReplicatedStorage, Written};
use super::writer::ShardWriter;
use crate::Cluster;
use core::time::Duration;
use futures_util::future::{join_all, try_join_all};
use sagamq_broker::env::{Clock, Random};
use sagamq_broker::storage::{Moments, Storage};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// What a node is made of.
pub struct NodeParts {
    /// The log of the cluster, and its snapshots.
    pub cluster: Cluster,
    /// The copy of it on this machine.
    pub storage: Arc<dyn Moments>,
    /// Who the node is.
    pub settings: NodeSettings,
    /// Where it runs, see [`super::place`].
    pub place: Option<String>,
    /// By which leases are measured.
    pub clock: Arc<dyn Uptime>,
    /// The time of day, which is written down for people.
    pub wall: Arc<dyn Clock>,
    /// Whatever is made by chance.
    pub random: Random,
}

/// What a node that stands by shows of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The active node, if one is known that has not ended.
    pub active: Option<Process>,
    /// The last term.
    pub term: u64,
    /// How many entries of the log the active node says to have written that this one has not folded.
    pub lag: u64,
}

/// Why a node cannot follow any more. The process has to end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FollowError {
    /// The log of members cannot be read.
    #[error(transparent)]
    Members(#[from] RollError),
    /// The log of a shard cannot be folded.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// A node that stands by.
pub struct Standby {
    pub(super) cluster: Cluster,
    pub(super) storage: Arc<dyn Moments>,
    pub(super) settings: NodeSettings,
    pub(super) clock: Arc<dyn Uptime>,
    pub(super) wall: Arc<dyn Clock>,
    pub(super) roll: Roll,
    pub(super) of: Identity,
    pub(super) me: Process,
    /// The process that had the directory before.
    pub(super) before: Option<Uuid>,
    pub(super) copies: Vec<Copy>,
    pub(super) shown: watch::Sender<Shown>,
    /// When it last said that it lives.
    pub(super) said: Duration,
    /// By which it gets out of step with whom it meets.
    pub(super) random: Random,
    /// The heartbeats of a term that it has and does not serve under yet.
    pub(super) term_under_way: Option<TermUnderWay>,
}

/// A term that is claimed, while the shards are not all.
pub(super) struct TermUnderWay {
    /// Gives it back when nobody goes on with it.
    resigns: DropGuard,
    beats: JoinHandle<()>,
}

impl TermUnderWay {
    /// Gives it back.
    async fn end(self) {
        drop(self.resigns);
        if let Err(error) = self.beats.await {
            tracing::error!(%error, "the heartbeats panicked");
        }
    }
}

/// Attempts to say that the node has ended: others may say something at the same moment, each of them once in a heartbeat.
const LEAVES: u32 = 8;

/// How much more often than in each heartbeat a node looks that stands by for one that is about to hand over.
const LOOKS: u32 = 20;

/// After this time without a handover it looks no more often than before.
const HANDOVER_MAX: Duration = Duration::from_secs(60);

/// What became of a look at the log.
enum Look {
    /// Nobody is active any more, and this node has taken over.
    Active(Active),
    /// An operator wants this node to end.
    Drains,
    /// Look again.
    Again,
    /// Somebody else said something at the same moment, so nothing was said. Look again.
    Met,
}

impl Standby {
    /// Joins the cluster of the log, or makes one where the log is empty; checks that the copy is one of this log, and folds what is missing.
    ///
    /// # Errors
    /// [`JoinError`]. Nothing was taken over.
    pub async fn join(parts: NodeParts) -> Result<Self, JoinError> {
        join(parts).await
    }

    /// Into how many shards the cluster's data is divided.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.of.shards
    }

    /// What tells this process from others, also those with its name.
    #[must_use]
    pub fn boot(&self) -> Uuid {
        self.me.boot
    }

    /// What is known of the cluster; kept up to date as long as the node stands by.
    #[must_use]
    pub fn shown(&self) -> watch::Receiver<Shown> {
        self.shown.subscribe()
    }

    /// How long ago the log of members was read; kept up to date, also by the active node that this one becomes.
    #[must_use]
    pub fn log_age(&self) -> LogAge {
        self.roll.age()
    }

    /// Follows until nobody is active any more, and takes over. A log that does not answer is asked again. `None`: an operator has said over the
    /// log that this node is to end.
    ///
    /// # Errors
    /// [`FollowError`], where asking again does not help.
    pub async fn until_active(&mut self) -> Result<Option<Active>, FollowError> {
        loop {
            let has_met = match self.step().await {
                Ok(Look::Active(active)) => return Ok(Some(active)),
                Ok(Look::Drains) => return Ok(None),
                Ok(look) => matches!(look, Look::Met),
                Err(error) if error.may_pass() => {
                    tracing::warn!(%error, "the log does not answer; it is asked again");
                    false
                }
                Err(error) => return Err(error),
            };
            let now = self.clock.now();
            let until = match self.decide() {
                Decision::WaitUntil(until) => until.saturating_sub(now),
                Decision::Claim { .. } => self.settings.heartbeat,
            };
            // Whoever stays in step with another one meets it again.
            let pause = if has_met { self.pause(now).mul_f64(self.random.fraction()) } else { self.pause(now) };
            tokio::time::sleep(until.min(pause)).await;
        }
    }

    /// Until the next look.
    fn pause(&self, now: Duration) -> Duration {
        let hands_over = self.roll.members().hands_over().is_some_and(|since| now.saturating_sub(since) < HANDOVER_MAX);
        if hands_over { self.settings.heartbeat / LOOKS } else { self.settings.heartbeat }
    }

    fn decide(&self) -> Decision {
        decide(self.roll.members(), &self.me, self.before, self.settings.claim_after, self.clock.now())
    }

    /// Reads what is new, folds it, and says so; takes over if nobody is active.
    async fn step(&mut self) -> Result<Look, FollowError> {
        self.roll.catch_up().await?;
        self.show();
        if self.roll.members().drains(self.me.boot).is_some() {
            return Ok(Look::Drains);
        }
        if self.follow().await? {
            // That took its time: others have said something meanwhile.
            self.roll.catch_up().await?;
        }
        self.show();
        let term = match self.decide() {
            Decision::Claim { term } => Some(term),
            // It was said a moment ago that this node lives.
            Decision::WaitUntil(_) if self.clock.now().saturating_sub(self.said) < self.settings.heartbeat / 2 => return Ok(Look::Again),
            Decision::WaitUntil(_) => None,
        };
        let says = match term {
            Some(term) => {
                let lease_ms = u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX);
                Says::Claims { term, read: self.roll.members().last().0, lease_ms }
            }
            None => Says::Standby { folded: self.copies.iter().map(|copy| copy.position().0).collect() },
        };
        match self.roll.say(self.of, &self.me, says).await {
            Ok(sent) => {
                self.said = sent;
                match term {
                    Some(term) => self.take_over(term, sent).await.map(Look::Active),
                    None => Ok(Look::Again),
                }
            }
            // Who was faster may be active now.
            Err(SayError::Raced) => Ok(Look::Met),
            Err(SayError::Void) => Ok(Look::Again),
            Err(SayError::NotTaken(reason)) => {
                tracing::warn!(reason, "the log of members takes no entries");
                Ok(Look::Again)
            }
            Err(SayError::Roll(error)) => Err(error.into()),
        }
    }

    fn show(&self) {
        let members = self.roll.members();
        let active = members.holder().filter(|holder| holder.is_active && !holder.has_resigned).map(|holder| holder.process.clone());
        let written = members.holder().map_or(&[][..], |holder| &holder.written);
        let lag = self.copies.iter().zip(written).map(|(copy, written)| written.saturating_sub(copy.position().0)).sum();
        self.shown.send_if_modified(|shown| {
            let now = Shown { active, term: members.term(), lag };
            let is_new = *shown != now;
            *shown = now;
            is_new
        });
    }

    /// Folds what the active node says to have written. Without one there is nothing new. Whether there was something.
    async fn follow(&mut self) -> Result<bool, CopyError> {
        let written = self.roll.members().holder().map_or(&[][..], |holder| &holder.written);
        let behind = self.copies.iter_mut().zip(written).filter(|(copy, written)| copy.position().0 < **written);
        // Where one fails, the others go on to their end all the same: they may be loading a snapshot.
        let followed: Vec<_> = join_all(behind.map(|(copy, _)| copy.follow())).await.into_iter().collect::<Result<_, _>>()?;
        Ok(!followed.is_empty())
    }

    /// Claims every shard for a term that this node has.
    async fn take_over(&mut self, term: u64, sent: Duration) -> Result<Active, FollowError> {
        tracing::info!(term, "nobody is active: this node takes over");
        // It answers nobody yet, and neither does the one before.
        self.shown.send_replace(Shown { active: None, term, lag: 0 });
        let (loss, resigns) = (Loss::default(), CancellationToken::new());
        let lease = Lease::new(Arc::clone(&self.clock), self.settings.lease);
        lease.renew(sent);
        let written = Written::new(self.of.shards);
        for copy in &self.copies {
            written.put(copy.shard(), copy.position().0);
        }
        // Heartbeats first: to read the rest may take its time.
        let handover = Handover::default();
        let beats = Beats {
            roll: self.roll.clone(),
            of: self.of,
            me: self.me.clone(),
            term,
            lease: lease.clone(),
            lease_length: self.settings.lease,
            interval: self.settings.heartbeat,
            written: written.clone(),
            loss: loss.clone(),
            resigns: resigns.clone(),
            handover: handover.clone(),
            random: self.random.fork(),
        };
        let beats = tokio::spawn(beats.run());
        // What ends this in the middle finds it here.
        self.term_under_way = Some(TermUnderWay { resigns: resigns.drop_guard(), beats });
        let claims = self.copies.iter_mut().map(|copy| copy.claim(&lease));
        if let Err(error) = try_join_all(claims).await {
            // The copies are what they were, and follow on.
            lease.end();
            self.give_back().await;
            return Err(error.into());
        }
        let writers: Vec<_> = core::mem::take(&mut self.copies).into_iter().map(|copy| copy.into_writer(lease.clone())).collect();
        let committed = Committed::new(writers.iter().map(ShardWriter::reached));
        let snapshots_made = SnapshotsMade::new(committed.clone());
        let maker = SnapshotMaker {
            snapshots: self.cluster.snapshots.clone(),
            storage: Arc::clone(&self.storage),
            log: Arc::clone(&self.cluster.log),
            wall: Arc::clone(&self.wall),
            settings: self.settings.clone(),
            committed: committed.clone(),
            made: snapshots_made.clone(),
            ends: CancellationToken::new(),
        };
        let maker = Maker { ends: maker.ends.clone().drop_guard(), task: tokio::spawn(maker.run()) };
        let copy: Arc<dyn Storage> = Arc::clone(&self.storage) as _;
        let storage = ReplicatedStorage::new(copy, writers, Progress { written, committed }, lease.clone(), loss.clone());
        let announcement_max = self.settings.heartbeat * 5;
        let TermUnderWay { resigns, beats } = self.term_under_way.take().expect("it was put there above");
        let resigns = resigns.disarm();
        Ok(Active { storage: Arc::new(storage), lease, loss, resigns, handover, announcement_max, beats, maker, snapshots_made })
    }

    /// Gives a term back under which nothing was served yet.
    async fn give_back(&mut self) {
        if let Some(term) = self.term_under_way.take() {
            term.end().await;
        }
    }

    /// Says that the node has ended, and gives a term back that it was about to take over.
    pub async fn leave(&mut self) {
        self.give_back().await;
        for _ in 0..LEAVES {
            match self.roll.say(self.of, &self.me, Says::Left {}).await {
                Ok(_) | Err(SayError::Void) => return,
                // Others have spoken since it has read the last time.
                Err(SayError::Raced) => {
                    if let Err(error) = self.roll.catch_up().await {
                        return tracing::warn!(%error, "the node could not say that it has ended");
                    }
                }
                Err(error) => return tracing::warn!(%error, "the node could not say that it has ended"),
            }
        }
        tracing::warn!("the node could not say that it has ended: others spoke each time");
    }
}

impl core::fmt::Debug for NodeParts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("NodeParts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Standby {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Standby").field("me", &self.me).field("of", &self.of).finish_non_exhaustive()
    }
}

impl FollowError {
    /// Whether another node was faster to take over.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Copy(CopyError::Lost { .. }))
    }

    /// Whether it may be better the next time.
    fn may_pass(&self) -> bool {
        match self {
            Self::Members(error) => error.may_pass(),
            Self::Copy(error) => error.may_pass(),
        }
    }
}

#[cfg(test)]
mod tests;
