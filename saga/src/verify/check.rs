//! What must hold in a state of the world.

use super::call::Side;
use super::facts;
use super::model::Model;
use super::property::{Property, Tried, Wrong};
use super::world::World;
use crate::definition::Moment;
use crate::expression::Truth;
use crate::protocol::saga::Phase;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::StepState;

/// Looks at a state; gives what is wrong.
pub(super) fn check(model: &Model<'_>, world: &World, tried: &mut Tried, wrong: &mut Vec<Wrong>) {
    if world.state.phase.is_at_rest() {
        effects(model, world, tried, wrong);
        reasons(world, tried, wrong);
        told(model, world, wrong);
    }
    invariants(model, world, tried, wrong);
}

/// Every effect is kept, undone, or told of.
fn effects(model: &Model<'_>, world: &World, tried: &mut Tried, wrong: &mut Vec<Wrong>) {
    let mut say = |what: String| wrong.push(Wrong { property: Property::Effects, what });
    let phase = world.state.phase;
    let standing = world.state.standing();
    for (place, book) in &world.books {
        let Some(step) = place.status(&world.state) else { continue };
        let item = place.item.checked_sub(1).map(|item| ItemIndex(u32::from(item)));
        let is_told = || standing.iter().any(|effect| effect.step == step.id && effect.item == item);
        let shown = place.shown(&model.definition);
        let has_undo = model.subject.definition.steps[place.index()].compensation.is_some();
        if book.ran {
            tried.note(Property::Effects);
        }
        match phase {
            Phase::Completed if step.is_call && step.state == StepState::Succeeded && !book.stands() => {
                say(format!("the saga is COMPLETED, and the effect of {shown} is not there"));
            }
            // What the saga went on without is undone, or told of as in doubt.
            Phase::Completed if step.state != StepState::Succeeded && book.stands() && !is_told() => {
                say(format!("the saga is COMPLETED, went on without {shown}, and does not show that its effect stands"));
            }
            // What has no compensation has nothing to undo, as its author says.
            Phase::Compensated | Phase::Failed if book.stands() && has_undo => {
                say(format!("the saga is {}, and the effect of {shown} stands", world.state.saga_state()));
            }
            Phase::Blocked | Phase::Terminated if book.stands() && !is_told() => {
                say(format!("the effect of {shown} stands, and the saga does not show it"));
            }
            _ => {}
        }
    }
}

/// What a step was to tell others is told, if it was done. What is wrong in what was told is seen when it is told.
fn told(model: &Model<'_>, world: &World, wrong: &mut Vec<Wrong>) {
    for (index, (step, status)) in model.definition.steps.iter().zip(&world.state.steps).enumerate() {
        let is_told = |side| world.told.iter().any(|told| told.place.index() == index && told.side == side);
        let has_succeeded = status.is_call && status.output.is_some();
        if step.emit.is_some() && has_succeeded && !is_told(Side::Action) {
            wrong.push(Wrong { property: Property::Told, what: format!("`{}` is done, and nobody was told", step.id) });
        }
        if step.emit_undone.is_some() && status.state == StepState::Compensated && !is_told(Side::Undo) {
            wrong.push(Wrong { property: Property::Told, what: format!("`{}` is undone, and nobody was told", step.id) });
        }
    }
}

/// What is blocked is so for a reason.
fn reasons(world: &World, tried: &mut Tried, wrong: &mut Vec<Wrong>) {
    tried.note(Property::Ends);
    let is_stuck = world.state.steps.iter().any(|step| match step.state {
        StepState::CompensationFailed => !step.is_undoing_left_out,
        StepState::Failed => world.state.is_past_pivot(),
        _ => false,
    });
    if world.state.phase == Phase::Blocked && !is_stuck {
        wrong.push(Wrong { property: Property::Ends, what: "the saga is BLOCKED without a reason".to_owned() });
    }
}

fn invariants(model: &Model<'_>, world: &World, tried: &mut Tried, wrong: &mut Vec<Wrong>) {
    let is_at_rest = world.state.phase.is_at_rest();
    let asked = |moment: Moment| is_at_rest || moment == Moment::Always;
    if !model.subject.invariants.iter().any(|invariant| asked(invariant.moment)) {
        return;
    }
    let (steps, saga) = (facts::steps(model, world), facts::saga(world));
    let variables = [("steps", &steps), ("saga", &saga), ("input", &model.subject.sample.input)];
    for (at, invariant) in (0..).zip(model.subject.invariants) {
        if !asked(invariant.moment) {
            continue;
        }
        let property = Property::Invariant(at);
        match invariant.assertion.evaluate(&variables) {
            Ok(Truth::Void) => {}
            Ok(Truth::Holds) => tried.note(property),
            Ok(Truth::Fails) => {
                tried.note(property);
                wrong.push(Wrong { property, what: format!("`{}` does not hold", invariant.assertion.source()) });
            }
            Err(reason) => {
                wrong.push(Wrong { property, what: format!("`{}` has no value: {reason}", invariant.assertion.source()) });
            }
        }
    }
}
