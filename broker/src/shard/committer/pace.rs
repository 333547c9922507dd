//! [`Pace`]: the time by which the committer waits for more to write. It decides when something is written, and nothing of what.

use crate::shard::commit::Commit;
use core::time::Duration;
use std::time::Instant;
use tokio::sync::mpsc;

pub(super) trait Pace {
    /// Time since some moment.
    fn now(&self) -> Duration;

    /// Lets so much of it pass.
    fn pause(&mut self, time: Duration);

    /// Lets time pass until there is something to write. `None`: nothing will come any more.
    fn first(&mut self, staged: &mut mpsc::Receiver<Commit>) -> Option<Commit>;
}

struct SystemPace(Instant);

/// The system's.
#[expect(clippy::disallowed_methods, reason = "how long a write waits decides nothing that is stored")]
pub(super) fn system() -> impl Pace + Send + 'static {
    SystemPace(Instant::now())
}

impl Pace for SystemPace {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn first(&mut self, staged: &mut mpsc::Receiver<Commit>) -> Option<Commit> {
        staged.blocking_recv()
    }
}
