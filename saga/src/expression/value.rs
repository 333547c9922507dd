//! Between the texts of JSON and the values of CEL, both ways. What goes through an expression unchanged comes out unchanged; what a CEL
//! value cannot hold exactly goes through as its text and is never computed with ([`Raw`]).
//!
//! CEL has two integer types that do not mix; a JSON integer is its `int` whenever it fits, so that `input.quantity * 2` works.
//! CEL maps have no order; they come out sorted by key, so that evaluating an expression again gives the same bytes.

use super::exact::{Exact, exact};
use super::meter::{Spent, charge, charge_reading, charge_text};
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, Type};
use cel::common::value::{StaticVal, Val};
use core::any::Any;
use core::fmt;
use sagamq_api::limits::SAGA_PAYLOAD_BYTES_MAX;
use serde::Deserializer as _;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Which fields of a variable an expression looks at: only those are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    whole: bool,
    fields: BTreeMap<String, Needs>,
}

impl Needs {
    /// Adds what lies at the end of the path.
    pub(crate) fn add(&mut self, path: &[String]) {
        match path {
            [] => self.whole = true,
            [field, rest @ ..] => self.fields.entry(field.clone()).or_default().add(rest),
        }
    }

    /// What is needed of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        if self.whole { Some(self) } else { self.fields.get(name) }
    }

    /// The fields that are looked at.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.fields.iter().map(|(name, needs)| (name.as_str(), needs))
    }
}

/// A JSON value that no CEL value holds: a number beyond what a computation holds exactly, an object with a repeated field, half of a
/// surrogate pair. It can be copied and passed on, and it comes out as its text; everything else is an error.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    text: Arc<str>,
    what: &'static str,
}

static RAW: Type = Type::new_unspecified_type("inexact");

impl Raw {
    fn boxed(text: &str, what: &'static str) -> Result<Box<dyn Val>, Spent> {
        charge_text(text)?;
        Ok(Box::new(Self { text: text.into(), what }))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Why it cannot be computed with.
    pub(crate) fn why(&self) -> String {
        let shown: String = self.text.chars().take(40).collect();
        format!("{} cannot be computed with, only copied: {shown}", self.what)
    }
}

impl Val for Raw {
    fn get_type(&self) -> &Type {
        &RAW
    }

    fn cel_type() -> &'static Type {
        &RAW
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Raw {}

/// The CEL value of what is needed of a well-formed JSON text.
pub(crate) fn to_cel(json: &str, needs: &Needs) -> Result<Box<dyn Val>, Spent> {
    let json = json.trim();
    charge_reading(json)?;
    let everything = Needs { whole: true, fields: BTreeMap::new() };
    Ok(match json.as_bytes().first() {
        Some(b'{') => match read_fields(json) {
            None => return Raw::boxed(json, "an object with a repeated field"),
            Some(fields) => {
                let mut map = HashMap::new();
                for (name, value) in fields {
                    if let Some(needs) = needs.field(&name) {
                        charge_text(&name)?;
                        map.insert(CelMapKey::from(name.into_owned()), to_cel(value.get(), needs)?);
                    }
                }
                Box::new(CelMap::from(map))
            }
        },
        Some(b'[') => {
            let items = read_items(json).into_iter().map(|item| to_cel(item.get(), &everything));
            Box::new(CelList::from(items.collect::<Result<Vec<_>, _>>()?))
        }
        Some(b'"') => {
            charge_text(json)?;
            match serde_json::from_str::<String>(json) {
                Ok(text) => Box::new(CelString::from(text)),
                Err(_) => return Raw::boxed(json, "a text with half of a surrogate pair"),
            }
        }
        Some(b'-' | b'0'..=b'9') => {
            charge_text(json)?;
            match exact(json) {
                Some(Exact::Int(int)) => Box::new(CelInt::from(int)),
                Some(Exact::Uint(uint)) => Box::new(CelUInt::from(uint)),
                Some(Exact::Double(double)) => Box::new(CelDouble::from(double)),
                None => return Raw::boxed(json, "a number that cannot be held exactly"),
            }
        }
        word => {
            charge_text(json)?;
            match word {
                Some(b't') => Box::new(CelBool::from(true)),
                Some(b'f') => Box::new(CelBool::from(false)),
                _ => Box::new(CelNull),
            }
        }
    })
}

/// A CEL map with text keys.
pub(crate) fn map(entries: impl Iterator<Item = Result<(String, Box<dyn Val>), Spent>>) -> Result<Box<dyn Val>, Spent> {
    let map: Result<HashMap<CelMapKey<'static>, Box<dyn Val>>, Spent> =
        entries.map(|entry| entry.map(|(key, value)| (CelMapKey::from(key), value))).collect();
    Ok(Box::new(CelMap::from(map?)))
}

/// The fields of an object, in their order; `None` if one is repeated.
pub(super) fn read_fields(json: &str) -> Option<Vec<(Cow<'_, str>, &RawValue)>> {
    serde_json::Deserializer::from_str(json).deserialize_any(Fields).unwrap_or(None)
}

/// The items of a list.
pub(super) fn read_items(json: &str) -> Vec<&RawValue> {
    serde_json::Deserializer::from_str(json).deserialize_any(Items).unwrap_or_default()
}

/// The fields of an object; `None` if one is repeated.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Option<Vec<(Cow<'de, str>, &'de RawValue)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut fields, mut names) = (Vec::new(), std::collections::HashSet::new());
        let mut is_repeated = false;
        while let Some((super::fields::Key(name), value)) = map.next_entry()? {
            is_repeated |= !names.insert(name.clone());
            fields.push((name, value));
        }
        Ok((!is_repeated).then_some(fields))
    }
}

/// The items of a list.
struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

/// The JSON text of a CEL value.
///
/// # Errors
/// When JSON cannot hold it: bytes, functions, types, optional values, numbers that are not finite; or when it is larger than a payload
/// may be. The text says which.
pub(crate) fn to_json(value: &dyn Val) -> Result<String, String> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

fn write(value: &dyn Val, out: &mut String) -> Result<(), String> {
    if let Some(text) = value.downcast_ref::<CelString>() {
        push_text(text.inner(), out)?;
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        out.push('[');
        for (at, item) in list.inner().iter().enumerate() {
            separate(at, out);
            write(item.as_ref(), out)?;
        }
        out.push(']');
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        let mut fields: Vec<(Cow<'_, str>, _)> = map.inner().iter().map(|(key, value)| (key_text(key), value)).collect();
        fields.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        if let Some(pair) = fields.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("two keys of a map are `{}` in JSON", pair[0].0));
        }
        out.push('{');
        for (at, (key, value)) in fields.into_iter().enumerate() {
            separate(at, out);
            push_text(&key, out)?;
            out.push(':');
            write(value.as_ref(), out)?;
        }
        out.push('}');
    } else if let Some(raw) = value.downcast_ref::<Raw>() {
        out.push_str(raw.text());
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        out.push_str(&int.inner().to_string());
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        out.push_str(&uint.inner().to_string());
    } else if let Some(double) = value.downcast_ref::<CelDouble>() {
        let double = *double.inner();
        if !double.is_finite() {
            return Err(format!("JSON has no number {double}"));
        }
        out.push_str(&serde_json::to_string(&double).map_err(|error| error.to_string())?);
    } else if let Some(boolean) = value.downcast_ref::<CelBool>() {
        out.push_str(if *boolean.inner() { "true" } else { "false" });
    } else if value.downcast_ref::<CelNull>().is_some() {
        out.push_str("null");
    } else {
        return Err(format!("JSON has no {}", value.get_type().name()));
    }
    if out.len() > SAGA_PAYLOAD_BYTES_MAX { Err(format!("the value has more than {SAGA_PAYLOAD_BYTES_MAX} bytes")) } else { Ok(()) }
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}

fn push_text(text: &str, out: &mut String) -> Result<(), String> {
    charge(1, text.len() as u64).map_err(|spent| spent.to_string())?;
    out.push_str(&serde_json::to_string(text).map_err(|error| error.to_string())?);
    Ok(())
}

fn key_text<'k>(key: &'k CelMapKey<'_>) -> Cow<'k, str> {
    match key {
        CelMapKey::String(text) => Cow::Borrowed(text.inner()),
        CelMapKey::Int(int) => Cow::Owned(int.inner().to_string()),
        CelMapKey::UInt(uint) => Cow::Owned(uint.inner().to_string()),
        CelMapKey::Bool(boolean) => Cow::Owned(boolean.inner().to_string()),
    }
}
