//! Syncs what topics promise within an interval, if nothing else has done so before.

use crate::ids::ShardId;
use crate::liveness::PartGuard;
use crate::shard::commit::Commit;
use crate::shard::committer::SyncDue;
use core::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Looks every `interval` until the shutdown. What is written is synced by the next look, so within the interval and the time of a write or two.
pub(crate) async fn run(staged: mpsc::Sender<Commit>, due: SyncDue, interval: Duration, shutdown: CancellationToken, life: PartGuard) {
    // Told before anything of it goes, should this task die.
    let life = life;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(interval) => {}
        }
        if !due.is_due() {
            continue;
        }
        // It changes nothing, so whose it is makes no difference.
        let mut sync = Commit::new(ShardId::CONTROL);
        sync.require_sync();
        sync.on_written(|_| {});
        if staged.send(sync).await.is_err() {
            break;
        }
    }
    life.ended();
}
