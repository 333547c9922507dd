//! Trimming: the mark first, then the objects, but never the first one of a writer's row.

use super::entry::{HEAD, Head};
use super::mark::{Mark, MoveError};
use super::{ObjectLog, has_rows, key};
use crate::log::{LogName, ReadError};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

/// How many objects are looked at and deleted at a time.
const AT_ONCE: usize = 16;

impl ObjectLog {
    pub(super) async fn trim_upto(&self, log: LogName, upto: u64) -> Result<(), ReadError> {
        let (mark, version) = loop {
            let (mark, version) = self.mark(log).await?;
            if upto <= mark.trimmed {
                break (mark, version);
            }
            self.check_has(log, upto).await?;
            match self.move_mark(log, Mark::new(upto, mark.swept), version).await {
                // Read again for its version.
                Ok(()) | Err(MoveError::Moved) => {}
                Err(MoveError::Put(error)) => return Err(ReadError::Unavailable(error.to_string())),
            }
        };
        if mark.swept == mark.trimmed {
            return Ok(());
        }
        self.sweep(log, mark.swept, mark.trimmed).await?;
        match self.move_mark(log, Mark::new(mark.trimmed, mark.trimmed), version).await {
            // Whoever moved it goes over the same places again.
            Ok(()) | Err(MoveError::Moved) => Ok(()),
            Err(MoveError::Put(error)) => Err(ReadError::Unavailable(error.to_string())),
        }
    }

    /// Refuses to trim what was never there: a mark behind the end would take places that nobody has written.
    async fn check_has(&self, log: LogName, upto: u64) -> Result<(), ReadError> {
        if upto <= self.seen(log).last {
            return Ok(());
        }
        let last = self.find_bounds(log).await?.last.0;
        if upto > last {
            return Err(ReadError::Corrupt(format!("{log} was to be trimmed up to {upto}, and it ends at {last}")));
        }
        Ok(())
    }

    /// Deletes what lies behind one place, up to and with another. May be repeated, also by two at once.
    async fn sweep(&self, log: LogName, behind: u64, upto: u64) -> Result<(), ReadError> {
        stream::iter(behind + 1..=upto)
            .map(|place| async move {
                if self.may_go(log, place).await? {
                    self.objects.delete(&key(log, place)).await?;
                }
                Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Whether a trimmed entry may be deleted. The first of a row may not: its key must stay taken for the writer whose row it ended.
    async fn may_go(&self, log: LogName, place: u64) -> Result<bool, ReadError> {
        if !has_rows(log) {
            return Ok(true);
        }
        let Some(head) = self.objects.get_start(&key(log, place), HEAD as u64).await? else { return Ok(false) };
        // What cannot be read may have been a first one.
        Ok(Head::parse(&head).is_ok_and(|head| !head.is_first))
    }
}
