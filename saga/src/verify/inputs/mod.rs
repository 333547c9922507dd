//! Inputs that a schema takes, made from the schema: with all fields, with those alone that must be there, without each of the others, and with each
//! other value of a field that its schema tells apart (choices, bounds, kinds), one at a time.
//!
//! `flat.rs` puts a schema together with what it refers to, `values.rs` makes values of it, `text.rs` makes texts. What is made need not fit (a rule may
//! be beyond this); what does not is left out here, by the same validator that judges a start.

mod flat;
mod text;
mod values;

use crate::definition::InputSchema;
use sagamq_api::JsonText;
use values::Maker;

/// Most inputs of a schema.
const INPUTS_MAX: usize = 256;

/// Inputs of a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    /// The fullest first.
    pub(super) inputs: Vec<JsonText>,
    /// Whether there would be more.
    pub(super) is_cut: bool,
}

/// Inputs that the schema takes.
pub(super) fn of(schema: &InputSchema) -> Inputs {
    let mut maker = Maker::new(schema.schema());
    let mut inputs: Vec<JsonText> = Vec::new();
    for value in maker.inputs() {
        let input = JsonText::from(value);
        if !inputs.contains(&input) && schema.misfit(&input).is_none() {
            inputs.push(input);
        }
    }
    let is_cut = maker.is_cut() || inputs.len() > INPUTS_MAX;
    inputs.truncate(INPUTS_MAX);
    Inputs { inputs, is_cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(schema: Value) -> Vec<Value> {
        let schema = InputSchema::compile(schema).expect("a legal schema");
        let Inputs { inputs, is_cut } = of(&schema);
        assert!(!is_cut, "{inputs:?}");
        inputs.iter().map(JsonText::to_value).collect()
    }

    /// The values of the field `a`, of which all may be.
    fn of_field(schema: &Value) -> Vec<Value> {
        let inputs = made(json!({ "properties": { "a": schema }, "required": ["a"] }));
        inputs.iter().map(|input| input["a"].clone()).collect()
    }

    #[test]
    fn the_fullest_comes_first_then_the_least_then_each_field_is_left_out() {
        let schema = json!({ "type": "object", "required": ["id"], "additionalProperties": false, "properties": {
            "id": { "const": "o" }, "coupon": { "const": "c" }, "note": { "const": "n" },
        }});
        let all = json!({ "id": "o", "coupon": "c", "note": "n" });
        assert_eq!(made(schema), [all, json!({ "id": "o" }), json!({ "id": "o", "note": "n" }), json!({ "id": "o", "coupon": "c" })]);
    }

    #[test]
    fn each_choice_is_there() {
        assert_eq!(of_field(&json!({ "enum": ["a", 1, null] })), [json!("a"), json!(1), json!(null)]);
        assert_eq!(of_field(&json!({ "type": "boolean" })), [json!(true), json!(false)]);
        let kinds = of_field(&json!({ "type": ["string", "null"], "maxLength": 3 }));
        assert!(kinds.contains(&json!(null)) && kinds.iter().any(Value::is_string), "{kinds:?}");
        let ways = of_field(
            &json!({ "oneOf": [{ "const": "card" }, { "type": "object", "properties": { "iban": { "const": "x" } }, "required": ["iban"] }] }),
        );
        assert_eq!(ways, [json!("card"), json!({ "iban": "x" })]);
    }

    #[test]
    fn numbers_are_at_their_bounds_and_between() {
        for (schema, within) in [
            (json!({ "type": "integer", "minimum": 2, "maximum": 9 }), vec![7, 2, 9]),
            (json!({ "type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 9 }), vec![7, 3, 8]),
            (json!({ "type": "integer", "minimum": 10, "maximum": 30, "multipleOf": 7 }), vec![14, 28]),
            (json!({ "type": "integer" }), vec![7, 0, -1]),
        ] {
            assert_eq!(of_field(&schema), within.into_iter().map(Value::from).collect::<Vec<_>>(), "{schema}");
        }
        let numbers = of_field(&json!({ "type": "number", "minimum": 0 }));
        assert!(numbers.contains(&json!(7)) && numbers.contains(&json!(1.5)) && numbers.contains(&json!(0)), "{numbers:?}");
    }

    #[test]
    fn texts_are_as_short_and_as_long_as_they_may_be_and_match() {
        let texts = of_field(&json!({ "type": "string", "minLength": 2, "maxLength": 5 }));
        let mut lengths: Vec<usize> = texts.iter().map(|text| text.as_str().expect("text").len()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        assert_eq!((lengths.first(), lengths.last()), (Some(&2), Some(&5)), "{texts:?}");
        assert!(of_field(&json!({ "type": "string" })).contains(&json!("")));
        for pattern in ["^o-[0-9]+$", "^[A-Z]{2}[0-9]{2}( ?[0-9]{4}){3,5}$", "^(card|iban):.+$", "a|b"] {
            // The validator of the schema has looked at it.
            assert!(!of_field(&json!({ "type": "string", "pattern": pattern })).is_empty(), "{pattern}");
        }
        for format in ["date", "date-time", "time", "email", "uuid", "uri", "hostname", "ipv4", "ipv6", "duration"] {
            assert!(!of_field(&json!({ "type": "string", "format": format })).is_empty(), "{format}");
        }
    }

    #[test]
    fn lists_are_empty_and_full() {
        let lists = of_field(&json!({ "type": "array", "items": { "enum": ["x", "y"] }, "maxItems": 3 }));
        for list in [json!([]), json!(["x", "x", "x"]), json!(["y"])] {
            assert!(lists.contains(&list), "{list}: {lists:?}");
        }
        assert!(of_field(&json!({ "type": "array", "minItems": 1 })).iter().all(|list| !list.as_array().expect("a list").is_empty()));
        let unique = of_field(&json!({ "type": "array", "items": { "enum": [1, 2] }, "uniqueItems": true, "minItems": 2 }));
        assert_eq!(unique, [json!([1, 2])]);
        let both = of_field(&json!({ "type": "array", "prefixItems": [{ "const": 1 }, { "const": "a" }], "items": false }));
        assert!(both.contains(&json!([1, "a"])), "{both:?}");
    }

    #[test]
    fn what_a_schema_refers_to_and_is_made_of_holds_together() {
        let schema = json!({
            "$defs": { "money": { "type": "object", "required": ["amount"], "properties": { "amount": { "type": "integer", "minimum": 1 } } } },
            "required": ["total"],
            "properties": { "total": { "allOf": [{ "$ref": "#/$defs/money" }, { "properties": { "amount": { "maximum": 3 } } }] } },
        });
        let amounts: Vec<Value> = made(schema).iter().map(|input| input["total"]["amount"].clone()).collect();
        assert_eq!(amounts, [json!(3), json!(1)]);
        let schema = json!({ "required": ["by"], "properties": { "by": { "enum": ["card", "cash"] }, "number": { "const": 1 } },
            "if": { "properties": { "by": { "const": "card" } } }, "then": { "required": ["number"] }, "else": { "not": { "required": ["number"] } } });
        let inputs = made(schema);
        assert!(inputs.contains(&json!({ "by": "card", "number": 1 })) && inputs.contains(&json!({ "by": "cash" })), "{inputs:?}");
    }

    #[test]
    fn what_cannot_be_is_not_made_and_too_many_are_cut() {
        assert_eq!(made(json!({ "required": ["a"], "properties": { "a": false } })), Vec::<Value>::new());
        let many: serde_json::Map<String, Value> = (0..300).map(|number| (format!("f{number}"), json!({ "type": "integer" }))).collect();
        let schema = InputSchema::compile(json!({ "properties": many })).expect("a legal schema");
        let Inputs { inputs, is_cut } = of(&schema);
        assert_eq!((inputs.len(), is_cut), (INPUTS_MAX, true));
    }
}
