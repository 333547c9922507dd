//! [`LastSnapshot`]: what is known of the newest snapshot of a shard, and whether the next one is due. Pure.
//!
//! A snapshot reads and writes all of its shard. So that what is committed pays for that, the next one waits for commits of half of what the last
//! one had: at most three bytes are read for each one that was committed. Whoever begins anew reads the log behind the last one, entry by entry,
//! and an entry takes a request however small it is: so entries count too, each as much as a request takes time for.

/// The commits of this part of what the last snapshot had make the next one due.
const PART: u64 = 2;

/// For so many bytes that the last snapshot had, one entry does so as well.
const BYTES_AN_ENTRY: u64 = 32 << 10;

/// No fewer entries do.
const ENTRIES_MIN: u64 = 16 << 10;

/// How far the log of a shard has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The last place.
    pub(crate) place: u64,
    /// The bytes of all commits.
    pub(crate) bytes: u64,
}

/// The newest snapshot of a shard. By default there is none, which is one of nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastSnapshot {
    /// Up to where the log is in it.
    pub(crate) reached: Reached,
    /// The bytes of its rows.
    pub(crate) rows: u64,
}

impl LastSnapshot {
    /// Whether the next one is due when the log has come so far. Fewer bytes than `bytes_min` are not enough.
    ///
    /// A log that shows less than the snapshot has was counted from later on: of that nothing is known to have come since.
    pub(crate) fn is_due(self, now: Reached, bytes_min: u64) -> bool {
        let bytes = now.bytes.saturating_sub(self.reached.bytes);
        let entries = now.place.saturating_sub(self.reached.place);
        bytes >= bytes_min.max(self.rows.div_ceil(PART)).max(1) || entries >= ENTRIES_MIN.max(self.rows.div_ceil(BYTES_AN_ENTRY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn last(bytes: u64, rows: u64) -> LastSnapshot {
        LastSnapshot { reached: Reached { place: 7, bytes }, rows }
    }

    #[test]
    fn small_shards_wait_for_the_least_and_large_ones_for_half_of_what_they_had() {
        let due = |committed, rows, bytes| last(committed, rows).is_due(Reached { place: 8, bytes }, 64);
        assert!(!due(0, 0, 63) && due(0, 0, 64));
        assert!(!due(100, 128, 163) && due(100, 128, 164), "half of it is the least");
        assert!(!due(100, 1_001, 600) && due(100, 1_001, 601), "half of it, rounded up");
        assert!(!due(100, 0, 5), "the bytes were counted from later on");
        assert!(!LastSnapshot::default().is_due(Reached::default(), 0), "nothing was committed");
    }

    #[test]
    fn many_small_entries_make_one_due_and_the_more_of_them_the_larger_it_was() {
        let due = |rows, entries: u64| last(100, rows).is_due(Reached { place: 7 + entries, bytes: 101 }, 1 << 40);
        assert!(!due(0, 16_383) && due(0, 16_384));
        assert!(!due(512 << 20, 16_383) && due(512 << 20, 16_384));
        assert!(!due(100 << 30, 3_276_799) && due(100 << 30, 3_276_800));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever commits add and remove: each snapshot reads at most three bytes for each that was committed since the one before, or what the entries
        /// pay for; and the log behind the last one is never longer than what makes one due.
        #[test]
        fn what_is_read_follows_what_is_committed(
            commits in prop::collection::vec((1..5_000_u64, -5_000..5_000_i64, 1..3_000_u64), 1..400),
            bytes_min in 0..200_000_u64,
        ) {
            let (mut last, mut now, mut rows) = (LastSnapshot::default(), Reached::default(), 0_u64);
            for (bytes, grows, entries) in commits {
                now = Reached { place: now.place + entries, bytes: now.bytes + bytes };
                // A commit adds no more than it has.
                rows = rows.saturating_add_signed(grows.min(bytes.cast_signed()));
                let (bytes, entries) = (now.bytes - last.reached.bytes, now.place - last.reached.place);
                if last.is_due(now, bytes_min) {
                    prop_assert!(rows <= 3 * bytes || rows <= bytes + entries * BYTES_AN_ENTRY, "{rows} bytes for {bytes} in {entries}");
                    last = LastSnapshot { reached: now, rows };
                } else {
                    prop_assert!(bytes < bytes_min.max(last.rows / 2 + 1).max(1), "{bytes} bytes behind one of {}", last.rows);
                    prop_assert!(entries < ENTRIES_MIN.max(last.rows / BYTES_AN_ENTRY + 1), "{entries} entries behind one of {}", last.rows);
                }
            }
        }
    }
}
