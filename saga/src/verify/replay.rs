//! A way gone again, with all that is told on it.

use super::check::check;
use super::model::Model;
use super::moves::Move;
use super::property::{Tried, Wrong};
use super::tape::{Line, Tape};
use super::turn::{After, after, start};
use super::world::World;

/// Where a way leads, and what was told on it.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) world: World,
    pub(super) lines: Vec<Line>,
    /// What is wrong there, and nowhere before.
    pub(super) wrong: Vec<Wrong>,
    /// The move that was not possible, by its number.
    pub(super) impossible: Option<usize>,
}

/// Goes the way, to its end or to the first thing that is wrong or not possible.
pub(super) fn replay(model: &Model<'_>, way: &[Move]) -> Replayed {
    let mut tried = Tried::new(model.subject.invariants.len());
    let After { mut world, mut wrong } = start(model, model.empty(Some(Tape::default())), &mut tried);
    check(model, &world, &mut tried, &mut wrong);
    let mut impossible = None;
    for (at, step) in way.iter().enumerate() {
        if !wrong.is_empty() {
            break;
        }
        let Some(next) = after(model, &world, *step, &mut tried) else {
            impossible = Some(at);
            break;
        };
        (world, wrong) = (next.world, next.wrong);
        check(model, &world, &mut tried, &mut wrong);
    }
    let lines = world.tape.take().map(Tape::into_lines).unwrap_or_default();
    Replayed { world, lines, wrong, impossible }
}

/// Goes on until the instance rests, with nothing more going wrong.
pub(super) fn to_rest(model: &Model<'_>, way: &mut Vec<Move>) -> bool {
    let mut tried = Tried::new(model.subject.invariants.len());
    let After { mut world, .. } = start(model, model.empty(None), &mut tried);
    for step in way.iter() {
        let Some(next) = after(model, &world, *step, &mut tried) else { return false };
        world = next.world;
    }
    let mut moves = Vec::new();
    // Each call is served, heard, lost and tried again a few times at most.
    let items = model.definition.steps.iter().filter(|step| step.for_each.is_some()).count() * 8;
    for _ in 0..64 * (1 + model.definition.steps.len() + items) {
        if world.state.phase.is_at_rest() {
            return true;
        }
        moves.clear();
        model.goes_on(&world, &mut moves);
        let was = world.state.head.events;
        let mut went = false;
        for step in &moves {
            let Some(next) = after(model, &world, *step, &mut tried) else { continue };
            let is_idle = *step == Move::Look && next.world.state.head.events == was;
            if !is_idle {
                way.push(*step);
                world = next.world;
                went = true;
                break;
            }
        }
        if !went {
            return false;
        }
    }
    false
}
