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

/// Every verb, in the order of a transaction with several branches.
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
    /// The last action of a transaction with one branch is on its way to the coordinator, who forces that the branch has the decision and
    /// begins to tell it so. Only the coordinator is killed here.
    GivingAway,
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// An order, over four services.
    Order,
    /// To repack, at the inventory alone: the one branch has the decision.
    Repack,
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
    /// What the transaction is for.
    pub(super) work: Work,
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
    /// Every point of an order at which `killed` can be killed.
    fn of_order(killed: &str) -> Vec<Self> {
        let mut points: Vec<Self> =
            VERBS.into_iter().flat_map(|verb| [Self::Before(verb), Self::During(verb), Self::After(verb)]).collect();
        if killed == BROKER {
            points.push(Self::Deciding);
        }
        points
    }

    /// Every point of a transaction with one branch, around the decision, at which `killed` can be killed.
    fn of_repack(killed: &str) -> Vec<Self> {
        let verb = Verb::CommitOnePhase;
        let mut points = vec![Self::Before(verb), Self::During(verb), Self::After(verb)];
        if killed == BROKER {
            points.push(Self::GivingAway);
        }
        points
    }

    /// What is asked for there, and on which side of it a call is held.
    pub(super) const fn holds(self) -> (Verb, Side) {
        match self {
            Self::Before(verb) | Self::During(verb) => (verb, Side::Before),
            Self::After(verb) => (verb, Side::After),
            Self::Deciding => (Verb::Prepare, Side::After),
            Self::GivingAway => (Verb::Work, Side::After),
        }
    }

    /// Whether the held call is let go before the kill.
    pub(super) const fn lets_go(self) -> bool {
        matches!(self, Self::During(_) | Self::Deciding | Self::GivingAway)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |verb| match verb {
            Verb::Work => "work",
            Verb::Prepare => "prepare",
            Verb::Commit => "commit",
            Verb::CommitOnePhase => "one-phase commit",
            Verb::Rollback => "rollback",
        };
        let text = match *self {
            Self::Before(of) => format!("before {}", verb(of)),
            Self::During(of) => format!("during {}", verb(of)),
            Self::After(of) => format!("after {}, unanswered", verb(of)),
            Self::Deciding => "while deciding".to_owned(),
            Self::GivingAway => "while giving the decision away".to_owned(),
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

    /// What the transaction must come to because its point was reached; nothing: either.
    pub(super) fn commits(&self) -> Option<bool> {
        match (self.point, self.point.holds().0) {
            (_, Verb::Commit) | (Point::After(Verb::CommitOnePhase), _) => Some(true),
            (_, Verb::Rollback) => Some(false),
            // Whoever has the decision is there and does it, or has lost what it would have committed.
            (Point::Before(Verb::CommitOnePhase), _) => Some(self.killed == BROKER),
            (_, Verb::Work | Verb::Prepare | Verb::CommitOnePhase) => None,
        }
    }

    fn draw(random: &mut StdRng, killed: &'static str, work: Work, point: Point) -> Self {
        let (verb, _) = point.holds();
        let delay = if point.lets_go() { DURING_MAX.mul_f64(random.random()) } else { Duration::ZERO };
        if work == Work::Repack {
            // Of two actions it is the second that gives the decision away.
            let skip = u32::from(point == Point::GivingAway);
            return Self { work, killed, point, at: INVENTORY, skip, trouble: Trouble::None, delay };
        }
        let at = if killed == BROKER { PARTICIPANTS.choose(random).copied().unwrap_or(ORDER) } else { killed };
        let others: Vec<&'static str> = PARTICIPANTS.into_iter().filter(|&other| other != at).collect();
        let trouble = match verb {
            // Its own refusal leaves inventory nothing to roll back.
            Verb::Rollback if at == INVENTORY || random.random_bool(0.5) => {
                Trouble::LostBranch(others.choose(random).copied().unwrap_or(PAYMENT))
            }
            Verb::Rollback => Trouble::SoldOut,
            Verb::Work if random.random_bool(0.25) => Trouble::SoldOut,
            Verb::Work | Verb::Prepare | Verb::Commit | Verb::CommitOnePhase => Trouble::None,
        };
        // The branch of the order service has two steps; with nothing left in stock the second one does not come.
        let skip = if at == ORDER && verb == Verb::Work && trouble == Trouble::None { random.random_range(0..2) } else { 0 };
        Self { work, killed, point, at, skip, trouble, delay }
    }
}

/// So many runs: every point with everybody who can be killed there, again and again, each time in another order.
pub(super) fn draw(seed: u64, runs: usize) -> Vec<Case> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut cases = Vec::with_capacity(runs);
    while cases.len() < runs {
        let mut round: Vec<(&'static str, Work, Point)> = Vec::new();
        for killed in std::iter::once(BROKER).chain(PARTICIPANTS) {
            round.extend(Point::of_order(killed).into_iter().map(|point| (killed, Work::Order, point)));
        }
        for killed in [BROKER, INVENTORY] {
            round.extend(Point::of_repack(killed).into_iter().map(|point| (killed, Work::Repack, point)));
        }
        round.shuffle(&mut random);
        cases.extend(round.into_iter().take(runs - cases.len()).map(|(killed, work, point)| Case::draw(&mut random, killed, work, point)));
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
        let all = 61 + 7;
        assert_eq!(
            kinds(&cases[..all]),
            all,
            "12 points for each of five and one more for the coordinator; of one branch 3 for each of two and one"
        );
        assert_eq!(kinds(&cases), all);
        let again = draw(7, 200);
        assert!(cases.iter().zip(&again).all(|(a, b)| format!("{a:?}") == format!("{b:?}")), "drawn from the seed alone");
    }
}
