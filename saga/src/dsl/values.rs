//! Reads values with `${ }` expressions: arguments, keys, outputs.

use super::draft::Values;
use super::fields::entries;
use super::node::{Node, Value};
use super::place::in_source;
use super::report::Report;
use super::rule::Rule;
use super::span::{At, Span};
use super::yaml::QUOTE;
use crate::expression::{Reference, Template};
use serde_json::Number;

/// The value of the node with its expressions compiled; `None` when one of them is none.
pub(crate) fn read(node: &Node, report: &mut Report<'_>) -> Option<Values> {
    let mut references = Vec::new();
    let template = template(node, &mut references, report)?;
    Some(Values { template, references })
}

fn template(node: &Node, references: &mut Vec<At<Reference>>, report: &mut Report<'_>) -> Option<Template> {
    match &node.value {
        Value::Null => Some(Template::literal(serde_json::Value::Null)),
        Value::Bool(b) => Some(Template::literal(serde_json::Value::from(*b))),
        Value::Int(i) => Some(Template::literal(serde_json::Value::from(*i))),
        Value::Uint(u) => Some(Template::literal(serde_json::Value::from(*u))),
        Value::Float(f) => match Number::from_f64(*f) {
            Some(number) => Some(Template::literal(serde_json::Value::from(number))),
            None => {
                report.add(Rule::BadNumber, node.span, "this number is not finite; JSON cannot hold it");
                None
            }
        },
        Value::Text(text) => expression(text, node.span, references, report),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| template(item, references, report)).collect();
            items.into_iter().collect::<Option<_>>().map(Template::array)
        }
        Value::Map(map) => {
            let fields = entries(map, report);
            let fields: Vec<_> =
                fields.into_iter().map(|(key, value)| Some((key.value.to_owned(), template(value, references, report)?))).collect();
            fields.into_iter().collect::<Option<_>>().map(Template::object)
        }
    }
}

fn expression(text: &str, span: Span, references: &mut Vec<At<Reference>>, report: &mut Report<'_>) -> Option<Template> {
    let source = report.source();
    if !report.may_compile(text.matches("${").count(), span) {
        return None;
    }
    match Template::text(text) {
        Ok(template) => {
            references.extend(template.references().into_iter().map(|reference| {
                let offset = in_source(source, span, text, reference.offset);
                At::new(reference.clone(), Span { offset, length: reference.length })
            }));
            Some(template)
        }
        Err(errors) => {
            let quoted = source.get(span.offset..).is_some_and(|raw| raw.starts_with(['"', '\'']));
            for error in errors {
                let offset = in_source(source, span, text, error.offset);
                let place = Span { offset, length: 1 };
                if quoted || !error.is_unclosed {
                    report.add(Rule::BadExpression, place, error.message);
                } else {
                    // What YAML takes for a comment is lost from an unquoted expression.
                    report.add_with_help(Rule::BadExpression, place, error.message, QUOTE);
                }
            }
            None
        }
    }
}
