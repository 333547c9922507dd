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

/// When somebody takes the first lock away from a saga that is not blocked, as soon as another one waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loses {
    /// Nobody does.
    Nothing,
    /// While the service hangs with the attempts of the step under that lock: they come through when another one has worked.
    WhileItsCallHangs,
    /// While it sleeps behind that step. Then it is cancelled, and undone under the old token, or it goes on, and asks for the lock again.
    WhileItSleeps { is_cancelled: bool },
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
    /// How many items its steps that fan out have.
    pub(super) lines: u64,
    /// The keys of its locks, in the order in which it takes them.
    pub(super) locks: [String; 2],
    /// Whether somebody takes its locks away if it is blocked, and tries then to undo the rest.
    pub(super) is_broken: bool,
    pub(super) loses: Loses,
    /// It starts so many milliseconds late.
    pub(super) late_ms: u64,
}

/// So many orders, one after the other, want the same few locks. They begin with families: somebody who loses the lock, and others who come a little later
/// for the same one. The last two want those of orders from so many groups before, which may have been lost meanwhile.
const NEIGHBOURS: u64 = 16;
const FAMILY: u64 = 3;
const FAMILIES: [Loses; 3] =
    [Loses::WhileItsCallHangs, Loses::WhileItSleeps { is_cancelled: true }, Loses::WhileItSleeps { is_cancelled: false }];
const LATE: [u64; 2] = [6, 16];

/// How much later the others of a family start, in milliseconds: most of them find the first one with the lock.
const FOLLOWS_MS: u64 = 500;

/// How long those sleep that lose the lock meanwhile, in milliseconds.
const SLEEPS_MS: u64 = 3_000;

impl Order {
    pub(super) fn draw(number: u64, random: &mut Random) -> Self {
        let mut when = |never: f64| match random.fraction() {
            share if share < never => When::Never,
            share if share < 0.5 => When::Early,
            _ => When::InTime,
        };
        let (review, seen) = (when(0.03), when(0.1));
        let (loses, is_follower) = family(number).map_or((Loses::Nothing, false), |(_, loses)| (loses, loses == Loses::Nothing));
        let pause_ms = 20 + random.next_u64() % 400;
        Self {
            key: format!("o-{number}"),
            gift: random.fraction() < 0.5,
            pause_ms: if matches!(loses, Loses::WhileItSleeps { .. }) { SLEEPS_MS } else { pause_ms },
            review,
            review_by_key: random.fraction() < 0.5,
            seen,
            cancel_ms: (random.fraction() < 0.04).then(|| random.next_u64() % 600),
            lines: random.next_u64() % 4,
            locks: locks(number, random),
            is_broken: random.fraction() < 0.7,
            loses,
            late_ms: if is_follower { FOLLOWS_MS } else { 0 },
        }
    }

    pub(super) fn input(&self) -> JsonText {
        let (lines, [first, second]) = ((0..self.lines).collect::<Vec<u64>>(), &self.locks);
        let pause = format!("{}ms", self.pause_ms);
        let (gift, slow) = (self.gift, self.loses == Loses::WhileItsCallHangs);
        json!({ "order": self.key, "gift": gift, "pause": pause, "lines": lines, "first": first, "second": second, "slow": slow }).into()
    }
}

/// The family of an order, if it has one, and what it loses as the first of it.
fn family(number: u64) -> Option<(usize, Loses)> {
    let place = number % NEIGHBOURS;
    let family = usize::try_from(place / FAMILY).ok()?;
    let loses = FAMILIES.get(family)?;
    Some((family, if place.is_multiple_of(FAMILY) { *loses } else { Loses::Nothing }))
}

/// Eight in ten want what their neighbours want, one of two locks or both, in either order: they wait for each other, also in circles. Those that come late
/// always want what others wanted, and the first lock of a family is its own.
fn locks(number: u64, random: &mut Random) -> [String; 2] {
    let (is_contended, which, is_one) = (random.fraction() < 0.8, random.next_u64() % 2, random.fraction() < 0.4);
    let (group, place) = (number / NEIGHBOURS, number % NEIGHBOURS);
    let late = LATE.iter().rev().zip(1..).find(|(_, from_end)| place + from_end == NEIGHBOURS).map(|(before, _)| *before);
    let of = match late {
        Some(before) => format!("{}/", group.checked_sub(before).unwrap_or(group)),
        None if is_contended => format!("{group}/"),
        None => format!("own/{number}/"),
    };
    let other = if is_one { which } else { 1 - which };
    let [first, second] = [which, other].map(|which| format!("{of}{which}"));
    match family(number) {
        Some((family, _)) => [format!("{group}/family/{family}"), second],
        None => [first, second],
    }
}
