//! Where a log ends, without a list of everything: looks at places farther and farther on, then between them.

use super::{ObjectLog, key};
use crate::log::{Bounds, LogName, Pos, ReadError};
use futures_util::future::try_join_all;

/// How many places are looked at together.
const AT_ONCE: u64 = 8;

impl ObjectLog {
    pub(super) async fn find_bounds(&self, log: LogName) -> Result<Bounds, ReadError> {
        let mut trimmed = self.trimmed(log).await?;
        loop {
            let last = self.find_end(log, trimmed.max(self.seen(log).last)).await?;
            let is_there = last <= trimmed || self.stands(log, last).await?;
            // Places that seemed empty may have been trimmed under our eyes.
            trimmed = self.trimmed(log).await?;
            if trimmed > last || (trimmed == last && !is_there) {
                continue;
            }
            if !is_there {
                return Err(ReadError::Corrupt(format!("{} was there, is not trimmed, and is gone", key(log, last))));
            }
            self.with_seen(log, |seen| seen.last = seen.last.max(last));
            return Ok(Bounds { trimmed: Pos(trimmed), last: Pos(last) });
        }
    }

    /// The last place from a known one on behind which nothing stands. Between the mark and the end there is no gap.
    async fn find_end(&self, log: LogName, known: u64) -> Result<u64, ReadError> {
        let next = known.saturating_add(1);
        if !self.stands(log, next).await? {
            return Ok(known);
        }
        // Farther on: 1, 2, 4 and so on, eight at a time.
        let mut full = next;
        let mut empty = None;
        let mut step = 1_u64;
        while empty.is_none() {
            let places: Vec<u64> = (0..AT_ONCE).map(|power| next.saturating_add(step.saturating_mul(1 << power))).collect();
            (full, empty) = self.first_empty(log, full, &places).await?;
            step = step.saturating_mul(1 << AT_ONCE);
        }
        // Then between the last that stands and the first that does not, in ninths.
        let mut empty = empty.unwrap_or(full);
        while empty - full > 1 {
            let stride = ((empty - full) / (AT_ONCE + 1)).max(1);
            let places: Vec<u64> = (1..=AT_ONCE).map(|number| full + number * stride).filter(|place| *place < empty).collect();
            let (before, found) = self.first_empty(log, full, &places).await?;
            (full, empty) = (before, found.unwrap_or(empty));
        }
        Ok(full)
    }

    /// The first of these places, which rise, at which nothing stands, and the one before it.
    async fn first_empty(&self, log: LogName, mut before: u64, places: &[u64]) -> Result<(u64, Option<u64>), ReadError> {
        let stand = try_join_all(places.iter().map(|place| self.stands(log, *place))).await?;
        for (place, stands) in places.iter().zip(stand) {
            if !stands {
                return Ok((before, Some(*place)));
            }
            before = *place;
        }
        Ok((before, None))
    }

    async fn stands(&self, log: LogName, place: u64) -> Result<bool, ReadError> {
        let _place = self.place(log).await;
        Ok(self.objects.exists(&key(log, place)).await?)
    }
}
