//! [`SnapshotMaker`]: the active node makes a snapshot of a shard when its log has grown enough, and trims the log below the one before.

mod last;
mod made;
#[cfg(test)]
mod tests;

pub(crate) use last::Reached;
pub(crate) use made::Committed;
pub use made::SnapshotsMade;

use super::settings::NodeSettings;
use crate::fold::{FoldPoint, FoldPointError};
use crate::log::{CommitLog, LogName, Pos, ReadError};
use crate::objects::Unanswered;
use crate::snapshot::{Manifest, SnapshotError, SnapshotWriter, Snapshots};
use core::ops::ControlFlow;
use core::time::Duration;
use last::LastSnapshot;
use sagamq_broker::env::Clock;
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::keys::LocalKey;
use sagamq_broker::storage::{Family, Moment, Moments, StorageError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes of rows that are read at a time.
const PAGE_BYTES: usize = 1 << 20;

/// How often it is looked which logs have grown enough.
const INTERVAL: Duration = Duration::from_secs(1);

/// Behind a shard's snapshot that could not be made, so many heartbeats are waited before the next attempt, behind the next failure twice as many, and so on: each
/// attempt may write all of the shard again, and that costs.
const PAUSE_HEARTBEATS: u32 = 30;

/// No longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(1_800);

/// Why a snapshot was not made, or the log not trimmed.
#[derive(Debug, thiserror::Error)]
enum MakeError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the data directory: {0}")]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Point(#[from] FoldPointError),
    #[error("the object storage does not answer: {0}")]
    Unanswered(#[from] Unanswered),
    #[error("the log cannot be trimmed: {0}")]
    Trim(#[from] ReadError),
    #[error("the making of a snapshot panicked: {0}")]
    Panicked(#[from] tokio::task::JoinError),
    #[error("the node is not the active one any more")]
    Ends,
}

/// What is known of a shard's snapshots.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The newest one, once it was looked for.
    last: Option<LastSnapshot>,
    /// Whether the older ones are deleted, and what attempts have left that failed, and the log is trimmed below those that stay.
    is_tidy: bool,
    /// How many attempts failed, one behind the other.
    failures: u32,
    /// Until then nothing is tried.
    not_before: Instant,
}

/// Makes snapshots, until `ends`. What is half made then is none.
pub(crate) struct SnapshotMaker {
    pub(crate) snapshots: Snapshots,
    pub(crate) storage: Arc<dyn Moments>,
    pub(crate) log: Arc<dyn CommitLog>,
    pub(crate) wall: Arc<dyn Clock>,
    pub(crate) settings: NodeSettings,
    pub(crate) committed: Committed,
    pub(crate) made: SnapshotsMade,
    pub(crate) ends: CancellationToken,
}

impl SnapshotMaker {
    pub(crate) async fn run(self) {
        let mut known = BTreeMap::new();
        while self.unless_ended(tokio::time::sleep(INTERVAL.min(self.settings.heartbeat))).await.is_ok() {
            // Where not even a first one would be due there is nothing to ask, whatever was made before.
            let first = |reached| LastSnapshot::default().is_due(reached, self.settings.snapshot_bytes);
            for (shard, _) in self.committed.all().filter(|(_, reached)| first(*reached)) {
                // The one before may not have come to the end of its work.
                let unknown = || Known { last: None, is_tidy: false, failures: 0, not_before: Instant::now() };
                let known = known.entry(shard).or_insert_with(unknown);
                if Instant::now() < known.not_before {
                    continue;
                }
                match self.look(shard, known).await {
                    Ok(()) => known.failures = 0,
                    Err(MakeError::Ends) => return,
                    Err(error) => {
                        let pause = self.pause(known.failures);
                        (known.failures, known.not_before) = (known.failures.saturating_add(1), Instant::now() + pause);
                        tracing::warn!(shard, %error, again_in = ?pause, "a snapshot is not made, or the log not trimmed; it grows on");
                    }
                }
            }
        }
    }

    /// For what may end anywhere in between.
    async fn unless_ended<T>(&self, what: impl Future<Output = T>) -> Result<T, MakeError> {
        self.ends.run_until_cancelled(what).await.ok_or(MakeError::Ends)
    }

    /// Behind so many failures and one more.
    fn pause(&self, failures: u32) -> Duration {
        self.settings.heartbeat.saturating_mul(PAUSE_HEARTBEATS).saturating_mul(2_u32.saturating_pow(failures)).min(PAUSE_MAX)
    }

    /// Makes a snapshot of a shard if one is due.
    async fn look(&self, shard: u16, known: &mut Known) -> Result<(), MakeError> {
        let last = match known.last {
            Some(last) => last,
            None => *known.last.insert(self.find(shard).await?),
        };
        // First: what attempts have left that failed would be more with each of them. That it cannot be deleted is no reason to make none.
        let mut tidied = self.tidy(shard, known).await;
        if last.is_due(self.committed.of(shard), self.settings.snapshot_bytes) {
            known.is_tidy = false;
            known.last = self.make(shard).await?.or(known.last);
            tidied = self.tidy(shard, known).await;
        }
        tidied
    }

    /// The newest one, whoever made it.
    async fn find(&self, shard: u16) -> Result<LastSnapshot, MakeError> {
        let Some(newest) = self.unless_ended(self.snapshots.newest(shard)).await?? else { return Ok(LastSnapshot::default()) };
        let bytes = FoldPoint::decode(&newest.position)?.bytes;
        // A node that was updated later than the one that made it has counted less.
        let reached = Reached { place: newest.pos.0, bytes: bytes.min(self.committed.of(shard).bytes) };
        Ok(LastSnapshot { reached, rows: newest.raw_bytes() })
    }

    /// Makes one. None: nothing is folded yet.
    async fn make(&self, shard: u16) -> Result<Option<LastSnapshot>, MakeError> {
        let (snapshots, storage, runtime) = (&self.snapshots, Arc::clone(&self.storage), Handle::current());
        let (writer, ends) = (snapshots.begin(shard, self.wall.now_ms(), self.settings.name.clone()), self.ends.clone());
        // It reads all of a shard from disk: not on a thread that others wait for. It is waited for to its end, which `ends` makes a near one.
        let written = tokio::task::spawn_blocking(move || write(writer, &*storage, shard, &runtime, &ends)).await??;
        let Some((point, manifest)) = written else { return Ok(None) };
        let (read, stored) = (manifest.raw_bytes(), manifest.stored_bytes());
        self.made.count(read, stored);
        tracing::info!(shard, at = point.pos.0, read, stored, "a snapshot is made");
        // What came while it was made counts for the next one.
        Ok(Some(LastSnapshot { reached: Reached { place: point.pos.0, bytes: point.bytes }, rows: read }))
    }

    /// Deletes older ones and what is left of attempts that failed, and trims the log, if that is not done.
    async fn tidy(&self, shard: u16, known: &mut Known) -> Result<(), MakeError> {
        if known.is_tidy {
            return Ok(());
        }
        let retained = self.unless_ended(self.snapshots.retain(shard)).await??;
        // With one snapshot alone the log stays whole: that one may turn out to be damaged.
        if let Some(oldest) = retained.kept.get(1) {
            // The entry at its place stays: whoever begins there looks at it.
            let upto = Pos(oldest.pos.0.saturating_sub(1));
            self.unless_ended(self.log.trim(LogName::Shard(shard), upto)).await??;
            tracing::info!(shard, trimmed = upto.0, "the log is trimmed below the snapshots that are kept");
        }
        known.is_tidy = true;
        Ok(())
    }
}

/// Writes the rows of a shard as they are at this moment. Ends early with the token: a thread cannot be given up from outside, and this one has the data directory
/// open.
fn write(
    mut writer: SnapshotWriter,
    storage: &dyn Moments,
    shard: u16,
    runtime: &Handle,
    ends: &CancellationToken,
) -> Result<Option<(FoldPoint, Manifest)>, MakeError> {
    let moment = storage.moment();
    // Nothing is folded, so there is nothing to keep.
    let Some(row) = moment.get(Family::Meta, &LocalKey::Position(ShardId(shard)).encode())? else { return Ok(None) };
    let point = FoldPoint::decode(&row)?;
    for (number, family) in (0..).zip(Family::ALL) {
        let range = ShardId(shard).all();
        let mut from = range.start;
        while let Some(page) = page(&*moment, family, &from, &range.end)? {
            let pushed = runtime.block_on(ends.run_until_cancelled(async {
                for (key, value) in &page.rows {
                    writer.push(number, key, value).await?;
                }
                Ok::<_, SnapshotError>(())
            }));
            pushed.ok_or(MakeError::Ends)??;
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
    }
    let finished = runtime.block_on(ends.run_until_cancelled(writer.finish(point.pos, point.encode().into())));
    let manifest = finished.ok_or(MakeError::Ends)??;
    Ok(Some((point, manifest)))
}

/// Some rows of a family.
struct Page {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// The key behind them.
    next: Option<Vec<u8>>,
}

fn page(moment: &dyn Moment, family: Family, from: &[u8], end: &[u8]) -> Result<Option<Page>, StorageError> {
    let (mut page, mut bytes) = (Page { rows: Vec::new(), next: None }, 0);
    moment.scan(family, from..end, &mut |key, value| {
        if bytes >= PAGE_BYTES {
            page.next = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        bytes += key.len() + value.len();
        page.rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok((!page.rows.is_empty()).then_some(page))
}
