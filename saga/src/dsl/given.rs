//! [`Given`]: where the values stand that a step gives to the saga that it starts.

use super::node::{Node, Value as Yaml};
use super::span::Span;
use std::collections::BTreeMap;

/// Where a `with` stands, and the fields in it, by the names that lead to them.
#[derive(Debug)]
pub(crate) struct Given {
    pub(super) whole: Span,
    fields: BTreeMap<Vec<String>, FieldAt>,
}

/// Where a field stands.
#[derive(Clone, Copy, Debug)]
struct FieldAt {
    name: Span,
    value: Span,
}

impl Given {
    /// Nothing is given: what is said of it is said there.
    pub(super) const fn nothing(whole: Span) -> Self {
        Self { whole, fields: BTreeMap::new() }
    }

    pub(super) fn of(node: &Node) -> Self {
        let (mut fields, mut open) = (BTreeMap::new(), vec![(Vec::new(), node)]);
        while let Some((path, node)) = open.pop() {
            let Yaml::Map(entries) = &node.value else { continue };
            for (name, value) in entries {
                let Some(text) = name.text() else { continue };
                let path: Vec<String> = path.iter().cloned().chain([text.value.to_owned()]).collect();
                fields.insert(path.clone(), FieldAt { name: name.span, value: value.span });
                open.push((path, value));
            }
        }
        Self { whole: node.span, fields }
    }

    pub(super) fn value(&self, path: &[String]) -> Span {
        self.fields.get(path).map_or(self.whole, |at| at.value)
    }

    pub(super) fn name(&self, path: &[String]) -> Span {
        self.fields.get(path).map_or(self.whole, |at| at.name)
    }
}
