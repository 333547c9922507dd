//! Ordered keys in families, in memory: what [`super::memory`] and [`super::crash`] are made of.

use super::{Direction, Family, Mutation, Visitor};
use bytes::Bytes;
use core::ops::{Bound, Range};
use std::collections::BTreeMap;
use std::sync::Arc;

type Keys = BTreeMap<Vec<u8>, Bytes>;

/// The content of all families. A clone costs a few pointers; a family is copied when it changes while a clone is alive, so a
/// clone is one moment in time.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    families: [Arc<Keys>; Family::ALL.len()],
}

impl Image {
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Option<Bytes> {
        self.families[index(family)].get(key).cloned()
    }

    pub(super) fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) {
        // `BTreeMap::range` panics on a range that ends before it begins; for storage such a range is empty.
        if range.start >= range.end {
            return;
        }
        let bounds = (Bound::Included(range.start), Bound::Excluded(range.end));
        let entries = self.families[index(family)].range::<[u8], _>(bounds);
        let mut visit = |(key, value): (&Vec<u8>, &Bytes)| visit(key, value);
        // A break is the visitor's wish, not a failure.
        let _ends_either_way = match direction {
            Direction::Forward => entries.into_iter().try_for_each(&mut visit),
            Direction::Backward => entries.rev().try_for_each(&mut visit),
        };
    }

    pub(super) fn apply(&mut self, mutations: &[Mutation]) {
        for mutation in mutations {
            match mutation {
                Mutation::Put { family, key, value } => {
                    self.keys(*family).insert(key.clone(), value.clone());
                }
                Mutation::Delete { family, key } => {
                    self.keys(*family).remove(key);
                }
                Mutation::DeleteRange { family, range } => self.delete_range(*family, range),
            }
        }
    }

    fn delete_range(&mut self, family: Family, range: &Range<Vec<u8>>) {
        if range.start >= range.end {
            return;
        }
        let keys = self.keys(family);
        let mut from_start = keys.split_off(&range.start);
        let mut from_end = from_start.split_off(&range.end);
        keys.append(&mut from_end);
    }

    fn keys(&mut self, family: Family) -> &mut Keys {
        Arc::make_mut(&mut self.families[index(family)])
    }
}

/// Place of a family in [`Family::ALL`].
const fn index(family: Family) -> usize {
    family as usize
}

const _: () = {
    let mut at = 0;
    while at < Family::ALL.len() {
        assert!(index(Family::ALL[at]) == at, "families are numbered in the order of Family::ALL");
        at += 1;
    }
};
