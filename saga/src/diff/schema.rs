//! What a new schema refuses that an old one took. Where that cannot be told, it is said that it may.

use super::change::{Change, SeenBy};
use crate::definition::InputSchema;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The schema of any value.
static ANY: Value = Value::Bool(true);

/// Most places that are named: a schema that was written anew differs everywhere.
const CHANGES_MAX: usize = 50;

/// Bounds that take more the larger they are.
const MOST: [&str; 6] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"];

/// Bounds that take more the smaller they are.
const LEAST: [&str; 6] = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"];

/// Keywords that say nothing of a value.
const NOTES: [&str; 10] =
    ["$comment", "$defs", "$schema", "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"];

/// Keywords that are compared one by one.
const COMPARED: [&str; 8] = ["$ref", "type", "properties", "additionalProperties", "required", "enum", "const", "items"];

/// The differences between the schemas of two versions.
pub(super) fn changes(before: Option<&InputSchema>, after: Option<&InputSchema>) -> Vec<Change> {
    match (before, after) {
        (None, None) => Vec::new(),
        (None, Some(_)) => vec![refuses("input", None, Some("a schema".to_owned()), "inputs that do not fit it are refused from then on")],
        (Some(_), None) => vec![takes("input", Some("a schema".to_owned()), None, "any object is taken")],
        (Some(before), Some(after)) if before.schema() == after.schema() => Vec::new(),
        (Some(before), Some(after)) => {
            let mut narrowing = Narrowing { before: before.schema(), after: after.schema(), found: Vec::new() };
            narrowing.compare("input", before.schema(), after.schema());
            if narrowing.found.is_empty() {
                return vec![takes("input", Some("a schema".to_owned()), Some("another schema".to_owned()), "whatever was taken still is")];
            }
            narrowing.found.truncate(CHANGES_MAX);
            narrowing.found
        }
    }
}

fn refuses(what: &str, before: Option<String>, after: Option<String>, note: &str) -> Change {
    Change { seen_by: SeenBy::Starters, step: None, what: what.to_owned(), before, after, note: Some(note.to_owned()) }
}

fn takes(what: &str, before: Option<String>, after: Option<String>, note: &str) -> Change {
    Change { seen_by: SeenBy::Operators, ..refuses(what, before, after, note) }
}

/// Looks for what is not taken any more.
struct Narrowing<'s> {
    before: &'s Value,
    after: &'s Value,
    found: Vec<Change>,
}

impl<'s> Narrowing<'s> {
    fn add(&mut self, what: &str, before: Option<String>, after: Option<String>, note: &str) {
        self.found.push(refuses(what, before, after, note));
    }

    fn compare(&mut self, at: &str, before: &'s Value, after: &'s Value) {
        let (before, after) = (followed(self.before, before), followed(self.after, after));
        match (before, after) {
            (Value::Bool(false), _) | (_, Value::Bool(true)) => {}
            (_, Value::Bool(false)) => self.add(at, None, None, "it must not be there any more"),
            (Value::Object(before), Value::Object(after)) => self.keywords(at, before, after),
            (_, Value::Object(after)) if says_something(after) => {
                self.add(at, Some("any value".to_owned()), Some("a schema".to_owned()), "it was any value and has a schema now");
            }
            _ => {}
        }
    }

    fn keywords(&mut self, at: &str, before: &'s Map<String, Value>, after: &'s Map<String, Value>) {
        self.types(at, before, after);
        self.choices(at, before, after);
        self.bounds(at, before, after);
        self.fields(at, before, after);
        if let Some(new) = after.get("items") {
            self.compare(&format!("{at}[]"), before.get("items").unwrap_or(&ANY), new);
        }
        // Of what is put together from others it is not told whether it takes less: only that it is another.
        let apart = |name: &str| [&COMPARED[..], &MOST, &LEAST, &NOTES].iter().any(|names| names.contains(&name)) || name.starts_with("x-");
        for (name, new) in after.iter().filter(|(name, _)| !apart(name)) {
            let old = before.get(name);
            let is_unfollowed = old == Some(new) && refers(new) && self.before.get("$defs") == self.after.get("$defs");
            let is_same = old == Some(new) && (!refers(new) || is_unfollowed);
            if !is_same {
                self.add(&format!("{at} {name}"), old.map(cut), Some(cut(new)), "inputs that were taken may be refused");
            }
        }
    }

    fn types(&mut self, at: &str, before: &Map<String, Value>, after: &Map<String, Value>) {
        let Some(new) = types_of(after) else { return };
        let lost: Vec<_> = match types_of(before) {
            None => vec!["other types".to_owned()],
            Some(old) => {
                let is_taken = |kind: &str| new.contains(kind) || (kind == "integer" && new.contains("number"));
                old.iter().filter(|kind| !is_taken(kind)).map(|kind| (*kind).to_owned()).collect()
            }
        };
        if !lost.is_empty() {
            let note = format!(
                "{} {} not taken any more",
                lost.join(", "),
                if lost.len() == 1 && lost[0] != "other types" { "is" } else { "are" }
            );
            self.add(&format!("{at} type"), before.get("type").map(cut), after.get("type").map(cut), &note);
        }
    }

    fn choices(&mut self, at: &str, before: &Map<String, Value>, after: &Map<String, Value>) {
        let choices = |schema: &Map<String, Value>| match (schema.get("const"), schema.get("enum")) {
            (Some(one), _) => Some(vec![one.clone()]),
            (None, Some(Value::Array(many))) => Some(many.clone()),
            _ => None,
        };
        let Some(new) = choices(after) else { return };
        let old = choices(before);
        if old.as_ref().is_none_or(|old| old.iter().any(|value| !new.contains(value))) {
            let shown = |values: &Vec<Value>| cut(&Value::Array(values.clone()));
            self.add(&format!("{at} enum"), old.as_ref().map(shown), Some(shown(&new)), "values that were taken are not any more");
        }
    }

    fn bounds(&mut self, at: &str, before: &Map<String, Value>, after: &Map<String, Value>) {
        let number = |schema: &Map<String, Value>, name: &str| schema.get(name).and_then(Value::as_f64);
        for (names, is_narrower) in [(&MOST, (|old, new| new < old) as fn(f64, f64) -> bool), (&LEAST, |old, new| new > old)] {
            for name in names {
                let Some(new) = number(after, name) else { continue };
                if number(before, name).is_none_or(|old| is_narrower(old, new)) {
                    let (was, is) = (before.get(*name).map(cut), after.get(*name).map(cut));
                    self.add(&format!("{at} {name}"), was, is, "values beyond it are refused");
                }
            }
        }
    }

    fn fields(&mut self, at: &str, before: &'s Map<String, Value>, after: &'s Map<String, Value>) {
        let required = |schema: &'s Map<String, Value>| -> BTreeSet<&'s str> {
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
        };
        for name in required(after).difference(&required(before)) {
            self.add(&format!("{at}.{name}"), Some("optional".to_owned()), Some("required".to_owned()), "an input without it is refused");
        }
        let of = |schema: &'s Map<String, Value>| schema.get("properties").and_then(Value::as_object);
        let others = |schema: &'s Map<String, Value>| schema.get("additionalProperties").unwrap_or(&ANY);
        let names: BTreeSet<&String> = of(before).into_iter().chain(of(after)).flat_map(Map::keys).collect();
        for name in names {
            let old = of(before).and_then(|fields| fields.get(name)).unwrap_or_else(|| others(before));
            let new = of(after).and_then(|fields| fields.get(name)).unwrap_or_else(|| others(after));
            self.compare(&format!("{at}.{name}"), old, new);
        }
        self.compare(&format!("{at}.*"), others(before), others(after));
    }
}

/// What a schema is when it only refers to another; what stands beside a reference counts as well and is compared as it is.
fn followed<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let mut at = schema;
    while let Some(target) = at.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.get("$ref")).and_then(Value::as_str)
    {
        match root.pointer(target.trim_start_matches('#')) {
            Some(next) => at = next,
            None => return at,
        }
    }
    at
}

fn refers(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key("$ref") || fields.values().any(refers),
        Value::Array(items) => items.iter().any(refers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn says_something(schema: &Map<String, Value>) -> bool {
    schema.keys().any(|name| !NOTES.contains(&name.as_str()) && !name.starts_with("x-"))
}

fn types_of(schema: &Map<String, Value>) -> Option<BTreeSet<&str>> {
    match schema.get("type")? {
        Value::String(one) => Some([one.as_str()].into()),
        Value::Array(many) => Some(many.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn cut(value: &Value) -> String {
    const SHOWN: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
}
