//! Reads values with `${ }` expressions: arguments, keys, outputs.

use super::draft::Values;
use super::fields::entries;
use super::node::{Node, Number, Value};
use super::place::in_source;
use super::report::Report;
use super::rule::Rule;
use super::span::{At, Span};
use super::yaml::QUOTE;
use crate::expression::{Comparison, Piece, Reference, Template, split};

/// The value of the node with its expressions compiled; `None` when one of them is none.
pub(crate) fn read(node: &Node, report: &mut Report<'_>) -> Option<Values> {
    let mut found = Found::default();
    let template = template(node, &mut found, report)?;
    Some(Values { template, references: found.references, comparisons: found.comparisons })
}

/// What expressions refer to, and where.
#[derive(Default)]
struct Found {
    references: Vec<At<Reference>>,
    comparisons: Vec<At<Comparison>>,
}

fn template(node: &Node, found: &mut Found, report: &mut Report<'_>) -> Option<Template> {
    match &node.value {
        Value::Null => Some(Template::literal(serde_json::Value::Null)),
        Value::Bool(b) => Some(Template::literal(serde_json::Value::from(*b))),
        Value::Number(number) => literal_number(number, node.span, report),
        Value::Text(text) => expression(text, node.span, found, report),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| template(item, found, report)).collect();
            items.into_iter().collect::<Option<_>>().map(Template::array)
        }
        Value::Map(map) => {
            let fields = entries(map, report);
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(key, value)| {
                    let (key, value) = (literal_key(&key, report), template(value, found, report));
                    Some((key?, value?))
                })
                .collect();
            fields.into_iter().collect::<Option<_>>().map(Template::object)
        }
    }
}

/// The number exactly as it is written.
fn literal_number(number: &Number, span: Span, report: &mut Report<'_>) -> Option<Template> {
    let Some(json) = number.json() else {
        let (message, help) = if !number.is_finite() {
            ("this number is not finite; JSON cannot hold it", "leave it out, or put it into quotes")
        } else if number.has_leading_zero() {
            ("zeros in front of a number would be lost", "quote it if it is text, such as a postcode; else leave the zeros out")
        } else {
            ("JSON does not write numbers like this", "write it as JSON does (`31`, `0.5`, `1000`), or quote it if it is text")
        };
        report.add_with_help(Rule::BadNumber, span, format!("`{number}`: {message}"), help);
        return None;
    };
    Some(Template::literal(json))
}

/// Keys stand for themselves. An expression in one would be passed on as its text, which nobody means.
fn literal_key(key: &At<&str>, report: &mut Report<'_>) -> Option<String> {
    let pieces = split(key.value).ok();
    let text = pieces.and_then(|pieces| {
        let text = pieces.into_iter().map(|piece| match piece {
            Piece::Literal(text) => Some(text),
            Piece::Expression(_) => None,
        });
        text.collect()
    });
    if text.is_none() {
        let help = "make the whole mapping in one expression: '${ {input.name: input.value} }'; `$${` is a literal `${`";
        report.add_with_help(Rule::BadExpression, key.span, "an expression in a key is not evaluated", help);
    }
    text
}

fn expression(text: &str, span: Span, found: &mut Found, report: &mut Report<'_>) -> Option<Template> {
    let source = report.source();
    if !report.may_compile(text.matches("${").count(), span) {
        return None;
    }
    match Template::text(text) {
        Ok(template) => {
            let place = |offset, length| Span { offset: in_source(source, span, text, offset), length };
            let references = template.references().into_iter();
            found.references.extend(references.map(|found| At::new(found.clone(), place(found.offset, found.length))));
            let comparisons = template.comparisons().into_iter();
            found.comparisons.extend(comparisons.map(|found| At::new(found.clone(), place(found.offset, found.length))));
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
