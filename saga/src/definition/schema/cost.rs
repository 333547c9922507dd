//! What judging by a schema takes at most, counted as the validator goes about it.
//!
//! It judges each schema once at a value, but for `unevaluatedProperties` and `unevaluatedItems`: to see what is left over, they go again
//! through all that applies to the same value, and judge it again. Where one such keyword stands within what another one goes through, each
//! level takes a multiple of the one below, so that a few dozen levels would never end.

use serde_json::Value;
use std::collections::HashMap;

/// What is counted of a schema. All of it is `u64::MAX` for one that contains itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Schemas that one value is judged by, each as often as it is.
    pub(super) steps: u64,
    /// Those of them that are branches of `anyOf` and `oneOf`: telling why none fits keeps a copy of the value for each.
    pub(super) branches: u64,
}

impl Cost {
    /// Of this schema.
    pub(super) fn of(schema: &Value) -> Self {
        let Parts { judging, branches, .. } = Walk { root: schema, known: HashMap::new() }.parts(schema);
        Self { steps: judging, branches }
    }
}

/// Entries of a list that are compared in the time of a step.
const ENTRIES_A_STEP: u64 = 4;

#[derive(Clone, Copy)]
struct Parts {
    /// Steps of judging a value.
    judging: u64,
    /// Steps of going through it for an `unevaluated…` of a schema around it.
    marking: u64,
    branches: u64,
}

struct Walk<'s> {
    root: &'s Value,
    /// By where they lie: each is counted once, however often it is referred to.
    known: HashMap<*const Value, Parts>,
}

impl<'s> Walk<'s> {
    fn parts(&mut self, schema: &'s Value) -> Parts {
        let Value::Object(keywords) = schema else { return Parts { judging: 1, marking: 1, branches: 0 } };
        let place = core::ptr::from_ref(schema);
        if let Some(known) = self.known.get(&place) {
            return *known;
        }
        // Whoever comes back here on the way is in a circle.
        self.known.insert(place, Parts { judging: u64::MAX, marking: u64::MAX, branches: u64::MAX });
        let (mut judging, mut marking, mut branches) = (1_u64, 1_u64, 0_u64);
        let mut marks = false;
        for (name, value) in keywords {
            let inner = self.all(name, value);
            branches = branches.saturating_add(if matches!(name.as_str(), "anyOf" | "oneOf") { inner.judging } else { inner.branches });
            if matches!(name.as_str(), "unevaluatedProperties" | "unevaluatedItems") {
                marks = true;
            } else {
                judging = judging.saturating_add(inner.judging);
            }
            marking = marking.saturating_add(match name.as_str() {
                // Gone through if it fits, and to know that it is judged.
                "allOf" | "anyOf" | "oneOf" | "if" => inner.judging.saturating_add(inner.marking),
                "then" | "else" | "dependentSchemas" | "$ref" => inner.marking,
                "unevaluatedProperties" | "unevaluatedItems" | "contains" => inner.judging,
                _ => 0,
            });
        }
        if marks {
            judging = judging.saturating_add(marking);
        }
        let parts = Parts { judging, marking, branches };
        self.known.insert(place, parts);
        parts
    }

    /// All schemas behind a keyword together; of lists that are compared with, what that takes.
    fn all(&mut self, name: &str, value: &'s Value) -> Parts {
        let (root, mut sum) = (self.root, Parts { judging: 0, marking: 0, branches: 0 });
        let mut add = |schema: &'s Value| {
            let Parts { judging, marking, branches } = self.parts(schema);
            sum.judging = sum.judging.saturating_add(judging);
            sum.marking = sum.marking.saturating_add(marking);
            sum.branches = sum.branches.saturating_add(branches);
        };
        match (name, value) {
            ("$ref", Value::String(to)) => {
                let to = to.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
                to.into_iter().for_each(&mut add);
            }
            ("properties" | "patternProperties" | "dependentSchemas", Value::Object(named)) => named.values().for_each(&mut add),
            ("prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(list)) => list.iter().for_each(&mut add),
            (
                "additionalProperties"
                | "unevaluatedProperties"
                | "propertyNames"
                | "items"
                | "unevaluatedItems"
                | "contains"
                | "not"
                | "if"
                | "then"
                | "else",
                schema,
            ) => add(schema),
            ("enum" | "required", Value::Array(list)) => sum.judging = list.len() as u64 / ENTRIES_A_STEP,
            ("dependentRequired", Value::Object(named)) => sum.judging = named.len() as u64 / ENTRIES_A_STEP,
            _ => {}
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cost(schema: &Value) -> (u64, u64) {
        let Cost { steps, branches } = Cost::of(schema);
        (steps, branches)
    }

    #[test]
    fn each_schema_counts_once_and_again_for_what_is_left_over() {
        assert_eq!(cost(&json!({"properties": {"a": {"type": "string"}, "b": true}})), (3, 0));
        assert_eq!(cost(&json!({"$defs": {"a": {"items": {}}}, "type": "object"})), (1, 0), "what nobody refers to is not judged");
        assert_eq!(cost(&json!({"$defs": {"a": {"items": {}}}, "properties": {"x": {"$ref": "#/$defs/a"}}})), (4, 0));
        assert_eq!(cost(&json!({"anyOf": [{"items": {}}, {}]})), (4, 3));
        // Two schemas, and then: the keyword's own, the branch judged and gone through, and `false`.
        assert_eq!(cost(&json!({"allOf": [{}], "unevaluatedProperties": false})), (2 + 4, 0));
        assert_eq!(cost(&json!({"enum": (0..40).collect::<Vec<_>>()})), (11, 0));
        assert_eq!(cost(&json!({"items": {"$ref": "#"}})).0, u64::MAX, "it never ends");
    }

    #[test]
    fn what_is_gone_through_within_what_is_gone_through_takes_a_multiple_each_level() {
        for (choice, left_over) in [("anyOf", "unevaluatedProperties"), ("allOf", "unevaluatedItems"), ("oneOf", "unevaluatedProperties")] {
            let level = |inner: Value| json!({choice: [inner], left_over: false});
            let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| level(inner));
            assert!(cost(&nested(3)).0 < 100, "{choice}");
            assert!(cost(&nested(12)).0 > 2 * cost(&nested(11)).0, "{choice}");
            assert!(cost(&nested(60)).0 > 1 << 60, "{choice}");
        }
    }
}
