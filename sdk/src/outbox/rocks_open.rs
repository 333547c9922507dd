//! Numbers of an outbox whose transactions may still be open: a look of the pump that begins behind one of them would pass it over, and a record of a
//! transaction that came after it would overtake it.
//!
//! Bookkeeping alone: whether a transaction is open is told, by whoever can try its lock.

use std::collections::BTreeSet;

/// So many numbers are kept before it is looked which transactions have ended.
const KEPT_MAX: usize = 4 * 1024;

/// The numbers that were given, and how far each is known.
#[derive(Debug)]
pub(super) struct OpenNumbers {
    /// Their transactions were open when it was looked last.
    open: BTreeSet<i64>,
    /// The lowest of those whose transactions have ended since the pump looked last: it is there by now, if it was committed.
    ended: Option<i64>,
    /// How many are kept until it is looked again.
    kept_max: usize,
}

impl Default for OpenNumbers {
    fn default() -> Self {
        Self { open: BTreeSet::new(), ended: None, kept_max: KEPT_MAX }
    }
}

impl OpenNumbers {
    /// A transaction has the number, and its lock.
    pub(super) fn add<E>(&mut self, id: i64, is_open: impl FnMut(i64) -> Result<bool, E>) -> Result<(), E> {
        self.open.insert(id);
        if self.open.len() <= self.kept_max {
            return Ok(());
        }
        let looked = self.look(i64::MAX, is_open);
        self.kept_max = KEPT_MAX.max(2 * self.open.len());
        looked
    }

    /// Where a look begins that need not see what lies below `from`, but for what may have been committed there since.
    pub(super) fn begin<E>(&mut self, from: i64, is_open: impl FnMut(i64) -> Result<bool, E>) -> Result<i64, E> {
        self.look(from, is_open)?;
        let ended = self.ended.take();
        Ok([ended, self.open.first().copied()].into_iter().flatten().fold(from, i64::min))
    }

    /// These were seen.
    pub(super) fn seen(&mut self, ids: &[i64]) {
        for id in ids {
            self.open.remove(id);
        }
    }

    fn look<E>(&mut self, below: i64, mut is_open: impl FnMut(i64) -> Result<bool, E>) -> Result<(), E> {
        let asked: Vec<i64> = self.open.range(..below).copied().collect();
        for id in asked {
            if !is_open(id)? {
                self.open.remove(&id);
                self.ended = Some(self.ended.map_or(id, |ended| ended.min(id)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn begin(numbers: &mut OpenNumbers, from: i64, open: &[i64]) -> i64 {
        numbers.begin(from, |id| Ok::<_, Infallible>(open.contains(&id))).expect("it cannot fail")
    }

    fn add(numbers: &mut OpenNumbers, id: i64, open: &[i64]) {
        numbers.add(id, |id| Ok::<_, Infallible>(open.contains(&id))).expect("it cannot fail");
    }

    #[test]
    fn a_look_begins_before_what_is_open_and_once_before_what_has_ended_since() {
        let mut numbers = OpenNumbers::default();
        for id in [3, 5, 9] {
            add(&mut numbers, id, &[]);
        }
        assert_eq!(begin(&mut numbers, 8, &[3, 5, 9]), 3);
        assert_eq!(begin(&mut numbers, 8, &[5, 9]), 3, "it may be there now");
        assert_eq!(begin(&mut numbers, 8, &[5, 9]), 5, "it was seen, or is not there");
        assert_eq!(begin(&mut numbers, 8, &[9]), 5);
        assert_eq!(begin(&mut numbers, 8, &[]), 8, "what lies behind is seen anyway");
        numbers.seen(&[9]);
        assert_eq!((begin(&mut numbers, 20, &[]), numbers.open.len()), (20, 0));
    }

    #[test]
    fn what_nobody_looks_for_is_kept_no_longer_than_it_is_open() {
        let mut numbers = OpenNumbers::default();
        for id in 0..100_000 {
            add(&mut numbers, id, &[7, 99_998]);
            assert!(numbers.open.len() <= KEPT_MAX + 1);
        }
        assert_eq!(begin(&mut numbers, 50, &[7]), 0, "the first may be there");
        assert_eq!(begin(&mut numbers, 50, &[7]), 7);
    }
}
