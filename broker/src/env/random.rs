//! The server's source of randomness: seeded once with 256 bits, so that the same seed draws the same numbers.

use rand::rngs::{StdRng, SysRng};
use rand::{RngExt as _, SeedableRng as _};

/// A seeded generator. Each task owns one; [`Random::fork`] makes one for another task.
#[derive(Debug)]
pub struct Random(StdRng);

impl Random {
    /// A generator that draws the same numbers for the same seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A generator with a seed from the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: nothing can be signed or made unique then.
    #[must_use]
    pub fn from_system() -> Self {
        Self(StdRng::try_from_rng(&mut SysRng).expect("the operating system gives randomness"))
    }

    /// An independent generator, drawn from this one.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(StdRng::from_rng(&mut self.0))
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0.random()
    }

    /// A number in `0.0..1.0`, for jitter.
    pub fn fraction(&mut self) -> f64 {
        self.0.random()
    }

    /// Random bytes, for keys and ids.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let draw = |seed| {
            let mut random = Random::from_seed(seed);
            (random.next_u64(), random.fork().next_u64(), random.bytes::<4>())
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!((0.0..1.0).contains(&Random::from_seed(1).fraction()));
    }
    #[test]
    fn a_fork_has_more_than_64_bits_of_its_parent() {
        let (mut parent, mut same) = (Random::from_seed(1), Random::from_seed(1));
        assert_ne!(parent.fork().0, Random::from_seed(same.next_u64()).0);
    }
}
