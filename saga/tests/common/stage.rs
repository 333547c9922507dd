//! The stage that crash tests share: a play is run once for each write that it makes, that write fails, the node comes back on what was left
//! behind, the play is gone on with, and what must hold is looked at.

use super::{LIMIT, Node};
use core::future::Future;
use sagamq_broker::storage::crash::{CrashStorage, FailedWrite};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How a node ends after a write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The process is killed: all that was written is there.
    Killed,
    /// The power is cut: what was not synced is gone.
    WithoutPower,
}

/// What a failed write leaves, and how the node ends then.
pub(crate) type Left = (FailedWrite, Ends);

/// All that a failed write can leave.
pub(crate) const ALL_LEFT: &[Left] = &[
    (FailedWrite::NothingApplied, Ends::WithoutPower),
    (FailedWrite::Applied, Ends::Killed),
    (FailedWrite::AppliedNotSynced, Ends::WithoutPower),
    (FailedWrite::AppliedNotSynced, Ends::Killed),
];

/// The same without a write that is there and not synced when the process is killed: it is as one that is there.
pub(crate) const MOST_LEFT: &[Left] = &[
    (FailedWrite::NothingApplied, Ends::WithoutPower),
    (FailedWrite::Applied, Ends::Killed),
    (FailedWrite::AppliedNotSynced, Ends::WithoutPower),
];

/// What is played, with the participants, which survive every crash of the node. Clones are the same one.
pub(crate) trait Play: Clone + Send + Sync + 'static {
    /// Goes on from wherever an earlier node came to, until everything is at its end. Workers end with the token, which is cancelled behind it at the
    /// latest. `None`: a write failed.
    fn run(&self, node: &Node, stop: &CancellationToken) -> impl Future<Output = Option<()>> + Send;

    /// Looks at what a run has led to, on a node of its own.
    fn check(&self, node: &Node, case: &str) -> impl Future<Output = ()> + Send;
}

/// A few at a time, so that the attempts' deadlines are not met by slowness alone.
const AT_ONCE: usize = 8;

/// Plays it once without a crash, and then once for each write and each thing that may be left of it; `left` says which, by the write's number.
/// There must be this many writes at least, or the test has shown less than it says.
pub(crate) async fn at_every_write<P, F>(new: impl Fn() -> F, writes_min: u64, left: impl Fn(u64) -> &'static [Left])
where
    P: Play,
    F: Future<Output = P>,
{
    let (storage, play) = (CrashStorage::new(), new().await);
    assert!(run(storage.clone(), &play).await, "without a crash everything comes to its end");
    let writes = storage.writes();
    check(storage.after_power_cut(), &play, "no crash").await;
    assert!(writes >= writes_min, "there are writes to crash at: {writes}");
    let mut running = JoinSet::new();
    for write in 1..=writes {
        for &left in left(write) {
            if running.len() >= AT_ONCE {
                running.join_next().await.expect("one runs").expect("no case fails");
            }
            running.spawn(crash_at(new().await, write, left));
        }
    }
    while let Some(case) = running.join_next().await {
        case.expect("no case fails");
    }
}

async fn crash_at<P: Play>(play: P, write: u64, (leaves, ends): Left) {
    let case = format!("write {write} leaves {leaves:?}, {ends:?}");
    let storage = CrashStorage::new();
    storage.fail_write(write, leaves);
    let is_done = run(storage.clone(), &play).await;
    let left = match ends {
        Ends::Killed => storage.after_kill(),
        Ends::WithoutPower => storage.after_power_cut(),
    };
    if !is_done {
        assert!(run(left.clone(), &play).await, "{case}: after the restart everything comes to its end");
    }
    check(left, &play, &case).await;
}

/// Runs as far as the storage allows. True if everything was accepted and is at its end.
async fn run<P: Play>(storage: CrashStorage, play: &P) -> bool {
    let Ok(node) = Node::open(Arc::new(storage)).await else { return false };
    let stop = CancellationToken::new();
    let is_done = tokio::time::timeout(LIMIT, play.run(&node, &stop)).await.expect("everything ends, or a write fails").is_some();
    stop.cancel();
    // After a failed write the storage may show what that write left behind and a power cut takes away: its outcome is unknown.
    let has_failed = node.broker.writes_stopped().is_some();
    node.close().await;
    is_done && !has_failed
}

async fn check<P: Play>(storage: CrashStorage, play: &P, case: &str) {
    let node = Node::open(Arc::new(storage)).await.expect("what a run left can be opened");
    play.check(&node, case).await;
    node.close().await;
}
