//! Beyond what can be searched: ways that are drawn by a seed. The same seed draws the same ways.

use super::check::check;
use super::model::Model;
use super::moves::Move;
use super::property::{Property, Tried, Wrong};
use super::turn::{After, after, start};
use std::collections::BTreeMap;

/// Most moves of one way.
const MOVES_MAX: usize = 20_000;

/// What was drawn.
#[derive(Debug)]
pub(super) struct Drawn {
    /// Moves of all ways.
    pub(super) steps: u64,
    /// Moves of the longest way.
    pub(super) depth: usize,
    /// Ways that did not come to their end within the bound.
    pub(super) unended: u64,
    /// Of each property the first way that breaks it; not the shortest.
    pub(super) wrong: BTreeMap<Property, (Wrong, Vec<Move>)>,
    /// How often each property was put to the test.
    pub(super) tried: Tried,
}

/// `SplitMix64`: small, and the same everywhere.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let drawn = u128::from(self.next()) * bound as u128;
        usize::try_from(drawn >> 64).expect("it is below the bound")
    }
}

/// Goes so many ways.
pub(super) fn random(model: &Model<'_>, seed: u64, ways: u64) -> Drawn {
    let mut drawn = Drawn { steps: 0, depth: 0, unended: 0, wrong: BTreeMap::new(), tried: Tried::new(model.subject.invariants.len()) };
    let base = Draw(seed).next();
    for at in 0..ways {
        // A way of its own for each number, and none that another seed has.
        one(model, &mut Draw(base ^ Draw(at).next()), &mut drawn);
    }
    drawn
}

fn one(model: &Model<'_>, draw: &mut Draw, drawn: &mut Drawn) {
    let After { mut world, mut wrong } = start(model, model.empty(None), &mut drawn.tried);
    let (mut way, mut by_itself, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        check(model, &world, &mut drawn.tried, &mut wrong);
        if !wrong.is_empty() {
            for wrong in wrong {
                drawn.wrong.entry(wrong.property).or_insert_with(|| (wrong, way.clone()));
            }
            break;
        }
        by_itself.clear();
        faults.clear();
        model.goes_on(&world, &mut by_itself);
        Model::arrives(&world, &mut by_itself);
        model.faults(&world, &mut faults);
        let is_at_rest = world.state.phase.is_at_rest();
        if by_itself.is_empty() || way.len() == MOVES_MAX {
            drawn.unended += u64::from(!is_at_rest);
            break;
        }
        // Few things go wrong, wherever it may be.
        let from = if !faults.is_empty() && draw.below(8) == 0 { &faults } else { &by_itself };
        let step = from[draw.below(from.len())];
        let Some(next) = after(model, &world, step, &mut drawn.tried) else { continue };
        way.push(step);
        drawn.steps += 1;
        (world, wrong) = (next.world, next.wrong);
    }
    drawn.depth = drawn.depth.max(way.len());
}
