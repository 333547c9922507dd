//! Checks what expressions read of the input, and compare it with, against the schema of the input.

use super::declared::{Declared, Field, Place};
use super::draft::{Compensate, Draft, Emit, Idle, Values};
use super::fields::nearest;
use super::report::Report;
use super::rule::Rule;
use super::span::At;
use crate::expression::{Comparison, Implied, Reference};
use jsonschema::ValidatorMap;

/// Types that a key may have.
const KEY_TYPES: [&str; 3] = ["string", "number", "integer"];

/// Checks every expression, if the input has a schema.
pub(crate) fn check(draft: &Draft, report: &mut Report<'_>) {
    let Some(input) = &draft.input else { return };
    let declared = Declared(input.schema());
    let mut parts = None;
    for (values, condition) in values(draft) {
        for reference in &values.references {
            check_reference(declared, reference, &condition, report);
        }
        for comparison in &values.comparisons {
            if let Some(parts) = parts.get_or_insert_with(|| input.parts()) {
                check_comparison(declared, parts, comparison, report);
            }
        }
    }
    if let Some(key) = &draft.key {
        check_key(declared, key, report);
    }
}

/// Every value with expressions, and what is there whenever it is evaluated: a step with a condition is called only where that held.
fn values(draft: &Draft) -> impl Iterator<Item = (&Values, Implied)> {
    let of_steps = draft.steps.iter().flat_map(|step| {
        let (undo, undone) = match &step.compensate {
            Compensate::Call(compensation) => (compensation.with.as_ref(), compensation.emit.as_ref()),
            Compensate::Unsaid | Compensate::Nothing => (None, None),
        };
        let when = step.when.as_ref().map(|when| &when.value);
        let implied = when.map(|when| when.template.implied()).unwrap_or_default();
        let idle = match &step.idle {
            Some(At { value: Some(Idle::Given(time) | Idle::Until(time)), .. }) => Some(time),
            Some(_) | None => None,
        };
        let told = step.emit.iter().flat_map(Emit::values).chain(undone.into_iter().flat_map(Emit::values));
        let lock = step.lock.as_ref().and_then(|lock| lock.key.as_ref());
        let called = step
            .with
            .iter()
            .chain(lock)
            .chain(undo)
            .chain(idle)
            .chain(step.each.values())
            .chain(told)
            .map(move |values| (values, implied.clone()));
        when.into_iter().map(|values| (values, Implied::default())).chain(called)
    });
    let always = |values| (values, Implied::default());
    draft.key.iter().map(always).chain(of_steps).chain(draft.output.iter().map(always))
}

fn check_reference(declared: Declared<'_>, reference: &At<Reference>, condition: &Implied, report: &mut Report<'_>) {
    let At { value: reference, span } = reference;
    if reference.root != "input" {
        return;
    }
    let mut place = Declared::root();
    for (at, name) in reference.path.iter().enumerate() {
        let path = format!("input.{}", reference.path[..=at].join("."));
        let help = |names: &[String]| match nearest(name, names.iter().map(String::as_str)) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("its schema has {}; declare it there", shown(names)),
        };
        match declared.field(&place, name) {
            Field::Declared { place: next, required } => {
                let is_there = at < reference.known.max(condition.known("input", &reference.path));
                let is_guarded = required || is_there || reference.optional_at.is_some_and(|optional| optional <= at);
                if !is_guarded {
                    let before = reference.path[..at].iter().map(|name| format!(".{name}")).collect::<String>();
                    let help = format!("add it to `required`, or read it as `input{before}.?{name}.orValue(...)` or behind `has({path})`");
                    report.add_with_help(
                        Rule::UnguardedInput,
                        *span,
                        format!("`{path}` need not be there: its schema does not require it"),
                        help,
                    );
                }
                place = next;
            }
            Field::Closed(names) => {
                report.add_with_help(Rule::UnknownInput, *span, format!("no input has `{path}`: its schema forbids it"), help(&names));
                return;
            }
            Field::Undeclared(names) => {
                report.add_with_help(
                    Rule::UndeclaredInput,
                    *span,
                    format!("the schema of the input does not declare `{path}`"),
                    help(&names),
                );
                return;
            }
            Field::NoObject(types) => {
                let message = format!("`{path}` cannot be: what it is read from is {types} by its schema");
                report.add_with_help(Rule::UnknownInput, *span, message, "read the value itself, or an item of it");
                return;
            }
            Field::Unsaid => return,
        }
    }
}

/// The place of what a whole path reads, if the schema declares it.
pub(super) fn place_of(declared: Declared<'_>, path: &[String]) -> Option<Place> {
    path.iter().try_fold(Declared::root(), |place, name| match declared.field(&place, name) {
        Field::Declared { place, .. } => Some(place),
        Field::Undeclared(_) | Field::Closed(_) | Field::NoObject(_) | Field::Unsaid => None,
    })
}

fn check_key(declared: Declared<'_>, key: &Values, report: &mut Report<'_>) {
    let (Some(path), [reference, ..]) = (key.template.as_path(), key.references.as_slice()) else { return };
    let Some(place) = place_of(declared, &path.path).filter(|_| path.root == "input") else { return };
    if !declared.may_be(&place, &KEY_TYPES) {
        let message = format!("a key is text or a number, and `input.{}` is neither by its schema", path.path.join("."));
        report.add_with_help(Rule::WrongInputType, reference.span, message, "take another field, or change its `type`");
    }
}

fn check_comparison(declared: Declared<'_>, parts: &ValidatorMap, comparison: &At<Comparison>, report: &mut Report<'_>) {
    let At { value: Comparison { root, path, value, .. }, span } = comparison;
    let Some(place) = place_of(declared, path).filter(|_| root == "input") else { return };
    if !allows(parts, &place, value) {
        let message = format!("`input.{}` is never {value}: its schema does not allow it", path.join("."));
        report.add_with_help(Rule::ImpossibleLiteral, *span, message, "mend the value, or the schema");
    }
}

/// Whether what holds at the place allows the value.
pub(super) fn allows(parts: &ValidatorMap, place: &Place, value: &serde_json::Value) -> bool {
    match place {
        Place::One(pointer) => parts.get(&format!("#{pointer}")).is_none_or(|part| part.is_valid(value)),
        Place::All(places) => places.iter().all(|place| allows(parts, place, value)),
        Place::Any(places) => places.iter().any(|place| allows(parts, place, value)),
    }
}

/// Names for people, not too many.
pub(super) fn shown(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match (shown.is_empty(), names.len() > SHOWN) {
        (true, _) => "no fields".to_owned(),
        (false, true) => format!("{} and others", shown.join(", ")),
        (false, false) => shown.join(", "),
    }
}
