//! A definition as a list of fields with texts, so that whatever a step has is compared, also what later versions of it have.

use crate::definition::Definition;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest text of a value, in characters.
const SHOWN_CHARS_MAX: usize = 120;

/// The fields of a saga or of a step, by their paths.
#[derive(Debug)]
pub(super) struct Fields(BTreeMap<String, String>);

impl Fields {
    /// Those of the saga as a whole, without its name, version and input.
    pub(super) fn of_saga(definition: &Definition) -> Self {
        let mut fields = Self(BTreeMap::new());
        let apart = ["name", "version", "input", "steps"];
        for (name, value) in json(definition).as_object().into_iter().flatten().filter(|(name, _)| !apart.contains(&name.as_str())) {
            fields.add(name.clone(), value);
        }
        fields
    }

    /// Those of a step, without its id.
    pub(super) fn of_step(definition: &Definition, at: usize) -> Self {
        let step = &definition.steps[at];
        let mut fields = Self(BTreeMap::new());
        for (name, value) in json(step).as_object().into_iter().flatten().filter(|(name, _)| *name != "id") {
            match name.as_str() {
                // Places in the list say nothing: names do.
                "after" => {
                    let before: Vec<_> = step.after.iter().map(|&before| definition.steps[before].id.to_string()).collect();
                    fields.0.insert("after".to_owned(), format!("[{}]", before.join(", ")));
                }
                "action" => fields.add("action".to_owned(), value.get("call").unwrap_or(value)),
                _ => fields.add(name.clone(), value),
            }
        }
        fields
    }

    /// What a step does, in a few words.
    pub(super) fn summary(&self) -> String {
        let of = |path: &str| self.0.get(path).cloned();
        let call = of("action.service").zip(of("action.name")).map(|(service, name)| format!("{service}.{name}"));
        let after = of("after").filter(|after| after != "[]").map(|after| format!("after {after}"));
        call.into_iter().chain(of("kind")).chain(after).collect::<Vec<_>>().join(", ")
    }

    /// The fields that are different, with how they were and are.
    pub(super) fn differences(&self, new: &Self) -> impl Iterator<Item = (String, Option<String>, Option<String>)> {
        let paths: std::collections::BTreeSet<_> = self.0.keys().chain(new.0.keys()).cloned().collect();
        let changed = paths.into_iter().filter(|path| self.0.get(path) != new.0.get(path));
        let changed = changed.map(|path| (self.0.get(&path).cloned(), new.0.get(&path).cloned(), path));
        changed.map(|(before, after, path)| (path, before, after)).collect::<Vec<_>>().into_iter()
    }

    fn add(&mut self, path: String, value: &Value) {
        if let Some(text) = template(value) {
            // Arguments are compared by name.
            if let Some(fields) = value.get("object").and_then(Value::as_array) {
                for pair in fields {
                    if let (Some(Value::String(name)), Some(value)) = (pair.get(0), pair.get(1)) {
                        self.add(format!("{path}.{name}"), value);
                    }
                }
            } else {
                self.0.insert(path, cut(text));
            }
            return;
        }
        match value {
            Value::Null => {}
            Value::Object(fields) => fields.iter().for_each(|(name, value)| self.add(format!("{path}.{name}"), value)),
            Value::String(text) => _ = self.0.insert(path, cut(text.clone())),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => _ = self.0.insert(path, cut(value.to_string())),
        }
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("a definition is stored as JSON")
}

/// The text of a template in its stored form, if it is one.
fn template(value: &Value) -> Option<String> {
    let (kind, inner) = value.as_object().filter(|fields| fields.len() == 1)?.iter().next()?;
    match (kind.as_str(), inner) {
        ("literal", value) => Some(value.to_string()),
        ("expression", Value::String(source)) => Some(format!("${{ {source} }}")),
        ("text", Value::Array(parts)) => {
            let parts = parts.iter().map(|part| match (part.get("literal"), part.get("expression")) {
                (Some(Value::String(text)), _) => Some(text.clone()),
                (_, Some(Value::String(source))) => Some(format!("${{ {source} }}")),
                _ => None,
            });
            parts.collect()
        }
        ("list", Value::Array(items)) => {
            let items: Option<Vec<_>> = items.iter().map(template).collect();
            Some(format!("[{}]", items?.join(", ")))
        }
        ("object", Value::Array(fields)) => {
            let fields: Option<Vec<_>> =
                fields.iter().map(|pair| Some(format!("{}: {}", pair.get(0)?.as_str()?, template(pair.get(1)?)?))).collect();
            Some(format!("{{{}}}", fields?.join(", ")))
        }
        _ => None,
    }
}

fn cut(text: String) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX { text } else { text.chars().take(SHOWN_CHARS_MAX).chain(['…']).collect() }
}
