//! What is killed where: every point of a transaction, for the coordinator and for each participant, in an order drawn from a seed.

use crate::service::checkpoint::{Place, Side, Verb};
use crate::trial::site::{BROKER, INVENTORY, ORDER, PARTICIPANTS, PAYMENT};
use core::fmt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use std::time::Duration;

/// Longest time from letting a held call go until the kill, where the kill is to fall into what the call does.
const DURING_MAX: Duration = Duration::from_millis(6);

/// Every verb, in the order of a transaction.
const VERBS: [Verb; 4] = [Verb::Work, Verb::Prepare, Verb::Commit, Verb::Rollback];

/// Where in a transaction somebody is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Point {
    /// A participant has got the call and done nothing of it.
    Before(Verb),
    /// It is at it.
    During(Verb),
    /// It is done and durable, and not answered.
    After(Verb),
    /// A vote is on its way to the coordinator, who decides, forces the decision and begins to tell it. Only the coordinator is killed here.
    Deciding,
}

/// Why the transaction of a run does not commit, whoever is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing: it commits, unless the kill prevents it.
    None,
    /// The inventory, which is asked last, has nothing left of what is ordered.
    SoldOut,
    /// Another participant is killed as well, before its vote, and has lost its branch.
    LostBranch(&'static str),
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Who is killed.
    pub(super) killed: &'static str,
    /// At which point.
    pub(super) point: Point,
    /// The participant at whose call that point is.
    pub(super) at: &'static str,
    /// So many of its calls with this verb pass before.
    pub(super) skip: u32,
    /// What keeps the transaction from committing besides.
    pub(super) trouble: Trouble,
    /// For points within something: from letting the call go until the kill.
    pub(super) delay: Duration,
}

impl Point {
    /// Every point at which `killed` can be killed.
    fn all(killed: &str) -> Vec<Self> {
        let mut points: Vec<Self> =
            VERBS.into_iter().flat_map(|verb| [Self::Before(verb), Self::During(verb), Self::After(verb)]).collect();
        if killed == BROKER {
            points.push(Self::Deciding);
        }
        points
    }

    /// What is asked for there, and on which side of it a call is held.
    pub(super) const fn holds(self) -> (Verb, Side) {
        match self {
            Self::Before(verb) | Self::During(verb) => (verb, Side::Before),
            Self::After(verb) => (verb, Side::After),
            Self::Deciding => (Verb::Prepare, Side::After),
        }
    }

    /// Whether the held call is let go before the kill.
    pub(super) const fn lets_go(self) -> bool {
        matches!(self, Self::During(_) | Self::Deciding)
    }

    /// What the transaction must come to because this point was reached; nothing: either.
    pub(super) const fn commits(self) -> Option<bool> {
        match self.holds().0 {
            Verb::Commit => Some(true),
            Verb::Rollback => Some(false),
            Verb::Work | Verb::Prepare => None,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |verb| match verb {
            Verb::Work => "work",
            Verb::Prepare => "prepare",
            Verb::Commit => "commit",
            Verb::Rollback => "rollback",
        };
        let text = match *self {
            Self::Before(of) => format!("before {}", verb(of)),
            Self::During(of) => format!("during {}", verb(of)),
            Self::After(of) => format!("after {}, unanswered", verb(of)),
            Self::Deciding => "while deciding".to_owned(),
        };
        f.pad(&text)
    }
}

impl Case {
    /// Where a call of the order is held.
    pub(super) fn place(&self, order_id: &str) -> Place {
        let (verb, side) = self.point.holds();
        Place { order_id: Some(order_id.to_owned()), verb, side, skip: self.skip }
    }

    fn draw(random: &mut StdRng, killed: &'static str, point: Point) -> Self {
        let (verb, _) = point.holds();
        let at = if killed == BROKER { PARTICIPANTS.choose(random).copied().unwrap_or(ORDER) } else { killed };
        let others: Vec<&'static str> = PARTICIPANTS.into_iter().filter(|&other| other != at).collect();
        let trouble = match verb {
            // Its own refusal leaves inventory nothing to roll back.
            Verb::Rollback if at == INVENTORY || random.random_bool(0.5) => {
                Trouble::LostBranch(others.choose(random).copied().unwrap_or(PAYMENT))
            }
            Verb::Rollback => Trouble::SoldOut,
            Verb::Work if random.random_bool(0.25) => Trouble::SoldOut,
            Verb::Work | Verb::Prepare | Verb::Commit => Trouble::None,
        };
        // The branch of the order service has two steps; with nothing left in stock the second one does not come.
        let skip = if at == ORDER && verb == Verb::Work && trouble == Trouble::None { random.random_range(0..2) } else { 0 };
        let delay = if point.lets_go() { DURING_MAX.mul_f64(random.random()) } else { Duration::ZERO };
        Self { killed, point, at, skip, trouble, delay }
    }
}

/// So many runs: every point with everybody who can be killed there, again and again, each time in another order.
pub(super) fn draw(seed: u64, runs: usize) -> Vec<Case> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut cases = Vec::with_capacity(runs);
    while cases.len() < runs {
        let mut round: Vec<(&'static str, Point)> = Vec::new();
        for killed in std::iter::once(BROKER).chain(PARTICIPANTS) {
            round.extend(Point::all(killed).into_iter().map(|point| (killed, point)));
        }
        round.shuffle(&mut random);
        cases.extend(round.into_iter().take(runs - cases.len()).map(|(killed, point)| Case::draw(&mut random, killed, point)));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_point_comes_for_everybody_before_any_comes_again() {
        let kinds = |cases: &[Case]| cases.iter().map(|case| (case.killed, case.point)).collect::<BTreeSet<_>>().len();
        let cases = draw(7, 200);
        assert_eq!(kinds(&cases[..61]), 61, "12 points for each of five, and one more for the coordinator");
        assert_eq!(kinds(&cases), 61);
        let again = draw(7, 200);
        assert!(cases.iter().zip(&again).all(|(a, b)| format!("{a:?}") == format!("{b:?}")), "drawn from the seed alone");
    }
}
