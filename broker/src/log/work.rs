//! Which partitions of a group may have something for its pollers, and who waits for it.
//!
//! A poller looks only at the marked partitions, so an idle group costs the same whatever its number of partitions. A mark is a hint that
//! may be there for nothing and is never missing: whoever changes what there is sets it afterwards, and whoever found nothing takes it away
//! first and then looks once more.

use crate::growing::Growing;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Notify;

/// Partitions of one word of marks.
const BITS: usize = u64::BITS as usize;

/// The marks of a group, by index of the partition.
#[derive(Debug)]
pub(crate) struct WorkSet {
    marks: Growing<AtomicU64>,
    /// Wakes one poller of the group.
    notify: Notify,
}

impl WorkSet {
    /// No partition is marked: whoever makes it marks those that have something, once later appends mark theirs.
    pub(crate) fn new(partitions: usize) -> Self {
        Self { marks: Growing::new((0..partitions.div_ceil(BITS)).map(|_| AtomicU64::new(0))), notify: Notify::new() }
    }

    /// The group gets so many partitions; none of the new ones is marked.
    pub(crate) fn grow(&self, partitions: usize) {
        self.marks.grow_to(partitions.div_ceil(BITS), |_| AtomicU64::new(0));
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.marks.get(index / BITS).expect("a group has as many marks as partitions")
    }

    /// There may be something in this partition.
    pub(crate) fn mark(&self, index: usize) {
        let (word, bit) = (self.word(index), 1 << (index % BITS));
        // Most of the time it is there: a look is cheaper than a write that all cores must hear of. The order is the same as that of a write
        // against the clear and the look behind it, so that one of both sees the other.
        if word.load(Ordering::SeqCst) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Takes the mark away if `is_idle`, and sets it again if something came in that moment.
    pub(crate) fn clear_if(&self, index: usize, is_idle: impl Fn() -> bool) {
        if is_idle() {
            self.word(index).fetch_and(!(1 << (index % BITS)), Ordering::SeqCst);
            if !is_idle() {
                self.mark(index);
            }
        }
    }

    /// The marked partitions, from this one on and around.
    pub(crate) fn marked_from(&self, first: usize) -> Vec<usize> {
        let mut marked = Vec::new();
        for (place, word) in self.marks.iter().enumerate() {
            let mut bits = word.load(Ordering::SeqCst);
            while bits != 0 {
                marked.push(place * BITS + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
        let behind = marked.partition_point(|&index| index < first);
        marked.rotate_left(behind);
        marked
    }

    /// Wakes one poller.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Ends with the next wake-up.
    pub(crate) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

/// The groups that read a topic: each hears of a durable append, and one of its pollers wakes.
#[derive(Debug, Default)]
pub(crate) struct Readers(RwLock<Vec<Arc<WorkSet>>>);

impl Readers {
    pub(crate) fn add(&self, group: Arc<WorkSet>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(group);
    }

    pub(crate) fn remove(&self, group: &Arc<WorkSet>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|other| !Arc::ptr_eq(other, group));
    }

    /// There is something new in this partition.
    pub(crate) fn wake(&self, partition: usize) {
        for group in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            group.mark(partition);
            group.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    #[test]
    fn marks_are_walked_around_from_any_partition() {
        let set = WorkSet::new(130);
        assert!(set.marked_from(0).is_empty());
        (0..130).for_each(|index| set.mark(index));
        assert_eq!(set.marked_from(0).len(), 130);
        for index in (0..130).filter(|index| ![3, 64, 129].contains(index)) {
            set.clear_if(index, || true);
        }
        assert_eq!(set.marked_from(0), [3, 64, 129]);
        assert_eq!(set.marked_from(64), [64, 129, 3]);
        assert_eq!(set.marked_from(65), [129, 3, 64]);
        set.clear_if(64, || false);
        assert_eq!(set.marked_from(0), [3, 64, 129], "one with something keeps its mark");
        set.grow(200);
        set.mark(199);
        assert_eq!(set.marked_from(0), [3, 64, 129, 199], "partitions come, and those before keep their marks");
    }

    #[test]
    fn what_comes_while_a_mark_is_taken_away_is_never_missed() {
        let set = WorkSet::new(1);
        set.mark(0);
        let looks = Cell::new(0);
        set.clear_if(0, || {
            looks.set(looks.get() + 1);
            // It comes right behind the first look, and finds its mark still there.
            if looks.get() == 1 {
                set.mark(0);
            }
            looks.get() == 1
        });
        assert_eq!((set.marked_from(0), looks.get()), (vec![0], 2));
        set.clear_if(0, || true);
        assert!(set.marked_from(0).is_empty(), "nothing came");
    }
}
