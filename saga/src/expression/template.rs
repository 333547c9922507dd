//! A JSON value in which strings may hold `${ }` expressions.

use super::compile_error::CompileError;
use super::implied::Implied;
use super::meter::{charge_text, metered};
use super::program::{ExpressionError, Program};
use super::reference::{Comparison, Reference};
use super::scope::Scope;
use super::text::{Piece, split};
use sagamq_api::JsonText;
use sagamq_api::json::depth;
use sagamq_api::limits::{SAGA_JSON_DEPTH_MAX, SAGA_PAYLOAD_BYTES_MAX};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// What most values take.
const RENDERED_BYTES: usize = 128;

/// A JSON tree with expressions. A string that is one `${ expression }` and nothing else becomes its value, of whatever type; a
/// string with text around it becomes text; all else stands for itself. Compiled once; a copy costs one reference.
#[derive(Clone, Debug)]
pub struct Template {
    pub(super) node: Arc<Node>,
    is_long: bool,
}

#[derive(Debug)]
pub(super) enum Node {
    Literal(JsonText),
    Expression(Program),
    Text(Vec<Part>),
    Array(Vec<Template>),
    Object(Vec<(String, Template)>),
}

#[derive(Debug)]
pub(super) enum Part {
    Literal(String),
    Expression(Program),
}

impl Template {
    pub(super) fn new(node: Node) -> Self {
        let is_long = match &node {
            Node::Literal(_) => false,
            Node::Expression(program) => program.is_long(),
            Node::Text(parts) => parts.iter().any(|part| matches!(part, Part::Expression(program) if program.is_long())),
            Node::Array(items) => items.iter().any(Self::is_long),
            Node::Object(fields) => fields.iter().any(|(_, value)| value.is_long()),
        };
        Self { node: Arc::new(node), is_long }
    }

    /// Whether evaluating it may take more than a moment: one of its expressions has a loop, or a regular expression.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.is_long
    }

    /// A value that stands for itself, whatever is in it.
    #[must_use]
    pub fn literal(value: impl Into<JsonText>) -> Self {
        Self::new(Node::Literal(value.into()))
    }

    /// A list of templates.
    #[must_use]
    pub fn array(items: Vec<Self>) -> Self {
        Self::new(Node::Array(items))
    }

    /// An object of templates. Keys stand for themselves.
    #[must_use]
    pub fn object(fields: Vec<(String, Self)>) -> Self {
        Self::new(Node::Object(fields))
    }

    /// A string with or without expressions.
    ///
    /// # Errors
    /// One for each expression that is none, with its place in `text`.
    pub fn text(text: &str) -> Result<Self, Vec<CompileError>> {
        let pieces = split(text).map_err(|open| {
            let message = if open.in_quotes {
                "text in quotes begins in this expression and does not end"
            } else {
                "`${` has no `}`; write `$${` for a literal `${`"
            };
            vec![CompileError { is_unclosed: true, ..CompileError::new(message, open.at) }]
        })?;
        let mut errors = Vec::new();
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Literal(literal) => parts.push(Part::Literal(literal)),
                Piece::Expression(range) => match Program::compile(text, range) {
                    Ok(program) => parts.push(Part::Expression(program)),
                    Err(error) => errors.push(error),
                },
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let literal = |text: String| Self::literal(Value::String(text));
        Ok(match (parts.pop(), parts.is_empty()) {
            (None, _) => literal(String::new()),
            (Some(Part::Literal(text)), true) => literal(text),
            (Some(Part::Expression(program)), true) => Self::new(Node::Expression(program)),
            (Some(last), false) => {
                parts.push(last);
                Self::new(Node::Text(parts))
            }
        })
    }

    /// The template of a JSON value, whose strings may hold expressions.
    ///
    /// # Errors
    /// One for each expression that is none, with its place in its string.
    pub fn compile(value: &Value) -> Result<Self, Vec<CompileError>> {
        match value {
            Value::String(text) => Self::text(text),
            Value::Array(items) => collect(items.iter().map(Self::compile)).map(Self::array),
            Value::Object(fields) => collect(fields.iter().map(|(key, value)| Ok((key.clone(), Self::compile(value)?)))).map(Self::object),
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Self::literal(value.clone())),
        }
    }

    /// Whether it gives the same value in every scope.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        match &*self.node {
            Node::Literal(_) => true,
            Node::Expression(_) | Node::Text(_) => false,
            Node::Array(items) => items.iter().all(Self::is_literal),
            Node::Object(fields) => fields.iter().all(|(_, value)| value.is_literal()),
        }
    }

    /// Whether it is one expression and nothing else.
    #[must_use]
    pub fn is_expression(&self) -> bool {
        matches!(&*self.node, Node::Expression(_))
    }

    /// Whether it is an expression that is neither true nor false, whatever it is evaluated with.
    #[must_use]
    pub fn is_never_bool(&self) -> bool {
        matches!(&*self.node, Node::Expression(program) if program.is_never_bool())
    }

    /// What is there when it is true, if it is one expression.
    pub(crate) fn implied(&self) -> Implied {
        match &*self.node {
            Node::Expression(program) => program.implied().clone(),
            Node::Literal(_) | Node::Text(_) | Node::Array(_) | Node::Object(_) => Implied::default(),
        }
    }

    /// The texts of its expressions.
    pub(crate) fn sources(&self) -> Vec<&str> {
        self.programs().into_iter().map(Program::source).collect()
    }

    /// Every variable its expressions refer to.
    #[must_use]
    pub fn references(&self) -> Vec<&Reference> {
        self.programs().into_iter().flat_map(Program::references).collect()
    }

    /// Every variable that its expressions compare with a value that stands there.
    #[must_use]
    pub fn comparisons(&self) -> Vec<&Comparison> {
        self.programs().into_iter().flat_map(Program::comparisons).collect()
    }

    /// The variable with fields that it reads, if it is one expression that does nothing else.
    #[must_use]
    pub fn as_path(&self) -> Option<&Reference> {
        match &*self.node {
            Node::Expression(program) => program.as_path(),
            Node::Literal(_) | Node::Text(_) | Node::Array(_) | Node::Object(_) => None,
        }
    }

    /// Its text, with expressions in `${ }`.
    pub(crate) fn shown(&self) -> String {
        let of_program = |program: &Program| format!("${{ {} }}", program.source().trim());
        match &*self.node {
            Node::Literal(value) => value.read().unwrap_or_else(|_| value.as_str().to_owned()),
            Node::Expression(program) => of_program(program),
            Node::Text(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Literal(text) => text.clone(),
                    Part::Expression(program) => of_program(program),
                })
                .collect(),
            Node::Array(items) => format!("[{}]", items.iter().map(Self::shown).collect::<Vec<_>>().join(", ")),
            Node::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| format!("{name}: {}", value.shown()));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// What its text begins with in every scope.
    pub(crate) fn literal_prefix(&self) -> String {
        match &*self.node {
            Node::Literal(_) => self.shown(),
            Node::Expression(program) => leading_text(program.source()).to_owned(),
            Node::Text(parts) => match parts.first() {
                Some(Part::Literal(text)) => text.clone(),
                Some(Part::Expression(program)) => leading_text(program.source()).to_owned(),
                None => String::new(),
            },
            Node::Array(_) | Node::Object(_) => String::new(),
        }
    }

    /// The text of its expression, if it is one and nothing else.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        match &*self.node {
            Node::Expression(program) => Some(program.source()),
            Node::Literal(_) | Node::Text(_) | Node::Array(_) | Node::Object(_) => None,
        }
    }

    /// Its expressions, in the order of the text.
    fn programs(&self) -> Vec<&Program> {
        match &*self.node {
            Node::Literal(_) => Vec::new(),
            Node::Expression(program) => vec![program],
            Node::Text(parts) => parts.iter().filter_map(Part::program).collect(),
            Node::Array(items) => items.iter().flat_map(Self::programs).collect(),
            Node::Object(fields) => fields.iter().flat_map(|(_, value)| value.programs()).collect(),
        }
    }

    /// The value in the scope.
    ///
    /// # Errors
    /// When an expression has no value there: a field that is missing, types that do not go together; or when the value is larger or
    /// nests deeper than a payload of a saga may. The same scope always gives the same error.
    pub fn render(&self, scope: &Scope<'_>) -> Result<JsonText, RenderError> {
        self.render_known(scope, &|_| true)
    }

    /// As [`Template::render`], where every expression that refers to something unknown is `null`: what can be told before all is known.
    ///
    /// # Errors
    /// As [`Template::render`], for what is known.
    pub fn render_known(&self, scope: &Scope<'_>, is_known: &dyn Fn(&Reference) -> bool) -> Result<JsonText, RenderError> {
        let mut text = Rendered(String::with_capacity(RENDERED_BYTES));
        let sight = Sight { scope, is_known };
        metered(|| self.write(&sight, &mut text))?;
        let too_deep = |levels| RenderError::TooDeep { levels };
        if depth(&text.0) > SAGA_JSON_DEPTH_MAX {
            return Err(too_deep(depth(&text.0)));
        }
        JsonText::parse(text.0.as_bytes()).map_err(|_| too_deep(depth(&text.0)))
    }

    fn write(&self, sight: &Sight<'_>, out: &mut Rendered) -> Result<(), RenderError> {
        match &*self.node {
            Node::Literal(value) => out.push(value.as_str()),
            Node::Expression(program) => out.push(&sight.evaluate(program)?),
            Node::Text(parts) => {
                let mut text = Rendered(String::new());
                parts.iter().try_for_each(|part| part.write(sight, &mut text))?;
                out.push_text(&text.0)
            }
            Node::Array(items) => {
                out.push("[")?;
                for (at, item) in items.iter().enumerate() {
                    out.push(if at == 0 { "" } else { "," })?;
                    item.write(sight, out)?;
                }
                out.push("]")
            }
            Node::Object(fields) => {
                out.push("{")?;
                for (at, (key, value)) in fields.iter().enumerate() {
                    out.push(if at == 0 { "" } else { "," })?;
                    out.push_text(key)?;
                    out.push(":")?;
                    value.write(sight, out)?;
                }
                out.push("}")
            }
        }
    }
}

/// A scope, and which part of it is known.
struct Sight<'a> {
    scope: &'a Scope<'a>,
    is_known: &'a dyn Fn(&Reference) -> bool,
}

impl<'a> Sight<'a> {
    fn evaluate(&self, program: &Program) -> Result<Cow<'a, str>, ExpressionError> {
        if program.references().iter().all(self.is_known) { program.evaluate(self.scope) } else { Ok(Cow::Borrowed("null")) }
    }
}

/// Why a template has no value in a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// One of its expressions has none.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// The decision that it is for takes too much.
    #[error("{0}")]
    Spent(String),
    /// The value is larger than a payload may be.
    #[error("the value has more than {SAGA_PAYLOAD_BYTES_MAX} bytes")]
    TooLarge,
    /// The value nests deeper than what stores it can read back.
    #[error("the value nests {levels} levels deep, at most {SAGA_JSON_DEPTH_MAX} are allowed")]
    TooDeep {
        /// Its levels.
        levels: usize,
    },
}

/// Text that stops growing at the bound of a payload.
struct Rendered(String);

impl Rendered {
    fn push(&mut self, text: &str) -> Result<(), RenderError> {
        if self.0.len() + text.len() > SAGA_PAYLOAD_BYTES_MAX {
            return Err(RenderError::TooLarge);
        }
        charge_text(text).map_err(|spent| RenderError::Spent(spent.to_string()))?;
        self.0.push_str(text);
        Ok(())
    }

    fn push_text(&mut self, text: &str) -> Result<(), RenderError> {
        self.push(&serde_json::to_string(text).expect("text is JSON"))
    }
}

impl Part {
    fn program(&self) -> Option<&Program> {
        match self {
            Self::Literal(_) => None,
            Self::Expression(program) => Some(program),
        }
    }

    /// Text as it is; anything else as JSON.
    fn write(&self, sight: &Sight<'_>, out: &mut Rendered) -> Result<(), RenderError> {
        match self {
            Self::Literal(text) => out.push(text),
            Self::Expression(program) => {
                let value = sight.evaluate(program)?;
                if value.starts_with('"') { out.push(&unquoted(program, &value)?) } else { out.push(&value) }
            }
        }
    }
}

/// The text that an expression begins with, if it is a text with something added to it.
fn leading_text(source: &str) -> &str {
    let source = source.trim_start();
    let Some(quote) = source.chars().next().filter(|quote| ['"', '\''].contains(quote)) else { return "" };
    match source[1..].split_once(quote) {
        Some((text, rest)) if !text.contains('\\') && (rest.trim().is_empty() || rest.trim_start().starts_with('+')) => text,
        _ => "",
    }
}

fn unquoted(program: &Program, json: &str) -> Result<String, ExpressionError> {
    // A text with half a surrogate pair is JSON, but no text.
    serde_json::from_str(json).map_err(|error| program.error(error.to_string()))
}

fn collect<T>(results: impl Iterator<Item = Result<T, Vec<CompileError>>>) -> Result<Vec<T>, Vec<CompileError>> {
    let mut values = Vec::new();
    let mut errors = Vec::new();
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(errors) }
}
