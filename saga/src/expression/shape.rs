//! What a template is made of, for whoever asks what it can come to.

use super::template::{Node, Template};
use sagamq_api::JsonText;

/// What a template is, whatever the scope.
#[derive(Debug)]
pub(crate) enum Shape<'a> {
    /// This value.
    Literal(&'a JsonText),
    /// Whatever its expression gives.
    Expression,
    /// Some text.
    Text,
    /// A list of as many.
    List(&'a [Template]),
    /// An object with these fields.
    Object(&'a [(String, Template)]),
}

impl Template {
    /// What it is made of.
    pub(crate) fn shape(&self) -> Shape<'_> {
        match &*self.node {
            Node::Literal(value) => Shape::Literal(value),
            Node::Expression(_) => Shape::Expression,
            Node::Text(_) => Shape::Text,
            Node::Array(items) => Shape::List(items),
            Node::Object(fields) => Shape::Object(fields),
        }
    }

    /// The value that it gives in every scope, if there is one.
    pub(crate) fn constant(&self) -> Option<serde_json::Value> {
        match self.shape() {
            Shape::Literal(value) => Some(value.to_value()),
            Shape::Expression | Shape::Text => None,
            Shape::List(items) => items.iter().map(Self::constant).collect::<Option<Vec<_>>>().map(Into::into),
            Shape::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| Some((name.clone(), value.constant()?)));
                fields.collect::<Option<serde_json::Map<_, _>>>().map(Into::into)
            }
        }
    }
}
