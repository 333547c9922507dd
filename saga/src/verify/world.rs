//! A state of the world: the instance, what is between it and its participants, and what they have on disk.

use super::book::Book;
use super::call::{Call, Place};
use super::tape::Tape;
use crate::protocol::saga::InstanceState;
use std::sync::Arc;

/// A state of the world. A copy shares what a move does not change.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) state: Arc<InstanceState>,
    /// The virtual clock. It moves only when something is waited for.
    pub(super) now_ms: u64,
    /// The attempts in progress, in the order in which they were decided.
    pub(super) flights: Vec<Flight>,
    /// Messages that were believed lost, and are not.
    pub(super) overdue: Vec<Overdue>,
    /// What the participants have, in the order of the steps.
    pub(super) books: Vec<(Place, Book)>,
    /// What each call was made with first, as a hash.
    pub(super) arguments: Arc<Vec<(Call, u64)>>,
    /// What steps have told others of, in order.
    pub(super) told: Arc<Vec<Call>>,
    /// How much has gone wrong.
    pub(super) faults: u8,
    /// What is told of the way here, if somebody wants to hear it.
    pub(super) tape: Option<Tape>,
}

/// An attempt in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) call: Call,
    pub(super) epoch: u32,
    /// When it was handed to its participant, if it was.
    pub(super) handed_ms: Option<u64>,
    pub(super) way: Way,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It waits for its participant.
    Queued,
    /// Its answer is on the way.
    Answered {
        /// Success, or a refusal.
        done: bool,
    },
    /// No answer will come in time.
    Lost,
}

/// A message that comes after all, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Overdue {
    pub(super) call: Call,
    pub(super) epoch: u32,
    /// An answer, and which. `None`: the call itself.
    pub(super) answer: Option<bool>,
}

impl World {
    pub(super) fn book(&self, place: Place) -> Book {
        self.books.iter().find(|(of, _)| *of == place).map_or_else(Book::default, |(_, book)| *book)
    }

    pub(super) fn book_mut(&mut self, place: Place) -> &mut Book {
        let at = self.books.iter().position(|(of, _)| *of == place).unwrap_or_else(|| {
            let at = self.books.partition_point(|(of, _)| *of < place);
            self.books.insert(at, (place, Book::default()));
            at
        });
        &mut self.books[at].1
    }

    pub(super) fn flight(&self, call: Call) -> Option<&Flight> {
        self.flights.iter().find(|flight| flight.call == call)
    }

    pub(super) fn flight_mut(&mut self, call: Call) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.call == call)
    }

    /// A message that may come after all.
    pub(super) fn keep(&mut self, overdue: Overdue) {
        if let Err(at) = self.overdue.binary_search(&overdue) {
            self.overdue.insert(at, overdue);
        }
    }
}
