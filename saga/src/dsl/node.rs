//! A YAML tree that keeps where everything stands and refuses nothing: what is wrong is found by walking it, all in one run.

use super::span::{At, Span};
use core::fmt;
use sagamq_api::JsonText;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// A value of the text.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text, with repeated keys.
    Map(Vec<(Node, Node)>),
}

/// A number as it is written: 64 bits do not hold every one.
#[derive(Debug)]
pub(crate) struct Number(String);

impl Number {
    /// Its text as JSON; `None` if JSON does not write numbers like this: `012`, `0x1F`, `.5`, `1_000`, `.inf`.
    pub(crate) fn json(&self) -> Option<JsonText> {
        JsonText::parse(self.0.as_bytes()).ok()
    }

    /// Whether JSON writes numbers like this.
    pub(crate) fn is_json(&self) -> bool {
        self.json().is_some()
    }

    /// Whether it is a whole number as JSON writes them.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_json() && !self.0.contains(['.', 'e', 'E'])
    }

    /// Its value if it is a whole number of 64 bits.
    pub(crate) fn integer(&self) -> Option<i64> {
        self.0.parse().ok().filter(|_| self.is_whole())
    }

    /// Its value, rounded.
    pub(crate) fn value(&self) -> f64 {
        match self.0.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str() {
            ".inf" if self.0.starts_with('-') => f64::NEG_INFINITY,
            ".inf" => f64::INFINITY,
            _ => self.0.parse().unwrap_or(f64::NAN),
        }
    }

    /// Whether it is none that any notation could write: infinite, or no number.
    pub(crate) fn is_finite(&self) -> bool {
        !self.0.to_ascii_lowercase().trim_start_matches(['+', '-']).starts_with(['.']) || self.value().is_finite()
    }

    /// Whether zeros stand in front of it, which YAML drops.
    pub(crate) fn has_leading_zero(&self) -> bool {
        let digits = self.0.trim_start_matches(['+', '-']);
        digits.len() > 1 && digits.starts_with('0') && digits[1..].starts_with(|next: char| next.is_ascii_digit() || next == '_')
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Node {
    /// What the node is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(number) if number.is_whole() => "a whole number",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The text with its place, if it is text.
    pub(crate) fn text(&self) -> Option<At<&str>> {
        match &self.value {
            Value::Text(text) => Some(At::new(text, self.span)),
            _ => None,
        }
    }
}

impl Node {
    /// The tree of what was read from `source`.
    pub(crate) fn build(raw: Spanned<Raw>, source: &str) -> Self {
        let span = span_of(&raw.defined);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool(b) => Value::Bool(b),
            // What the parser made of the number is not asked: it would be rounded.
            Raw::Number => Value::Number(Number(source.get(span.offset..span.offset + span.length).unwrap_or_default().trim().to_owned())),
            Raw::Text(text) => Value::Text(text),
            Raw::List(items) => Value::List(items.into_iter().map(|item| Self::build(item, source)).collect()),
            Raw::Map(entries) => {
                Value::Map(entries.into_iter().map(|(key, value)| (Self::build(key, source), Self::build(value, source))).collect())
            }
        };
        // A block mapping begins with its first key and has no bracket of its own to point at.
        let span = match &value {
            Value::Map(entries) if span.length == 0 => entries.first().map_or(span, |(key, _)| key.span),
            Value::List(items) if span.length == 0 => items.first().map_or(span, |item| item.span),
            _ => span,
        };
        Self { value, span }
    }
}

fn span_of(location: &Location) -> Span {
    let span = location.span();
    let (offset, length) = span.byte_offset().zip(span.byte_len()).unwrap_or((span.offset(), span.len()));
    Span { offset: usize::try_from(offset).unwrap_or(0), length: usize::try_from(length).unwrap_or(0) }
}

/// What the deserializer hands over.
#[derive(Debug)]
pub(crate) enum Raw {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Self>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
