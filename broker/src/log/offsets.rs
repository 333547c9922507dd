//! The three positions of a partition, and the one inequality between them.
//!
//! ```text
//!   log_start  ≤  high_watermark  ≤  log_end
//!   |             |                  |
//!   first record  readers see        next offset to give: the shard's task
//!   still there   what is below      may run ahead of the disk up to here
//! ```

use sagamq_api::Offset;

/// Positions of one partition. Held by the shard's task, which is the only one that moves `log_end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogOffsets {
    /// First offset that is still there.
    pub(crate) log_start: Offset,
    /// Offset after the last durable record.
    pub(crate) high_watermark: Offset,
    /// Offset after the last staged record.
    pub(crate) log_end: Offset,
}

impl LogOffsets {
    /// Positions of a log whose records are all durable.
    pub(crate) fn recovered(log_start: Offset, log_end: Offset) -> Self {
        let offsets = Self { log_start, high_watermark: log_end, log_end };
        offsets.assert_ordered();
        offsets
    }

    /// Gives offsets to `count` records and returns the first.
    pub(crate) fn append(&mut self, count: u64) -> Offset {
        let base = self.log_end;
        assert!(count > 0, "a batch without records has no offset: {self:?}");
        self.log_end = base.plus(count);
        self.assert_ordered();
        base
    }

    /// Moves the high watermark to what became durable.
    pub(crate) fn make_durable(&mut self, end: Offset) {
        assert!(end >= self.high_watermark, "commits of a shard become durable in order: {end} after {self:?}");
        self.high_watermark = end;
        self.assert_ordered();
    }

    fn assert_ordered(self) {
        assert!(
            self.log_start <= self.high_watermark && self.high_watermark <= self.log_end,
            "log_start <= high_watermark <= log_end holds at every change: {self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_runs_ahead_and_the_watermark_follows() {
        let mut offsets = LogOffsets::recovered(Offset(3), Offset(5));
        assert_eq!(offsets.append(4), Offset(5));
        assert_eq!((offsets.high_watermark, offsets.log_end), (Offset(5), Offset(9)));
        offsets.make_durable(Offset(9));
        assert_eq!(offsets.high_watermark, Offset(9));
    }

    #[test]
    #[should_panic(expected = "log_start <= high_watermark <= log_end")]
    fn what_was_not_appended_cannot_become_durable() {
        LogOffsets::recovered(Offset(0), Offset(1)).make_durable(Offset(2));
    }
}
