//! A set of offsets kept as ranges. Settled records come in runs, so a range a run is small where a bit a record is not.

use sagamq_api::Offset;
use std::collections::BTreeMap;

/// Offsets as half-open ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    /// First offset of a range to the first offset behind it.
    ranges: BTreeMap<Offset, Offset>,
}

impl RangeSet {
    /// Number of ranges.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
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

    /// Puts an offset in; `false` when it was there.
    pub(crate) fn insert(&mut self, offset: Offset) -> bool {
        if self.contains(offset) {
            return false;
        }
        // Join with the range that begins right behind the offset, then with the one that ends right before it.
        let end = self.ranges.remove(&offset.next()).unwrap_or(offset.next());
        match self.ranges.range_mut(..offset).next_back() {
            Some((_, before_end)) if *before_end == offset => *before_end = end,
            Some(_) | None => {
                self.ranges.insert(offset, end);
            }
        }
        true
    }

    /// Adds a range behind all others. `false` when it is empty, or touches or overlaps one.
    pub(crate) fn push(&mut self, start: Offset, end: Offset) -> bool {
        let is_behind = self.ranges.last_key_value().is_none_or(|(_, &last_end)| last_end < start);
        let is_legal = start < end && is_behind;
        if is_legal {
            self.ranges.insert(start, end);
        }
        is_legal
    }

    /// Takes out everything below the floor and the range that begins at it; gives the floor behind that range.
    pub(crate) fn absorb(&mut self, mut floor: Offset) -> Offset {
        while let Some(first) = self.ranges.first_entry() {
            if *first.key() > floor {
                break;
            }
            floor = floor.max(first.remove());
        }
        floor
    }

    /// How many of its offsets lie below `end`.
    pub(crate) fn count_below(&self, end: Offset) -> u64 {
        self.ranges.range(..end).map(|(start, range_end)| (*range_end).min(end).0 - start.0).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_in_the_fewest_ranges(offsets in proptest::collection::vec(0_u64..64, 0..80), end in 0_u64..70) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for offset in offsets {
                prop_assert_eq!(set.insert(Offset(offset)), model.insert(offset));
            }
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
        }
    }
}
