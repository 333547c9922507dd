//! Between JSON and CEL, both ways, so that what goes through an expression unchanged comes out unchanged.
//!
//! CEL has two integer types that do not mix; a JSON integer is its `int` whenever it fits, so that `input.quantity * 2` works.
//! CEL maps have no order; they come out sorted by key, so that evaluating an expression again gives the same bytes.

use cel::objects::Key;
use sagamq_api::limits::SAGA_PAYLOAD_BYTES_MAX;
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// The CEL value of a JSON value.
pub(crate) fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::Number(n) => number_to_cel(n),
        Value::String(s) => s.as_str().into(),
        Value::Array(items) => cel::Value::List(items.iter().map(to_cel).collect::<Vec<_>>().into()),
        Value::Object(fields) => map_to_cel(fields.iter().map(|(key, value)| (key.as_str(), to_cel(value)))),
    }
}

/// A CEL map with text keys.
pub(crate) fn map_to_cel<'k>(entries: impl Iterator<Item = (&'k str, cel::Value)>) -> cel::Value {
    let map: HashMap<Key, cel::Value> = entries.map(|(key, value)| (Key::from(key), value)).collect();
    cel::Value::Map(map.into())
}

fn number_to_cel(number: &Number) -> cel::Value {
    if let Some(int) = number.as_i64() {
        cel::Value::Int(int)
    } else if let Some(uint) = number.as_u64() {
        cel::Value::UInt(uint)
    } else {
        cel::Value::Float(number.as_f64().unwrap_or(f64::NAN))
    }
}

/// The JSON value of a CEL value.
///
/// # Errors
/// When JSON cannot hold it: bytes, functions, types, optional values, numbers that are not finite; or when it is larger than a payload
/// may be, which a short loop over a large input can reach. The text says which.
pub(crate) fn to_json(value: &cel::Value) -> Result<Value, String> {
    convert(value, &mut { SAGA_PAYLOAD_BYTES_MAX })
}

fn convert(value: &cel::Value, budget: &mut usize) -> Result<Value, String> {
    let cost = match value {
        cel::Value::String(text) => text.len() + 2,
        _ => 1,
    };
    *budget = budget.checked_sub(cost).ok_or_else(|| format!("the value has more than {SAGA_PAYLOAD_BYTES_MAX} bytes"))?;
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(b) => Value::Bool(*b),
        cel::Value::Int(i) => Value::from(*i),
        cel::Value::UInt(u) => Value::from(*u),
        cel::Value::Float(f) => Number::from_f64(*f).map(Value::Number).ok_or_else(|| format!("JSON has no number {f}"))?,
        cel::Value::String(s) => Value::String(s.as_str().to_owned()),
        cel::Value::List(items) => Value::Array(items.iter().map(|item| convert(item, budget)).collect::<Result<_, _>>()?),
        cel::Value::Map(map) => {
            let mut fields =
                map.map.iter().map(|(key, value)| Ok((key.to_string(), convert(value, budget)?))).collect::<Result<Vec<_>, String>>()?;
            fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect::<Map<_, _>>())
        }
        other => return Err(format!("JSON has no {}", other.type_of())),
    })
}
