//! Kills with SIGKILL while orders are under way. Of a broker of several nodes, the one that serves is lost for good and another takes over.

use super::cluster::Takeover;
use super::site::{BROKER, Site};
use super::{TrialError, books, branches};
use crate::service::checkpoint::{Place, Side, Verb};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Where a vote is held back: the branch is prepared and nobody knows.
const AFTER_A_VOTE: Place = Place { order_id: None, verb: Verb::Prepare, side: Side::After, skip: 0 };

/// Where a decision is lost: nothing of it is done.
const BEFORE_A_COMMIT: Place = Place { order_id: None, verb: Verb::Commit, side: Side::Before, skip: 0 };

/// Pause between two looks whether a branch has asked.
const LOOK: Duration = Duration::from_millis(50);

/// Longest time until a service is asked for a vote, or asks for a decision, while orders are under way.
const VOTE_LIMIT: Duration = Duration::from_secs(60);

/// A kill that is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    /// Who.
    pub(super) who: &'static str,
    /// When so many percent of the orders have ended.
    pub(super) at_percent: usize,
    /// How long it is left dead.
    pub(super) down: Duration,
    /// What is done to it.
    pub(super) how: How,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// It is killed.
    Kill,
    /// It is killed when a branch of this service has voted, and before anybody knows: so it is in doubt.
    KillWhileInDoubt(&'static str),
    /// It is not killed: a decision is lost on its way to it, so it has to ask.
    LoseDecision,
}

/// One kill and what it took to recover.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kill {
    /// Who.
    pub(super) who: &'static str,
    /// When, after the first order.
    pub(super) at: Duration,
    /// How many orders had ended by then.
    pub(super) ended: usize,
    /// How long it was left dead.
    pub(super) down: Duration,
    /// From its start until it answered; of a node that was lost for good, from the kill until another one did.
    pub(super) ready: Duration,
    /// From the kill until the next order ended.
    pub(super) next_order: Duration,
    /// Branches of transactions that were in doubt while it was dead or when it came back; nothing where nobody looked.
    pub(super) in_doubt: Option<usize>,
    /// How the broker's other nodes went on, if it has any and one was lost.
    pub(super) takeover: Option<Takeover>,
}

/// Kills one after the other as the orders go on, and tells `say` about it. While one is dead, `meanwhile` is done. Returns when all
/// have recovered.
pub(super) async fn run(
    site: &Site,
    orders: usize,
    strikes: &[Strike],
    meanwhile: impl AsyncFn() -> Result<(), TrialError>,
    mut progress: watch::Receiver<usize>,
    say: impl Fn(String),
) -> Result<Vec<Kill>, TrialError> {
    let began = Instant::now();
    let mut kills = Vec::new();
    for &Strike { who, at_percent, down, how } in strikes {
        reach(&mut progress, orders * at_percent / 100).await;
        let voter = match how {
            How::Kill => None,
            How::KillWhileInDoubt(voter) => Some(voter),
            How::LoseDecision => {
                say(lose_decision(site, who).await?);
                continue;
            }
        };
        if let Some(voter) = voter {
            hold(site, voter, &AFTER_A_VOTE).await?;
        }
        let (at, killed) = (began.elapsed(), Instant::now());
        let lost = match site.cluster().filter(|_| who == BROKER) {
            Some(cluster) => Some((cluster, cluster.lose().await?)),
            None => {
                site.kill(who).await?;
                None
            }
        };
        if let Some(voter) = voter.filter(|&voter| voter != who) {
            branches::let_go(site, voter).await?;
        }
        let ended = *progress.borrow();
        say(match &lost {
            Some((_, lost)) => {
                format!("kill -9 {}, the active node, and its disk is gone; {ended} of {orders} orders have ended", lost.name)
            }
            None if down.is_zero() => format!("kill -9 {who}, {ended} of {orders} orders have ended"),
            None => format!("kill -9 {who}, {ended} of {orders} orders have ended; it stays down for a while"),
        });
        // Not a wait for something to happen: the outage itself.
        tokio::time::sleep(down).await;
        meanwhile().await?;
        let mut before = *progress.borrow();
        let in_doubt = match voter {
            // A voter that is dead itself tells of it when it comes back.
            Some(voter) if voter != who => branches::in_doubt(site).await.map(|branches| branches.len()),
            _ => None,
        };
        let (ready, next_order, takeover) = match lost {
            Some((cluster, lost)) => {
                let by = cluster.take_over(&lost).await?;
                // What its customers hear of a moment later had ended before.
                before = before.max(*progress.borrow());
                say(format!("{} has taken over: nobody served for {:.1} s", by.name, by.silent.as_secs_f64()));
                let next_order = next_after(killed, &mut progress, before, orders).await;
                let takeover = cluster.replace(&lost, by).await?;
                let joined = takeover.joined.as_millis();
                say(format!("{} stands by in the place of {}, {joined} ms after its start on an empty disk", takeover.new, lost.name));
                (by.silent, next_order, Some(takeover))
            }
            None => {
                let ready = site.restart(who).await?;
                say(format!("{who} is back: it answered {} ms after its start", ready.as_millis()));
                (ready, next_after(killed, &mut progress, before, orders).await, None)
            }
        };
        kills.push(Kill { who, at, ended, down, ready, next_order, in_doubt, takeover });
    }
    Ok(kills)
}

/// Waits until one more order has ended, and says how long after the kill. When no orders are left there is nothing to wait for.
async fn next_after(killed: Instant, progress: &mut watch::Receiver<usize>, before: usize, orders: usize) -> Duration {
    reach(progress, (before + 1).min(orders)).await;
    killed.elapsed()
}

/// Waits until so many orders have ended, or until no more will.
async fn reach(progress: &mut watch::Receiver<usize>, ended: usize) {
    // An error means that the traffic is over: then there is nothing to wait for either.
    let _ = progress.wait_for(|&now| now >= ended).await;
}

/// Has a call held at `service`, and waits until one is.
async fn hold(site: &Site, service: &'static str, place: &Place) -> Result<(), TrialError> {
    branches::hold(site, service, place).await?;
    tokio::time::timeout(VOTE_LIMIT, branches::held(site, service)).await.map_err(|_| TrialError::NotAsked { service })?
}

/// Holds a decision on its way to `service` until its branch has asked for it.
async fn lose_decision(site: &Site, service: &'static str) -> Result<String, TrialError> {
    let before = books::counts(site, service).await?.branches.resolved;
    hold(site, service, &BEFORE_A_COMMIT).await?;
    let began = Instant::now();
    while books::counts(site, service).await?.branches.resolved == before {
        if began.elapsed() > VOTE_LIMIT {
            return Err(TrialError::NotAsked { service });
        }
        tokio::time::sleep(LOOK).await;
    }
    branches::let_go(site, service).await?;
    Ok(format!("a decision to commit was lost on its way to {service}: it asked, and knew after {} ms", began.elapsed().as_millis()))
}
