//! Values that a schema takes, the plainest first: then those at its bounds, and its other choices.

use super::flat::{Flat, flat};
use super::text;
use serde_json::{Map, Number, Value, json};

/// Values of one schema at most.
const VALUES_MAX: usize = 512;

/// Longest text that is made to be as long as it may be, in characters.
const LENGTH_MAX: usize = 1_024;

/// Longest list that is made to be as long as it may be.
const ITEMS_MAX: usize = 16;

/// A text of no special kind.
const PLAIN: &str = "value";

/// Makes values of the parts of a schema.
pub(super) struct Maker<'s> {
    root: &'s Value,
    is_cut: bool,
}

impl<'s> Maker<'s> {
    pub(super) const fn new(root: &'s Value) -> Self {
        Self { root, is_cut: false }
    }

    /// Whether some were left out, because there are so many.
    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Objects of the schema itself, the fullest first.
    pub(super) fn inputs(&mut self) -> Vec<Value> {
        let mut inputs = Vec::new();
        for choice in flat(self.root, self.root) {
            let given: Vec<Value> = given(&choice).into_iter().filter(Value::is_object).collect();
            inputs.extend(if given.is_empty() { self.objects(&choice) } else { given });
        }
        inputs
    }

    /// Values of a schema, each once.
    fn values(&mut self, schema: &Value) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::new();
        for choice in flat(self.root, schema) {
            for value in self.of_choice(&choice) {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        self.cut(&mut values);
        values
    }

    fn cut(&mut self, values: &mut Vec<Value>) {
        self.is_cut |= values.len() > VALUES_MAX;
        values.truncate(VALUES_MAX);
    }

    fn of_choice(&mut self, choice: &Flat) -> Vec<Value> {
        let given = given(choice);
        if !given.is_empty() {
            return given;
        }
        let mut values: Vec<Value> = choice.get("examples").and_then(Value::as_array).cloned().unwrap_or_default();
        values.extend(choice.get("default").cloned());
        for kind in kinds(choice) {
            match kind {
                "null" => values.push(Value::Null),
                "boolean" => values.extend([json!(true), json!(false)]),
                "integer" => values.extend(numbers(choice, true)),
                "number" => values.extend(numbers(choice, false)),
                "array" => values.extend(self.lists(choice)),
                "object" => values.extend(self.objects(choice)),
                _ => values.extend(texts(choice)),
            }
        }
        values
    }

    /// All fields, those alone that must be there, each of the others left out, and each other value of each.
    fn objects(&mut self, choice: &Flat) -> Vec<Value> {
        let required: Vec<&str> =
            choice.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let declared = choice.get("properties").and_then(Value::as_object);
        let anything = json!({});
        let undeclared = required.iter().filter(|name| declared.is_none_or(|declared| !declared.contains_key(**name)));
        let undeclared: Vec<(String, &Value)> =
            undeclared.map(|name| ((*name).to_owned(), choice.get("additionalProperties").unwrap_or(&anything))).collect();
        let named = declared.into_iter().flatten().map(|(name, schema)| (name.clone(), schema)).chain(undeclared);
        let mut fields: Vec<(String, Vec<Value>)> = Vec::new();
        for (name, schema) in named {
            let values = self.values(schema);
            match values.is_empty() {
                false => fields.push((name, values)),
                true if required.contains(&name.as_str()) => return Vec::new(),
                true => {}
            }
        }
        let with = |keep: &dyn Fn(&str) -> bool| -> Map<String, Value> {
            fields.iter().filter(|(name, _)| keep(name)).map(|(name, values)| (name.clone(), values[0].clone())).collect()
        };
        let is_required = |name: &str| required.contains(&name);
        let (full, least) = (with(&|_| true), with(&is_required));
        let mut objects = vec![full.clone(), least.clone()];
        let optional = fields.iter().map(|(name, _)| name.as_str()).filter(|name| !is_required(name));
        objects.extend(optional.map(|left_out| with(&|name| name != left_out)));
        for (name, values) in &fields {
            for value in &values[1..] {
                for base in [&full, &least] {
                    if base.contains_key(name) {
                        let mut other = base.clone();
                        other.insert(name.clone(), value.clone());
                        objects.push(other);
                    }
                }
                if objects.len() > VALUES_MAX {
                    self.is_cut = true;
                    break;
                }
            }
        }
        let mut values: Vec<Value> = Vec::new();
        for object in objects {
            let object = Value::Object(object);
            if !values.contains(&object) {
                values.push(object);
            }
        }
        values
    }

    /// A list as long as it may be, one as short, and one of each other value of its items.
    fn lists(&mut self, choice: &Flat) -> Vec<Value> {
        let first: Vec<Value> = choice.get("prefixItems").and_then(Value::as_array).cloned().unwrap_or_default();
        let anything = json!({});
        let items = self.values(choice.get("items").unwrap_or(&anything));
        let bound = |name: &str| choice.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
        let least = bound("minItems").unwrap_or(0);
        let most = if items.is_empty() { first.len() } else { bound("maxItems").unwrap_or(2.max(least).max(first.len())).min(ITEMS_MAX) };
        let is_unique = choice.get("uniqueItems") == Some(&json!(true));
        let mut lists = Vec::new();
        for length in [most, least, 1] {
            let mut list: Vec<Value> = Vec::new();
            for at in 0..length {
                let own = first.get(at).map(|schema| self.values(schema));
                let item = own.as_ref().unwrap_or(&items).iter().find(|item| !is_unique || !list.contains(item));
                list.extend(item.cloned());
            }
            lists.push(list);
        }
        if first.is_empty() {
            lists.extend(items.iter().skip(1).map(|item| vec![item.clone(); least.max(1)]));
        }
        lists.retain(|list| (least..=most.max(least)).contains(&list.len()));
        lists.into_iter().map(Value::Array).collect()
    }
}

/// What a schema names one by one.
fn given(choice: &Flat) -> Vec<Value> {
    match (choice.get("const"), choice.get("enum").and_then(Value::as_array)) {
        (Some(only), _) => vec![only.clone()],
        (None, Some(listed)) => listed.clone(),
        (None, None) => Vec::new(),
    }
}

/// The types that a schema names, else those that its keywords are of.
fn kinds(choice: &Flat) -> Vec<&str> {
    match choice.get("type") {
        Some(Value::String(one)) => return vec![one],
        Some(Value::Array(many)) => return many.iter().filter_map(Value::as_str).collect(),
        _ => {}
    }
    let has = |names: &[&str]| names.iter().any(|name| choice.contains_key(*name));
    let mut kinds = Vec::new();
    if has(&["properties", "required", "additionalProperties", "minProperties"]) {
        kinds.push("object");
    }
    if has(&["items", "prefixItems", "minItems", "maxItems", "contains"]) {
        kinds.push("array");
    }
    if has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        kinds.push("number");
    }
    if kinds.is_empty() || has(&["minLength", "maxLength", "pattern", "format"]) {
        kinds.push("string");
    }
    kinds
}

/// Seven, or what is next to it; the bounds; zero, and less than that.
fn numbers(choice: &Flat, is_integer: bool) -> Vec<Value> {
    let bound = |name: &str| choice.get(name).and_then(Value::as_f64);
    let least = bound("minimum").into_iter().chain(bound("exclusiveMinimum").map(|bound| next_above(bound, is_integer))).reduce(f64::max);
    let most = bound("maximum").into_iter().chain(bound("exclusiveMaximum").map(|bound| next_below(bound, is_integer))).reduce(f64::min);
    let step = bound("multipleOf").filter(|step| *step > 0.0);
    let (low, high) = (least.unwrap_or(f64::MIN), most.unwrap_or(f64::MAX));
    if low > high {
        return Vec::new();
    }
    let wanted = [Some(7.0_f64.clamp(low, high)), (!is_integer).then_some(1.5), least, most, Some(0.0), least.is_none().then_some(-1.0)];
    let mut found: Vec<Value> = Vec::new();
    for number in wanted.into_iter().flatten() {
        let onto = |number: f64, step: f64| {
            let above = (number / step).ceil() * step;
            if above > high { (number / step).floor() * step } else { above }
        };
        let number = step.map_or(number, |step| onto(number, step));
        let number = if is_integer { number.round() } else { number };
        let is_within = (low..=high).contains(&number);
        if let Some(value) = is_within.then(|| as_number(number)).flatten()
            && !found.contains(&value)
        {
            found.push(value);
        }
    }
    found
}

fn next_above(bound: f64, is_integer: bool) -> f64 {
    if is_integer { bound.floor() + 1.0 } else { bound + 0.5 }
}

fn next_below(bound: f64, is_integer: bool) -> f64 {
    if is_integer { bound.ceil() - 1.0 } else { bound - 0.5 }
}

/// A whole number without a point, as people write it.
fn as_number(number: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return Some(Value::from(number as i64));
    }
    Number::from_f64(number).map(Value::Number)
}

/// A plain text, the shortest and the longest.
fn texts(choice: &Flat) -> Vec<Value> {
    let bound = |name: &str| choice.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
    let (least, most) = (bound("minLength").unwrap_or(0), bound("maxLength"));
    let fits = |text: &str| (least..=most.unwrap_or(usize::MAX)).contains(&text.chars().count());
    let mut found: Vec<String> = Vec::new();
    let mut add = |text: String| {
        if fits(&text) && !found.contains(&text) {
            found.push(text);
        }
    };
    let format = choice.get("format").and_then(Value::as_str);
    if let Some(text) = format.and_then(text::of_format) {
        add(text.to_owned());
    }
    if let Some(pattern) = choice.get("pattern").and_then(Value::as_str) {
        let mut matching = text::matching(pattern);
        // One that is neither empty nor long is the plainest.
        matching.sort_by_key(|text| (text.is_empty(), text.len()));
        matching.into_iter().for_each(add);
    } else if format.is_none() {
        let padded = |length: usize| PLAIN.chars().cycle().take(length).collect::<String>();
        add(padded(PLAIN.len().clamp(least, most.unwrap_or(usize::MAX).max(least))));
        add(padded(least));
        if let Some(most) = most.filter(|most| *most <= LENGTH_MAX) {
            add(padded(most));
        }
    }
    found.into_iter().map(Value::String).collect()
}
