//! Whether two payloads say the same, for whoever asks whether a request is a repetition: clients write the fields of an object in any order, and
//! with any white space.

use crate::expression::same;
use sagamq_api::JsonText;
use sagamq_api::saga::{OperateSaga, SagaVerb, StepOutcome};

/// Whether two payloads say the same.
#[must_use]
pub fn says_the_same(a: &JsonText, b: &JsonText) -> bool {
    same(a.as_str(), b.as_str())
}

/// Whether two requests for a verb ask for the same, by the same person for the same reason.
#[must_use]
pub fn asks_the_same(a: &OperateSaga, b: &OperateSaga) -> bool {
    let is_same_verb = match (&a.verb, &b.verb) {
        (SagaVerb::EditInput { input: a }, SagaVerb::EditInput { input: b }) => says_the_same(a, b),
        (SagaVerb::Rerun { from: a, input: Some(one) }, SagaVerb::Rerun { from: b, input: Some(other) }) => {
            a == b && says_the_same(one, other)
        }
        (
            SagaVerb::Resolve { step: a, item, outcome: StepOutcome::Succeeded { output: one } },
            SagaVerb::Resolve { step: b, item: other_item, outcome: StepOutcome::Succeeded { output: other } },
        ) => a == b && item == other_item && says_the_same(one, other),
        (a, b) => a == b,
    };
    is_same_verb && a.reason == b.reason && a.actor == b.actor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> OperateSaga {
        serde_json::from_str(json).expect("a verb")
    }

    #[test]
    fn white_space_and_the_order_of_fields_do_not_count_and_all_else_does() {
        for verb in [
            r#"{"verb":"rerun","from":"pay","actor":"ann","input":INPUT}"#,
            r#"{"verb":"edit-input","actor":"ann","input":INPUT}"#,
            r#"{"verb":"resolve","step":"pay","actor":"ann","outcome":"succeeded","output":INPUT}"#,
        ] {
            let with = |input: &str| asked(&verb.replace("INPUT", input));
            assert!(asks_the_same(&with(r#"{"a":1,"b":2}"#), &with(r#"{ "b": 2, "a": 1 }"#)), "{verb}");
            assert!(!asks_the_same(&with(r#"{"a":1,"b":2}"#), &with(r#"{"a":1,"b":3}"#)), "{verb}");
            assert!(!asks_the_same(&with("{}"), &OperateSaga { actor: None, ..with("{}") }), "{verb}");
            assert!(!asks_the_same(&with("{}"), &asked(&verb.replace("pay", "x").replace("ann", "bob").replace("INPUT", "{}"))), "{verb}");
        }
        let (retry, pause) = (asked(r#"{"verb":"retry"}"#), asked(r#"{"verb":"pause"}"#));
        assert!(asks_the_same(&retry, &retry) && !asks_the_same(&retry, &pause));
        let (with, without) = (asked(r#"{"verb":"rerun","from":"a","input":{}}"#), asked(r#"{"verb":"rerun","from":"a"}"#));
        assert!(!asks_the_same(&with, &without) && asks_the_same(&without, &without));
    }
}
