//! Reading: several places at once, forward until one is empty, and then the mark.

use super::{ObjectLog, entry, key};
use crate::log::{Entry, LogName, Pos, ReadError};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};

/// How many objects are asked for at a time.
const AT_ONCE: u64 = 32;

/// How many, before it is known how large they are.
const FIRST: u64 = 4;

impl ObjectLog {
    pub(super) async fn read_behind(&self, log: LogName, after: u64, bytes_max: usize) -> Result<Vec<Entry>, ReadError> {
        let objects = self.fetch(log, after, bytes_max).await?;
        // Afterwards: what was read at a place that is trimmed may be what a stale writer left there, and what was not found may be
        // trimmed and not the end.
        let trimmed = self.trimmed(log).await?;
        if after < trimmed {
            return Err(ReadError::Trimmed(Pos(trimmed)));
        }
        let mut entries = Vec::with_capacity(objects.len());
        for (place, object) in objects {
            let bytes = entry::content(&object).map_err(|error| ReadError::Corrupt(format!("{}: {error}", key(log, place))))?;
            entries.push(Entry { pos: Pos(place), bytes });
        }
        if let Some(last) = entries.last() {
            let bytes: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
            self.with_seen(log, |seen| {
                seen.last = seen.last.max(last.pos.0);
                seen.entry_bytes = bytes / entries.len() + 1;
            });
        }
        Ok(entries)
    }

    /// The objects behind a place, without a gap.
    async fn fetch(&self, log: LogName, after: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, ReadError> {
        let seen = self.seen(log);
        let mut objects = Vec::new();
        let mut bytes = 0;
        let mut next = after.saturating_add(1);
        // At the end of a log one empty answer is enough. Where more is known to be, more is asked for.
        let mut width = seen.last.saturating_sub(after).clamp(1, AT_ONCE);
        loop {
            let each = if objects.is_empty() { seen.entry_bytes } else { bytes / objects.len() + 1 };
            // As long as nothing is known of their size, few.
            let room = bytes_max.saturating_sub(bytes).checked_div(each).map_or(FIRST, |room| room as u64);
            let upto = next.saturating_add(width.min(room).max(1));
            let asked = (next..upto).map(|number| async move {
                let _place = self.place(log).await;
                (number, self.objects.get(&key(log, number)).await)
            });
            let mut answers = stream::iter(asked).buffered(AT_ONCE as usize);
            while let Some((place, answer)) = answers.next().await {
                // What is found behind a gap was written while the answers came, and belongs to the next read.
                let Some(object) = answer? else { return Ok(objects) };
                bytes += object.bytes.len().saturating_sub(entry::HEAD);
                objects.push((place, object.bytes));
                if bytes >= bytes_max {
                    return Ok(objects);
                }
            }
            next = upto;
            width = (width * 2).min(AT_ONCE);
        }
    }
}
