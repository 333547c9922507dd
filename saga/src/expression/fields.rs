//! Looks into JSON texts: a field of an object as it was sent, without a tree that would round its numbers.

use super::meter::charge_reading;
use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

/// The value at the end of these fields, as its text.
///
/// # Errors
/// Which field is not there, or which object has a field twice: whose value it would be is not said, so none is chosen.
pub(crate) fn walk<'j>(json: &'j str, fields: &[String]) -> Result<&'j str, String> {
    let mut at = json;
    for name in fields {
        charge_reading(at).map_err(|spent| spent.to_string())?;
        let absent = || format!("there is no field `{name}`");
        if !at.trim_start().starts_with('{') {
            return Err(absent());
        }
        at = field(at, name)?.ok_or_else(absent)?;
    }
    Ok(at.trim())
}

fn field<'j>(object: &'j str, name: &str) -> Result<Option<&'j str>, String> {
    let found = serde_json::Deserializer::from_str(object).deserialize_map(Fields { name });
    // Only a repeated field makes an error of a text that was checked when it was taken.
    found.map(|found| found.map(RawValue::get)).map_err(|error| error.to_string())
}

/// Finds one field, and repeated ones.
struct Fields<'n> {
    name: &'n str,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut seen) = (None, HashSet::new());
        while let Some(Key(name)) = map.next_key()? {
            if name == self.name {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            if let Some(repeated) = seen.replace(name) {
                return Err(A::Error::custom(format_args!("the field `{repeated}` is there twice")));
            }
        }
        Ok(found)
    }
}

/// A name that is borrowed where nothing in it is escaped.
#[derive(serde::Deserialize)]
pub(super) struct Key<'k>(#[serde(borrow)] pub(super) Cow<'k, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'j>(json: &'j str, path: &str) -> Result<&'j str, String> {
        walk(json, &path.split('.').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_found_is_the_text_that_was_sent() {
        let json = r#" {"a" : { "b":[ 1E400, {"x":1,"x":2} ] , "n": 100000000000000000001 }, "\u0063": 1.10 } "#;
        assert_eq!(at(json, "a.n"), Ok("100000000000000000001"));
        assert_eq!(at(json, "a.b"), Ok(r#"[ 1E400, {"x":1,"x":2} ]"#), "what is not looked into is not judged");
        assert_eq!(at(json, "c"), Ok("1.10"), "a name may be written in escapes");
        assert_eq!(at(json, "a.b.x"), Err("there is no field `x`".to_owned()));
        assert_eq!(at(json, "d"), Err("there is no field `d`".to_owned()));
        assert_eq!(walk(json, &[]), Ok(json.trim()));
    }

    #[test]
    fn an_object_with_a_repeated_field_is_not_looked_into() {
        let said = at(r#"{"a":1,"b":2,"a":3}"#, "b").expect_err("repeated");
        assert!(said.contains("the field `a` is there twice"), "{said}");
        assert!(at(r#"{"o":{"x":1,"\u0078":1}}"#, "o.x").is_err(), "one name in two spellings");
    }
}
