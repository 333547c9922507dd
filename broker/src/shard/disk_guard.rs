//! Keeps a part of the disk free. What would add to the data is refused before the disk is full, and taken again when there is room.
//!
//! A full disk is the one failure that can be seen coming. A write that fails for it stops all writes until a restart, and what the database
//! does beside the commits (writing memory out, merging) fails with it. So there are three states, found by looking at the file system:
//!
//! - [`Room::Enough`].
//! - [`Room::Low`], below the reserve: new records, topics, groups, definitions and sagas are refused where they arrive, and nothing of them is
//!   stored. What lets go of data or brings things to their end goes on: settling, committing of offsets, deleting, retention, sagas under way.
//! - [`Room::Gone`], below a fourth of the reserve, which only others can have used up: the committer waits, so that no write fails. Who
//!   asked for one waits with it.
//!
//! Above the reserve nothing is taken again before a bit more is free, so that a disk at its edge does not change its mind with each record.

use crate::metrics::DiskGauges;
use crate::shard::commit::WriteError;
use crate::storage::{FreeSpace, Storage};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How much of the disk is kept free, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskLimits {
    /// Below it, what adds to the data is refused. 0: nothing is ever refused.
    pub reserve_bytes: u64,
    /// From here on it is taken again; not less than the reserve.
    pub resume_bytes: u64,
}

impl DiskLimits {
    /// Bounds with this reserve; what was refused is taken again when a fourth more is free.
    #[must_use]
    pub const fn with_reserve(reserve_bytes: u64) -> Self {
        Self { reserve_bytes, resume_bytes: reserve_bytes.saturating_add(reserve_bytes / 4) }
    }

    /// Below it nothing is written.
    const fn floor_bytes(self) -> u64 {
        self.reserve_bytes / 4
    }

    /// How it stands with so many bytes, after it stood as `before`.
    const fn judge(self, before: Room, available_bytes: u64) -> Room {
        if available_bytes < self.floor_bytes() {
            Room::Gone
        } else if available_bytes < self.reserve_bytes || (available_bytes < self.resume_bytes && !matches!(before, Room::Enough)) {
            Room::Low
        } else {
            Room::Enough
        }
    }
}

impl Default for DiskLimits {
    /// 1 GiB, and 1.25 GiB to take again what was refused.
    fn default() -> Self {
        Self::with_reserve(1 << 30)
    }
}

/// How it stands with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Everything is taken.
    Enough,
    /// What adds to the data is refused.
    Low,
    /// Every write waits.
    Gone,
}

/// What keeps the disk from getting full; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct DiskGuard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: DiskLimits,
    gauges: DiskGauges,
    /// Held while it is judged, so that two looks at a time change it one after the other.
    judged: Mutex<Room>,
    /// The same, for who only asks.
    room: AtomicU8,
    available_bytes: AtomicU64,
}

impl DiskGuard {
    /// A guard that has not looked yet: there is enough.
    pub(crate) fn new(limits: DiskLimits, gauges: DiskGauges) -> Self {
        gauges.reserve_bytes.set(limits.reserve_bytes.cast_signed());
        let room = Room::Enough;
        Self(Arc::new(Inner {
            limits,
            gauges,
            judged: Mutex::new(room),
            room: AtomicU8::new(room as u8),
            available_bytes: AtomicU64::new(0),
        }))
    }

    /// How it stood at the last look.
    pub(crate) fn room(&self) -> Room {
        match self.0.room.load(Ordering::Acquire) {
            number if number == Room::Enough as u8 => Room::Enough,
            number if number == Room::Low as u8 => Room::Low,
            _ => Room::Gone,
        }
    }

    /// Asks the file system, which takes a microsecond or two. Storage that has no disk has room enough, and what cannot be found out
    /// changes nothing.
    pub(crate) fn look(&self, storage: &dyn Storage) {
        match storage.free_space() {
            Ok(Some(space)) => self.see(space),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "how much of the disk is free cannot be found out"),
        }
    }

    fn see(&self, FreeSpace { available_bytes, owed_bytes }: FreeSpace) {
        let Inner { limits, gauges, judged, room, available_bytes: seen } = &*self.0;
        // What is in the log and not yet in files of its own will be written once more, and the log goes after that.
        let available_bytes = available_bytes.saturating_sub(owed_bytes);
        gauges.available_bytes.set(i64::try_from(available_bytes).unwrap_or(i64::MAX));
        let mut judged = judged.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, after) = (*judged, limits.judge(*judged, available_bytes));
        (*judged, _) = (after, seen.swap(available_bytes, Ordering::Release));
        room.store(after as u8, Ordering::Release);
        gauges.low.set((after != Room::Enough).into());
        if before == after {
            return;
        }
        let &DiskLimits { reserve_bytes, resume_bytes } = limits;
        match after {
            Room::Enough => tracing::info!(available_bytes, resume_bytes, "the disk has room again: everything is taken"),
            Room::Low if before == Room::Gone => {
                tracing::warn!(available_bytes, reserve_bytes, "writes go on; new records are still refused")
            }
            Room::Low => tracing::warn!(
                available_bytes,
                reserve_bytes,
                resume_bytes,
                "the disk is low: new records, topics, groups and sagas are refused until there is room; what is under way goes on"
            ),
            Room::Gone => tracing::error!(
                available_bytes,
                floor_bytes = limits.floor_bytes(),
                "the disk is nearly full: every write waits until there is room; make some outside of the data directory"
            ),
        }
    }

    /// Refuses what would add to the data while there is no room for it.
    ///
    /// # Errors
    /// [`WriteError::DiskLow`]; nothing is stored.
    pub(crate) fn require_room(&self) -> Result<(), WriteError> {
        if self.room() == Room::Enough {
            return Ok(());
        }
        let Inner { limits, gauges, available_bytes, .. } = &*self.0;
        gauges.refused_requests.inc();
        Err(WriteError::DiskLow {
            available_bytes: available_bytes.load(Ordering::Acquire),
            reserve_bytes: limits.reserve_bytes,
            resume_bytes: limits.resume_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: DiskLimits = DiskLimits { reserve_bytes: 400, resume_bytes: 500 };

    #[test]
    fn it_is_low_below_the_reserve_and_enough_only_from_the_higher_bound_on() {
        for (before, available, after) in [
            (Room::Enough, 500, Room::Enough),
            (Room::Enough, 400, Room::Enough),
            (Room::Enough, 399, Room::Low),
            (Room::Low, 400, Room::Low),
            (Room::Low, 499, Room::Low),
            (Room::Low, 500, Room::Enough),
            (Room::Low, 100, Room::Low),
            (Room::Enough, 99, Room::Gone),
            (Room::Gone, 100, Room::Low),
            (Room::Gone, 500, Room::Enough),
        ] {
            assert_eq!(LIMITS.judge(before, available), after, "{before:?}, {available}");
        }
    }

    #[test]
    fn without_a_reserve_nothing_is_refused() {
        let off = DiskLimits::with_reserve(0);
        assert!([Room::Enough, Room::Low, Room::Gone].into_iter().all(|before| off.judge(before, 0) == Room::Enough));
    }

    #[test]
    fn a_refusal_says_how_it_stands_and_is_counted_and_what_is_owed_is_not_free() {
        let gauges = DiskGauges::default();
        let guard = DiskGuard::new(LIMITS, gauges.clone());
        guard.require_room().expect("nobody has looked yet");
        guard.see(FreeSpace { available_bytes: 450, owed_bytes: 51 });
        let error = guard.require_room().expect_err("399 are left");
        assert!(matches!(error, WriteError::DiskLow { available_bytes: 399, reserve_bytes: 400, resume_bytes: 500 }), "{error:?}");
        assert_eq!((gauges.refused_requests.get(), gauges.low.get(), gauges.available_bytes.get()), (1, 1, 399));
        guard.see(FreeSpace { available_bytes: 500, owed_bytes: 0 });
        guard.require_room().expect("there is room again");
        assert_eq!(gauges.low.get(), 0);
    }

    proptest! {
        /// Whatever it is told: it is never enough below the reserve, never low from the higher bound on, and between the two it stays as it was.
        #[test]
        fn between_the_bounds_it_stays_as_it_was(looks in prop::collection::vec(0_u64..700, 1..50)) {
            let mut room = Room::Enough;
            for available in looks {
                let after = LIMITS.judge(room, available);
                match available {
                    0..100 => prop_assert_eq!(after, Room::Gone),
                    100..400 => prop_assert_eq!(after, Room::Low),
                    400..500 => prop_assert_eq!(after == Room::Enough, room == Room::Enough),
                    _ => prop_assert_eq!(after, Room::Enough),
                }
                room = after;
            }
        }
    }
}
