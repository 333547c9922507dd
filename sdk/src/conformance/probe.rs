//! Counting effects at the participant.

use super::placeholder::filled_text;
use super::profile::Probe;
use crate::transport::chain;
use serde_json::Value;

/// How many effects are in force, or why nobody can say.
pub(super) async fn count(http: &reqwest::Client, probe: &Probe, key: &str) -> Result<i64, String> {
    let url = filled_text(&probe.url, key);
    let asked = async {
        let response = http.get(&url).send().await?.error_for_status()?;
        response.json::<Value>().await
    };
    let answer = asked.await.map_err(|error| format!("the probe failed: {}", chain(&error)))?;
    counted(&answer, &filled_text(&probe.pointer, key), probe.equals.as_ref())
}

fn counted(answer: &Value, pointer: &str, equals: Option<&Value>) -> Result<i64, String> {
    let found = answer.pointer(pointer);
    if let Some(wanted) = equals {
        return Ok(i64::from(found == Some(wanted)));
    }
    let length = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    match found {
        None | Some(Value::Null) => Ok(0),
        Some(Value::Array(items)) => Ok(length(items.len())),
        Some(Value::Object(fields)) => Ok(length(fields.len())),
        Some(Value::Number(number)) => number.as_i64().ok_or_else(|| format!("the probe's {number} is no whole number")),
        Some(other) => Err(format!("the probe found {other} at `{pointer}`: a count is a number, a list or an object; see `equals`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn effects_are_a_number_a_length_or_whether_something_is_there() {
        let answer = json!({ "n": 3, "list": [1, 2], "of": { "a": { "state": "RESERVED" } }, "half": 0.5, "text": "x" });
        for (pointer, count) in [("/n", 3), ("/list", 2), ("/of", 1), ("/none", 0), ("", 5)] {
            assert_eq!(counted(&answer, pointer, None), Ok(count), "{pointer}");
        }
        assert_eq!(counted(&answer, "/of/a/state", Some(&json!("RESERVED"))), Ok(1));
        assert_eq!(counted(&answer, "/of/b/state", Some(&json!("RESERVED"))), Ok(0));
        assert!(counted(&answer, "/half", None).is_err() && counted(&answer, "/text", None).is_err());
    }
}
