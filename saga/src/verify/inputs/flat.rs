//! A schema with all that it refers to and is made of put together: one for each choice that it leaves.

use serde_json::{Map, Value};

/// Choices of one schema that are followed at most.
const CHOICES_MAX: usize = 32;

/// A schema without references and parts.
pub(super) type Flat = Map<String, Value>;

/// Keywords that bring other schemas in for the same value.
const PARTS: [&str; 8] = ["$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "$defs"];

/// The choices of a schema; none: it takes nothing.
pub(super) fn flat(root: &Value, schema: &Value) -> Vec<Flat> {
    let schema = match schema {
        Value::Bool(false) => return Vec::new(),
        Value::Object(schema) => schema,
        _ => return vec![Flat::new()],
    };
    let own: Flat =
        schema.iter().filter(|(name, _)| !PARTS.contains(&name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut choices = vec![own];
    let list = |name: &str| schema.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let referred = schema.get("$ref").and_then(Value::as_str).and_then(|to| root.pointer(to.trim_start_matches('#')));
    for part in referred.cloned().into_iter().chain(list("allOf")) {
        choices = both(&choices, &flat(root, &part));
    }
    for name in ["anyOf", "oneOf"] {
        if schema.contains_key(name) {
            choices = both(&choices, &list(name).iter().flat_map(|part| flat(root, part)).collect::<Vec<_>>());
        }
    }
    if let Some(asked) = schema.get("if") {
        let or_any = |name: &str| schema.get(name).cloned().unwrap_or(Value::Bool(true));
        let holds = both(&flat(root, asked), &flat(root, &or_any("then")));
        choices = both(&choices, &[holds, flat(root, &or_any("else"))].concat());
    }
    choices
}

/// Each of these with each of those.
fn both(these: &[Flat], those: &[Flat]) -> Vec<Flat> {
    these.iter().flat_map(|one| those.iter().map(move |other| merged(one, other))).take(CHOICES_MAX).collect()
}

/// What holds if both do, as far as that can be said in one schema.
fn merged(one: &Flat, other: &Flat) -> Flat {
    let mut sum = one.clone();
    for (name, value) in other {
        let Some(before) = sum.get(name).cloned() else {
            sum.insert(name.clone(), value.clone());
            continue;
        };
        let together = match name.as_str() {
            "properties" => properties(&before, value),
            "required" => union(&before, value),
            "enum" => common(&before, value),
            "type" => common(&as_list(&before), &as_list(value)),
            "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties" => of_two(before, value, f64::gt),
            "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties" => of_two(before, value, f64::lt),
            "items" => serde_json::json!({ "allOf": [before, value] }),
            // Of two that cannot be put together the first is followed; the validator has the last word.
            _ => before,
        };
        sum.insert(name.clone(), together);
    }
    sum
}

fn properties(one: &Value, other: &Value) -> Value {
    let mut sum = one.as_object().cloned().unwrap_or_default();
    for (name, schema) in other.as_object().into_iter().flatten() {
        let together = match sum.get(name) {
            Some(before) => serde_json::json!({ "allOf": [before, schema] }),
            None => schema.clone(),
        };
        sum.insert(name.clone(), together);
    }
    Value::Object(sum)
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn as_list(value: &Value) -> Value {
    if value.is_array() { value.clone() } else { Value::Array(vec![value.clone()]) }
}

fn union(one: &Value, other: &Value) -> Value {
    let more = items(other).iter().filter(|item| !items(one).contains(item));
    items(one).iter().chain(more).cloned().collect()
}

fn common(one: &Value, other: &Value) -> Value {
    items(one).iter().filter(|item| items(other).contains(item)).cloned().collect()
}

fn of_two(one: Value, other: &Value, is_stricter: fn(&f64, &f64) -> bool) -> Value {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    if is_stricter(&number(&one), &number(other)) { one } else { other.clone() }
}
