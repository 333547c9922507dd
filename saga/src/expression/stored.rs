//! A template as it is stored with a published definition: the tree that was made when it was published, so that neither a later
//! rule nor a later way to read the text can make another one of it.

use super::program::Program;
use super::template::{Node, Part, Template};
use sagamq_api::JsonText;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// The form of a node in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored<'a> {
    Literal(JsonText),
    Expression(Cow<'a, str>),
    Text(Vec<StoredPart<'a>>),
    List(Vec<Stored<'a>>),
    /// In the order of the text.
    Object(Vec<(Cow<'a, str>, Stored<'a>)>),
}

/// The form of a part of a text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredPart<'a> {
    Literal(Cow<'a, str>),
    Expression(Cow<'a, str>),
}

impl<'a> From<&'a Template> for Stored<'a> {
    fn from(template: &'a Template) -> Self {
        match &*template.node {
            Node::Literal(value) => Self::Literal(value.clone()),
            Node::Expression(program) => Self::Expression(program.source().into()),
            Node::Text(parts) => Self::Text(parts.iter().map(StoredPart::from).collect()),
            Node::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Node::Object(fields) => Self::Object(fields.iter().map(|(key, value)| (key.into(), Self::from(value))).collect()),
        }
    }
}

impl<'a> From<&'a Part> for StoredPart<'a> {
    fn from(part: &'a Part) -> Self {
        match part {
            Part::Literal(text) => Self::Literal(text.into()),
            Part::Expression(program) => Self::Expression(program.source().into()),
        }
    }
}

impl Stored<'_> {
    fn load(self) -> Result<Template, String> {
        Ok(Template::new(match self {
            Self::Literal(value) => Node::Literal(value),
            Self::Expression(source) => Node::Expression(program(&source)?),
            Self::Text(parts) => Node::Text(parts.into_iter().map(StoredPart::load).collect::<Result<_, _>>()?),
            Self::List(items) => Node::Array(items.into_iter().map(Self::load).collect::<Result<_, _>>()?),
            Self::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| Ok((key.into_owned(), value.load()?)));
                Node::Object(fields.collect::<Result<_, String>>()?)
            }
        }))
    }
}

impl StoredPart<'_> {
    fn load(self) -> Result<Part, String> {
        Ok(match self {
            Self::Literal(text) => Part::Literal(text.into_owned()),
            Self::Expression(source) => Part::Expression(program(&source)?),
        })
    }
}

fn program(source: &str) -> Result<Program, String> {
    Program::load(source).map_err(|error| format!("the expression `{source}` cannot be read any more: {error}"))
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Stored::deserialize(deserializer)?.load().map_err(D::Error::custom)
    }
}
