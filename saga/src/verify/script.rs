//! A way as a file: what happens, in order, and how it is to end. `sagamq saga test FILE --script SCRIPT` goes it again.

use super::call::{Call, Place};
use super::model::Model;
use super::moves::Move;
use super::property::Property;
use super::replay::{replay, to_rest};
use super::subject::{Bounds, Sample, Subject};
use super::tape::Line;
use crate::definition::{Definition, Invariant};
use sagamq_api::saga::SagaState;
use sagamq_api::{JsonText, SagaName, StepId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A way through a saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Name of the definition.
    pub saga: SagaName,
    /// Attempts that a call has at most, if its policy does not allow fewer.
    #[serde(default = "attempts")]
    pub attempts: u32,
    /// What the instance is started with.
    #[serde(default)]
    pub input: JsonText,
    /// What steps return.
    #[serde(default)]
    pub outputs: BTreeMap<StepId, JsonText>,
    /// What happens.
    pub moves: Vec<String>,
    /// How it ends.
    pub ends: ScriptEnd,
}

/// How a way ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptEnd {
    /// The state of the saga.
    pub state: SagaState,
    /// The property that is broken there, by its name; left out: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaks: Option<String>,
}

fn attempts() -> u32 {
    Bounds::default().attempts
}

/// What became of a script.
#[derive(Clone, Debug)]
pub struct Played {
    /// How it ended.
    pub end: ScriptEnd,
    /// What is wrong there.
    pub wrong: Option<String>,
    /// What happened.
    pub lines: Vec<Line>,
}

/// A script that cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// It is of another saga.
    #[error("the script is of saga `{0}`")]
    OtherSaga(SagaName),
    /// A line means nothing.
    #[error("move {number} of the script, `{line}`, is none: write for example `serve reserve/action`")]
    NoMove {
        /// Counted from 1.
        number: usize,
        /// The line.
        line: String,
    },
    /// What a line says cannot happen there.
    #[error("move {number} of the script, `{line}`, is not possible there")]
    NotPossible {
        /// Counted from 1.
        number: usize,
        /// The line.
        line: String,
    },
}

/// Plays a script.
///
/// # Errors
/// When it is of another saga, or a move of it is none or not possible.
pub fn play(definition: &Definition, invariants: &[Invariant], script: &Script) -> Result<Played, ScriptError> {
    if script.saga != definition.name {
        return Err(ScriptError::OtherSaga(script.saga.clone()));
    }
    let moves =
        script.moves.iter().enumerate().map(|(at, line)| {
            Move::read(line.trim(), definition).ok_or_else(|| ScriptError::NoMove { number: at + 1, line: line.clone() })
        });
    let mut way: Vec<Move> = moves.collect::<Result<_, _>>()?;
    let sample = Sample { input: script.input.clone(), outputs: script.outputs.clone() };
    let subject = Subject::new(definition, invariants, &sample);
    let bounds = Bounds { faults: u8::MAX, attempts: script.attempts, ..Bounds::default() };
    let model = Model::new(subject, bounds);
    let replayed = replay(&model, &way);
    if let Some(at) = replayed.impossible {
        return Err(ScriptError::NotPossible { number: at + 1, line: script.moves[at].clone() });
    }
    let first = replayed.wrong.into_iter().next();
    let (mut breaks, mut wrong) = first.map_or((None, None), |wrong| (Some(wrong.property.name()), Some(wrong.what)));
    if breaks.is_none() && !to_rest(&model, &mut way) {
        (breaks, wrong) = (Some(Property::Ends.name()), Some("nothing goes on".to_owned()));
    }
    Ok(Played { end: ScriptEnd { state: replayed.world.state.saga_state(), breaks }, wrong, lines: replayed.lines })
}

/// What `sagamq saga test` does of itself: each action in turn refused, and never answered, and each step without its lock, or
/// with one that an operator takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// What goes wrong; `None`: nothing.
    pub fault: Option<String>,
    /// How the saga ends then.
    pub end: SagaState,
    /// Effects that are there then, by the ids of their steps.
    pub standing: Vec<StepId>,
    /// Effects that were undone.
    pub undone: Vec<StepId>,
}

/// Fails every step in turn.
#[must_use]
pub fn trials(definition: &Definition, sample: &Sample) -> Vec<Trial> {
    let subject = Subject::new(definition, &[], sample);
    let model = Model::new(subject, Bounds { faults: u8::MAX, ..Bounds::default() });
    let mut trials: Vec<Trial> = trial(&model, &[]).into_iter().collect();
    for step in definition.steps.iter().filter(|step| step.action.call().is_some()) {
        // Of a step that fans out the first item.
        let item = if step.for_each.is_some() { "[0]" } else { "" };
        let call = Call::named(&format!("{}{item}/action", step.id), definition).expect("a step has an action");
        // The lock is that of the step, also if its items are called.
        let place = Place::of(call.place.index());
        let locked = [Move::Deny(place), Move::Break(place)].into_iter().filter(|_| step.lock.is_some());
        let faults = [Move::Refuse(call), Move::Silence { call, ran: true }, Move::Silence { call, ran: false }];
        for fault in locked.chain(faults) {
            trials.extend(trial(&model, &[fault]));
        }
    }
    trials
}

/// Goes forward until the fault is possible, and then to the end.
fn trial(model: &Model<'_>, faults: &[Move]) -> Option<Trial> {
    let mut way = Vec::new();
    for fault in faults {
        loop {
            let before = replay(model, &way);
            let mut moves = Vec::new();
            model.faults(&before.world, &mut moves);
            if moves.contains(fault) {
                way.push(*fault);
                break;
            }
            moves.clear();
            model.goes_on(&before.world, &mut moves);
            way.push(*moves.first()?);
        }
    }
    to_rest(model, &mut way);
    let world = replay(model, &way).world;
    let of = |is_it: fn(&super::book::Book) -> bool| {
        let found = world.books.iter().filter(|(_, book)| is_it(book)).map(|(place, _)| model.definition.steps[place.index()].id.clone());
        let mut found: Vec<StepId> = found.collect();
        found.dedup();
        found
    };
    let (standing, undone) = (of(|book| book.stands()), of(|book| book.undone));
    Some(Trial { fault: faults.first().map(|fault| fault.write(&model.definition)), end: world.state.saga_state(), standing, undone })
}
