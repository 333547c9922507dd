//! What is drawn for each saga before it starts: its input, and what somebody outside does to it.

use sagamq_broker::env::Random;
use sagamq_sdk::JsonText;
use serde_json::json;

/// When a signal is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Right after the start, before its step waits for it.
    Early,
    /// When its step waits for it.
    InTime,
    /// Never.
    Never,
}

/// What becomes of one saga, as far as it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) key: String,
    pub(super) gift: bool,
    /// Of the step that sleeps, in milliseconds.
    pub(super) pause_ms: u64,
    pub(super) review: When,
    /// Whether that signal goes to the business key; else to the id.
    pub(super) review_by_key: bool,
    pub(super) seen: When,
    /// Whether somebody cancels it, so many milliseconds after its start.
    pub(super) cancel_ms: Option<u64>,
}

impl Order {
    pub(super) fn draw(number: u64, random: &mut Random) -> Self {
        let mut when = |never: f64| match random.fraction() {
            share if share < never => When::Never,
            share if share < 0.5 => When::Early,
            _ => When::InTime,
        };
        let (review, seen) = (when(0.03), when(0.1));
        Self {
            key: format!("o-{number}"),
            gift: random.fraction() < 0.5,
            pause_ms: 20 + random.next_u64() % 400,
            review,
            review_by_key: random.fraction() < 0.5,
            seen,
            cancel_ms: (random.fraction() < 0.04).then(|| random.next_u64() % 600),
        }
    }

    pub(super) fn input(&self) -> JsonText {
        json!({ "order": self.key, "gift": self.gift, "pause": format!("{}ms", self.pause_ms) }).into()
    }
}
