//! [`drain`]: an operator has a node hand over and end, over the log alone.

use super::clock::BootClock;
use super::join::by_chance;
use super::members::entry::{Process, Says};
use super::members::roll::{Roll, RollError, SayError};
use super::members::view::{Members, NodeState};
use crate::log::CommitLog;
use core::time::Duration;
use sagamq_broker::env::{Random, SystemClock};
use std::sync::Arc;
use uuid::Uuid;

/// How often it is looked what the log says.
const LOOK: Duration = Duration::from_millis(50);

/// Within this time a node that stands by has said so, if its heartbeats are not longer apart.
const OTHERS_MAX: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The active node now, if it is known.
    pub active: Option<Process>,
    /// Whether the node was the active one.
    pub was_active: bool,
    /// From the wish until the node had ended and another one had taken over.
    pub took: Duration,
}

/// Why a node did not hand over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// The log names no such node.
    #[error("the log names no node `{0}`")]
    Unknown(String),
    /// It has ended, or its name was never more than a claim.
    #[error("node `{0}` has ended already")]
    Gone(String),
    /// Nobody would serve.
    #[error("node `{node}` is the active one, and within {} s no other node has said that it stands by: nobody would serve", within.as_secs())]
    Alone {
        /// Its name.
        node: String,
        /// How long it was listened for others.
        within: Duration,
    },
    /// The wish is in the log, and the node has not ended, or nobody has taken over.
    #[error("{0}. It is in the log, so it may come yet")]
    Waits(String),
    /// The wish is not known to be in the log.
    #[error(transparent)]
    Say(#[from] SayError),
    /// The log does not answer, or cannot be read.
    #[error(transparent)]
    Roll(#[from] RollError),
}

/// Has the process of a node end. If it is the active one, it tells those who stand by first, ends what is under way, and gives its term back; another one takes over at
/// once. The process ends well, and is a member as ever when it is started again.
///
/// Waits until that is so, and no longer than `patience`. With `force` also where nobody would take over.
///
/// # Errors
/// [`DrainError`]. Nothing is asked of the node with [`DrainError::Unknown`], [`DrainError::Gone`] and [`DrainError::Alone`].
#[expect(clippy::disallowed_methods, reason = "an operator waits by the machine's clock")]
pub async fn drain(
    log: Arc<dyn CommitLog>,
    node: &str,
    force: bool,
    patience: Duration,
    random: &mut Random,
) -> Result<Drained, DrainError> {
    let mut roll = Roll::read(log, Arc::new(BootClock), Arc::new(SystemClock)).await?;
    let (boot, was_active) = process(roll.members(), node)?;
    let within = others_max(roll.members());
    if was_active && !force && !others(&mut roll, node, within).await? {
        return Err(DrainError::Alone { node: node.to_owned(), within });
    }
    let began = std::time::Instant::now();
    say(&mut roll, boot, random).await?;
    while began.elapsed() < patience {
        roll.catch_up().await?;
        let members = roll.members();
        let has_ended = has_ended(members, node, boot);
        let holder = members.holder().filter(|holder| holder.is_active && !holder.has_resigned && holder.process.boot != boot);
        if has_ended && (holder.is_some() || !was_active || force) {
            return Ok(Drained { active: holder.map(|holder| holder.process.clone()), was_active, took: began.elapsed() });
        }
        tokio::time::sleep(LOOK).await;
    }
    let what = if has_ended(roll.members(), node, boot) { "it has ended, and nobody has taken over" } else { "it has not ended" };
    Err(DrainError::Waits(format!("node `{node}` was told to hand over {} s ago: {what}", patience.as_secs())))
}

/// The process of a node that has not ended, and whether it has the term.
fn process(members: &Members, node: &str) -> Result<(Uuid, bool), DrainError> {
    let found = members.nodes().get(node).ok_or_else(|| DrainError::Unknown(node.to_owned()))?;
    if found.state == NodeState::Gone {
        return Err(DrainError::Gone(node.to_owned()));
    }
    let boot = found.process.boot;
    Ok((boot, members.holder().is_some_and(|holder| holder.process.boot == boot && !holder.has_resigned)))
}

/// Whether a process has ended, by what the log says. Of one that the log does not name any more nothing is known.
fn has_ended(members: &Members, node: &str, boot: Uuid) -> bool {
    members.nodes().get(node).is_some_and(|found| found.state == NodeState::Gone || found.process.boot != boot)
}

/// How long it takes at the most until a node that stands by says so: a heartbeat, which is at most half of the lease of all nodes.
fn others_max(members: &Members) -> Duration {
    members.holder().map_or(OTHERS_MAX, |holder| holder.lease.max(OTHERS_MAX))
}

/// Whether another node says that it stands by, from now on: what the log says of before may be old.
async fn others(roll: &mut Roll, node: &str, within: Duration) -> Result<bool, RollError> {
    let since = roll.now();
    while roll.now().saturating_sub(since) < within {
        tokio::time::sleep(LOOK).await;
        roll.catch_up().await?;
        if roll.members().stands_by(node, since) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn say(roll: &mut Roll, boot: Uuid, random: &mut Random) -> Result<(), DrainError> {
    let of = roll.members().identity().expect("who is named there is a member of a cluster");
    // It makes nobody a member.
    let operator = Process { node: "operator".to_owned(), boot: by_chance(random), url: String::new() };
    loop {
        match roll.say(of, &operator, Says::Drains { boot }).await {
            Ok(_) => return Ok(()),
            Err(SayError::Raced) => roll.catch_up().await?,
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
