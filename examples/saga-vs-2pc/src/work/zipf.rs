//! Which row is asked for: Zipf's law over a number of rows, from a table that is made once.

use rand::{Rng, RngExt as _};

/// The law with one exponent: row *i* (from 0) is asked for in proportion to 1 / (i + 1)^exponent. With the exponent 0 all are alike.
#[derive(Clone, Debug)]
pub struct Zipf {
    /// The share of the rows up to and with each.
    shares: Vec<f64>,
}

impl Zipf {
    /// The law over `rows` rows, at least one.
    #[must_use]
    pub fn new(rows: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut shares: Vec<f64> = (0..rows.max(1))
            .map(|row| {
                sum += ((row + 1) as f64).powf(-exponent);
                sum
            })
            .collect();
        for share in &mut shares {
            *share /= sum;
        }
        Self { shares }
    }

    /// A row.
    pub fn draw(&self, random: &mut impl Rng) -> usize {
        let point: f64 = random.random();
        self.shares.partition_point(|&share| share < point).min(self.shares.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn the_first_row_has_the_share_that_the_law_gives_it() {
        let mut random = StdRng::seed_from_u64(7);
        for (exponent, share) in [(0.0, 0.001), (1.0, 0.1336), (1.5, 0.3923)] {
            let law = Zipf::new(1_000, exponent);
            let first = (0..200_000).filter(|_| law.draw(&mut random) == 0).count() as f64 / 200_000.0;
            assert!((first - share).abs() < 0.005, "{exponent}: {first}, not {share}");
        }
    }
}
