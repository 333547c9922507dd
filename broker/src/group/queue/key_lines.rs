//! The lines in which the unsettled records of a queue stand, one a key: an index that `key_order` keeps.

use sagamq_api::Offset;
use sagamq_api::record::Payload;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use xxhash_rust::xxh3::xxh3_64;

/// The hash of a record's key; none of a record without one.
pub type KeyHash = Option<u64>;

/// The hash of the key of a record: the one by which its partition is found.
pub(crate) fn key_hash(payload: &Payload) -> KeyHash {
    payload.key.as_deref().map(xxh3_64)
}

/// That partitions were added: the keys of these records may have been in another partition before, and what lies there is settled first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGate {
    /// Records from here on were dealt since.
    pub begins: Offset,
    /// The partitions of before, by number, and at least one: whether records whose keys were there may pass.
    pub passed: Vec<bool>,
}

impl KeyGate {
    /// Whether a record waits here: its key was in a partition that is not settled as far as it has to be.
    fn keeps(&self, offset: Offset, key: u64) -> bool {
        // As the partition of a key is found: the rest of its hash.
        let before = usize::try_from(key % self.passed.len() as u64).expect("a rest is below the number of partitions");
        offset >= self.begins && !self.passed[before]
    }
}

/// What is known of the keys of unsettled records.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyOrder {
    /// Of the pending ones, and of the fresh ones up to `known_to`.
    pub(super) keys: BTreeMap<Offset, KeyHash>,
    /// The lines: each key with its records.
    pub(super) lines: BTreeSet<(u64, Offset)>,
    /// How many records of a line are out.
    pub(super) out: HashMap<u64, usize>,
    /// From here on nothing is known of fresh records.
    pub(super) known_to: Offset,
    /// Pending records whose keys are not known. While there are any, nothing has its turn: each may be the first of any line.
    pub(super) unknown: BTreeSet<Offset>,
    /// Delayed records that are due and do not have their turn.
    pub(super) waiting: BTreeSet<Offset>,
    /// Fresh records that have their turn.
    pub(super) open: BTreeSet<Offset>,
    /// Where records wait that partitions were added before.
    pub(super) gates: Vec<KeyGate>,
}

impl KeyOrder {
    /// The first of a line.
    pub(super) fn first(&self, key: u64) -> Option<Offset> {
        self.lines.range((key, Offset(0))..=(key, Offset(u64::MAX))).next().map(|&(_, offset)| offset)
    }

    /// Whether a record of the line is out.
    pub(super) fn is_out(&self, key: u64) -> bool {
        self.out.contains_key(&key)
    }

    /// The line that a record stands in.
    pub(super) fn key_of(&self, offset: Offset) -> Option<u64> {
        self.keys.get(&offset).copied().flatten()
    }

    /// Whether a record waits for another partition.
    pub(super) fn is_gated(&self, offset: Offset, key: u64) -> bool {
        self.gates.iter().any(|gate| gate.keeps(offset, key))
    }

    /// Whether the first of any line waits for another partition only.
    pub(super) fn has_gated(&self) -> bool {
        let mut last = None;
        let is_first = |&&(key, _): &&(u64, Offset)| last.replace(key) != Some(key);
        !self.gates.is_empty() && self.lines.iter().filter(is_first).any(|&(key, offset)| !self.is_out(key) && self.is_gated(offset, key))
    }

    /// Whether no record stands before this one, none of its line is out, and it waits for no other partition.
    pub(super) fn has_turn(&self, offset: Offset) -> bool {
        match self.keys.get(&offset) {
            Some(_) if !self.unknown.is_empty() => false,
            Some(Some(key)) => !self.is_out(*key) && self.first(*key) == Some(offset) && !self.is_gated(offset, *key),
            Some(None) => true,
            None => false,
        }
    }
}
