//! What a schema says of the fields of an input: whether a field is declared, and whether it is there for sure.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The schemas that hold for one value.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The schema at this pointer.
    One(String),
    /// All of these.
    All(Vec<Self>),
    /// At least one of these.
    Any(Vec<Self>),
}

/// What is known of a field.
#[derive(Debug)]
pub(crate) enum Field {
    /// It is declared.
    Declared {
        /// What holds for it.
        place: Place,
        /// Whether it is there whenever the value it belongs to is.
        required: bool,
    },
    /// It is not declared, and others are; an input may have it all the same.
    Undeclared(Vec<String>),
    /// No input has it.
    Closed(Vec<String>),
    /// The value is no object, but of these types.
    NoObject(String),
    /// The schema says nothing of fields.
    Unsaid,
}

/// The schema of an input, looked into. It has no circles: the linter has seen to that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared<'s>(pub(crate) &'s Value);

impl Declared<'_> {
    /// The place of the input itself.
    pub(crate) fn root() -> Place {
        Place::One(String::new())
    }

    /// What is known of a field of the value at this place.
    pub(crate) fn field(self, place: &Place, name: &str) -> Field {
        let Look { found, declares, required, closed, other_types, names } = self.look(place, name);
        let names = || names.iter().cloned().collect::<Vec<_>>();
        match (other_types, found) {
            (Some(types), _) => Field::NoObject(types),
            (None, _) if closed => Field::Closed(names()),
            (None, Some(place)) => Field::Declared { place, required },
            (None, None) if declares => Field::Undeclared(names()),
            (None, None) => Field::Unsaid,
        }
    }

    /// Whether the value at this place may be of one of these types.
    pub(crate) fn may_be(self, place: &Place, types: &[&str]) -> bool {
        match place {
            Place::All(places) => places.iter().all(|place| self.may_be(place, types)),
            Place::Any(places) => places.is_empty() || places.iter().any(|place| self.may_be(place, types)),
            Place::One(pointer) => {
                let Some(Value::Object(schema)) = self.0.pointer(pointer) else { return true };
                let own = types_of(schema).is_none_or(|of| of.iter().any(|of| types.contains(of)));
                own && self.applied(pointer, schema).iter().all(|place| self.may_be(place, types))
            }
        }
    }

    /// The fields that an object at this place has for sure.
    pub(crate) fn required(self, place: &Place) -> BTreeSet<String> {
        match place {
            Place::All(places) => places.iter().flat_map(|place| self.required(place)).collect(),
            Place::Any(places) => {
                let mut of_each = places.iter().map(|place| self.required(place));
                let first = of_each.next().unwrap_or_default();
                of_each.fold(first, |sure, other| sure.intersection(&other).cloned().collect())
            }
            Place::One(pointer) => {
                let Some(Value::Object(schema)) = self.0.pointer(pointer) else { return BTreeSet::new() };
                let own = schema.get("required").and_then(Value::as_array).into_iter().flatten();
                let own = own.filter_map(Value::as_str).map(str::to_owned);
                own.chain(self.applied(pointer, schema).iter().flat_map(|place| self.required(place))).collect()
            }
        }
    }

    /// Whether a list at this place has at most so many items.
    pub(crate) fn bounds_items(self, place: &Place, most: u64) -> bool {
        match place {
            Place::All(places) => places.iter().any(|place| self.bounds_items(place, most)),
            Place::Any(places) => !places.is_empty() && places.iter().all(|place| self.bounds_items(place, most)),
            Place::One(pointer) => {
                let Some(Value::Object(schema)) = self.0.pointer(pointer) else { return false };
                let is_no_list = types_of(schema).is_some_and(|of| !of.contains(&"array"));
                let bounds = schema.get("maxItems").and_then(Value::as_u64).is_some_and(|bound| bound <= most);
                let stands_there = schema.contains_key("const") || schema.contains_key("enum");
                bounds || is_no_list || stands_there || self.applied(pointer, schema).iter().any(|place| self.bounds_items(place, most))
            }
        }
    }

    /// The places that hold for the same value as this schema does: what it refers to, and what it is made of.
    fn applied(self, pointer: &str, schema: &Map<String, Value>) -> Vec<Place> {
        let mut places = Vec::new();
        if let Some(to) = schema.get("$ref").and_then(Value::as_str) {
            places.push(Place::One(to.trim_start_matches('#').to_owned()));
        }
        let list = |name: &str| {
            let many = schema.get(name).and_then(Value::as_array).map_or(0, Vec::len);
            (0..many).map(|index| Place::One(format!("{pointer}/{name}/{index}"))).collect::<Vec<_>>()
        };
        places.extend(list("allOf"));
        places.extend(["anyOf", "oneOf"].map(list).into_iter().filter(|choices| !choices.is_empty()).map(Place::Any));
        places
    }

    fn look(self, place: &Place, name: &str) -> Look {
        match place {
            Place::All(places) => all(places.iter().map(|place| self.look(place, name))),
            Place::Any(places) => any(places.iter().map(|place| self.look(place, name)).collect()),
            Place::One(pointer) => match self.0.pointer(pointer) {
                Some(Value::Object(schema)) => self.look_into(pointer, schema, name),
                Some(Value::Bool(false)) => Look { closed: true, ..Look::default() },
                _ => Look::default(),
            },
        }
    }

    fn look_into(self, pointer: &str, schema: &Map<String, Value>, name: &str) -> Look {
        let mut own = own(pointer, schema, name);
        // What holds only sometimes declares a field, and promises nothing.
        let sometimes = ["then", "else"].into_iter().filter(|word| schema.contains_key(*word)).map(|word| format!("{pointer}/{word}"));
        let dependent = schema.get("dependentSchemas").and_then(Value::as_object).into_iter().flatten();
        let dependent = dependent.map(|(of, _)| format!("{pointer}/dependentSchemas/{}", escaped(of)));
        for at in sometimes.chain(dependent) {
            let Look { found, declares, names, .. } = self.look(&Place::One(at), name);
            own.add(Look { found, declares, names, ..Look::default() });
        }
        for place in self.applied(pointer, schema) {
            own.add(self.look(&place, name));
        }
        if schema.get("unevaluatedProperties") == Some(&Value::Bool(false)) && own.found.is_none() {
            own.closed = true;
        }
        own
    }
}

/// What schemas say of a field, put together.
#[derive(Debug, Default)]
struct Look {
    found: Option<Place>,
    /// Whether fields are declared at all.
    declares: bool,
    required: bool,
    closed: bool,
    /// The types of the value, when an object is none of them.
    other_types: Option<String>,
    /// Fields that are declared.
    names: BTreeSet<String>,
}

impl Look {
    /// Adds what holds as well.
    fn add(&mut self, other: Self) {
        self.found = match (self.found.take(), other.found) {
            (Some(one), Some(more)) => Some(Place::All(vec![one, more])),
            (one, more) => one.or(more),
        };
        self.declares |= other.declares;
        self.required |= other.required;
        self.closed |= other.closed;
        self.other_types = self.other_types.take().or(other.other_types);
        self.names.extend(other.names);
    }
}

fn all(looks: impl Iterator<Item = Look>) -> Look {
    looks.fold(Look::default(), |mut sum, look| {
        sum.add(look);
        sum
    })
}

/// What is said when one of several holds, and nobody knows which.
fn any(looks: Vec<Look>) -> Look {
    let types: Vec<_> = looks.iter().filter_map(|look| look.other_types.clone()).collect();
    let is_every = |says: fn(&Look) -> bool| !looks.is_empty() && looks.iter().all(says);
    let (required, closed) = (is_every(|look| look.required), is_every(|look| look.closed || look.other_types.is_some()));
    let other_types = (types.len() == looks.len() && !types.is_empty()).then(|| types.join(", "));
    let mut sum = Look { required, closed: closed && other_types.is_none(), other_types, ..Look::default() };
    let mut places = Vec::new();
    for look in looks {
        sum.declares |= look.declares;
        sum.names.extend(look.names);
        places.extend(look.found);
    }
    sum.found = (!places.is_empty()).then_some(Place::Any(places));
    sum
}

/// What the keywords of one schema say, without those that bring other schemas in.
fn own(pointer: &str, schema: &Map<String, Value>, name: &str) -> Look {
    let properties = schema.get("properties").and_then(Value::as_object);
    let patterns = schema.get("patternProperties").and_then(Value::as_object);
    let by_pattern = patterns.into_iter().flatten().map(|(pattern, _)| pattern).find(|pattern| {
        // The linter has compiled it as what it is; where the two engines differ, the field counts as declared.
        regex::Regex::new(pattern).map_or(true, |pattern| pattern.is_match(name))
    });
    let others = schema.get("additionalProperties");
    let at = if properties.is_some_and(|properties| properties.contains_key(name)) {
        Some(format!("{pointer}/properties/{}", escaped(name)))
    } else if let Some(pattern) = by_pattern {
        Some(format!("{pointer}/patternProperties/{}", escaped(pattern)))
    } else {
        others.filter(|others| **others != Value::Bool(false)).map(|_| format!("{pointer}/additionalProperties"))
    };
    let required = schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|known| known == name));
    Look {
        closed: at.is_none() && others == Some(&Value::Bool(false)),
        found: at.map(Place::One),
        declares: properties.is_some() || patterns.is_some(),
        required,
        other_types: types_of(schema).filter(|types| !types.contains(&"object")).map(|types| types.join(" or ")),
        names: properties.into_iter().flatten().map(|(name, _)| name.clone()).collect(),
    }
}

fn types_of(schema: &Map<String, Value>) -> Option<Vec<&str>> {
    match schema.get("type")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(many) => Some(many.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is known of the fields of a path: one letter each. `r`equired, `o`ptional, `u`ndeclared, `c`losed, `n`o object, `-` unsaid.
    fn path(schema: &Value, path: &str) -> String {
        let declared = Declared(schema);
        let (mut place, mut told) = (Declared::root(), String::new());
        for name in path.split('.') {
            match declared.field(&place, name) {
                Field::Declared { place: next, required } => {
                    place = next;
                    told.push(if required { 'r' } else { 'o' });
                }
                Field::Undeclared(_) => return told + "u",
                Field::Closed(_) => return told + "c",
                Field::NoObject(_) => return told + "n",
                Field::Unsaid => return told + "-",
            }
        }
        told
    }

    #[test]
    fn fields_are_followed_through_all_that_holds_for_a_value() {
        let schema = json!({
            "$defs": {"money": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"], "additionalProperties": false}},
            "properties": {"total": {"$ref": "#/$defs/money"}, "note": {"type": "string"}, "free": {}, "map": {"additionalProperties": {"$ref": "#/$defs/money"}}},
            "required": ["total"],
            "allOf": [{"properties": {"other": {"type": "object"}}, "required": ["note", "map"]}],
        });
        for (fields, known) in [
            ("total.amount", "rr"),
            ("total.currency", "rc"),
            ("total.amount.x", "rrn"),
            ("note", "r"),
            ("note.x", "rn"),
            ("other", "o"),
            ("other.x", "o-"),
            ("free.x", "o-"),
            ("map.eur.amount", "ror"),
            ("nothing", "u"),
        ] {
            assert_eq!(path(&schema, fields), known, "{fields}");
        }
    }

    #[test]
    fn of_several_that_may_hold_only_what_all_say_is_sure() {
        let schema = json!({"oneOf": [
            {"properties": {"card": {"type": "string"}, "kind": {}}, "required": ["card", "kind"], "additionalProperties": false},
            {"properties": {"iban": {"type": "string"}, "kind": {}}, "required": ["kind"], "additionalProperties": false},
        ]});
        assert_eq!((path(&schema, "kind"), path(&schema, "card"), path(&schema, "x")), ("r".into(), "o".into(), "c".into()));
        let nested = json!({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "object", "properties": {"b": {}}}]}}});
        assert_eq!((path(&nested, "a.b"), path(&nested, "a.c")), ("oo".into(), "ou".into()));
        let never = json!({"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}});
        assert_eq!(path(&never, "a.b"), "on");
    }

    #[test]
    fn what_holds_sometimes_promises_nothing() {
        let schema =
            json!({"if": {"required": ["a"]}, "then": {"properties": {"b": {}}, "required": ["b"]}, "unevaluatedProperties": false});
        assert_eq!((path(&schema, "b"), path(&schema, "c")), ("o".into(), "c".into()));
    }

    #[test]
    fn required_is_what_every_way_requires() {
        let schema = json!({
            "$defs": {"a": {"required": ["a"]}}, "$ref": "#/$defs/a", "required": ["b"], "allOf": [{"required": ["c"]}],
            "oneOf": [{"required": ["d", "e"]}, {"required": ["e", "f"]}], "properties": {"b": {"required": ["inner"]}},
        });
        let declared = Declared(&schema);
        assert_eq!(declared.required(&Declared::root()).into_iter().collect::<Vec<_>>(), ["a", "b", "c", "e"]);
        let inner = declared.required(&Place::All(vec![Place::One("/properties/b".to_owned()), Place::One("/nowhere".to_owned())]));
        assert_eq!(inner.into_iter().collect::<Vec<_>>(), ["inner"]);
    }

    #[test]
    fn types_are_those_that_every_part_allows() {
        let schema = json!({"$defs": {"id": {"type": ["string", "null"]}}, "properties": {"a": {"$ref": "#/$defs/id"}, "b": {"allOf": [{"type": "array"}]}, "c": {}}});
        let declared = Declared(&schema);
        let may = |name: &str| match declared.field(&Declared::root(), name) {
            Field::Declared { place, .. } => declared.may_be(&place, &["string", "number", "integer"]),
            other => panic!("{other:?}"),
        };
        assert_eq!(("abc").chars().map(|name| may(&name.to_string())).collect::<Vec<_>>(), [true, false, true]);
    }
}
