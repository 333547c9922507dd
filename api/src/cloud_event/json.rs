//! An event as JSON: the *structured* mode.

use super::attribute::is_json;
use super::error::EventError;
use super::event::{CloudEvent, SPECVERSION};
use crate::json::JsonText;
use crate::limits::{PRODUCE_HEADERS_MAX, PRODUCE_RECORDS_MAX, RECORD_HEADERS_MAX};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use core::fmt;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::collections::HashSet;

/// The fields of an object, as they stand there.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CloudEvent")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                    if fields.len() > RECORD_HEADERS_MAX {
                        return Err(A::Error::custom(format_args!("an event has more than {RECORD_HEADERS_MAX} attributes")));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The fields of each object of a list: no more than a request may have records and headers, counted while they are read.
struct List(Vec<Fields>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Objects;
        impl<'de> Visitor<'de> for Objects {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of CloudEvents")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List, A::Error> {
                let (mut events, mut attributes) = (Vec::new(), 0);
                while let Some(fields) = list.next_element::<Fields>()? {
                    attributes += fields.0.len();
                    events.push(fields);
                    for (what, count, max) in
                        [("events", events.len(), PRODUCE_RECORDS_MAX), ("attributes", attributes, PRODUCE_HEADERS_MAX)]
                    {
                        if count > max {
                            return Err(A::Error::custom(format_args!(
                                "there are more than {max} {what}: send them with several requests"
                            )));
                        }
                    }
                }
                Ok(List(events))
            }
        }
        deserializer.deserialize_seq(Objects)
    }
}

impl<'de> Deserialize<'de> for CloudEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of_fields(Fields::deserialize(deserializer)?.0).map_err(D::Error::custom)
    }
}

impl CloudEvent {
    /// Reads one event. Data in JSON are kept as their very text.
    ///
    /// # Errors
    /// When it is no JSON object, or something is missing, twice, or wrong.
    pub fn from_json(text: &[u8]) -> Result<Self, EventError> {
        let fields: Fields = serde_json::from_slice(text).map_err(|error| EventError::Json(error.to_string()))?;
        Self::of_fields(fields.0)
    }

    /// Reads a list of events: each, or what is wrong with it.
    ///
    /// # Errors
    /// When it is no list of JSON objects.
    pub fn list_from_json(text: &[u8]) -> Result<Vec<Result<Self, EventError>>, EventError> {
        let list: List = serde_json::from_slice(text).map_err(|error| EventError::Json(error.to_string()))?;
        Ok(list.0.into_iter().map(|fields| Self::of_fields(fields.0)).collect())
    }

    fn of_fields(fields: Vec<(String, Box<RawValue>)>) -> Result<Self, EventError> {
        let (mut attributes, mut seen, mut data, mut base64) = (Vec::new(), HashSet::new(), None, None);
        for (name, value) in fields {
            if !seen.insert(name.clone()) {
                return Err(EventError::Twice(name));
            }
            match name.as_str() {
                "data" => data = Some(value),
                "data_base64" => base64 = text(&name, &value)?,
                _ => attributes.extend(text(&name, &value)?.map(|value| (name, value))),
            }
        }
        let data = match (data, base64) {
            (Some(_), Some(_)) => return Err(EventError::Data("`data` and `data_base64` cannot both be given")),
            (None, Some(base64)) => {
                Some(STANDARD.decode(base64).map(Bytes::from).map_err(|_| EventError::Data("`data_base64` is no base64"))?)
            }
            (None, None) => None,
            (Some(data), None) => {
                let of = attributes.iter().find(|(name, _)| name == "datacontenttype").map(|(_, value)| value.as_str());
                let data = data_of(of, &data)?;
                // What is not said is JSON, in this mode; a record has to say it.
                if of.is_none() {
                    attributes.push(("datacontenttype".to_owned(), crate::headers::APPLICATION_JSON.to_owned()));
                }
                Some(data)
            }
        };
        Self::made(attributes, data)
    }
}

fn data_of(content_type: Option<&str>, data: &RawValue) -> Result<Bytes, EventError> {
    if content_type.is_none_or(is_json) {
        let too_deep = |_| EventError::Data("it nests too deep: send it as `data_base64`");
        return JsonText::check(data.get()).map(|()| Bytes::copy_from_slice(data.get().as_bytes())).map_err(too_deep);
    }
    let text: Result<String, _> = serde_json::from_str(data.get());
    text.map(Bytes::from).map_err(|_| EventError::Data("of another type than JSON it is a string, or `data_base64`"))
}

/// The text of an attribute; `null` is as good as none.
fn text(name: &str, value: &RawValue) -> Result<Option<String>, EventError> {
    let wrong = |reason| EventError::Value { name: name.to_owned(), reason };
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).map(Some).map_err(|_| wrong("it is a string that is no text")),
        Some(b'n') => Ok(None),
        Some(b't' | b'f') => Ok(Some(json.to_owned())),
        Some(b'[' | b'{') => Err(wrong("it is a list or an object: attributes are text, integers or truth values")),
        _ => match json.parse::<i32>() {
            Ok(integer) => Ok(Some(integer.to_string())),
            Err(_) => Err(wrong("it is no integer of 32 bits: send it as text")),
        },
    }
}

impl Serialize for CloudEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", SPECVERSION)?;
        for (name, value) in self.attributes() {
            map.serialize_entry(name, value)?;
        }
        if let Some(of) = &self.data_content_type {
            map.serialize_entry("datacontenttype", of)?;
        }
        let Some(data) = &self.data else { return map.end() };
        match core::str::from_utf8(data) {
            Ok(text) if self.has_json() => match JsonText::parse(text.as_bytes()) {
                // With white space around it, it would come back without.
                Ok(json) if json.len() == text.len() => {
                    let raw: &RawValue = serde_json::from_str(text).map_err(S::Error::custom)?;
                    map.serialize_entry("data", raw)?;
                }
                _ => map.serialize_entry("data_base64", &STANDARD.encode(data))?,
            },
            Ok(text) => map.serialize_entry("data", text)?,
            Err(_) => map.serialize_entry("data_base64", &STANDARD.encode(data))?,
        }
        map.end()
    }
}
