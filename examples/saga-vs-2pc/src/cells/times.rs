//! Times in short: how many, and where the middle and the slow end lie.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Quantiles of times, in milliseconds. Of fewer than a thousand the 99.9th percentile is the longest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// The middle.
    pub p50_ms: f64,
    /// 99 of 100 are below.
    pub p99_ms: f64,
    /// 999 of 1,000 are below.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Times {
    /// Of single times in microseconds.
    #[must_use]
    pub fn of(micros: impl IntoIterator<Item = u64>) -> Self {
        Self::of_counts(micros.into_iter().map(|value| (value, 1)))
    }

    /// Of times in microseconds, each with how often it occurred.
    ///
    /// # Panics
    /// Never: three digits are a legal precision, and no time is too long for the histogram.
    #[must_use]
    pub fn of_counts(counts: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits are legal");
        for (value, count) in counts {
            // It grows with the values; only a value above 2^63 does not fit, and no time is that long.
            histogram.record_n(value, count).expect("a time fits");
        }
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self { count: histogram.len(), p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: histogram.max() as f64 / 1_000.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_thousand_times_each_quantile_is_where_it_should_be() {
        let times = Times::of((1..=1_000).map(|ms| ms * 1_000));
        let near = |found: f64, expected: f64| (found - expected).abs() / expected < 0.002;
        assert!(times.count == 1_000 && near(times.p50_ms, 500.0) && near(times.p99_ms, 990.0), "{times:?}");
        assert!(near(times.p999_ms, 999.0) && near(times.max_ms, 1_000.0), "{times:?}");
        assert_eq!(Times::of([]), Times::default());
    }
}
