//! A way that was drawn, without what it does not need: moves are left out, many at a time and then one by one, as long as the same property is still
//! broken at its end.
//!
//! What is not possible any more without a move that was left out is left out with it, so a fault takes all that only it made possible along.

use super::check::check;
use super::model::Model;
use super::moves::Move;
use super::property::{Property, Tried, Wrong};
use super::turn::{After, after, start};

/// Most ways that are gone for one that was drawn.
const TRIES_MAX: usize = 4_000;

/// The way without what it does not need, and what is wrong at its end.
pub(super) fn shrink(model: &Model<'_>, wrong: Wrong, way: Vec<Move>) -> (Wrong, Vec<Move>) {
    let property = wrong.property;
    let mut best = (wrong, way);
    let (mut tries, mut size) = (0, best.1.len().div_ceil(2));
    while size > 0 && tries < TRIES_MAX {
        let (mut begin, mut is_shorter) = (0, false);
        while begin < best.1.len() && tries < TRIES_MAX {
            tries += 1;
            let end = (begin + size).min(best.1.len());
            let left: Vec<Move> = best.1[..begin].iter().chain(&best.1[end..]).copied().collect();
            match gone(model, &left, property) {
                Some(found) if found.1.len() < best.1.len() => {
                    best = found;
                    is_shorter = true;
                }
                _ => begin = end,
            }
        }
        // One at a time until none can be spared.
        size = if size == 1 && is_shorter { 1 } else { size / 2 };
    }
    best
}

/// Goes these moves as far as they are possible; gives those that were made, if the property is broken by the last of them.
fn gone(model: &Model<'_>, moves: &[Move], property: Property) -> Option<(Wrong, Vec<Move>)> {
    let mut tried = Tried::new(model.subject.invariants.len());
    let After { mut world, mut wrong } = start(model, model.empty(None), &mut tried);
    check(model, &world, &mut tried, &mut wrong);
    let mut way = Vec::new();
    let mut moves = moves.iter();
    loop {
        if !wrong.is_empty() {
            return wrong.into_iter().find(|found| found.property == property).map(|found| (found, way));
        }
        let next = moves.by_ref().find_map(|step| Some((*step, after(model, &world, *step, &mut tried)?)));
        let (step, after) = next?;
        way.push(step);
        (world, wrong) = (after.world, after.wrong);
        check(model, &world, &mut tried, &mut wrong);
    }
}
