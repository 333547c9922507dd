//! The headers of a record: an ordered list, in which a name may stand more than once and a value may be any bytes or none, as in Kafka.
//!
//! In JSON they are an object. A name that stands once has its value, one that stands more than once a list of them: text,
//! `null` for none, or `{"base64": ".."}` for bytes that are no text. Who sends may also repeat the name in the object.

use crate::headers::{APPLICATION_JSON, CONTENT_TYPE};
use crate::limits::RECORD_HEADERS_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use core::fmt;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::collections::HashMap;
#[cfg(feature = "openapi")]
use utoipa::openapi::schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, OneOfBuilder, SchemaType, Type};
#[cfg(feature = "openapi")]
use utoipa::openapi::{RefOr, Schema};
#[cfg(feature = "openapi")]
use utoipa::{PartialSchema, ToSchema};

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name; others may have the same.
    pub name: String,
    /// Its value: any bytes, or none.
    pub value: Option<Bytes>,
}

/// The headers of a record, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<Header>);

impl Headers {
    /// No headers, with room for some.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    /// How many there are; a name that stands twice counts twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> core::slice::Iter<'_, Header> {
        self.0.iter()
    }

    /// The last value under this name, if it is text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        core::str::from_utf8(self.get_bytes(name)?).ok()
    }

    /// The last value under this name, as bytes.
    #[must_use]
    pub fn get_bytes(&self, name: &str) -> Option<&Bytes> {
        self.0.iter().rev().find(|header| header.name == name)?.value.as_ref()
    }

    /// Every value under this name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Option<&'a Bytes>> {
        self.0.iter().filter(move |header| header.name == name).map(|header| header.value.as_ref())
    }

    /// Whether the name stands there at all.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|header| header.name == name)
    }

    /// Gives the values memory of their own: they may be slices of something large.
    pub fn detach(&mut self) {
        for value in self.0.iter_mut().filter_map(|header| header.value.as_mut()) {
            *value = Bytes::copy_from_slice(value);
        }
    }

    /// Adds a header behind the others; earlier ones of the same name stay.
    pub fn push(&mut self, name: impl Into<String>, value: Option<Bytes>) {
        self.0.push(Header { name: name.into(), value });
    }

    /// Makes this the only value under its name: earlier ones go.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.0.retain(|header| header.name != name);
        self.push(name, Some(Bytes::from(value.into())));
    }

    /// Takes every header of this name out.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|header| header.name != name);
    }

    /// Whether they say that the record's value is JSON: the last `content-type` is `application/json`.
    #[must_use]
    pub fn say_json(&self) -> bool {
        self.get(CONTENT_TYPE) == Some(APPLICATION_JSON)
    }

    /// Bytes of names and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len)).sum()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = core::slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let header = |(name, value): (N, V)| Header { name: name.into(), value: Some(Bytes::from(value.into())) };
        Self(headers.into_iter().map(header).collect())
    }
}

/// A value in JSON.
struct Shown<'a>(Option<&'a Bytes>);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.map(|bytes| core::str::from_utf8(bytes).map_err(|_| bytes)) {
            None => serializer.serialize_none(),
            Some(Ok(text)) => serializer.serialize_str(text),
            Some(Err(bytes)) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &STANDARD.encode(bytes))?;
                map.end()
            }
        }
    }
}

/// The values of a name that stands more than once.
struct ShownList<'a>(&'a [Option<&'a Bytes>]);

impl Serialize for ShownList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|value| list.serialize_element(&Shown(*value)))?;
        list.end()
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut places = HashMap::with_capacity(self.len());
        let mut names: Vec<(&str, Vec<Option<&Bytes>>)> = Vec::with_capacity(self.len());
        for header in self {
            let place = *places.entry(header.name.as_str()).or_insert(names.len());
            match names.get_mut(place) {
                Some((_, values)) => values.push(header.value.as_ref()),
                None => names.push((&header.name, vec![header.value.as_ref()])),
            }
        }
        let mut map = serializer.serialize_map(Some(names.len()))?;
        for (name, values) in names {
            match values.as_slice() {
                [value] => map.serialize_entry(name, &Shown(*value))?,
                values => map.serialize_entry(name, &ShownList(values))?,
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Headers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers: name and text, null, {\"base64\": \"..\"} or a list of these")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Headers::default();
                while let Some(name) = map.next_key::<String>()? {
                    map.next_value_seed(Values { headers: &mut headers, name: &name, is_within_list: false })?;
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Reads the value or the values of one name and adds them. It stops at the bound, not behind it.
struct Values<'a> {
    headers: &'a mut Headers,
    name: &'a str,
    is_within_list: bool,
}

impl Values<'_> {
    fn add<E: Error>(self, value: Option<Bytes>) -> Result<(), E> {
        if self.headers.len() >= RECORD_HEADERS_MAX {
            return Err(E::custom(format_args!("a record has at most {RECORD_HEADERS_MAX} headers")));
        }
        self.headers.push(self.name, value);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of a header: text, null, {\"base64\": \"..\"} or a list of these")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.add(None)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.add(None)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.add(Some(Bytes::copy_from_slice(text.as_bytes())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<(), E> {
        self.add(Some(text.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some(form) = map.next_key::<Cow<'_, str>>()? else { return Err(A::Error::missing_field("base64")) };
        if form != "base64" {
            return Err(A::Error::unknown_field(&form, &["base64"]));
        }
        let text: Cow<'_, str> = map.next_value()?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|reason| A::Error::custom(format_args!("it is not base64: {reason}")))?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("`base64` stands alone"));
        }
        self.add(Some(bytes.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.is_within_list {
            return Err(A::Error::custom("the values of a header are one list, not lists of lists"));
        }
        let Self { headers, name, .. } = self;
        let before = headers.len();
        while list.next_element_seed(Values { headers: &mut *headers, name, is_within_list: true })?.is_some() {}
        if headers.len() == before {
            return Err(A::Error::custom("the list of a header's values is empty: leave the header out"));
        }
        Ok(())
    }
}

// By hand: no derive describes "one of these, or a list of them".
#[cfg(feature = "openapi")]
impl PartialSchema for Headers {
    fn schema() -> RefOr<Schema> {
        let one = || {
            let bytes = ObjectBuilder::new().property("base64", ObjectBuilder::new().schema_type(Type::String)).required("base64");
            OneOfBuilder::new()
                .item(ObjectBuilder::new().schema_type(Type::String))
                .item(ObjectBuilder::new().schema_type(SchemaType::new(Type::Null)))
                .item(bytes)
        };
        let any = one().item(ArrayBuilder::new().items(one()).min_items(Some(1)));
        ObjectBuilder::new()
            .description(Some("Headers by name: text, null, bytes in base64, or a list of these where a name stands more than once."))
            .additional_properties(Some(AdditionalProperties::RefOr(Schema::OneOf(any.build()).into())))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl ToSchema for Headers {
    fn name() -> Cow<'static, str> {
        "Headers".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<Headers, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn repeated_binary_and_null_values_are_kept() {
        let json = r#"{"trace":["a",null,{"base64":"/w=="}],"n":null,"trace":"b"}"#;
        let headers = read(json).expect("legal");
        let values: Vec<Option<&[u8]>> = headers.all("trace").map(|value| value.map(Bytes::as_ref)).collect();
        assert_eq!(values, [Some(b"a".as_slice()), None, Some(b"\xff"), Some(b"b")]);
        assert_eq!((headers.get("trace"), headers.get("n"), headers.contains("n")), (Some("b"), None, true));
        assert_eq!(serde_json::to_string(&headers).expect("JSON"), r#"{"trace":["a",null,{"base64":"/w=="},"b"],"n":null}"#);
    }

    #[test]
    fn what_is_no_header_is_refused_with_the_reason() {
        for (json, says) in [
            (r#"{"a":1}"#, "the value of a header"),
            (r#"{"a":[]}"#, "empty"),
            (r#"{"a":[["b"]]}"#, "lists of lists"),
            (r#"{"a":{}}"#, "base64"),
            (r#"{"a":{"hex":"00"}}"#, "hex"),
            (r#"{"a":{"base64":"*"}}"#, "not base64"),
            (r#"{"a":{"base64":"","more":1}}"#, "alone"),
            (r#"[["a","b"]]"#, "an object of headers"),
        ] {
            let error = read(json).expect_err(json).to_string();
            assert!(error.contains(says), "{json}: {error}");
        }
    }

    #[test]
    fn the_bound_on_headers_holds_for_names_and_for_lists() {
        let names = |count: usize| format!("{{{}}}", (0..count).map(|n| format!("\"{n}\":\"\"")).collect::<Vec<_>>().join(","));
        let list = |count: usize| format!("{{\"a\":[{}]}}", vec!["null"; count].join(","));
        for json in [names(RECORD_HEADERS_MAX), list(RECORD_HEADERS_MAX)] {
            assert_eq!(read(&json).expect("within the bound").len(), RECORD_HEADERS_MAX);
        }
        for json in [names(RECORD_HEADERS_MAX + 1), list(RECORD_HEADERS_MAX + 1)] {
            assert!(read(&json).expect_err("too many").to_string().contains("at most"));
        }
    }

    #[test]
    fn a_header_that_is_set_is_there_once() {
        let mut headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        headers.set("a", "4");
        assert_eq!(headers.iter().map(|header| header.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!((headers.get("a"), headers.bytes()), (Some("4"), 4));
    }

    proptest! {
        #[test]
        fn the_values_of_each_name_come_back_in_order(
            list in proptest::collection::vec(("[a-c]", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4))), 0..12),
        ) {
            let mut headers = Headers::default();
            list.iter().for_each(|(name, value)| headers.push(name.clone(), value.clone().map(Bytes::from)));
            let again = read(&serde_json::to_string(&headers).expect("JSON")).expect("its own form");
            prop_assert_eq!(again.len(), headers.len());
            for name in ["a", "b", "c"] {
                prop_assert!(again.all(name).eq(headers.all(name)));
            }
        }
    }
}
