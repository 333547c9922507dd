//! Which record keys a topic gets most of: a sketch of fixed size, from a sample of its records.
//!
//! Space-saving (Metwally et al., "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005): a key that is not counted takes
//! the place of the one that was counted least, with its count as the error. What is shown is the count without the error, so no key is said to
//! be more than it is.

use crate::log::batch::Record;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Keys that are counted at a time: one that is more than a 64th of all is always among them.
const COUNTERS: usize = 64;

/// One record of so many is looked at.
const SAMPLE: u64 = 8;

/// Longer keys are not counted.
const KEY_BYTES_MAX: usize = 256;

/// What is shown is at least a hundredth of all.
const SHARE_MIN: f64 = 0.01;

/// With fewer records looked at, nothing is said.
const SAMPLED_MIN: u64 = 64;

/// The keys of a topic.
#[derive(Debug, Default)]
pub(crate) struct HotKeys {
    /// Records that came, to choose the sample by.
    came: AtomicU64,
    sketch: Mutex<Sketch>,
}

#[derive(Debug, Default)]
struct Sketch {
    counters: Vec<Counter>,
    sampled: u64,
}

#[derive(Debug)]
struct Counter {
    key: Bytes,
    count: u64,
    /// How much of the count may be that of others.
    error: u64,
}

impl HotKeys {
    /// Records of one request came. Who finds somebody else at it leaves it: a sample more or less makes no difference.
    pub(crate) fn note(&self, records: &[Record]) {
        let first = self.came.fetch_add(records.len() as u64, Ordering::Relaxed);
        let numbered = (first..).zip(records).filter(|(number, _)| mixed(*number).is_multiple_of(SAMPLE));
        let mut keys = numbered.filter_map(|(_, record)| record.payload.key.as_ref()).filter(|key| key.len() <= KEY_BYTES_MAX).peekable();
        if keys.peek().is_none() {
            return;
        }
        if let Ok(mut sketch) = self.sketch.try_lock() {
            keys.for_each(|key| sketch.note(key));
        }
    }

    /// Those that are most of what came of late, with their share of all, the most frequent first.
    pub(crate) fn hottest(&self, most: usize) -> Vec<(Bytes, f64)> {
        self.sketch.lock().unwrap_or_else(PoisonError::into_inner).hottest(most)
    }

    /// Makes what came before count half.
    pub(crate) fn age(&self) {
        self.sketch.lock().unwrap_or_else(PoisonError::into_inner).age();
    }
}

/// Bits that look like chance, so that a pattern in the order of records is none in the sample (SplitMix64's last step).
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl Sketch {
    fn note(&mut self, key: &Bytes) {
        self.sampled += 1;
        if let Some(counter) = self.counters.iter_mut().find(|counter| counter.key == *key) {
            counter.count += 1;
        } else if self.counters.len() < COUNTERS {
            // On its own: it would keep the whole request in memory.
            self.counters.push(Counter { key: Bytes::copy_from_slice(key), count: 1, error: 0 });
        } else if let Some(least) = self.counters.iter_mut().min_by_key(|counter| counter.count) {
            *least = Counter { key: Bytes::copy_from_slice(key), count: least.count + 1, error: least.count };
        }
    }

    fn hottest(&self, most: usize) -> Vec<(Bytes, f64)> {
        if self.sampled < SAMPLED_MIN {
            return Vec::new();
        }
        let share = |counter: &Counter| (counter.count - counter.error) as f64 / self.sampled as f64;
        let mut found: Vec<_> = self.counters.iter().map(|counter| (counter.key.clone(), share(counter))).collect();
        found.retain(|(_, share)| *share >= SHARE_MIN);
        found.sort_by(|(a, share), (b, other)| other.total_cmp(share).then_with(|| a.cmp(b)));
        found.truncate(most);
        found
    }

    fn age(&mut self) {
        self.sampled /= 2;
        for counter in &mut self.counters {
            (counter.count, counter.error) = (counter.count / 2, counter.error / 2);
        }
        self.counters.retain(|counter| counter.count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sagamq_api::record::Payload;
    use std::collections::HashMap;

    fn key(number: u32) -> Bytes {
        number.to_string().into_bytes().into()
    }

    #[test]
    fn a_key_that_is_half_of_all_is_found_among_very_many_and_forgotten_when_it_stops() {
        let keys = HotKeys::default();
        let record = |key: Bytes| Record { timestamp_ms: 0, payload: Payload { key: Some(key), ..Payload::default() } };
        for n in 0..10_000_u32 {
            // The same order again and again, as a producer with a loop has it.
            keys.note(&[record(key(7)), record(key(1_000 + n))]);
        }
        let found = keys.hottest(5);
        assert_eq!((found.len(), &found[0].0), (1, &key(7)), "{found:?}");
        assert!((0.4..=0.6).contains(&found[0].1), "{found:?}");
        assert!(keys.sketch.lock().expect("free").counters.len() <= COUNTERS);
        for _ in 0..20 {
            keys.age();
        }
        assert_eq!(keys.hottest(5), []);
    }

    proptest! {
        /// No key is said to be more than it is, and one that is more than a 64th of all is counted.
        #[test]
        fn a_share_is_never_too_high(numbers in prop::collection::vec(prop_oneof![0_u32..5, 0_u32..10_000], 64..2_000)) {
            let (mut sketch, mut truth) = (Sketch::default(), HashMap::<Bytes, u64>::new());
            for number in &numbers {
                sketch.note(&key(*number));
                *truth.entry(key(*number)).or_default() += 1;
            }
            for counter in &sketch.counters {
                prop_assert!(counter.count - counter.error <= truth[&counter.key] && truth[&counter.key] <= counter.count);
            }
            for (key, count) in truth {
                if count * COUNTERS as u64 > numbers.len() as u64 {
                    prop_assert!(sketch.counters.iter().any(|counter| counter.key == key));
                }
            }
        }
    }
}
