//! The heartbeats of the active node: they renew its lease, and tell when another one has taken over.

mod trims;

use super::active::Loss;
use super::lease::Lease;
use super::members::entry::{Identity, Process, Says};
use super::members::roll::{Roll, SayError};
use super::storage::Written;
use core::time::Duration;
use sagamq_broker::env::Random;
use tokio_util::sync::CancellationToken;
use trims::Trims;

/// What heartbeats are made of.
pub(crate) struct Beats {
    pub(crate) roll: Roll,
    pub(crate) of: Identity,
    pub(crate) me: Process,
    pub(crate) term: u64,
    pub(crate) lease: Lease,
    pub(crate) lease_length: Duration,
    pub(crate) interval: Duration,
    pub(crate) written: Written,
    pub(crate) loss: Loss,
    /// Cancelled when the node gives its term back.
    pub(crate) resigns: CancellationToken,
    pub(crate) handover: Handover,
    /// By which it gets out of step with whom it meets.
    pub(crate) random: Random,
}

/// How the active node and its heartbeats agree on the end of its term. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handover {
    /// Cancelled by the node, which wants those who stand by to be told that it is about to end.
    pub(crate) announces: CancellationToken,
    /// Cancelled by the heartbeats: whoever stands by looks out, so the node may end.
    pub(crate) is_due: CancellationToken,
}

/// Those who stand by have read within so many heartbeats that the active node is about to end.
const HEARD_WITHIN: u32 = 2;

impl Beats {
    /// Sends heartbeats until the term is over or given back, then says the latter.
    ///
    /// Each one is sent right behind a read: those who stand by have said something since the last one, and an append behind what was read then
    /// would meet that.
    pub(crate) async fn run(mut self) {
        let (mut is_announced, mut has_met) = (false, false);
        let mut trims = Trims::new(self.interval);
        loop {
            let is_read = match tokio::time::timeout(self.lease_length / 4, self.roll.catch_up()).await {
                Ok(Ok(())) if !self.is_holder() => return self.fenced(),
                Ok(Ok(())) => true,
                // Not being able to read says nothing: the lease runs out by itself.
                Ok(Err(error)) if error.may_pass() => self.is_not_read(&error.to_string()),
                // What a newer version wrote stays unreadable: whoever says nothing any more and does not end holds its place for nobody.
                Ok(Err(error)) => {
                    self.lease.end();
                    return self.loss.tell(error.to_string());
                }
                // The lease does not wait for it: if somebody said something, the log refuses the heartbeat.
                Err(_) => self.is_not_read("no answer within a quarter of the lease"),
            };
            let pause = match self.beat().await {
                Ok(sent) => {
                    self.lease.renew(sent);
                    trims.look(&mut self.roll).await;
                    // Whoever stays in step with another one meets it again.
                    if core::mem::take(&mut has_met) { self.interval.mul_f64(self.random.fraction()) } else { self.interval }
                }
                // Somebody said something else: it is read, and the next heartbeat is sent at once.
                Err(SayError::Raced) => {
                    has_met = true;
                    if is_read { Duration::ZERO } else { self.interval }
                }
                Err(SayError::Void) => return self.fenced(),
                Err(error @ (SayError::NotTaken(_) | SayError::Roll(_))) => {
                    tracing::warn!(%error, left = ?self.lease.left(), "a heartbeat may not be in the log");
                    self.interval
                }
            };
            self.hand_over();
            tokio::select! {
                biased;
                () = self.resigns.cancelled() => return self.resign().await,
                () = self.loss.happened() => return self.resign().await,
                () = self.handover.announces.cancelled(), if !is_announced => is_announced = self.announce().await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn is_not_read(&self, error: &str) -> bool {
        tracing::warn!(error, left = ?self.lease.left(), "the log of members cannot be read");
        false
    }

    /// Says that this process is about to end. Whether that is said; if not, it is tried behind the next heartbeat.
    async fn announce(&mut self) -> bool {
        match self.say(Says::Drains { boot: self.me.boot }).await {
            Ok(_) => {
                self.hand_over();
                true
            }
            Err(SayError::Raced) => false,
            Err(error) => {
                tracing::warn!(%error, "those who stand by could not be told that this node is about to end");
                true
            }
        }
    }

    /// Lets the node end if it is to, and if those who stand by know it by now, or there are none.
    fn hand_over(&self) {
        let members = self.roll.members();
        let (Some(since), now) = (members.drains(self.me.boot), self.roll.now()) else { return };
        let is_alone = !members.stands_by(&self.me.node, now.saturating_sub(self.lease_length));
        if is_alone || now.saturating_sub(since) >= self.interval * HEARD_WITHIN {
            self.handover.is_due.cancel();
        }
    }

    async fn beat(&mut self) -> Result<Duration, SayError> {
        let lease_ms = u64::try_from(self.lease_length.as_millis()).unwrap_or(u64::MAX);
        self.say(Says::Active { term: self.term, lease_ms, written: self.written.all() }).await
    }

    /// Says something. What is not answered soon is given up, so that the next heartbeat may be in time. Whether it is in the log is read then.
    async fn say(&mut self, says: Says) -> Result<Duration, SayError> {
        match tokio::time::timeout(self.lease_length / 2, self.roll.say(self.of, &self.me, says)).await {
            Ok(said) => said,
            Err(_) => Err(SayError::NotTaken("no answer within half a lease".to_owned())),
        }
    }

    /// Whether nobody has taken the term, as far as was read.
    fn is_holder(&self) -> bool {
        let holder = self.roll.members().holder();
        self.roll.members().term() == self.term && holder.is_some_and(|holder| holder.process.boot == self.me.boot)
    }

    fn fenced(&self) {
        self.lease.end();
        let by = self
            .roll
            .members()
            .holder()
            .map_or_else(|| "another one".to_owned(), |holder| format!("`{}` at {}", holder.process.node, holder.process.url));
        self.loss.tell(format!("node {by} has taken over; start this one again, and it stands by"));
    }

    /// Says that nobody is answered any more.
    async fn resign(&mut self) {
        self.lease.end();
        // Others may say something at the same moment, each of them once in an interval.
        for _ in 0..8 {
            match self.roll.say(self.of, &self.me, Says::Resigned { term: self.term }).await {
                Ok(_) => return,
                Err(SayError::Raced) => {
                    if self.roll.catch_up().await.is_err() {
                        break;
                    }
                }
                Err(SayError::Void) => return,
                Err(error @ (SayError::NotTaken(_) | SayError::Roll(_))) => {
                    tracing::warn!(%error, "the node could not say that it has ended: others find out when they hear nothing of it");
                    return;
                }
            }
        }
        tracing::warn!("the node could not say that it has ended: others find out when they hear nothing of it");
    }
}

#[cfg(test)]
mod tests;
