//! Checks that what an expression refers to is there when it is evaluated.

use super::draft::{Draft, Emit, Idle, Values};
use super::fields::nearest;
use super::graph::Graph;
use super::report::Report;
use super::rule::Rule;
use super::span::{At, Span};
use crate::expression::{Implied, Reference};
use sagamq_api::saga::Mode;

const SAGA_FIELDS: [&str; 4] = ["id", "name", "version", "key"];
const FAILURE_FIELDS: [&str; 2] = ["code", "message"];

/// From where an expression looks.
#[derive(Clone, Copy, Debug)]
enum View {
    /// A key: there is only the input.
    Key,
    /// The condition of a step.
    Condition(usize),
    /// The arguments of the action of a step.
    Action(usize),
    /// The arguments of the compensation of a step, or what it tells.
    Compensation(usize),
    /// The arguments of an item's action.
    ItemAction(usize),
    /// The arguments of an item's compensation.
    ItemCompensation(usize),
    /// What a step tells when its action has taken effect.
    Emit(usize),
    /// The output: every step is done.
    Output,
}

/// Checks every expression of the definition.
pub(crate) fn check(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    let mut look = |values: Option<&Values>, view: View| {
        let values = values.into_iter();
        for reference in values.flat_map(|values| &values.references) {
            check_one(reference, view, graph, report);
        }
    };
    look(draft.key.as_ref(), View::Key);
    for (at, step) in draft.steps.iter().enumerate() {
        let has_items = step.each.items.is_some();
        look(step.when.as_ref().map(|when| &when.value), View::Condition(at));
        look(step.each.values(), View::Condition(at));
        look(step.with.as_ref(), if has_items { View::ItemAction(at) } else { View::Action(at) });
        look(step.lock.as_ref().and_then(|lock| lock.key.as_ref()), View::Action(at));
        if let Some(Some(Idle::Given(values) | Idle::Until(values))) = step.idle.as_ref().map(|idle| &idle.value) {
            look(Some(values), View::Action(at));
        }
        for values in step.emit.iter().flat_map(Emit::values) {
            look(Some(values), View::Emit(at));
        }
        if let super::draft::Compensate::Call(compensation) = &step.compensate {
            look(compensation.with.as_ref(), if has_items { View::ItemCompensation(at) } else { View::Compensation(at) });
            for values in compensation.emit.iter().flat_map(Emit::values) {
                look(Some(values), View::Compensation(at));
            }
        }
    }
    look(draft.output.as_ref(), View::Output);
    if draft.mode == Some(Mode::TwoPhase) {
        return;
    }
    check_absence(draft, graph, report);
    for (at, step) in draft.steps.iter().enumerate() {
        if let super::draft::Compensate::Call(compensation) = &step.compensate {
            for values in compensation.with.iter().chain(compensation.emit.iter().flat_map(Emit::values)) {
                check_guards(Some(values), at, graph, report);
            }
        }
    }
}

fn check_one(reference: &At<Reference>, view: View, graph: &Graph, report: &mut Report<'_>) {
    let At { value: Reference { root, path, optional, .. }, span } = reference;
    let first = path.first().map(String::as_str);
    match (root.as_str(), view) {
        ("input", _) => {}
        (_, View::Key) => {
            let message = format!("`{root}` is not there yet when the key is computed");
            report.add_with_help(Rule::UnknownReference, *span, message, "a key is computed from `input` alone");
        }
        ("saga", _) => check_field("saga", first, &SAGA_FIELDS, *optional, *span, report),
        ("item" | "index", View::ItemAction(_) | View::ItemCompensation(_)) => {}
        ("item" | "index", _) => {
            let message = format!("`{root}` is only there in the arguments of a step with `for_each`, and of its compensation");
            let help =
                "use it in `with`; elsewhere there is the list itself, and `steps.<id>.output` is the list of what its items returned";
            report.add_with_help(Rule::UnknownReference, *span, message, help);
        }
        ("failure", View::Compensation(_) | View::ItemCompensation(_)) => {
            check_field("failure", first, &FAILURE_FIELDS, *optional, *span, report)
        }
        ("failure", _) => {
            let message = "`failure` is only there in a compensation";
            report.add_with_help(Rule::UnknownReference, *span, message, "use it in the `with` of a `compensate`");
        }
        ("steps", _) => check_step(reference, view, graph, report),
        (unknown, _) => {
            let known = ["input", "steps", "failure", "saga", "item", "index"];
            let help = match nearest(unknown, known.into_iter()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => "there are `input`, `steps.<id>.output`, `saga`, and `failure` in a compensation".to_owned(),
            };
            report.add_with_help(Rule::UnknownReference, *span, format!("there is no variable `{unknown}`"), help);
        }
    }
}

fn check_field(root: &str, field: Option<&str>, known: &[&str], optional: bool, span: Span, report: &mut Report<'_>) {
    if let Some(field) = field.filter(|field| !known.contains(field) && !optional) {
        let help = format!("it has {}", known.iter().map(|known| format!("`{root}.{known}`")).collect::<Vec<_>>().join(", "));
        report.add_with_help(Rule::UnknownReference, span, format!("`{root}` has no field `{field}`"), help);
    }
}

fn check_step(reference: &At<Reference>, view: View, graph: &Graph, report: &mut Report<'_>) {
    let At { value: Reference { path, optional, .. }, span } = reference;
    let mut fault = |message: String, help: String| report.add_with_help(Rule::UnknownReference, *span, message, help);
    let Some(id) = path.first() else {
        fault("it cannot be told which step this refers to".to_owned(), "write `steps.<id>.output`".to_owned());
        return;
    };
    let Some(step) = graph.find(id) else {
        let help = graph.nearest(id).map_or("declare it under `steps`".to_owned(), |known| format!("did you mean `{known}`?"));
        fault(format!("there is no step `{id}`"), help);
        return;
    };
    match path.get(1).map(String::as_str) {
        Some("output") => {}
        None if *optional => {}
        None => fault(format!("`steps.{id}` is no value"), format!("write `steps.{id}.output`")),
        Some(field) => fault(format!("a step has no field `{field}`"), format!("write `steps.{id}.output.{field}`")),
    }
    match view {
        View::Key | View::Output => {}
        View::Compensation(at) | View::ItemCompensation(at) | View::Emit(at) if at == step => {}
        View::Condition(at) | View::Action(at) | View::ItemAction(at) if at == step => {
            fault(format!("the output of `{id}` is not there before its action was called"), "refer to a step before it".to_owned());
        }
        View::Condition(at)
        | View::Action(at)
        | View::ItemAction(at)
        | View::Compensation(at)
        | View::ItemCompensation(at)
        | View::Emit(at) => {
            if !graph.is_ancestor(step, at) && !graph.is_doubtful(at) {
                fault(format!("`{id}` need not be done when this is computed"), format!("add `{id}` to the `after` of this step"));
            }
        }
    }
}

/// A compensation runs for an action with an unknown outcome as well, and then there is no output.
fn check_guards(values: Option<&Values>, at: usize, graph: &Graph, report: &mut Report<'_>) {
    let own = |reference: &&At<Reference>| {
        reference.value.root == "steps" && reference.value.path.first().and_then(|id| graph.find(id)) == Some(at)
    };
    for reference in values.into_iter().flat_map(|values| &values.references).filter(own) {
        if is_guarded(&reference.value) {
            continue;
        }
        let id = &reference.value.path[0];
        let message = format!("the output of `{id}` is not there when the outcome of its action is unknown");
        report.add_with_help(Rule::UnguardedOutput, reference.span, message, how_to_guard(id));
    }
}

/// Whether the absence of the output is asked for or taken. It is the second field of `steps.<id>.output`: a guard on a field of the output
/// itself comes too late.
fn is_guarded(reference: &Reference) -> bool {
    reference.known >= 2 || reference.optional_at.is_some_and(|at| at < 2)
}

fn how_to_guard(id: &str) -> String {
    format!("guard it: `has(steps.{id}.output) ? ... : ...`, in quotes, or `steps.{id}.?output.orValue(...)`")
}

/// What reads the output of a step that may be done without one. A step that has the guard in its own condition is called, and compensated,
/// only where that held.
fn check_absence(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    let mut look = |values: Option<&Values>, own: Option<usize>, condition: &Implied| {
        for At { value: reference, span } in values.into_iter().flat_map(|values| &values.references) {
            let Some(id) = reference.path.first().filter(|_| reference.root == "steps") else { continue };
            let Some(at) = graph.find(id).filter(|&at| Some(at) != own) else { continue };
            let is_there = condition.known("steps", &reference.path) >= 2;
            let (when, optional) = (draft.steps[at].when.is_some(), draft.steps[at].optional.is_some());
            if is_there || is_guarded(reference) || !(when || optional) {
                continue;
            }
            let why = if when { "its condition left it out" } else { "the saga went on without it" };
            let message = format!("the output of `{id}` is not there when {why}");
            let mut help = how_to_guard(id);
            if own.is_some() {
                help = format!("{help}; or have the whole step wait for it: `when: ${{ has(steps.{id}.output) }}`");
            }
            report.add_with_help(Rule::MaybeAbsent, *span, message, help);
        }
    };
    let always = Implied::default();
    for (at, step) in draft.steps.iter().enumerate() {
        let condition = step.when.as_ref().map(|when| when.value.template.implied()).unwrap_or_default();
        look(step.when.as_ref().map(|when| &when.value), Some(at), &always);
        let lock = step.lock.as_ref().and_then(|lock| lock.key.as_ref());
        for values in step.with.iter().chain(lock).chain(step.each.values()).chain(step.emit.iter().flat_map(Emit::values)) {
            look(Some(values), Some(at), &condition);
        }
        if let super::draft::Compensate::Call(compensation) = &step.compensate {
            for values in compensation.with.iter().chain(compensation.emit.iter().flat_map(Emit::values)) {
                look(Some(values), Some(at), &condition);
            }
        }
    }
    look(draft.output.as_ref(), None, &always);
}
