//! The keys of a part of a log, each with the offset of its newest record there. Of a key 16 bytes of its hash are kept, so memory is bounded
//! whatever keys there are; that two keys have the same is less likely than a fault of the memory they lie in.

use sagamq_api::Offset;
use std::collections::HashMap;

/// The newest offset of each key.
#[derive(Debug)]
pub(crate) struct KeyMap {
    newest: HashMap<[u8; 16], Offset>,
    keys_max: usize,
}

impl KeyMap {
    /// For so many keys.
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { newest: HashMap::new(), keys_max }
    }

    /// Notes a record; later ones of a key come later.
    pub(super) fn note(&mut self, key: &[u8], offset: Offset) {
        self.newest.insert(hash(key), offset);
    }

    /// Whether no more keys are to be noted.
    pub(crate) fn is_full(&self) -> bool {
        self.newest.len() >= self.keys_max
    }

    /// Whether a newer record of the key was noted.
    pub(super) fn has_newer(&self, key: &[u8], offset: Offset) -> bool {
        self.newest.get(&hash(key)).is_some_and(|&newest| newest > offset)
    }
}

fn hash(key: &[u8]) -> [u8; 16] {
    *blake3::hash(key).as_bytes().first_chunk().expect("a hash is longer")
}
