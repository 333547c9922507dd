//! [`Pauses`]: before something is asked of a log again that did not take it. Short at first, then longer, so that a log that refuses everything is
//! not asked dozens of times a second for each shard: requests cost money also when they are refused.

use core::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// The pauses of one thing that is tried again and again.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.next()).await;
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_grow_and_not_without_end() {
        let mut pauses = Pauses::new();
        let first: Vec<_> = (0..8).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(first, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
    }
}
