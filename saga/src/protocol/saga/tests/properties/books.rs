//! The participants: what becomes of a call, and the books that each keeps of what it has done.

use super::super::fixture::*;
use super::graph::ITEMS_MAX;
use crate::definition::Step;
use sagamq_api::saga::{Call, CallOutcome, Operation};
use sagamq_broker::env::Random;

/// What becomes of one call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Answered,
    AnsweredTwice,
    LostBefore,
    LostAfter,
    UnknownBefore,
    UnknownAfter,
    Ongoing,
    /// Unknown first, and long after the attempt's end the word.
    AnsweredLate,
    /// A success whose output cannot be kept.
    AnsweredAtLength,
}

pub(super) const FATES: [Fate; 9] = [
    Fate::Answered,
    Fate::AnsweredTwice,
    Fate::LostBefore,
    Fate::LostAfter,
    Fate::UnknownBefore,
    Fate::UnknownAfter,
    Fate::Ongoing,
    Fate::AnsweredLate,
    Fate::AnsweredAtLength,
];

/// One step's participant and its books.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    refuses: bool,
    /// Refusals of attempts of a step behind the pivot, and of a compensation, before it takes effect.
    refusals_left: u32,
    pub(super) undo_refusals_left: u32,
    pub(super) applied: bool,
    pub(super) undone: bool,
    pub(super) undo_seen: bool,
}

impl Books {
    fn random(random: &mut Random) -> Self {
        Self {
            refuses: random.fraction() < 0.15,
            refusals_left: (random.next_u64() % 6) as u32,
            undo_refusals_left: if random.fraction() < 0.1 { u32::MAX } else { (random.next_u64() % 3) as u32 },
            ..Self::default()
        }
    }

    /// The books of a step, or of the items that it may have.
    pub(super) fn of(step: &Step, random: &mut Random) -> Vec<Self> {
        let count = if step.for_each.is_some() { ITEMS_MAX } else { 1 };
        (0..count).map(|_| Self::random(random)).collect()
    }

    pub(super) const fn is_in_effect(&self) -> bool {
        self.applied && !self.undone
    }

    pub(super) fn act(&mut self, call: &Call, is_retriable: bool) -> CallOutcome {
        match call.attempt.operation {
            Operation::Action if self.applied || self.undo_seen => done(),
            Operation::Action if is_retriable && self.refusals_left > 0 => {
                self.refusals_left -= 1;
                refused()
            }
            Operation::Action if self.refuses && !is_retriable => refused(),
            Operation::Action => {
                self.applied = true;
                done()
            }
            Operation::Compensation if self.undo_refusals_left > 0 => {
                self.undo_refusals_left -= 1;
                refused()
            }
            Operation::Compensation => {
                self.undo_seen = true;
                self.undone = self.applied;
                done()
            }
            other => unreachable!("no saga calls {other}"),
        }
    }
}
