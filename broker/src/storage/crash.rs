//! Storage that crashes on demand: it keeps apart what the process sees (`live`) and what a power cut would leave (`durable`),
//! fails the write it is told to fail, and yields the storage that a restart would find.
//!
//! A test runs once to learn the number of writes, then once for each of them with that write failing, and restarts from
//! [`CrashStorage::after_kill`] and [`CrashStorage::after_power_cut`].

use super::image::Image;
use super::{Direction, Durability, Family, Mutation, Storage, StorageError, Visitor};
use bytes::Bytes;
use core::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Storage that crashes on demand. Clones share the content, the count and the failure.
#[derive(Clone, Debug, Default)]
pub struct CrashStorage {
    state: Arc<Mutex<State>>,
}

/// What a write that returned an error left behind. The caller cannot know which, and must be right for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedWrite {
    /// Nothing.
    NothingApplied,
    /// Everything, as durable as it was asked to be: only the good news was lost.
    Applied,
    /// Everything, but it was not synced: it survives the death of the process, not of the machine.
    AppliedNotSynced,
}

#[derive(Debug, Default)]
struct State {
    live: Image,
    durable: Image,
    /// What `live` has and `durable` has not, in order.
    unsynced: Vec<Mutation>,
    writes: u64,
    fail: Option<Fail>,
}

#[derive(Clone, Copy, Debug)]
struct Fail {
    /// The failing write, counted like `writes`.
    at: u64,
    leaves: FailedWrite,
}

impl CrashStorage {
    /// Empty storage that does not fail.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `n`-th write from now fail (1 is the next one) and every write behind it. What the `n`-th leaves is `leaves`; those
    /// behind it leave nothing. Replaces what was told before.
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn fail_write(&self, n: u64, leaves: FailedWrite) {
        assert!(n > 0, "writes are counted from 1");
        let mut state = self.state();
        state.fail = Some(Fail { at: state.writes + n, leaves });
    }

    /// Number of writes so far, the failed ones too.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// What a restart finds after the machine lost power now: exactly what was synced. Independent of this storage; it counts
    /// from 0 and does not fail.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let durable = self.state().durable.clone();
        Self::from(State { live: durable.clone(), durable, ..State::default() })
    }

    /// What a restart finds after the process was killed now: every applied write. What was not synced still is not, so a power cut
    /// after this kill loses it. Independent of this storage; it counts from 0 and does not fail.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let state = self.state();
        let (live, durable, unsynced) = (state.live.clone(), state.durable.clone(), state.unsynced.clone());
        drop(state);
        Self::from(State { live, durable, unsynced, ..State::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<State> for CrashStorage {
    fn from(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

impl State {
    fn apply(&mut self, mutations: &[Mutation], durability: Durability) {
        self.live.apply(mutations);
        self.unsynced.extend_from_slice(mutations);
        if durability == Durability::Synced {
            // There is one log, so a sync covers everything written before it too.
            self.durable.apply(&self.unsynced);
            self.unsynced.clear();
        }
    }
}

impl Storage for CrashStorage {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.state().live.get(family, key))
    }

    fn scan(&self, family: Family, range: Range<&[u8]>, direction: Direction, visit: Visitor<'_>) -> Result<(), StorageError> {
        // The visitor may read and write, so the lock is not held while it runs.
        let moment = self.state().live.clone();
        moment.scan(family, range, direction, visit);
        Ok(())
    }

    fn write(&self, mutations: &[Mutation], durability: Durability) -> Result<(), StorageError> {
        let mut state = self.state();
        state.writes += 1;
        match state.fail {
            Some(Fail { at, leaves }) if state.writes >= at => {
                let survives = match leaves {
                    _ if state.writes > at => None,
                    FailedWrite::NothingApplied => None,
                    FailedWrite::Applied => Some(durability),
                    FailedWrite::AppliedNotSynced => Some(Durability::Buffered),
                };
                if let Some(durability) = survives {
                    state.apply(mutations, durability);
                }
                Err(StorageError::Io(format!("write {} fails as the test asked", state.writes)))
            }
            _ => {
                state.apply(mutations, durability);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ops::ControlFlow;

    fn put(key: &str) -> Mutation {
        Mutation::Put { family: Family::Meta, key: key.into(), value: Bytes::from_static(b"v") }
    }

    fn keys(storage: &CrashStorage) -> String {
        let mut found = String::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            found.push_str(core::str::from_utf8(key).expect("test keys are text"));
            ControlFlow::Continue(())
        };
        storage.scan(Family::Meta, b"".as_slice()..b"z".as_slice(), Direction::Forward, &mut visit).expect("reads do not fail");
        found
    }

    #[test]
    fn a_power_cut_leaves_what_was_synced_and_a_kill_everything() {
        let storage = CrashStorage::new();
        storage.write(&[put("a")], Durability::Buffered).expect("no failure asked");
        assert_eq!((keys(&storage.after_power_cut()), keys(&storage.after_kill())), (String::new(), "a".into()));
        storage.write(&[put("b")], Durability::Synced).expect("no failure asked");
        storage.write(&[put("c")], Durability::Buffered).expect("no failure asked");
        assert_eq!(keys(&storage.after_power_cut()), "ab", "a sync covers what was written before it");
        let killed = storage.after_kill();
        assert_eq!(keys(&killed), "abc");
        assert_eq!(keys(&killed.after_power_cut()), "ab", "a kill makes nothing durable");
        killed.write(&[put("d")], Durability::Synced).expect("a restart does not fail");
        assert_eq!(keys(&killed.after_power_cut()), "abcd");
        assert_eq!((keys(&storage), storage.writes(), killed.writes()), ("abc".into(), 3, 1), "what a restart does stays there");
    }

    #[test]
    fn the_nth_write_fails_and_every_one_behind_it() {
        for (leaves, live, durable) in
            [(FailedWrite::NothingApplied, "xa", "xa"), (FailedWrite::Applied, "xab", "xab"), (FailedWrite::AppliedNotSynced, "xab", "xa")]
        {
            let storage = CrashStorage::new();
            let sorted = |keys: &str| -> String {
                let mut keys: Vec<char> = keys.chars().collect();
                keys.sort_unstable();
                keys.into_iter().collect()
            };
            storage.write(&[put("x")], Durability::Synced).expect("no failure asked");
            storage.fail_write(2, leaves);
            storage.write(&[put("a")], Durability::Synced).expect("the first of two succeeds");
            storage.write(&[put("b")], Durability::Synced).expect_err("the second fails");
            storage.write(&[put("c")], Durability::Synced).expect_err("so does every one behind it");
            assert_eq!(storage.writes(), 4);
            assert_eq!(keys(&storage.after_kill()), sorted(live), "{leaves:?}");
            assert_eq!(keys(&storage.after_power_cut()), sorted(durable), "{leaves:?}");
        }
    }
}
