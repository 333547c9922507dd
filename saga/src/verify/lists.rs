//! Inputs whose lists are as long as the verification looks at them: a step that fans out over many items is looked at with few.

use crate::definition::Definition;
use sagamq_api::JsonText;
use serde_json::Value;

/// Items of a list in the data that are tried first.
pub(super) const ITEMS: usize = 2;

/// The inputs with at most [`ITEMS`] items in each list that a step fans out over, and the first one also with fewer, as far as the schema takes
/// that.
pub(super) fn bounded(definition: &Definition, inputs: Vec<JsonText>) -> Vec<JsonText> {
    let paths: Vec<Vec<String>> = paths(definition).collect();
    if paths.is_empty() {
        return inputs;
    }
    let fits = |input: &JsonText| definition.input.as_ref().is_none_or(|schema| schema.misfit(input).is_none());
    let resized = |input: &JsonText, items: usize| Some(with_items(input, &paths, items)).filter(fits);
    let mut found: Vec<JsonText> = Vec::new();
    let bounded = inputs.iter().map(|input| resized(input, ITEMS).unwrap_or_else(|| input.clone()));
    let shorter = inputs.first().map(|first| (0..ITEMS).rev().filter_map(|items| resized(first, items)).collect::<Vec<_>>());
    for input in bounded.chain(shorter.into_iter().flatten()) {
        if !found.contains(&input) {
            found.push(input);
        }
    }
    found
}

/// Where in the input the lists stand that steps fan out over.
fn paths(definition: &Definition) -> impl Iterator<Item = Vec<String>> {
    let lists = definition.steps.iter().filter_map(|step| step.for_each.as_ref());
    lists.filter_map(|each| match each.items.references()[..] {
        [reference] if reference.root == "input" => Some(reference.path.clone()),
        _ => None,
    })
}

fn with_items(input: &JsonText, paths: &[Vec<String>], items: usize) -> JsonText {
    let mut value = input.to_value();
    for path in paths {
        let at = path.iter().try_fold(&mut value, |at, name| at.get_mut(name));
        if let Some(Value::Array(list)) = at
            && let Some(first) = list.first().cloned()
        {
            list.resize(items, first);
        }
    }
    value.into()
}
