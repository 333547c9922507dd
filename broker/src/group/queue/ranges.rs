//! A set of offsets kept as ranges. Settled records come in runs, so a range a run is small where a bit a record is not.

use core::ops::Bound;
use sagamq_api::Offset;
use std::collections::BTreeMap;

/// Offsets as half-open ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    /// First offset of a range to the first offset behind it.
    ranges: BTreeMap<Offset, Offset>,
    /// How many offsets the ranges hold.
    count: u64,
}

impl RangeSet {
    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The lowest offset.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.ranges.first_key_value().map(|(&start, _)| start)
    }

    /// The ranges in order, each as its first offset and the first behind it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Offset, Offset)> + '_ {
        self.ranges.iter().map(|(&start, &end)| (start, end))
    }

    /// The range that holds the offset.
    fn holding(&self, offset: Offset) -> Option<(Offset, Offset)> {
        let (&start, &end) = self.ranges.range(..=offset).next_back()?;
        (offset < end).then_some((start, end))
    }

    /// Whether the offset is in the set.
    pub(crate) fn contains(&self, offset: Offset) -> bool {
        self.holding(offset).is_some()
    }

    /// The first offset at or after this one that is not in the set.
    pub(crate) fn next_absent(&self, offset: Offset) -> Offset {
        self.holding(offset).map_or(offset, |(_, end)| end)
    }

    /// The ranges that hold offsets of the half-open range, cut to it, in order.
    pub(crate) fn within(&self, start: Offset, end: Offset) -> impl Iterator<Item = (Offset, Offset)> + '_ {
        let first = self.holding(start).map_or(start, |(first, _)| first);
        let ranges = (start < end).then(|| self.ranges.range(first..end)).into_iter().flatten();
        ranges.map(move |(&from, &to)| (from.max(start), to.min(end)))
    }

    /// Puts an offset in; `false` when it was there.
    pub(crate) fn insert(&mut self, offset: Offset) -> bool {
        self.insert_range(offset, offset.next()) > 0
    }

    /// Puts the offsets of a half-open range in; gives how many were not there.
    pub(crate) fn insert_range(&mut self, start: Offset, end: Offset) -> u64 {
        if start >= end {
            return 0;
        }
        let before = self.count;
        // Joined with the range that holds its start or ends right before it, and with all that begin inside of it or right behind it.
        let (mut from, mut to) = (start, end);
        let mut joined = 0;
        if let Some((&first, &last)) = self.ranges.range(..=start).next_back()
            && last >= start
        {
            (from, to, joined) = (first, to.max(last), last.0 - first.0);
        }
        while let Some((&first, &last)) = self.ranges.range((Bound::Excluded(from), Bound::Included(to))).next() {
            self.ranges.remove(&first);
            joined += last.0 - first.0;
            to = to.max(last);
        }
        self.ranges.insert(from, to);
        self.count = before - joined + (to.0 - from.0);
        self.count - before
    }

    /// Takes out everything below the floor and the range that begins at it; gives the floor behind that range.
    pub(crate) fn absorb(&mut self, mut floor: Offset) -> Offset {
        while let Some(first) = self.ranges.first_entry() {
            if *first.key() > floor {
                break;
            }
            self.count -= first.get().0 - first.key().0;
            floor = floor.max(first.remove());
        }
        floor
    }

    /// How many of its offsets lie below `end`.
    pub(crate) fn count_below(&self, end: Offset) -> u64 {
        // Most of the time nothing lies above.
        let above = self.ranges.range(end..).map(|(start, range_end)| range_end.0 - start.0).sum::<u64>();
        let across = self.holding(end).map_or(0, |(start, range_end)| if start < end { range_end.0 - end.0 } else { 0 });
        self.count - above - across
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_in_the_fewest_ranges(inserts in proptest::collection::vec((0_u64..64, 0_u64..6), 0..60), start in 0_u64..70, end in 0_u64..70) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for (offset, length) in inserts {
                let fresh = (offset..offset + length).filter(|&offset| model.insert(offset)).count() as u64;
                prop_assert_eq!(set.insert_range(Offset(offset), Offset(offset + length)), fresh);
                prop_assert_eq!(set.insert(Offset(offset)), model.insert(offset));
                prop_assert_eq!(set.count, model.len() as u64);
            }
            prop_assert_eq!((set.first().map(|first| first.0), set.is_empty()), (model.first().copied(), model.is_empty()));
            let within: Vec<u64> = set.within(Offset(start), Offset(end)).flat_map(|(from, to)| from.0..to.0).collect();
            prop_assert_eq!(within, (start..end).filter(|offset| model.contains(offset)).collect::<Vec<_>>());
            for offset in 0..70 {
                prop_assert_eq!(set.contains(Offset(offset)), model.contains(&offset));
                let absent = (offset..).find(|o| !model.contains(o)).expect("the model ends");
                prop_assert_eq!(set.next_absent(Offset(offset)), Offset(absent));
            }
            let starts = model.iter().filter(|&&o| o == 0 || !model.contains(&(o - 1))).count();
            prop_assert_eq!(set.len(), starts);
            prop_assert_eq!(set.count_below(Offset(end)), model.range(..end).count() as u64);
            let floor = set.absorb(Offset(end));
            prop_assert_eq!(floor.0, (end..).find(|o| !model.contains(o)).expect("the model ends"));
            prop_assert!(set.iter().all(|(start, _)| start > floor));
            prop_assert_eq!(set.count, set.iter().map(|(start, end)| end.0 - start.0).sum::<u64>());
        }
    }
}
