//! [`Spent`]: the proofs that a node has seen, so that none counts twice.
//!
//! They are kept by the second in which they were made, as long as they could count by the clock. What is no longer kept, because its time is over or
//! because there are too many, was made before a moment that only rises; and whatever was made before it counts no more. So a proof
//! that is not known to be spent was never shown, whatever the clocks do and however many there are.

use std::collections::{BTreeMap, HashSet};

/// Proofs that are kept at the most: in twice a minute, so many that no cluster comes near. About 40 MB when it is full.
pub(super) const KEPT_MAX: usize = 1 << 20;

/// The proofs that were shown.
#[derive(Debug)]
pub(super) struct Spent {
    /// By the second in which they were made.
    kept: BTreeMap<u64, HashSet<u128>>,
    count: usize,
    count_max: usize,
    /// What was made before, in milliseconds since 1970, is not known any more.
    known_from_ms: u64,
}

/// What became of a proof that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It was never shown before; it is spent now. So many others had to be forgotten for it, before their time.
    Now { forgotten: usize },
    /// It was shown before.
    Before,
    /// It was made before what is still known, so nobody can tell.
    Forgotten,
}

impl Spent {
    /// Keeps so many at the most.
    pub(super) fn new(count_max: usize) -> Self {
        Self { kept: BTreeMap::new(), count: 0, count_max: count_max.max(1), known_from_ms: 0 }
    }

    /// How many are kept.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Spends a proof that was made at a time, when everything is too old by the clock that was made before `counts_from_ms`.
    pub(super) fn spend(&mut self, proof: u128, made_ms: u64, counts_from_ms: u64) -> Shown {
        self.forget_before(counts_from_ms);
        if made_ms < self.known_from_ms {
            return Shown::Forgotten;
        }
        if !self.kept.entry(made_ms / 1_000).or_default().insert(proof) {
            return Shown::Before;
        }
        self.count += 1;
        let before = self.count;
        while self.count > self.count_max
            && let Some((second, proofs)) = self.kept.pop_first()
        {
            self.count -= proofs.len();
            self.known_from_ms = self.known_from_ms.max((second + 1) * 1_000);
        }
        Shown::Now { forgotten: before - self.count }
    }

    /// The moment does not go back when a clock does.
    fn forget_before(&mut self, counts_from_ms: u64) {
        self.known_from_ms = self.known_from_ms.max(counts_from_ms);
        while let Some(oldest) = self.kept.first_entry().filter(|oldest| *oldest.key() < self.known_from_ms / 1_000) {
            self.count -= oldest.remove().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use proptest::strategy::Strategy as _;

    const NEW: Shown = Shown::Now { forgotten: 0 };

    #[test]
    fn a_proof_counts_once_as_long_as_it_could_count_and_nobody_remembers_it_longer() {
        let mut spent = Spent::new(100);
        assert_eq!(spent.spend(1, 100_500, 40_500), NEW);
        assert_eq!(spent.spend(1, 100_500, 100_500), Shown::Before, "to its last moment");
        assert_eq!(spent.spend(2, 100_500, 100_500), NEW, "another one of that moment");
        assert_eq!(spent.count(), 2);
        assert_eq!(spent.spend(3, 170_000, 110_000), NEW);
        assert_eq!(spent.count(), 1, "those of before are over");
        assert_eq!(spent.spend(4, 100_500, 40_500), Shown::Forgotten, "a clock that goes back brings nothing back");
    }

    #[test]
    fn where_there_are_too_many_the_oldest_are_forgotten_and_what_is_as_old_counts_no_more() {
        let mut spent = Spent::new(3);
        for (proof, made_ms) in [(1, 10_000), (2, 10_900), (3, 11_000)] {
            assert_eq!(spent.spend(proof, made_ms, 0), NEW);
        }
        assert_eq!(spent.spend(4, 12_000, 0), Shown::Now { forgotten: 2 });
        assert_eq!(spent.count(), 2);
        for (proof, made_ms, wanted) in
            [(1, 10_000, Shown::Forgotten), (5, 10_999, Shown::Forgotten), (3, 11_000, Shown::Before), (6, 11_001, NEW)]
        {
            assert_eq!(spent.spend(proof, made_ms, 0), wanted, "{proof}");
        }
        // One second alone with more than may be kept: it is over with it.
        let mut spent = Spent::new(1);
        assert_eq!(spent.spend(1, 10_000, 0), NEW);
        assert_eq!(spent.spend(2, 10_001, 0), Shown::Now { forgotten: 2 });
        assert_eq!((spent.spend(2, 10_001, 0), spent.count()), (Shown::Forgotten, 0));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// From then on proofs count, by the clock.
        Clock(u64),
        /// One of the proofs is shown.
        Show(usize),
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_proof_counts_twice_and_none_is_refused_that_is_new_and_young(
            times in vec(0_u64..20_000, 1..24),
            steps in vec(prop_oneof![
                any::<u16>().prop_map(|ms| Step::Clock(u64::from(ms) / 3)),
                (0_usize..24).prop_map(Step::Show),
            ], 1..120),
            count_max in 1_usize..30,
        ) {
            let mut spent = Spent::new(count_max);
            let (mut counted, mut from_ms, mut latest_ms, mut any_forgotten) = (HashSet::new(), 0, 0, false);
            for step in steps {
                match step {
                    // Forwards and backwards.
                    Step::Clock(ms) => from_ms = ms,
                    Step::Show(proof) => {
                        let proof = proof % times.len();
                        let made_ms = times[proof];
                        // What is too old by the clock is refused before.
                        if made_ms < from_ms {
                            continue;
                        }
                        let shown = spent.spend(proof as u128, made_ms, from_ms);
                        latest_ms = latest_ms.max(from_ms);
                        match shown {
                            Shown::Now { forgotten } => {
                                prop_assert!(counted.insert(proof), "proof {} counts twice", proof);
                                any_forgotten |= forgotten > 0;
                            }
                            Shown::Before => prop_assert!(counted.contains(&proof)),
                            Shown::Forgotten => prop_assert!(any_forgotten || made_ms < latest_ms, "{} is neither old nor were there too many", proof),
                        }
                        prop_assert!(spent.count() <= count_max);
                        prop_assert_eq!(spent.count(), spent.kept.values().map(HashSet::len).sum::<usize>());
                    }
                }
            }
        }
    }
}
