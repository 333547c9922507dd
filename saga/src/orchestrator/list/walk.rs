//! A walk over the lists of all lanes at once, the newest instance first. What one page may look at is bounded: a filter that leaves out almost
//! everything gives a short page and the place where the next one goes on.

use super::criteria::Criteria;
use crate::store::position::Position;
use crate::store::{LaneStore, List, StoreError};
use core::ops::{ControlFlow, Range};
use std::collections::VecDeque;

/// Rows that one page looks at.
const ROWS_MAX: usize = 30_000;

/// Rows that as much work as one look at an instance itself.
const ROWS_AN_INSTANCE: usize = 10;

/// Rows that as much work as where a list is entered.
const ROWS_AN_ENTRY: usize = 4;

/// Rows that are looked at in one list before another has its turn: at least, and at the most.
const ROWS_AT_ONCE: (usize, usize) = (16, 2_048);

/// Instances that are taken out of a list at a time: at first, and at the most.
const FOUND_AT_ONCE: (usize, usize) = (8, 256);

/// One list of one lane.
struct Source<'a> {
    store: &'a LaneStore,
    list: List<'a>,
    /// What was found and is not given yet, the newest first.
    found: VecDeque<Position>,
    /// Everything from here on was looked at.
    seen: Position,
    is_done: bool,
    at_once: usize,
}

/// What comes next.
pub(super) enum Next<'a> {
    /// This instance of this lane may be wanted.
    Found(&'a LaneStore, Position),
    /// There is no other.
    End,
    /// The page has looked at as much as it may; there may be more after this place.
    Spent(Position),
}

/// The walk.
pub(super) struct Walk<'a> {
    criteria: &'a Criteria,
    sources: Vec<Source<'a>>,
    start: Position,
    /// Rows that are looked at in one list before another has its turn.
    at_once: usize,
    left: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(criteria: &'a Criteria, stores: &'a [LaneStore], lists: &[List<'a>], range: Range<Position>) -> Self {
        let source =
            |store, list| Source { store, list, found: VecDeque::new(), seen: range.end, is_done: false, at_once: FOUND_AT_ONCE.0 };
        let sources: Vec<_> = stores.iter().flat_map(|store| lists.iter().map(move |&list| source(store, list))).collect();
        // What has not been looked at yet comes first, and takes no more than half of all, so every page goes on.
        let at_once = (ROWS_MAX / 2 / sources.len().max(1)).clamp(ROWS_AT_ONCE.0, ROWS_AT_ONCE.1);
        let left = ROWS_MAX.max(2 * sources.len() * (at_once + ROWS_AN_ENTRY));
        Self { criteria, sources, start: range.start, at_once, left }
    }

    /// The next instance that may be wanted. Blocks on storage.
    pub(super) fn next(&mut self) -> Result<Next<'a>, StoreError> {
        loop {
            // What is found comes before what may be there below the same place.
            let first = self.sources.iter_mut().filter_map(|source| Some((source.front()?, source))).max_by_key(|(front, _)| *front);
            let Some(((place, is_found), source)) = first else { return Ok(Next::End) };
            if is_found {
                source.found.pop_front();
                return Ok(Next::Found(source.store, place));
            }
            if self.left == 0 {
                return Ok(Next::Spent(place));
            }
            let looked = source.look(self.criteria, self.start, self.left.min(self.at_once))?;
            self.left = self.left.saturating_sub(looked + ROWS_AN_ENTRY);
        }
    }

    /// An instance itself was looked at. Gives whether the page may look at others.
    pub(super) fn may_go_on(&mut self) -> bool {
        self.left = self.left.saturating_sub(ROWS_AN_INSTANCE);
        self.left > 0
    }
}

impl Source<'_> {
    /// Where it goes on, and whether that was found; `None`: it is at its end.
    fn front(&self) -> Option<(Position, bool)> {
        match self.found.front() {
            Some(&found) => Some((found, true)),
            None => (!self.is_done).then_some((self.seen, false)),
        }
    }

    /// Looks further, at so many rows at the most. Gives at how many.
    fn look(&mut self, criteria: &Criteria, start: Position, most: usize) -> Result<usize, StoreError> {
        let (mut looked, mut seen) = (0, self.seen);
        let (list, found, at_once) = (self.list, &mut self.found, self.at_once);
        let mut is_done = true;
        self.store.visit_back(&list, start..self.seen, &mut |position, value| {
            looked += 1;
            seen = position;
            match list.card(value) {
                Some(card) if criteria.may_want(&card) => found.push_back(position),
                Some(_) => {}
                None => tracing::error!(saga = %position.id, "a row of a list cannot be read and is left out of a listing"),
            }
            is_done = looked < most && found.len() < at_once;
            if is_done { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        (self.seen, self.is_done, self.at_once) = (seen, is_done, (2 * at_once).min(FOUND_AT_ONCE.1));
        Ok(looked)
    }
}
