//! What a verification found, with the bounds within which that is so.

use super::model::Model;
use super::moves::Move;
use super::property::{Property, Tried, Wrong};
use super::random::random;
use super::replay::replay;
use super::script::{Script, ScriptEnd};
use super::search::search;
use super::shrink::shrink;
use super::subject::{Bounds, Subject};
use super::tape::{Line, mermaid, timeline};
use crate::definition::StepKind;
use sagamq_api::SagaName;
use sagamq_api::saga::SagaState;
use serde::Serialize;
use std::collections::BTreeMap;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The definition.
    pub saga: SagaName,
    /// Its version.
    pub version: u32,
    /// How much went wrong on one way at most.
    pub faults: u8,
    /// Attempts that a call had at most.
    pub attempts: u32,
    /// Different states that were looked at.
    pub states: usize,
    /// The bound of that.
    pub states_max: usize,
    /// Moves between them.
    pub steps: u64,
    /// Most moves from the start to a state.
    pub depth: usize,
    /// Whether every state within the bounds was looked at. If not, nothing is proved.
    pub complete: bool,
    /// Ways that were drawn beside it.
    pub drawn: Option<DrawnReport>,
    /// What must hold, and how often it was put to the test.
    pub properties: Vec<PropertyReport>,
    /// How the saga came to rest, and in how many states.
    pub ends: BTreeMap<String, u64>,
    /// What is wrong: of each property the shortest way.
    pub violations: Vec<Violation>,
    /// What may be meant, and is worth a look.
    pub warnings: Vec<String>,
}

/// Ways that were drawn by a seed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DrawnReport {
    /// The seed.
    pub seed: u64,
    /// The ways.
    pub ways: u64,
    /// Their moves.
    pub steps: u64,
    /// Moves of the longest.
    pub depth: usize,
    /// Ways that were broken off.
    pub unended: u64,
}

/// A property.
#[derive(Clone, Debug, Serialize)]
pub struct PropertyReport {
    /// Its name.
    pub name: String,
    /// What it says.
    pub says: String,
    /// How often it was put to the test; never: it could not fail.
    pub tried: u64,
    /// Whether it is broken.
    pub broken: bool,
}

/// Something wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Violation {
    /// The property that is broken.
    pub property: String,
    /// How.
    pub what: String,
    /// Whether no shorter way leads to it. A way that was drawn has only lost what it does not need.
    pub shortest: bool,
    /// What happened, as text.
    pub timeline: String,
    /// The same as a sequence diagram of Mermaid.
    pub mermaid: String,
    /// The same for `sagamq saga test --script`.
    pub script: Script,
    #[serde(skip)]
    lines: Vec<Line>,
}

impl Violation {
    /// What happened.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

/// Ways to draw beside the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    /// The seed.
    pub seed: u64,
    /// How many.
    pub ways: u64,
}

impl Report {
    /// Whether something is wrong.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        !self.violations.is_empty()
    }
}

/// Looks at every way that an instance of the definition can go, within the bounds.
#[must_use]
pub fn verify(subject: Subject<'_>, bounds: Bounds, draws: Option<Random>) -> Report {
    let model = Model::new(subject, bounds);
    let found = search(&model);
    let mut wrong: Vec<(Wrong, Vec<Move>, bool)> = found.wrong.into_values().map(|(wrong, way)| (wrong, way, true)).collect();
    let mut tried = found.tried;
    let drawn = draws.map(|Random { seed, ways }| {
        let drawn = random(&model, seed, ways);
        tried.add(&drawn.tried);
        for (property, (found, way)) in drawn.wrong {
            if wrong.iter().all(|(known, ..)| known.property != property) {
                let (found, way) = shrink(&model, found, way);
                wrong.push((found, way, false));
            }
        }
        DrawnReport { seed, ways, steps: drawn.steps, depth: drawn.depth, unended: drawn.unended }
    });
    wrong.sort_by_key(|(_, way, _)| way.len());
    let broken: Vec<Property> = wrong.iter().map(|(wrong, ..)| wrong.property).collect();
    let invariants = (0..).map(Property::Invariant).take(subject.invariants.len());
    let properties = Property::BUILT_IN.into_iter().chain(invariants).map(|property| PropertyReport {
        name: property.name(),
        says: says(property, subject),
        tried: tried.count(property),
        broken: broken.contains(&property),
    });
    let properties: Vec<PropertyReport> = properties.collect();
    Report {
        saga: subject.definition.name.clone(),
        version: subject.definition.version,
        faults: bounds.faults,
        attempts: bounds.attempts,
        states: found.states,
        states_max: bounds.states,
        steps: found.steps,
        depth: found.depth,
        complete: found.is_whole,
        drawn,
        properties,
        ends: found.ends,
        violations: wrong.into_iter().map(|(wrong, way, shortest)| violation(&model, wrong, &way, shortest)).collect(),
        warnings: warnings(subject, &tried, found.is_whole),
    }
}

fn says(property: Property, subject: Subject<'_>) -> String {
    match property {
        Property::Invariant(at) => subject.invariants[usize::from(at)].assertion.source().to_owned(),
        other => other.says().to_owned(),
    }
}

fn violation(model: &Model<'_>, wrong: Wrong, way: &[Move], shortest: bool) -> Violation {
    let replayed = replay(model, way);
    let state: SagaState = replayed.world.state.saga_state();
    let subject = model.subject;
    let script = Script {
        saga: subject.definition.name.clone(),
        attempts: model.bounds.attempts,
        input: subject.sample.input.clone(),
        outputs: subject.sample.outputs.clone(),
        moves: way.iter().map(|step| step.write(&model.definition)).collect(),
        ends: ScriptEnd { state, breaks: Some(wrong.property.name()) },
    };
    Violation {
        property: wrong.property.name(),
        what: wrong.what,
        shortest,
        timeline: timeline(&replayed.lines),
        mermaid: mermaid(&replayed.lines),
        script,
        lines: replayed.lines,
    }
}

/// What could not fail, and why, as far as that is not in the nature of the definition.
fn warnings(subject: Subject<'_>, tried: &Tried, is_whole: bool) -> Vec<String> {
    let mut found = Vec::new();
    if !is_whole {
        return found;
    }
    for (at, invariant) in (0..).zip(subject.invariants) {
        if tried.count(Property::Invariant(at)) == 0 {
            let source = invariant.assertion.source();
            found.push(format!("`{source}` could not fail: what stands before `implies` never was the case"));
        }
    }
    let steps = &subject.definition.steps;
    let has_pivot = steps.iter().any(|step| step.kind == StepKind::Pivot);
    let is_ordered = steps.iter().enumerate().any(|(at, step)| {
        step.compensation.is_some() && steps[at..].iter().any(|other| other.after.contains(&at) && other.kind == StepKind::Compensatable)
    });
    if is_ordered && tried.count(Property::Order) == 0 {
        found.push("the order of undoing could not be wrong: nothing that others rest on was ever undone".to_owned());
    }
    if has_pivot && steps.iter().any(|step| step.compensation.is_some()) && tried.count(Property::Pivot) == 0 {
        found.push("nothing was ever undone, so nothing could be undone past the pivot".to_owned());
    }
    if subject.definition.timeout.is_some() && tried.count(Property::Timeout) == 0 {
        found.push("the saga's timeout never came".to_owned());
    }
    found
}
