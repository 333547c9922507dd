//! A schema as JSON, with where each of its values stands in the text.

use crate::dsl::fields::entries;
use crate::dsl::node::{Node, Value as Yaml};
use crate::dsl::report::Report;
use crate::dsl::rule::Rule;
use crate::dsl::span::Span;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The tree.
pub(super) struct Tree {
    pub(super) value: Value,
    /// By JSON pointer.
    spans: HashMap<String, Span>,
    whole: Span,
}

impl Tree {
    /// The tree of a node; `None` when it has no JSON, which is reported.
    pub(super) fn build(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let mut spans = HashMap::new();
        let value = json(node, "", &mut spans, report)?;
        Some(Self { value, spans, whole: node.span })
    }

    /// Where the value of a pointer stands, or what it is in.
    pub(super) fn span(&self, pointer: &str) -> Span {
        let around = core::iter::successors(Some(pointer), |at| at.rfind('/').map(|end| &at[..end]));
        around.into_iter().find_map(|at| self.spans.get(at).copied()).unwrap_or(self.whole)
    }
}

/// A reference from one schema to another.
pub(super) struct Ref {
    /// The schema that refers.
    pub(super) from: String,
    /// The one that is referred to, as a pointer.
    pub(super) to: String,
    pub(super) span: Span,
}

/// The pointer of a field or an item.
pub(super) fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn json(node: &Node, pointer: &str, spans: &mut HashMap<String, Span>, report: &mut Report<'_>) -> Option<Value> {
    spans.entry(pointer.to_owned()).or_insert(node.span);
    match &node.value {
        Yaml::Null => Some(Value::Null),
        Yaml::Bool(b) => Some(Value::Bool(*b)),
        Yaml::Text(text) => Some(Value::String(text.clone())),
        Yaml::Number(number) => {
            let exact = number.json().and_then(|json| serde_json::from_str::<serde_json::Number>(json.as_str()).ok());
            let exact = exact.filter(|exact| !number.is_whole() || exact.is_i64() || exact.is_u64());
            if exact.is_none() {
                let help = "write it as JSON does, and whole numbers with at most 64 bits";
                report.add_with_help(Rule::BadNumber, node.span, format!("`{number}` cannot stand in a schema"), help);
            }
            exact.map(Value::Number)
        }
        Yaml::List(items) => {
            let items: Vec<_> =
                items.iter().enumerate().map(|(index, item)| json(item, &child(pointer, &index.to_string()), spans, report)).collect();
            items.into_iter().collect::<Option<_>>().map(Value::Array)
        }
        Yaml::Map(map) => {
            let fields: Vec<_> = entries(map, report)
                .into_iter()
                .map(|(key, value)| {
                    let at = child(pointer, key.value);
                    spans.insert(at.clone(), key.span);
                    Some((key.value.to_owned(), json(value, &at, spans, report)?))
                })
                .collect();
            fields.into_iter().collect::<Option<Map<_, _>>>().map(Value::Object)
        }
    }
}
