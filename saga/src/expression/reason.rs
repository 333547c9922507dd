//! Why an expression has no value, in words. The library's own words show whole values: what a customer sent would stand in them, without
//! a bound, and a map in another order each time.

use super::weigh::WEIGH;
use cel::{ExecutionError, Value};

/// The reason in words. The same scope always gives the same ones, and of its values only numbers and keys stand in them.
pub(super) fn describe(error: &ExecutionError) -> String {
    use ExecutionError as E;
    match error {
        E::FunctionError { function, message } if function == WEIGH => message.clone(),
        E::UnsupportedTargetType { target } => format!("this function cannot be applied to {}", kind(target)),
        E::NotSupportedAsMethod { method, target } => format!("`{method}` cannot be applied to {}", kind(target)),
        E::UnsupportedKeyType(key) => format!("{} cannot be a key", kind(key)),
        E::ValuesNotComparable(left, right) => format!("{} and {} cannot be compared", kind(left), kind(right)),
        E::UnsupportedBinaryOperator(operator, left, right) => {
            format!("`{}` cannot be applied to {} and {}", sign(operator), kind(left), kind(right))
        }
        E::UnsupportedIndex(index, of) => format!("{} is no index into {}", kind(index), kind(of)),
        E::DivisionByZero(left) => format!("{} is divided by zero", kind(left)),
        E::RemainderByZero(left) => format!("the remainder of {} by zero", kind(left)),
        E::Overflow(operator, left, Value::Null) => format!("`{}` {} overflows", sign(operator), kind(left)),
        E::Overflow(operator, left, right) => format!("`{}` of {} and {} overflows", sign(operator), kind(left), kind(right)),
        E::IndexOutOfBounds(index) => format!("the list has no item {}", index_of(index)),
        E::DuplicateKey(key) => format!("a key is there twice in a map: {}", kind(key)),
        E::InvalidArgumentCount { .. }
        | E::UnexpectedType { .. }
        | E::NoSuchKey(_)
        | E::NoSuchOverload(_)
        | E::UndeclaredReference(_)
        | E::MissingArgumentOrTarget
        | E::FunctionError { .. }
        | E::InternalError(_) => error.to_string(),
        // What a later version of the library adds may hold values as well.
        _ => "it cannot be evaluated".to_owned(),
    }
}

/// A value by its type; numbers and truth as they are.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(is) => is.to_string(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => format!("{number}u"),
        Value::Float(number) => number.to_string(),
        Value::String(_) => "a text".to_owned(),
        Value::Bytes(_) => "bytes".to_owned(),
        Value::List(items) => format!("a list of {}", items.len()),
        Value::Map(map) => format!("a map of {}", map.map.len()),
        _ => "a value of another kind".to_owned(),
    }
}

fn index_of(index: &Value) -> String {
    match index {
        Value::String(_) | Value::List(_) | Value::Map(_) => format!("at {}", kind(index)),
        number => kind(number),
    }
}

fn sign(operator: &str) -> &str {
    match operator {
        "add" => "+",
        "sub" | "negate" => "-",
        "mul" => "*",
        "div" => "/",
        "rem" => "%",
        other => other,
    }
}
