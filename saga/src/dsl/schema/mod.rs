//! Reads `input: { schema: … }`: a JSON Schema, checked so far that judging an input by it ends soon and never surprises.
//!
//! JSON Schema passes over what it does not know, so a slip in a keyword would switch a rule off. Here it is a fault.

mod keywords;
mod tree;
mod unfold;

use super::fields::{Fields, nearest};
use super::node::{Node, Value as Yaml};
use super::report::Report;
use super::rule::Rule;
use super::span::Span;
use crate::definition::{InputSchema, SCHEMA_STEPS_MAX, schema_options};
use jsonschema::Draft;
use keywords::{Holds, KEYWORDS};
use serde_json::Value;
use std::collections::BTreeMap;
use tree::{Ref, Tree};

/// Most bytes of a schema as JSON.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// The one dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Most faults that the meta-schema finds: one slip breaks many of its rules.
const META_FAULTS_MAX: usize = 5;

/// Longest part of a message that comes from the meta-schema, in characters.
const MESSAGE_CHARS_MAX: usize = 200;

/// The schema of the input; `None` when it has faults.
pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<InputSchema> {
    let mut fields = Fields::open(node, "`input`", report)?;
    let schema = fields.require("schema", "write `input: { schema: { properties: { order_id: { type: string } } } }`", report);
    fields.finish(report);
    let schema = schema?;
    if !matches!(schema.value, Yaml::Map(_)) {
        let message = format!("`schema` is a JSON Schema, but this is {}", schema.kind());
        report.add_with_help(Rule::WrongType, schema.span, message, "write `schema: { properties: { order_id: { type: string } } }`");
        return None;
    }
    let tree = Tree::build(schema, report)?;
    let bytes = tree.value.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        report.add(Rule::TooLarge, schema.span, format!("the schema has {bytes} bytes as JSON, at most {SCHEMA_BYTES_MAX} are allowed"));
        return None;
    }
    let mut walk = Walk { report, tree: &tree, places: BTreeMap::new(), refs: Vec::new(), faults: Vec::new() };
    walk.schema("", &tree.value);
    walk.meta();
    let Walk { places, refs, faults, .. } = walk;
    if !(unfold::check(&tree, &places, &refs, report) && faults.is_empty()) {
        return None;
    }
    let steps = InputSchema::steps_of(&tree.value);
    if steps > SCHEMA_STEPS_MAX {
        let message =
            format!("judging one value takes up to {steps} schemas, each as often as it is judged; at most {SCHEMA_STEPS_MAX} are allowed");
        let help = "`unevaluatedProperties` and `unevaluatedItems` judge all that applies beside them again: let none stand within what another \
                    one looks at, or write `additionalProperties` and `items`";
        report.add_with_help(Rule::TooLarge, tree.span(""), message, help);
        return None;
    }
    match InputSchema::compile(tree.value.clone()) {
        Ok(compiled) => {
            examples(&compiled, &tree, places.keys(), report);
            Some(compiled)
        }
        Err(reason) => {
            report.add(Rule::BadSchema, schema.span, format!("the schema cannot be used: {reason}"));
            None
        }
    }
}

/// Goes through all schemas of a schema.
struct Walk<'w, 's> {
    report: &'w mut Report<'s>,
    tree: &'w Tree,
    /// Where schemas stand, each with those directly in it.
    places: BTreeMap<String, Vec<String>>,
    refs: Vec<Ref>,
    /// Where faults were found.
    faults: Vec<Span>,
}

impl Walk<'_, '_> {
    fn fault(&mut self, pointer: &str, message: String, help: &str) {
        let span = self.tree.span(pointer);
        self.faults.push(span);
        self.report.add_with_help(Rule::BadSchema, span, message, help);
    }

    fn schema(&mut self, pointer: &str, schema: &Value) {
        let mut inner = Vec::new();
        match schema {
            Value::Bool(_) => {}
            Value::Object(fields) => {
                for (name, value) in fields {
                    let at = tree::child(pointer, name);
                    let Some(holds) = keywords::find(name) else {
                        self.unknown(&at, name);
                        continue;
                    };
                    self.keyword(pointer, &at, name, value);
                    match (holds, value) {
                        (Holds::Schema, _) => inner.push((at, value)),
                        (Holds::Named | Holds::Patterned, Value::Object(named)) => {
                            inner.extend(named.iter().map(|(name, value)| (tree::child(&at, name), value)));
                        }
                        (Holds::List, Value::Array(items)) => {
                            inner.extend(items.iter().enumerate().map(|(index, value)| (tree::child(&at, &index.to_string()), value)));
                        }
                        // The meta-schema says what is wrong with it.
                        (Holds::Value | Holds::Named | Holds::Patterned | Holds::List, _) => {}
                    }
                    if let (Holds::Patterned, Value::Object(named)) = (holds, value) {
                        for pattern in named.keys() {
                            self.pattern(&tree::child(&tree::child(pointer, name), pattern), pattern);
                        }
                    }
                }
            }
            // As above.
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {}
        }
        let names = inner.iter().map(|(at, _)| at.clone()).collect();
        self.places.insert(pointer.to_owned(), names);
        for (at, value) in inner {
            self.schema(&at, value);
        }
    }

    fn unknown(&mut self, at: &str, name: &str) {
        if let Some(help) = keywords::instead(name) {
            self.fault(at, format!("`{name}` is not used here"), help);
            return;
        }
        let known = nearest(name, KEYWORDS.iter().map(|(known, _)| *known));
        let help = known
            .map_or("a schema's keywords are those of JSON Schema 2020-12; a note of your own begins with `x-`".to_owned(), |known| {
                format!("did you mean `{known}`?")
            });
        self.fault(at, format!("JSON Schema has no keyword `{name}`, so it would check nothing"), &help);
    }

    fn keyword(&mut self, pointer: &str, at: &str, name: &str, value: &Value) {
        match (name, value) {
            ("$schema", Value::String(dialect)) if dialect.trim_end_matches('#') != DIALECT => {
                self.fault(at, format!("`{dialect}` is another dialect"), "schemas are read as draft 2020-12: leave `$schema` out");
            }
            ("$ref", Value::String(target)) => match target.strip_prefix('#') {
                Some(to) if to.is_empty() || to.starts_with('/') => {
                    let span = self.tree.span(at);
                    self.refs.push(Ref { from: pointer.to_owned(), to: to.to_owned(), span });
                }
                _ => self.fault(at, format!("`{target}` lies outside of this definition"), "put it into `$defs`, and write `#/$defs/name`"),
            },
            ("pattern", Value::String(pattern)) => self.pattern(at, pattern),
            ("format", Value::String(format)) if !schema_options().is_known_format(Draft::Draft202012, format) => {
                self.fault(
                    at,
                    format!("there is no format `{format}`, so it would check nothing"),
                    "known are `date`, `date-time`, `email`, `uuid`, `uri` and others of draft 2020-12",
                );
            }
            _ => {}
        }
    }

    fn pattern(&mut self, at: &str, pattern: &str) {
        let alone = serde_json::json!({ "pattern": pattern });
        if schema_options().build(&alone).is_err() {
            let help = "write it without looking ahead or back and without references to groups, and shorter if it is long";
            self.fault(at, format!("`{}` is no regular expression that can be used", cut(pattern)), help);
        }
    }

    /// What the meta-schema says, where nothing was said yet.
    fn meta(&mut self) {
        let mut value = self.tree.value.clone();
        // The dialect is this one whatever a `$schema` says, which is a fault of its own.
        if let Some(fields) = value.as_object_mut() {
            fields.shift_remove("$schema");
        }
        let validator = jsonschema::meta::validator_for(&value).expect("the dialect is one that the crate brings");
        for error in validator.iter_errors(&value).take(META_FAULTS_MAX) {
            let pointer = error.instance_path().as_str();
            if !self.faults.contains(&self.tree.span(pointer)) {
                let message = format!("this is no JSON Schema: {}", cut(&error.to_string()));
                self.fault(pointer, message, "see draft 2020-12 of JSON Schema");
            }
        }
    }
}

/// Values that stand in the schema must fit it: a default that is not legal, a choice that its type rules out.
fn examples<'p>(schema: &InputSchema, tree: &Tree, places: impl Iterator<Item = &'p String>, report: &mut Report<'_>) {
    let mut parts = None;
    for pointer in places {
        let Some(Value::Object(fields)) = tree.value.pointer(pointer) else { continue };
        let one = |name: &'static str| fields.get(name).map(|value| (tree::child(pointer, name), value));
        let many = |name: &'static str| {
            let items = fields.get(name).and_then(Value::as_array).into_iter().flatten().enumerate();
            items.map(move |(index, value)| (tree::child(&tree::child(pointer, name), &index.to_string()), value))
        };
        let values = one("default").into_iter().chain(one("const")).chain(many("examples")).chain(many("enum"));
        for (at, value) in values {
            let Some(parts) = parts.get_or_insert_with(|| schema.parts()) else { return };
            let Some(part) = parts.get(&format!("#{pointer}")).filter(|part| !part.is_valid(value)) else { continue };
            let error = if schema.tells_of(value.to_string().len()) { part.validate(value).err() } else { None };
            let reason = error.map(|error| format!(": {}", cut(&error.to_string()))).unwrap_or_default();
            let message = format!("the schema beside it does not allow this value{reason}");
            report.add_with_help(Rule::ImpossibleLiteral, tree.span(&at), message, "mend the value, or the schema");
        }
    }
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MESSAGE_CHARS_MAX { text.to_owned() } else { text.chars().take(MESSAGE_CHARS_MAX).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A keyword that came in here and not there would make what it holds free.
    #[test]
    fn what_stands_behind_a_keyword_is_counted() {
        let base = InputSchema::steps_of(&json!({}));
        for (name, holds) in KEYWORDS {
            let value = match holds {
                Holds::Value => continue,
                Holds::Schema => json!({"type": "string"}),
                Holds::Named | Holds::Patterned => json!({"a": {"type": "string"}}),
                Holds::List => json!([{"type": "string"}]),
            };
            // What nobody refers to is not judged.
            let is_counted = InputSchema::steps_of(&json!({name: value})) > base;
            assert_eq!(is_counted, name != "$defs", "{name}");
        }
        assert!(InputSchema::steps_of(&json!({"$defs": {"a": {}}, "$ref": "#/$defs/a"})) > base);
    }
}
