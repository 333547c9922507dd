//! Reads `verify`: what must hold across the services, whatever goes wrong. What runs does not look at it.

use super::draft::Draft;
use super::fields::{Fields, nearest};
use super::graph::Graph;
use super::node::{Node, Value};
use super::place::in_source;
use super::report::Report;
use super::rule::Rule;
use super::scalar;
use super::span::{At, Span};
use crate::definition::{Invariant, Moment, SAGA_FACTS, STEP_FACTS};
use crate::expression::{Assertion, Reference};

/// The list under `verify`.
pub(crate) fn read(node: &Node, report: &mut Report<'_>) -> Vec<At<Invariant>> {
    let Value::List(items) = &node.value else {
        let message = format!("`verify` is a list of statements, but this is {}", node.kind());
        report.add_with_help(Rule::WrongType, node.span, message, "write `verify: [\"steps.ship.done implies steps.pay.done\"]`");
        return Vec::new();
    };
    items.iter().filter_map(|item| invariant(item, report)).collect()
}

fn invariant(node: &Node, report: &mut Report<'_>) -> Option<At<Invariant>> {
    let (text, moment) = match &node.value {
        Value::Map(_) => {
            let mut fields = Fields::open(node, "a statement", report)?;
            let always = fields.require("always", "write `always: \"!steps.ship.undone\"`, or only the statement", report);
            fields.finish(report);
            (always?, Moment::Always)
        }
        _ => (node, Moment::End),
    };
    let text = scalar::text(text, "a statement", report)?;
    if !report.may_compile(1, text.span) {
        return None;
    }
    match Assertion::compile(text.value) {
        Ok(assertion) => Some(At::new(Invariant { assertion, moment }, text.span)),
        Err(error) => {
            let offset = in_source(report.source(), text.span, text.value, error.offset);
            report.add(Rule::BadExpression, Span { offset, length: 1 }, error.message);
            None
        }
    }
}

/// That statements ask for what there is.
pub(crate) fn check(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    for At { value: invariant, span } in &draft.verify {
        let source = invariant.assertion.source();
        for reference in invariant.assertion.references() {
            let offset = in_source(report.source(), *span, source, reference.offset);
            if let Some((message, help)) = fault(reference, graph) {
                report.add_with_help(Rule::UnknownReference, Span { offset, length: reference.length }, message, help);
            }
        }
    }
}

/// What is wrong with a reference, and what to write.
fn fault(reference: &Reference, graph: &Graph) -> Option<(String, String)> {
    let path: Vec<&str> = reference.path.iter().map(String::as_str).collect();
    let of_facts = |what: &str, known: &[&str], fact: &str| {
        let help = nearest(fact, known.iter().copied())
            .map_or_else(|| format!("known: {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        (format!("{what} has no `{fact}` that a statement can ask for"), help)
    };
    match (reference.root.as_str(), path.as_slice()) {
        ("input", _) => None,
        ("saga", [fact]) if SAGA_FACTS.contains(fact) => None,
        ("saga", [fact, ..]) => Some(of_facts("a saga", &SAGA_FACTS, fact)),
        ("steps", [id, ..]) if graph.find(id).is_none() => {
            let help = graph.nearest(id).map_or_else(|| "name a step of this saga".to_owned(), |known| format!("did you mean `{known}`?"));
            Some((format!("there is no step `{id}`"), help))
        }
        ("steps", [_, fact]) if STEP_FACTS.contains(fact) => None,
        ("steps", [_, fact, ..]) => Some(of_facts("a step", &STEP_FACTS, fact)),
        ("steps" | "saga", _) => Some((
            format!("`{}` is no value that is true or false", reference.root),
            "write `steps.<id>.done` or `saga.completed`".to_owned(),
        )),
        (root, _) => Some((format!("there is no `{root}` here"), "a statement sees `steps`, `saga` and `input`".to_owned())),
    }
}
