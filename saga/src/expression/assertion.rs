//! A statement about a saga that is true or false: CEL, with `implies` as one more word.
//!
//! CEL has no implication. `A implies B` is read as `!(A) || (B)`: the word must stand outside of brackets and of text in quotes, binds less
//! than anything of CEL's, and groups to the right (`A implies B implies C` is `A implies (B implies C)`).

use super::compile_error::CompileError;
use super::guard::guard;
use super::meter::{metered, verdict};
use super::program::{compile_tree, context};
use super::reason::describe;
use super::reference::Reference;
use super::value::{Needs, to_cel, to_json};
use cel::common::ast::IdedExpr;
use core::ops::Range;
use sagamq_api::JsonText;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The word between a condition and what follows from it.
const IMPLIES: &str = "implies";

/// A compiled statement. A copy costs one reference.
#[derive(Clone, Debug)]
pub struct Assertion(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    source: String,
    /// What `implies` stands between; the last one is what follows.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    tree: IdedExpr,
    needs: BTreeMap<String, Needs>,
    references: Vec<Reference>,
}

/// What a statement is in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    Holds,
    /// It holds because its condition does not: nothing was asked.
    Void,
    /// It does not hold.
    Fails,
}

impl Assertion {
    /// Compiles a statement.
    ///
    /// # Errors
    /// When a part of it is no CEL, or passes a bound of expressions.
    pub fn compile(source: &str) -> Result<Self, CompileError> {
        let parts = split(source).into_iter().map(|range| {
            let (tree, references) = compile_tree(source, range)?;
            let mut needs = BTreeMap::<String, Needs>::new();
            for reference in &references {
                needs.entry(reference.root.clone()).or_default().add(&reference.path);
            }
            Ok(Part { tree: guard(tree), needs, references })
        });
        Ok(Self(Arc::new(Compiled { source: source.to_owned(), parts: parts.collect::<Result<_, CompileError>>()? })))
    }

    /// Its text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The variables it refers to, with their places in its text.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.parts.iter().flat_map(|part| &part.references)
    }

    /// Whether it has a condition that may not hold.
    #[must_use]
    pub fn has_condition(&self) -> bool {
        self.0.parts.len() > 1
    }

    /// Whether it holds where the variables have these values.
    ///
    /// # Errors
    /// When a part of it has no value there, or one that is neither true nor false.
    pub fn evaluate(&self, variables: &[(&str, &JsonText)]) -> Result<Truth, String> {
        metered(|| {
            let (conclusion, conditions) = self.0.parts.split_last().expect("a text has a part");
            for condition in conditions {
                if !is_true(condition, variables)? {
                    return Ok(Truth::Void);
                }
            }
            Ok(if is_true(conclusion, variables)? { Truth::Holds } else { Truth::Fails })
        })
    }
}

fn is_true(part: &Part, variables: &[(&str, &JsonText)]) -> Result<bool, String> {
    let mut context = context();
    for (root, needs) in &part.needs {
        if let Some((_, value)) = variables.iter().find(|(name, _)| name == root) {
            context.add_variable_as_val(root, to_cel(value.as_str(), needs).map_err(|spent| spent.to_string())?);
        }
    }
    let value = catch_unwind(AssertUnwindSafe(|| cel::Value::resolve_val(&part.tree, &context)));
    let value = value.map_err(|_| "the interpreter failed".to_owned())?;
    verdict().map_err(|spent| spent.to_string())?;
    match to_json(value.map_err(|error| describe(&error))?.as_ref())?.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("it is neither true nor false but {}", other.chars().take(80).collect::<String>())),
    }
}

/// The parts between which `implies` stands.
fn split(source: &str) -> Vec<Range<usize>> {
    let (mut parts, mut begin, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    let bytes = source.as_bytes();
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (None, b'i') if depth == 0 && source[at..].starts_with(IMPLIES) => {
                let end = at + IMPLIES.len();
                if !is_word(at.checked_sub(1).map(|before| &bytes[before])) && !is_word(bytes.get(end)) {
                    parts.push(begin..at);
                    (begin, at) = (end, end);
                    continue;
                }
            }
            (None, _) => {}
        }
        at += 1;
    }
    parts.push(begin..source.len());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn truth(source: &str) -> Result<Truth, String> {
        let steps = JsonText::from(json!({ "a": { "done": true }, "b": { "done": false } }));
        Assertion::compile(source).expect("legal").evaluate(&[("steps", &steps)])
    }

    #[test]
    fn implies_is_weaker_than_anything_and_groups_to_the_right() {
        for (source, expected) in [
            ("steps.a.done", Truth::Holds),
            ("steps.b.done", Truth::Fails),
            ("steps.b.done implies steps.a.done", Truth::Void),
            ("steps.a.done implies steps.b.done", Truth::Fails),
            ("steps.a.done || steps.b.done implies steps.b.done || steps.a.done", Truth::Holds),
            ("steps.a.done implies steps.b.done implies steps.b.done", Truth::Void),
            ("steps.a.done implies true implies steps.b.done", Truth::Fails),
            ("' implies ' == ' implies '", Truth::Holds),
            ("'it\\'s implies' != \"x\" implies steps.a.done", Truth::Holds),
        ] {
            assert_eq!(truth(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn the_word_stands_alone_outside_of_brackets() {
        assert_eq!(split("implied implies impliesx").len(), 2);
        assert_eq!(split("steps.implies").len(), 1);
        assert!(Assertion::compile("(steps.a.done implies steps.b.done)").is_err(), "it is no word of CEL");
        assert!(Assertion::compile("steps.a.done implies").is_err(), "nothing follows");
    }

    #[test]
    fn what_is_neither_true_nor_false_is_an_error() {
        assert!(truth("steps.a").is_err());
        assert!(truth("steps.c.done").is_err());
    }
}
