//! `${ saga.key }` in arguments and addresses: stands for the business key of the call, so that calls do not get into each other's way.

use serde_json::Value;

/// What stands between the braces.
const NAME: &str = "saga.key";

/// The value with the key in place of the placeholder, in every text of it.
pub(super) fn filled(value: &Value, key: &str) -> Value {
    match value {
        Value::String(text) => Value::String(filled_text(text, key)),
        Value::Array(items) => items.iter().map(|item| filled(item, key)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), filled(value, key))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The text with the key in place of the placeholder.
pub(super) fn filled_text(text: &str, key: &str) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        filled.push_str(before);
        match behind.split_once('}') {
            Some((name, after)) if name.trim() == NAME => {
                filled.push_str(key);
                rest = after;
            }
            Some(_) | None => {
                filled.push_str("${");
                rest = behind;
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_key_stands_wherever_a_text_asks_for_it_and_nothing_else_changes() {
        let value = json!({ "id": "${ saga.key }", "list": ["a-${saga.key}-${  saga.key}", 3, null], "other": "${ input.x } ${" });
        let expected = json!({ "id": "k", "list": ["a-k-k", 3, null], "other": "${ input.x } ${" });
        assert_eq!(filled(&value, "k"), expected);
    }
}
