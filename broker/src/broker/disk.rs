//! The disk guard: looks at the disk again and again, so that room that others take or give is seen too.

use crate::broker::{Broker, Inner};
use crate::liveness::PartGuard;
use crate::shard::commit::WriteError;
use crate::shard::disk_guard::Room;
use core::time::Duration;
use std::sync::{Arc, Weak};
use tokio_util::sync::CancellationToken;

/// How often. Beside that, the committer looks after each 8 MiB.
const INTERVAL: Duration = Duration::from_millis(250);

/// Looks until the shutdown.
pub(super) async fn run(broker: Weak<Inner>, shutdown: CancellationToken, life: PartGuard) {
    // Told before anything of it goes, should this task die.
    let life = life;
    loop {
        let Some(broker) = broker.upgrade().map(Broker::of) else { break };
        broker.look_at_disk().await;
        drop(broker);
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
    life.ended();
}

impl Broker {
    /// How it stands with the disk.
    #[must_use]
    pub fn disk_room(&self) -> Room {
        self.0.disk.room()
    }

    /// Refuses what would add to the data while the disk has too little room for it: to be asked before new things are begun, not for what
    /// is under way, which may come to its end.
    ///
    /// # Errors
    /// [`WriteError::DiskLow`].
    pub fn require_room(&self) -> Result<(), WriteError> {
        self.0.disk.require_room()
    }

    /// Looks at the disk now. This happens by itself.
    pub async fn look_at_disk(&self) {
        let (disk, storage) = (self.0.disk.clone(), Arc::clone(&self.0.storage));
        // A file system of the network may take its time.
        self.blocking(move || disk.look(&*storage)).await;
    }
}
