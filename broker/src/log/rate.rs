//! How fast a log grows, from looks at its end.

/// Shorter spans say nothing, in milliseconds.
const SPAN_MS_MIN: u64 = 1_000;

/// The rate between the last two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    end: u64,
    /// 0: nobody has looked yet.
    at_ms: u64,
    per_second: f64,
}

impl Rate {
    /// The log ends there now.
    pub(crate) fn look(&mut self, end: u64, now_ms: u64) {
        let span_ms = now_ms.saturating_sub(self.at_ms);
        if self.at_ms == 0 {
            (self.end, self.at_ms) = (end, now_ms.max(1));
        } else if span_ms >= SPAN_MS_MIN {
            let per_second = end.saturating_sub(self.end) as f64 * 1_000.0 / span_ms as f64;
            *self = Self { end, at_ms: now_ms, per_second };
        }
    }

    /// Records in a second.
    pub(crate) fn per_second(self) -> f64 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_what_came_between_two_looks() {
        let mut rate = Rate::default();
        rate.look(1_000, 5_000);
        assert_eq!(rate.per_second(), 0.0, "one look says nothing");
        rate.look(1_100, 5_999);
        assert_eq!(rate.per_second(), 0.0, "nor does a moment");
        rate.look(1_150, 20_000);
        assert_eq!(rate.per_second(), 10.0);
        rate.look(1_150, 35_000);
        assert_eq!(rate.per_second(), 0.0, "nothing came");
    }
}
