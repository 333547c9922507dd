//! Reads JSON into a tree, and refuses an object that has a field twice: a tree keeps one of the two, and who reads the text later may
//! take the other.

use core::cell::RefCell;
use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text is no tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Where, as a JSON pointer.
    pub(super) pointer: String,
    pub(super) reason: String,
}

/// The tree of a well-formed text.
///
/// # Errors
/// When a field is there twice, or a number is larger than any double.
pub(super) fn read(json: &str) -> Result<Value, Unreadable> {
    let path = RefCell::new(Vec::new());
    Seed(&path).deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|error| {
        let pointer = path.borrow().iter().map(|part: &String| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect();
        Unreadable { pointer, reason: error.to_string() }
    })
}

/// Where the reader is. What an error leaves behind is the place of the error.
struct Seed<'p>(&'p RefCell<Vec<String>>);

impl Seed<'_> {
    fn enter(&self, part: String) {
        self.0.borrow_mut().push(part);
    }

    fn leave(&self) {
        self.0.borrow_mut().pop();
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("the number is larger than any double"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            self.enter(list.len().to_string());
            let Some(item) = items.next_element_seed(Seed(self.0))? else { break };
            self.leave();
            list.push(item);
        }
        self.leave();
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            self.enter(name.clone());
            if map.contains_key(&name) {
                return Err(A::Error::custom("the field is there twice"));
            }
            let value = fields.next_value_seed(Seed(self.0))?;
            self.leave();
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_read_is_what_stands_there() {
        let text = r#"{"a": [1, -2, 1.5, "é\n", null, true], "b": {"a": {}}}"#;
        assert_eq!(read(text), Ok(json!({"a": [1, -2, 1.5, "é\n", null, true], "b": {"a": {}}})));
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_place() {
        let place = |text: &str| read(text).expect_err("no tree").pointer;
        assert_eq!(place(r#"{"a": [{"b": 1}, {"c/d": 1, "c/d": 2}]}"#), "/a/1/c~1d");
        assert_eq!(place(r#"{"a": [1, 1e999]}"#), "/a/1");
    }
}
