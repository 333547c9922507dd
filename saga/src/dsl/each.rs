//! Reads `for_each` with `max_parallel`, and the rules about them.

use super::declared::Declared;
use super::draft::{Draft, Each, Step, Values};
use super::fields::Fields;
use super::inputs::place_of;
use super::node::{Node, Value};
use super::report::Report;
use super::rule::Rule;
use super::span::At;
use super::{scalar, values};
use sagamq_api::limits::SAGA_FAN_OUT_MAX;

/// What a step says of it.
pub(super) fn read(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Each {
    let most = u32::try_from(SAGA_FAN_OUT_MAX).unwrap_or(u32::MAX);
    let items = fields.take_entry("for_each").map(|(span, node)| At::new(list(node, report), span));
    let parallel = fields.take_entry("max_parallel");
    let max_parallel = parallel.map(|(span, node)| At::new(scalar::integer(node, "`max_parallel`", 1, most, report), span));
    if let (None, Some(At { span, value: Some(_) })) = (&items, &max_parallel) {
        let help = "add `for_each: ${ input.lines }`, or remove `max_parallel`";
        report.add_with_help(Rule::MaxParallelAlone, *span, "`max_parallel` belongs to `for_each`, and this step has none", help);
    }
    Each { items, max_parallel }
}

/// One expression that gives a list, or a list that stands there.
fn list(node: &Node, report: &mut Report<'_>) -> Option<Values> {
    const HELP: &str = "write one expression that gives a list: `for_each: ${ input.lines }`";
    match &node.value {
        Value::Text(_) => {
            let values = values::read(node, report)?;
            if !values.template.is_expression() {
                report.add_with_help(Rule::BadForEach, node.span, "`for_each` is never a list", HELP);
                return None;
            }
            Some(values)
        }
        Value::List(items) => {
            if items.len() > SAGA_FAN_OUT_MAX {
                let message = format!("the step fans out over {} items, at most {SAGA_FAN_OUT_MAX} are allowed", items.len());
                report.add_with_help(Rule::TooManyItems, node.span, message, "make several steps of it, or pass the list to one call");
                return None;
            }
            values::read(node, report)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Map(_) => {
            report.add_with_help(Rule::WrongType, node.span, format!("`for_each` is a list, but this is {}", node.kind()), HELP);
            None
        }
    }
}

/// No pivot fans out, and a list of the input is bounded by its schema.
pub(super) fn check(draft: &Draft, report: &mut Report<'_>) {
    for step in &draft.steps {
        let Some(items) = &step.each.items else { continue };
        if step.pivot.is_some() {
            let message =
                format!("`{}` is the pivot and fans out: a saga has one point of no return, and not one for each item", name(step));
            let help = "fan out before the pivot, where items can be undone, or behind it, where each is called until it succeeds";
            report.add_with_help(Rule::PivotFansOut, items.span, message, help);
        }
        let is_reported = step.each.max_parallel.as_ref().is_some_and(|max_parallel| max_parallel.value.is_none());
        if let Some(values) = items.value.as_ref().filter(|_| !is_reported) {
            check_schema(draft, values, report);
        }
    }
}

fn check_schema(draft: &Draft, values: &Values, report: &mut Report<'_>) {
    let (Some(schema), Some(path), [reference, ..]) = (&draft.input, values.template.as_path(), values.references.as_slice()) else {
        return;
    };
    let declared = Declared(schema.schema());
    let Some(place) = place_of(declared, &path.path).filter(|_| path.root == "input") else { return };
    let path = path.path.join(".");
    if !declared.may_be(&place, &["array"]) {
        let message = format!("`for_each` is a list, and `input.{path}` is none by its schema");
        report.add_with_help(Rule::WrongInputType, reference.span, message, "take another field, or change its `type`");
    } else if !declared.bounds_items(&place, SAGA_FAN_OUT_MAX as u64) {
        let message = format!("the schema lets `input.{path}` have more than the {SAGA_FAN_OUT_MAX} items that a step may fan out over");
        let help = format!("add `maxItems: {SAGA_FAN_OUT_MAX}` or less to its schema, so that a start with more is refused");
        report.add_with_help(Rule::UnboundedFanOut, reference.span, message, help);
    }
}

fn name(step: &Step) -> &str {
    step.id.as_ref().map_or("this step", |id| id.as_str())
}
