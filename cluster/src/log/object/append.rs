//! Appending: one object, written if there is none, and the look at the mark where the place is not known to be new.

use super::entry::Head;
use super::{ENTRY_BYTES_MAX, ObjectLog, has_rows, key};
use crate::log::{AppendError, LogName, Pos, ReadError};
use crate::objects::{Put, PutError};
use bytes::Bytes;
use std::sync::atomic::Ordering;

impl ObjectLog {
    pub(super) async fn append_behind(&self, log: LogName, after: u64, bytes: Bytes) -> Result<Pos, AppendError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(AppendError::NotStored(format!("{} bytes, and the largest entry has {ENTRY_BYTES_MAX}", bytes.len())));
        }
        let place = after.checked_add(1).ok_or_else(|| AppendError::NotStored("there is no higher place".to_owned()))?;
        // Taken and not looked at: if this call ends half-way, or another one runs beside it, no row goes on behind it.
        let own = self.with_seen(log, |seen| seen.own.take());
        let is_first = !(has_rows(log) && own == Some(after));
        if is_first {
            self.check_no_gap(log, after).await?;
            if has_rows(log) && place <= self.trimmed(log).await.map_err(|error| not_stored(&error))? {
                return Err(AppendError::Conflict);
            }
        }
        let head = Head { is_first, writer: self.writer, sequence: self.sequence.fetch_add(1, Ordering::Relaxed) };
        match self.objects.put_new(&key(log, place), &head.with(&bytes)).await {
            Ok(Put::Stored) if is_first => self.check_new(log, place, "it is written").await?,
            Ok(Put::Stored) => {}
            Ok(Put::Other { is_sure, .. }) => {
                self.with_seen(log, |seen| seen.last = seen.last.max(place));
                if !is_sure {
                    // An attempt may have stood here first, and the others where it was trimmed.
                    self.check_new(log, place, "an answer was lost").await?;
                }
                return Err(AppendError::Conflict);
            }
            Ok(Put::Gone) => unreachable!("only a version that is replaced can be gone"),
            Err(PutError::NotStored(reason)) => return Err(AppendError::NotStored(reason)),
            Err(PutError::Unknown(reason)) => return Err(AppendError::Unknown(reason)),
        }
        self.with_seen(log, |seen| {
            seen.last = seen.last.max(place);
            seen.own = Some(place);
        });
        Ok(Pos(place))
    }

    /// Refuses to leave a gap: who stands behind the end has folded what the log has lost, or never had.
    async fn check_no_gap(&self, log: LogName, after: u64) -> Result<(), AppendError> {
        if after <= self.seen(log).last {
            return Ok(());
        }
        if self.objects.exists(&key(log, after)).await.map_err(|error| not_stored(&error.into()))? {
            return Ok(());
        }
        if after > self.trimmed(log).await.map_err(|error| not_stored(&error))? {
            return Err(AppendError::NotStored(format!("the log has no place {after}, behind which the entry was to stand")));
        }
        Ok(())
    }

    /// Whether what stands at a place is the only entry that ever stood there: it is if it lies behind a mark that is read afterwards,
    /// because the mark comes before what is deleted.
    ///
    /// Else nobody can tell. The entry may have come to a place that was free again, and is void; or it stood in time, and others have
    /// read and trimmed it since.
    async fn check_new(&self, log: LogName, place: u64, what: &str) -> Result<(), AppendError> {
        match self.trimmed(log).await {
            Ok(trimmed) if place > trimmed => Ok(()),
            Ok(trimmed) => Err(AppendError::Unknown(format!("{what}, and meanwhile the log was trimmed up to {trimmed}"))),
            Err(error) => Err(AppendError::Unknown(format!("{what}, and whether it counts is not known: {error}"))),
        }
    }
}

fn not_stored(error: &ReadError) -> AppendError {
    AppendError::NotStored(error.to_string())
}
