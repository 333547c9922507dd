//! Data for a definition that nobody gave any: inputs made from their schema, and the rest made up from what its expressions refer to.
//!
//! Of the inputs that a schema takes, those are kept with which something else happens: a condition comes out otherwise, or an expression has no value.
//!
//! What is made up: each field that is referred to gets a text. Where an expression has no value with that (it computes, or loops), or not one of the kind that it
//! must have (conditions, sleeps), other values are tried, for the fields of that expression together, until it has one and those before it still
//! have theirs. A list that a step fans out over is made with two items, with one and with none. For each condition there are data with which it holds, and data with which it does not, as far as any are found.

use super::inputs::{self, Inputs};
use super::lists::{ITEMS, bounded};
use super::subject::Sample;
use crate::definition::{Action, Definition, Emission, InputSchema, Sleep};
use crate::duration;
use crate::expression::{Item, Reference, SagaScope, Scope, Template};
use jiff::Timestamp;
use sagamq_api::saga::Failure;
use sagamq_api::{JsonText, StepId};
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a step is to sleep for, and until when, if that is made up.
const DURATION: &str = "15m";
const TIME: &str = "2026-01-02T00:00:00Z";

/// Assignments that are tried for one expression at most.
const TRIES_MAX: usize = 20_000;

/// Inputs of a schema that are kept at most: each is verified by itself.
const KEPT_MAX: usize = 12;

/// A definition for which no data can be made up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no data can be made up with which {what} has a value ({reason}): give data with `--input` and `--outputs`")]
pub struct NoSample {
    /// Which expression.
    pub what: String,
    /// Why it has none, with the first data that was tried.
    pub reason: String,
}

/// Data for a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// What it is verified with, at least one.
    pub samples: Vec<Sample>,
    /// What the data do not cover.
    pub warnings: Vec<String>,
}

/// A field: `input.a.b`, or of what a step returns.
type Field = (Option<StepId>, Vec<String>);

/// Stands in a path for every item of a list.
const EACH: &str = "[]";

/// What is chosen for each field, by its number among the candidates.
type Chosen = BTreeMap<Field, usize>;

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// Anything.
    Value,
    /// Whether it holds.
    Truth(bool),
    /// How long to sleep.
    Duration,
    /// Until when to sleep.
    Time,
    /// What to fan out over.
    List,
}

/// What becomes of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    /// It has no value, or none of the kind that it must have.
    Wrong,
    /// It has a value.
    Value,
    /// It is a list of so many items.
    Items(usize),
    /// It holds.
    True,
    /// It does not.
    False,
}

/// An expression, or a value with some.
struct Part<'a> {
    what: String,
    template: &'a Template,
    want: Want,
    /// The step whose items it is evaluated for.
    of_items: Option<usize>,
    /// Whether it is evaluated when the step has returned something: then its own output is that of an item.
    is_undo: bool,
}

struct Maker<'a> {
    definition: &'a Definition,
    given: Option<&'a JsonText>,
    outputs: &'a BTreeMap<StepId, JsonText>,
    parts: Vec<Part<'a>>,
    /// What is tried for a field, one after the other.
    candidates: Vec<Value>,
}

/// Data with which every expression of the definition has a value, as far as what is made up can see to it. What is given is kept as it is.
///
/// # Errors
/// When none can be made up, and nothing is given.
pub fn sample(definition: &Definition, given: Option<&JsonText>, outputs: &BTreeMap<StepId, JsonText>) -> Result<Sample, NoSample> {
    let made = match (given, &definition.input) {
        (None, Some(schema)) => bounded(definition, of_schema(schema)?.inputs).into_iter().next(),
        _ => None,
    };
    let maker = Maker::new(definition, given.or(made.as_ref()), outputs);
    maker.first().map(|chosen| maker.make(&chosen))
}

/// The same, and others with which something else happens: inputs of the schema, if nothing is given and there is one, and for each condition data
/// with which it comes out the other way.
///
/// # Errors
/// As [`sample`].
pub fn samples(definition: &Definition, given: Option<&JsonText>, outputs: &BTreeMap<StepId, JsonText>) -> Result<Samples, NoSample> {
    let (inputs, is_cut) = match (given, &definition.input) {
        (None, Some(schema)) => of_schema(schema).map(|Inputs { inputs, is_cut }| (bounded(definition, inputs), is_cut))?,
        _ => (Vec::new(), false),
    };
    let maker = Maker::new(definition, given.or(inputs.first()), outputs);
    let chosen = maker.first()?;
    let first = maker.make(&chosen);
    let mut found = Samples { samples: vec![first.clone()], warnings: Vec::new() };
    let mut seen = vec![maker.signature(&first)];
    let has_lists = given.is_none() && inputs.is_empty() && definition.steps.iter().any(|step| step.for_each.is_some());
    let shorter = (0..ITEMS).rev().filter(|_| has_lists).map(|items| maker.make_with(&chosen, items));
    let shorter = shorter.filter(|made| maker.parts.iter().all(|part| maker.value(part, made).is_ok()));
    let others = inputs.iter().skip(1).map(|input| Sample { input: input.clone(), outputs: first.outputs.clone() });
    for made in shorter.chain(others) {
        let signature = maker.signature(&made);
        if !seen.contains(&signature) {
            seen.push(signature);
            found.samples.push(made);
        }
    }
    if found.samples.len() > KEPT_MAX {
        let left = found.samples.len() - KEPT_MAX;
        found.samples.truncate(KEPT_MAX);
        seen.truncate(KEPT_MAX);
        found.warnings.push(format!("of the inputs that the schema takes and with which something else happens, {left} are not looked at, because {KEPT_MAX} are: give some with `--input`"));
    }
    if is_cut {
        found.warnings.push("the schema tells more inputs apart than are made: give others with `--input`".to_owned());
    }
    for (at, part) in maker.parts.iter().enumerate().filter(|(_, part)| matches!(part.want, Want::Truth(_))) {
        let holds = maker.gives(part, &first).is_ok();
        let turned = if holds { Comes::False } else { Comes::True };
        if seen.iter().any(|signature| signature[at] == turned) {
            continue;
        }
        let other = maker.search(&chosen, at, Want::Truth(!holds), maker.parts.len());
        match other {
            Some(other) => {
                let made = maker.make(&other);
                if !found.samples.contains(&made) {
                    found.samples.push(made);
                }
            }
            None => {
                found.warnings.push(format!("with all data that were made up {} {}: give others with `--input`", part.what, held(holds)))
            }
        }
    }
    Ok(found)
}

fn of_schema(schema: &InputSchema) -> Result<Inputs, NoSample> {
    let found = inputs::of(schema);
    if found.inputs.is_empty() {
        return Err(NoSample { what: "the input".to_owned(), reason: "nothing that was made up fits its schema".to_owned() });
    }
    Ok(found)
}

fn held(holds: bool) -> &'static str {
    if holds { "holds" } else { "does not hold" }
}

impl<'a> Maker<'a> {
    fn new(definition: &'a Definition, given: Option<&'a JsonText>, outputs: &'a BTreeMap<StepId, JsonText>) -> Self {
        let parts = parts(definition);
        let mut candidates = vec![
            json!("value"),
            json!(7),
            json!(1.5),
            json!(true),
            json!(["a", "b"]),
            json!({}),
            json!([7, 8]),
            json!(false),
            json!(1_000_000),
            json!(DURATION),
            json!(TIME),
        ];
        for text in parts.iter().flat_map(|part| part.template.sources()).flat_map(quoted) {
            if !candidates.contains(&Value::String(text.clone())) && candidates.len() < 24 {
                candidates.push(Value::String(text));
            }
        }
        Self { definition, given, outputs, parts, candidates }
    }

    /// What is chosen so that every expression has a value.
    fn first(&self) -> Result<Chosen, NoSample> {
        let mut chosen = Chosen::new();
        for field in self.parts.iter().flat_map(|part| self.own_fields(part.template, part.of_items)) {
            chosen.entry(field).or_insert(0);
        }
        for (at, part) in self.parts.iter().enumerate() {
            let Err(reason) = self.gives(part, &self.make(&chosen)) else { continue };
            let found = self.search(&chosen, at, part.want, at + 1);
            match found {
                Some(found) => chosen = found,
                // It has a value, and not the one that is liked best.
                None if matches!(part.want, Want::Truth(_)) && self.value(part, &self.make(&chosen)).is_ok() => {}
                // Whether an expression has a value with what was given is for the verification to say.
                None if self.given.is_some() || !self.outputs.is_empty() || self.own_fields(part.template, part.of_items).is_empty() => {}
                None => return Err(NoSample { what: part.what.clone(), reason }),
            }
        }
        Ok(chosen)
    }

    /// Another choice for the fields of a part, with which it gives what is wanted, and the first parts still do what they should.
    fn search(&self, chosen: &Chosen, at: usize, want: Want, first: usize) -> Option<Chosen> {
        let own = self.own_fields(self.parts[at].template, self.parts[at].of_items);
        let mut tries = vec![0; own.len()];
        for _ in 0..TRIES_MAX {
            let turned = tries.iter().position(|choice| *choice + 1 < self.candidates.len())?;
            tries[..turned].fill(0);
            tries[turned] += 1;
            let mut other = chosen.clone();
            other.extend(own.iter().cloned().zip(tries.iter().copied()));
            let made = self.make(&other);
            let is_it = |(number, part): (usize, &Part<'_>)| {
                if number == at {
                    return self.value(part, &made).is_ok_and(|value| fits(&value, want));
                }
                // Another condition may come out otherwise, as long as it comes out.
                self.value(part, &made)
                    .is_ok_and(|value| matches!(part.want, Want::Truth(_)) && is_truth(&value) || fits(&value, part.want))
            };
            if self.parts[..first].iter().enumerate().all(is_it) {
                return Some(other);
            }
        }
        None
    }

    fn gives(&self, part: &Part<'_>, sample: &Sample) -> Result<(), String> {
        let value = self.value(part, sample)?;
        if fits(&value, part.want) { Ok(()) } else { Err(format!("it gives {value}")) }
    }

    /// What becomes of each expression with these data: with what has the same, the same happens.
    fn signature(&self, sample: &Sample) -> Vec<Comes> {
        let comes = |part: &Part<'_>| match (self.value(part, sample), part.want) {
            (Ok(value), Want::Truth(_)) if value.as_str() == "true" => Comes::True,
            (Ok(value), Want::Truth(_)) if value.as_str() == "false" => Comes::False,
            (Ok(_), Want::Truth(_)) | (Err(_), _) => Comes::Wrong,
            (Ok(value), Want::List) => value.read::<Vec<IgnoredAny>>().map_or(Comes::Wrong, |list| Comes::Items(list.len())),
            (Ok(value), want) => {
                if fits(&value, want) {
                    Comes::Value
                } else {
                    Comes::Wrong
                }
            }
        };
        self.parts.iter().map(comes).collect()
    }

    /// Of what is evaluated for items, that of the last one.
    fn value(&self, part: &Part<'_>, sample: &Sample) -> Result<JsonText, String> {
        let (mut outputs, lists) = self.seen(sample);
        let Some(index) = part.of_items else { return self.render(part.template, sample, &outputs, None) };
        let id = &self.definition.steps[index].id;
        if let Some(own) = sample.outputs.get(id).filter(|_| part.is_undo) {
            outputs.insert(id.clone(), own.clone());
        }
        let items = lists.get(id).into_iter().flatten().enumerate();
        let values = items.map(|(index, value)| self.render(part.template, sample, &outputs, Some(Item { value, index })));
        values.last().unwrap_or_else(|| Ok(JsonText::null()))
    }

    /// What steps return, as others see it, and the lists of those that fan out.
    fn seen(&self, sample: &Sample) -> (BTreeMap<StepId, JsonText>, BTreeMap<StepId, Vec<JsonText>>) {
        let (mut outputs, mut lists) = (sample.outputs.clone(), BTreeMap::new());
        for step in &self.definition.steps {
            let Some(each) = &step.for_each else { continue };
            let items = self.render(&each.items, sample, &outputs, None).ok().and_then(|items| items.read::<Vec<JsonText>>().ok());
            let items = items.unwrap_or_default();
            let own = sample.outputs.get(&step.id).cloned().unwrap_or_else(JsonText::null);
            if let Ok(output) = JsonText::of(&vec![own; items.len()]) {
                outputs.insert(step.id.clone(), output);
            }
            lists.insert(step.id.clone(), items);
        }
        (outputs, lists)
    }

    fn render(
        &self,
        template: &Template,
        sample: &Sample,
        outputs: &BTreeMap<StepId, JsonText>,
        item: Option<Item<'_>>,
    ) -> Result<JsonText, String> {
        let failure = Failure { code: "REFUSED".to_owned(), message: "the participant refused".to_owned() };
        let definition = self.definition;
        let saga =
            SagaScope { id: "00000000-0000-0000-0000-000000000001", name: &definition.name, version: definition.version, key: "key" };
        let scope = Scope { input: &sample.input, outputs, failure: Some(&failure), saga: Some(saga), item };
        template.render(&scope).map_err(|error| error.to_string())
    }

    fn make(&self, chosen: &Chosen) -> Sample {
        self.make_with(chosen, ITEMS)
    }

    fn make_with(&self, chosen: &Chosen, items: usize) -> Sample {
        let steps = self.definition.steps.iter().map(|step| {
            let made = || self.built(chosen, Some(&step.id), items);
            (step.id.clone(), self.outputs.get(&step.id).cloned().unwrap_or_else(made))
        });
        Sample { input: self.given.cloned().unwrap_or_else(|| self.built(chosen, None, items)), outputs: steps.collect() }
    }

    /// The value with these fields in it.
    fn built(&self, chosen: &Chosen, of: Option<&StepId>, items: usize) -> JsonText {
        let mut value = Value::Object(Map::new());
        for (field, choice) in chosen.iter().filter(|(field, _)| field.0.as_ref() == of) {
            let named = field.1.iter().rfind(|name| *name != EACH);
            let made = match (choice, named) {
                (0, Some(name)) => json!(format!("{name}-1")),
                (choice, _) => self.candidates[*choice].clone(),
            };
            put(&mut value, &field.1, made, items);
        }
        value.into()
    }

    /// The fields that a template refers to and that are made up.
    fn own_fields(&self, template: &Template, of_items: Option<usize>) -> Vec<Field> {
        let is_given = |field: &Field| match &field.0 {
            None => self.given.is_some(),
            Some(step) => self.outputs.contains_key(step),
        };
        fields(self.definition, template, of_items).into_iter().filter(|field| !is_given(field)).collect()
    }
}

fn fits(value: &JsonText, want: Want) -> bool {
    match want {
        Want::Value => true,
        Want::Truth(truth) => value.as_str() == if truth { "true" } else { "false" },
        Want::Duration => value.read::<String>().is_ok_and(|text| duration::parse(&text).is_ok()),
        Want::List => value.read::<Vec<IgnoredAny>>().is_ok(),
        Want::Time => value.read::<u64>().is_ok() || value.read::<String>().is_ok_and(|text| text.parse::<Timestamp>().is_ok()),
    }
}

fn is_truth(value: &JsonText) -> bool {
    matches!(value.as_str(), "true" | "false")
}

/// The texts in quotes in an expression.
fn quoted(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for quote in ['\'', '"'] {
        found.extend(source.split(quote).skip(1).step_by(2).filter(|text| text.len() <= 64).map(str::to_owned));
    }
    found
}

fn parts(definition: &Definition) -> Vec<Part<'_>> {
    let plain = |what: String, template| Part { what, template, want: Want::Value, of_items: None, is_undo: false };
    let mut found = vec![plain("`key`".to_owned(), &definition.key)];
    for (index, step) in definition.steps.iter().enumerate() {
        let id = &step.id;
        let of_items = step.for_each.as_ref().map(|_| index);
        found.extend(step.when.as_ref().map(|when| Part { want: Want::Truth(true), ..plain(format!("the condition of `{id}`"), when) }));
        let lists = step.for_each.as_ref().map(|each| &each.items);
        found.extend(lists.map(|list| Part { want: Want::List, ..plain(format!("`for_each` of `{id}`"), list) }));
        found.extend(step.lock.as_ref().map(|lock| plain(format!("the lock of `{id}`"), &lock.key)));
        match &step.action {
            Action::Call(call) => found.push(Part { of_items, ..plain(format!("the arguments of `{id}`"), &call.arguments) }),
            Action::Sleep(Sleep::Given(value)) => found.push(Part { want: Want::Duration, ..plain(format!("the sleep of `{id}`"), value) }),
            Action::Sleep(Sleep::Until(value)) => found.push(Part { want: Want::Time, ..plain(format!("the sleep of `{id}`"), value) }),
            Action::Sleep(Sleep::For(_)) | Action::WaitFor(_) => {}
        }
        let undo = step.compensation.as_ref();
        let undo = undo.map(|undo| plain(format!("the arguments of the compensation of `{id}`"), &undo.arguments));
        found.extend(undo.map(|undo| Part { of_items, is_undo: true, ..undo }));
        let told = step.emit.iter().flat_map(Emission::templates).map(|told| plain(format!("what `{id}` tells"), told));
        let undone = step.emit_undone.iter().flat_map(Emission::templates);
        found.extend(told.chain(undone.map(|told| plain(format!("what the compensation of `{id}` tells"), told))));
    }
    found.extend(definition.output.as_ref().map(|output| plain("`output`".to_owned(), output)));
    found
}

fn fields(definition: &Definition, template: &Template, of_items: Option<usize>) -> Vec<Field> {
    let list = |reference: &Reference| match (reference.root.as_str(), reference.path.as_slice()) {
        ("input", path) => Some((None, path.to_vec())),
        ("steps", [id, output, path @ ..]) if output == "output" => Some((Some(id.parse::<StepId>().ok()?), path.to_vec())),
        _ => None,
    };
    // What the items have is in the list that they are from, if it is one that stands somewhere.
    let items = of_items.and_then(|index| {
        let [from] = definition.steps[index].for_each.as_ref()?.items.references()[..] else { return None };
        let (of, mut path) = list(from)?;
        path.push(EACH.to_owned());
        Some((of, path))
    });
    let field = |reference: &Reference| {
        if reference.root != "item" {
            return list(reference);
        }
        let (of, path) = items.clone()?;
        Some((of, path.into_iter().chain(reference.path.iter().cloned()).collect()))
    };
    let mut fields: Vec<Field> = template.references().into_iter().filter_map(field).chain(items.clone()).collect();
    fields.sort();
    fields.dedup();
    fields
}

/// Puts a value at the end of the path, unless something with fields is there already.
fn put(value: &mut Value, path: &[String], made: Value, items: usize) {
    if path.first().is_some_and(|first| first == EACH) {
        if !value.is_array() {
            *value = Value::Array(vec![json!({}); items]);
        }
        for item in value.as_array_mut().into_iter().flatten() {
            match &path[1..] {
                [] if item.as_object().is_some_and(Map::is_empty) => *item = made.clone(),
                [] => {}
                rest => {
                    if !item.is_object() {
                        *item = json!({});
                    }
                    put(item, rest, made.clone(), items);
                }
            }
        }
        return;
    }
    match (path.split_first(), value) {
        (None, value) => {
            let has_fields = value.as_object().is_some_and(|fields| !fields.is_empty());
            let is_list = value.as_array().is_some_and(|list| !list.is_empty());
            if !has_fields && !is_list && !made.is_string() {
                *value = made;
            }
        }
        (Some((first, [])), Value::Object(fields)) if !fields.contains_key(first) => {
            fields.insert(first.clone(), made);
        }
        (Some((first, rest)), Value::Object(fields)) => {
            let inner = fields.entry(first.clone()).or_insert_with(|| json!({}));
            if !rest.is_empty() && !inner.is_object() && !inner.is_array() {
                *inner = json!({});
            }
            if !rest.is_empty() {
                put(inner, rest, made, items);
            }
        }
        (Some(_), _) => {}
    }
}
