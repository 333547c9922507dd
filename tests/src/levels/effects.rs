//! What came of the records: how often each had its effect, and whether in order.

use std::collections::BTreeMap;

/// The effects of one way, in the order in which they happened as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects(pub Vec<u64>);

impl Effects {
    /// Records below `records` that had no effect.
    #[must_use]
    pub fn lost(&self, records: u64) -> u64 {
        let times = self.times();
        (0..records).filter(|number| !times.contains_key(number)).count() as u64
    }

    /// Effects beyond the first of a record.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.times().values().map(|times| times - 1).sum()
    }

    /// Effects that happened before the one before of their key, or after a later one. A record's effect may happen again, until the next one's
    /// does.
    #[must_use]
    pub fn out_of_order(&self, keys: u64) -> u64 {
        let mut last = BTreeMap::new();
        let mut wrong = 0;
        for &number in &self.0 {
            let key = number % keys;
            let before = last.insert(key, number);
            let is_next = match before {
                None => number == key,
                Some(before) => number == before || number == before + keys,
            };
            wrong += u64::from(!is_next);
        }
        wrong
    }

    fn times(&self) -> BTreeMap<u64, u64> {
        let mut times = BTreeMap::new();
        for &number in &self.0 {
            *times.entry(number).or_insert(0) += 1;
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_and_what_is_repeated_is_counted() {
        let effects = Effects(vec![0, 1, 1, 3, 1]);
        assert_eq!((effects.lost(5), effects.repeated()), (2, 2));
        assert_eq!((Effects::default().lost(3), Effects::default().repeated()), (3, 0));
    }

    #[test]
    fn what_is_out_of_order_within_its_key_is_found() {
        for (effects, wrong) in [
            (&[0, 1, 0, 2, 3, 1, 3, 4][..], 1), // 1 again after 3
            (&[0, 1, 0, 2, 1, 3, 3, 4], 0),
            (&[2, 0], 2), // 2 before 0, and 0 after it
            (&[0, 4], 1), // 2 is left out
        ] {
            assert_eq!(Effects(effects.to_vec()).out_of_order(2), wrong, "{effects:?}");
        }
    }
}
