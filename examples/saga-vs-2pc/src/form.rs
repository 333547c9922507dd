//! The forms that are compared, and their definitions: the same steps, in one mode or the other, one after the other or side by side.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The name under which every definition is published: each site has one.
pub const NAME: &str = "compared";

/// How a transaction becomes all or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each step commits by itself and is undone by a compensation.
    Saga,
    /// All steps commit together, behind locks that are held until then.
    TwoPhase,
}

/// Which step waits for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Each for the one before it.
    List,
    /// None for any.
    Parallel,
    /// The first for none, the last for all, those in between for the first.
    Diamond,
}

/// One way to do the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Form {
    /// Saga or two-phase commit.
    pub mode: Mode,
    /// The order of the steps.
    pub shape: Shape,
}

impl Form {
    /// Sagas, one step after the other.
    pub const LIST_SAGA: Self = Self { mode: Mode::Saga, shape: Shape::List };
    /// Sagas, all steps at once.
    pub const PARALLEL_SAGA: Self = Self { mode: Mode::Saga, shape: Shape::Parallel };
    /// Two-phase commit, one step after the other.
    pub const LIST_2PC: Self = Self { mode: Mode::TwoPhase, shape: Shape::List };
    /// Two-phase commit, all steps at once.
    pub const PARALLEL_2PC: Self = Self { mode: Mode::TwoPhase, shape: Shape::Parallel };

    /// Its name in tables and plots.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.mode, self.shape) {
            (Mode::Saga, Shape::List) => "list saga",
            (Mode::Saga, Shape::Parallel) => "parallel saga",
            (Mode::Saga, Shape::Diamond) => "saga with `after`",
            (Mode::TwoPhase, Shape::List) => "2PC, list",
            (Mode::TwoPhase, Shape::Parallel) => "2PC, parallel",
            (Mode::TwoPhase, Shape::Diamond) => "2PC with `after`",
        }
    }
}

/// A step of the work: what is called, and what undoes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The name of its service.
    pub service: String,
    /// The action; also the step's id, with the service's number where several services are alike.
    pub id: String,
    /// What is called.
    pub action: &'static str,
    /// What undoes it; `none` if nothing has to.
    pub undo: Option<&'static str>,
    /// The arguments, in the language of definitions.
    pub with: String,
}

/// The definition of `steps` in a form, with the services at `addresses`. `key` is the field of the input that names the transaction.
///
/// # Panics
/// When a service has no address.
#[must_use]
pub fn definition(form: Form, key: &str, steps: &[Step], addresses: &BTreeMap<String, String>) -> String {
    let mut text = format!("saga: {NAME}\nversion: 1\nkey: ${{ input.{key} }}\n");
    if form.mode == Mode::TwoPhase {
        text.push_str("mode: 2pc\ntimeout: 5m\n");
    }
    text.push_str("defaults:\n  timeout: 90s\n  retry: { initial: 50ms, factor: 2, max: 1s, attempts: 200 }\n");
    if form.mode == Mode::Saga {
        text.push_str("  compensate_retry: { initial: 50ms, factor: 2, max: 1s, attempts: 1000 }\n");
    }
    text.push_str("services:\n");
    let mut named: Vec<&str> = Vec::new();
    for step in steps {
        if !named.contains(&step.service.as_str()) {
            named.push(&step.service);
            let base = addresses.get(&step.service).expect("every service has an address");
            writeln!(text, "  {}: {{ http: \"{base}/work\" }}", step.service).expect("a string takes it");
        }
    }
    text.push_str("steps:\n");
    for (number, step) in steps.iter().enumerate() {
        write!(text, "  - {{ id: {}, call: {}.{}", step.id, step.service, step.action).expect("a string takes it");
        if let Some(after) = after(form.shape, number, steps) {
            write!(text, ", after: [{after}]").expect("a string takes it");
        }
        write!(text, ", with: {}", step.with).expect("a string takes it");
        if form.mode == Mode::Saga {
            let undo = step.undo.map_or_else(|| "none".to_owned(), |undo| format!("{}.{undo}", step.service));
            write!(text, ", compensate: {undo}").expect("a string takes it");
        }
        text.push_str(" }\n");
    }
    text
}

fn after(shape: Shape, number: usize, steps: &[Step]) -> Option<String> {
    let last = steps.len() - 1;
    match shape {
        Shape::List => None,
        Shape::Parallel => Some(String::new()),
        Shape::Diamond if number == 0 => Some(String::new()),
        Shape::Diamond if number < last => Some(steps[0].id.clone()),
        Shape::Diamond => Some(steps[1..last].iter().map(|step| step.id.as_str()).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modes_differ_in_what_undoes_and_the_shapes_in_who_waits() {
        let step = |id: &str| Step {
            service: "stock".to_owned(),
            id: id.to_owned(),
            action: "deduct",
            undo: Some("restore"),
            with: "\"${ input }\"".to_owned(),
        };
        let steps = ["a", "b", "c", "d"].map(step);
        let addresses = [("stock".to_owned(), "http://h:1".to_owned())].into();
        let of = |mode, shape| definition(Form { mode, shape }, "order", &steps, &addresses);
        let saga = of(Mode::Saga, Shape::List);
        assert!(saga.contains("compensate: stock.restore") && saga.contains("http://h:1/work") && !saga.contains("after"), "{saga}");
        let tpc = of(Mode::TwoPhase, Shape::Diamond);
        assert!(!tpc.contains("compensate") && tpc.contains("mode: 2pc"), "{tpc}");
        assert!(tpc.contains("id: d, call: stock.deduct, after: [b, c]") && tpc.contains("id: b, call: stock.deduct, after: [a]"), "{tpc}");
        assert_eq!(of(Mode::Saga, Shape::Parallel).matches("after: []").count(), 4);
    }
}
