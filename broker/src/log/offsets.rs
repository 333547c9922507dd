//! The three positions of a partition, and the one inequality between them.
//!
//! ```text
//!   log_start  ≤  high_watermark  ≤  log_end
//!   |             |                  |
//!   first record  readers see        next offset to give: the shard's task
//!   still there   what is below      may run ahead of the disk up to here
//! ```
//! For the shard's task the log may begin later already than for all others, who are shown that when it is durable: [`SharedOffsets::cut_at`].

use sagamq_api::Offset;
use std::sync::atomic::{AtomicU64, Ordering};

/// Positions of one partition at a moment.
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

    /// Raises the start of the log: what lies below is not read any more.
    pub(crate) fn trim(&mut self, log_start: Offset) {
        assert!(log_start >= self.log_start, "what was taken away does not come back: {log_start} after {self:?}");
        self.log_start = log_start;
        self.assert_ordered();
    }

    fn assert_ordered(self) {
        assert!(
            self.log_start <= self.high_watermark && self.high_watermark <= self.log_end,
            "log_start <= high_watermark <= log_end holds at every change: {self:?}"
        );
    }
}

/// The positions of a partition for everybody to look at. Each has one owner who moves it, and only upwards: the end is moved by the shard's
/// task, and so is where the log is cut; start and high watermark by the committer. So nobody has to be locked out.
#[derive(Debug)]
pub(crate) struct SharedOffsets {
    /// Where the log begins when all that is staged is written.
    cut_at: AtomicU64,
    log_start: AtomicU64,
    high_watermark: AtomicU64,
    log_end: AtomicU64,
}

impl SharedOffsets {
    pub(crate) fn new(offsets: LogOffsets) -> Self {
        offsets.assert_ordered();
        let log_start = offsets.log_start.0;
        Self {
            cut_at: log_start.into(),
            log_start: log_start.into(),
            high_watermark: offsets.high_watermark.0.into(),
            log_end: offsets.log_end.0.into(),
        }
    }

    /// The positions at about this moment, in their order.
    pub(crate) fn now(&self) -> LogOffsets {
        // The lowest first: what is read later has only risen since.
        let log_start = Offset(self.log_start.load(Ordering::SeqCst));
        let high_watermark = self.high_watermark();
        let offsets = LogOffsets { log_start, high_watermark, log_end: Offset(self.log_end.load(Ordering::SeqCst)) };
        offsets.assert_ordered();
        offsets
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::SeqCst))
    }

    /// Gives offsets to `count` records and returns the first. Only the shard's task calls it.
    pub(crate) fn append(&self, count: u64) -> Offset {
        let mut offsets = self.now();
        let base = offsets.append(count);
        self.log_end.store(offsets.log_end.0, Ordering::Release);
        base
    }

    /// Where the log begins when all that is staged is written. Nothing below it can be relied on to be there.
    pub(crate) fn cut_at(&self) -> Offset {
        Offset(self.cut_at.load(Ordering::SeqCst))
    }

    /// Notes that the log will begin later. Only the shard's task calls it.
    pub(crate) fn cut(&self, log_start: Offset) {
        let mut offsets = LogOffsets { log_start: self.cut_at(), ..self.now() };
        offsets.trim(log_start);
        self.cut_at.store(log_start.0, Ordering::SeqCst);
    }

    /// Raises the start of the log to where it was cut: that is durable. Only the committer calls it.
    pub(crate) fn trim(&self, log_start: Offset) {
        let mut offsets = self.now();
        offsets.trim(log_start);
        self.log_start.store(log_start.0, Ordering::SeqCst);
    }

    /// Moves the high watermark to what became durable. Only the committer calls it.
    pub(crate) fn make_durable(&self, end: Offset) {
        let mut offsets = self.now();
        offsets.make_durable(end);
        self.high_watermark.store(end.0, Ordering::SeqCst);
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
    fn whoever_looks_while_they_move_sees_them_in_order() {
        let shared = SharedOffsets::new(LogOffsets::recovered(Offset(0), Offset(0)));
        let ends = std::sync::Mutex::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let base = shared.append(3);
                    *ends.lock().expect("no panic") = base.0 + 3;
                }
            });
            scope.spawn(|| {
                while shared.high_watermark() < Offset(60_000) {
                    let end = *ends.lock().expect("no panic");
                    shared.make_durable(Offset(end));
                }
            });
            // It asserts the order itself.
            while shared.now().high_watermark < Offset(60_000) {}
        });
        assert_eq!(shared.now(), LogOffsets { log_start: Offset(0), high_watermark: Offset(60_000), log_end: Offset(60_000) });
    }

    #[test]
    fn a_cut_is_shown_when_it_is_durable() {
        let shared = SharedOffsets::new(LogOffsets::recovered(Offset(3), Offset(9)));
        for (cut, shown) in [(5, 3), (8, 5)] {
            shared.cut(Offset(cut));
            assert_eq!((shared.cut_at(), shared.now().log_start), (Offset(cut), Offset(shown)));
            shared.trim(Offset(cut));
            assert_eq!(shared.now().log_start, Offset(cut));
        }
        for refused in [7, 10] {
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared.cut(Offset(refused)))).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_start_rises_up_to_what_is_durable() {
        let mut offsets = LogOffsets::recovered(Offset(3), Offset(5));
        offsets.append(4);
        offsets.trim(Offset(5));
        assert_eq!(offsets.log_start, Offset(5));
        for refused in [Offset(4), Offset(6)] {
            assert!(std::panic::catch_unwind(|| { offsets }.trim(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    #[should_panic(expected = "log_start <= high_watermark <= log_end")]
    fn what_was_not_appended_cannot_become_durable() {
        LogOffsets::recovered(Offset(0), Offset(1)).make_durable(Offset(2));
    }
}
