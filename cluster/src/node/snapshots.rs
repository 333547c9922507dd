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
use crate::snapshot::{Manifest, SnapshotError, Snapshots};
use core::ops::ControlFlow;
use core::time::Duration;
use last::LastSnapshot;
use sagamq_broker::env::Clock;
use sagamq_broker::ids::ShardId;
use sagamq_broker::storage::keys::LocalKey;
use sagamq_broker::storage::{Family, Moment, Moments, StorageError};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Bytes of rows that are read at a time.
const PAGE_BYTES: usize = 1 << 20;

/// How often it is looked which logs have grown enough.
const INTERVAL: Duration = Duration::from_secs(1);

/// Pause behind a snapshot that could not be made.
const PAUSE: Duration = Duration::from_secs(30);

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
}

/// What is known of a shard's snapshots.
#[derive(Clone, Copy, Debug)]
struct Known {
    last: LastSnapshot,
    /// Whether the older ones are deleted, and the log is trimmed below them.
    is_tidy: bool,
}

/// Makes snapshots. Dropping its future ends it; what is half made then is none.
pub(crate) struct SnapshotMaker {
    pub(crate) snapshots: Snapshots,
    pub(crate) storage: Arc<dyn Moments>,
    pub(crate) log: Arc<dyn CommitLog>,
    pub(crate) wall: Arc<dyn Clock>,
    pub(crate) settings: NodeSettings,
    pub(crate) committed: Committed,
    pub(crate) made: SnapshotsMade,
}

impl SnapshotMaker {
    pub(crate) async fn run(self) {
        let mut known = BTreeMap::new();
        loop {
            tokio::time::sleep(INTERVAL.min(self.settings.heartbeat)).await;
            // Where not even a first one would be due there is nothing to ask, whatever was made before.
            let first = |reached| LastSnapshot::default().is_due(reached, self.settings.snapshot_bytes);
            for (shard, _) in self.committed.all().filter(|(_, reached)| first(*reached)) {
                if let Err(error) = self.look(shard, &mut known).await {
                    tracing::warn!(shard, %error, "a snapshot is not made, or the log not trimmed; it grows on");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Makes a snapshot of a shard if one is due.
    async fn look(&self, shard: u16, known: &mut BTreeMap<u16, Known>) -> Result<(), MakeError> {
        let known = match known.entry(shard) {
            Entry::Occupied(known) => known.into_mut(),
            // The one before may not have come to the end of its work.
            Entry::Vacant(unknown) => unknown.insert(Known { last: self.find(shard).await?, is_tidy: false }),
        };
        if known.last.is_due(self.committed.of(shard), self.settings.snapshot_bytes) {
            let Some(made) = self.make(shard).await? else { return Ok(()) };
            *known = Known { last: made, is_tidy: false };
        }
        if !known.is_tidy {
            let trimmed = self.tidy(shard).await?;
            known.is_tidy = true;
            tracing::info!(shard, trimmed = trimmed.0, "the log is trimmed below the snapshots that are kept");
        }
        Ok(())
    }

    /// The newest one, whoever made it.
    async fn find(&self, shard: u16) -> Result<LastSnapshot, MakeError> {
        let Some(newest) = self.snapshots.newest(shard).await? else { return Ok(LastSnapshot::default()) };
        let bytes = FoldPoint::decode(&newest.position)?.bytes;
        // A node that was updated later than the one that made it has counted less.
        let reached = Reached { place: newest.pos.0, bytes: bytes.min(self.committed.of(shard).bytes) };
        Ok(LastSnapshot { reached, rows: newest.raw_bytes() })
    }

    /// Makes one. None: nothing is folded yet.
    async fn make(&self, shard: u16) -> Result<Option<LastSnapshot>, MakeError> {
        let (snapshots, storage, runtime) = (self.snapshots.clone(), Arc::clone(&self.storage), Handle::current());
        let (made_ms, node) = (self.wall.now_ms(), self.settings.name.clone());
        // It reads all of a shard from disk: not on a thread that others wait for.
        let written = tokio::task::spawn_blocking(move || write(&snapshots, &*storage, shard, made_ms, node, &runtime)).await??;
        let Some((point, manifest)) = written else { return Ok(None) };
        let (read, stored) = (manifest.raw_bytes(), manifest.stored_bytes());
        self.made.count(read, stored);
        tracing::info!(shard, at = point.pos.0, read, stored, "a snapshot is made");
        // What came while it was made counts for the next one.
        Ok(Some(LastSnapshot { reached: Reached { place: point.pos.0, bytes: point.bytes }, rows: read }))
    }

    /// Deletes older ones, and gives up to where the log is trimmed.
    async fn tidy(&self, shard: u16) -> Result<Pos, MakeError> {
        let retained = self.snapshots.retain(shard).await?;
        // With one snapshot alone the log stays whole: that one may turn out to be damaged.
        let Some(oldest) = retained.kept.get(1) else { return Ok(Pos::START) };
        // The entry at its place stays: whoever begins there looks at it.
        let upto = Pos(oldest.pos.0.saturating_sub(1));
        self.log.trim(LogName::Shard(shard), upto).await?;
        Ok(upto)
    }
}

/// Writes the rows of a shard as they are at this moment.
fn write(
    snapshots: &Snapshots,
    storage: &dyn Moments,
    shard: u16,
    made_ms: u64,
    node: String,
    runtime: &Handle,
) -> Result<Option<(FoldPoint, Manifest)>, MakeError> {
    let moment = storage.moment();
    // Nothing is folded, so there is nothing to keep.
    let Some(row) = moment.get(Family::Meta, &LocalKey::Position(ShardId(shard)).encode())? else { return Ok(None) };
    let point = FoldPoint::decode(&row)?;
    let mut writer = snapshots.begin(shard, made_ms, node);
    for (number, family) in (0..).zip(Family::ALL) {
        let range = ShardId(shard).all();
        let mut from = range.start;
        while let Some(page) = page(&*moment, family, &from, &range.end)? {
            runtime.block_on(async {
                for (key, value) in &page.rows {
                    writer.push(number, key, value).await?;
                }
                Ok::<_, SnapshotError>(())
            })?;
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
    }
    let manifest = runtime.block_on(writer.finish(point.pos, point.encode().into()))?;
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
