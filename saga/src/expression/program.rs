//! One compiled CEL expression: what it refers to, and its value in a scope.

use super::compile_error::CompileError;
use super::condition::is_never_bool;
use super::fields;
use super::functions;
use super::guard::guard;
use super::implied::Implied;
use super::meter::{metered, verdict};
use super::reason::describe;
use super::reference::{Comparison, Reference, Survey, is_optional, survey};
use super::scope::Scope;
use super::value::{Needs, map, to_cel, to_json};
use super::weigh;
use cel::common::ast::{Expr, IdedExpr};
use cel::common::value::Val;
use cel::{Context, Env, ParseErrors};
use core::ops::Range;
use sagamq_api::{JsonText, StepId};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 2_048;

/// Deepest tree of an expression. Evaluation recurses that deep, on the stack of the task that calls it.
pub const EXPRESSION_DEPTH_MAX: usize = 64;

/// Deepest nesting of `map`, `filter`, `all`, `exists`: bounds the run time by the square of the input.
pub const EXPRESSION_LOOPS_MAX: usize = 2;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    weigh::declare(&mut environment);
    Arc::new(environment)
});

/// Why an expression has no value in a scope. The same scope always gives the same error: trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`${{ {expression} }}`: {reason}")]
pub struct ExpressionError {
    /// The expression.
    pub expression: String,
    /// What went wrong.
    pub reason: String,
}

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Program {
    source: String,
    plan: Plan,
    references: Vec<Reference>,
    implied: Implied,
    is_never_bool: bool,
    comparisons: Vec<Comparison>,
    is_long: bool,
}

/// How the value is found.
#[derive(Debug)]
enum Plan {
    /// By walking the fields of one variable: no conversion, and what comes out is exactly what went in.
    Path,
    /// By the interpreter: the guarded tree, and what it needs of each variable.
    Tree(IdedExpr, BTreeMap<String, Needs>),
}

impl Program {
    /// Compiles the expression that stands at `range` of `string`. Offsets of errors and references count from the begin of `string`.
    pub(crate) fn compile(string: &str, range: Range<usize>) -> Result<Self, CompileError> {
        let (text, tree, survey) = checked(string, range)?;
        Ok(Self::planned(text, tree, survey))
    }

    /// An expression that was compiled when its definition was published. What is checked then is not checked again: a rule that came
    /// later must not stop a saga that runs.
    pub(crate) fn load(source: &str) -> Result<Self, CompileError> {
        let (tree, survey) = parse(source)?;
        Ok(Self::planned(source, tree, survey))
    }

    fn planned(source: &str, tree: IdedExpr, survey: Survey) -> Self {
        let references = survey.references;
        let is_never_bool = is_never_bool(&tree);
        let plan = if is_path(&tree) && references.len() == 1 {
            Plan::Path
        } else {
            let mut needs = BTreeMap::<String, Needs>::new();
            for reference in &references {
                needs.entry(reference.root.clone()).or_default().add(&reference.path);
            }
            Plan::Tree(guard(tree), needs)
        };
        let is_long = survey.loops > 0 || survey.functions.iter().any(|called| called.name == "matches");
        let Survey { implied, comparisons, .. } = survey;
        Self { source: source.to_owned(), plan, references, implied, is_never_bool, comparisons, is_long }
    }

    /// Its text.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The variables it refers to, in the order of the text.
    pub(crate) fn references(&self) -> &[Reference] {
        &self.references
    }

    /// What is there when it is true.
    pub(crate) fn implied(&self) -> &Implied {
        &self.implied
    }

    /// Whether it is neither true nor false, whatever it is evaluated with.
    pub(crate) fn is_never_bool(&self) -> bool {
        self.is_never_bool
    }

    /// What it compares with values that stand in it.
    pub(crate) fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// The variable with fields that it reads, if it does nothing else.
    pub(crate) fn as_path(&self) -> Option<&Reference> {
        matches!(self.plan, Plan::Path).then(|| &self.references[0])
    }

    /// Whether evaluating it may take more than a moment: it has a loop, or a regular expression.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long
    }

    /// The value in the scope, as JSON text.
    pub(crate) fn evaluate<'s>(&self, scope: &Scope<'s>) -> Result<Cow<'s, str>, ExpressionError> {
        match &self.plan {
            Plan::Path => walk(&self.references[0], scope),
            Plan::Tree(tree, needs) => metered(|| interpret(tree, needs, scope)).map(Cow::Owned),
        }
        .map_err(|reason| self.error(reason))
    }

    pub(crate) fn error(&self, reason: String) -> ExpressionError {
        ExpressionError { expression: self.source.clone(), reason }
    }
}

/// The text at `range` without spaces around it, its tree, and what is in it; it passes no bound.
fn checked(string: &str, range: Range<usize>) -> Result<(&str, IdedExpr, Survey), CompileError> {
    let source = &string[range.clone()];
    let text = source.trim();
    let lead = range.start + source.len() - source.trim_start().len();
    if text.is_empty() {
        return Err(CompileError::new("the expression is empty", range.start));
    }
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!("the expression has {} bytes, at most {EXPRESSION_BYTES_MAX} are allowed", text.len());
        return Err(CompileError::new(message, lead));
    }
    let (tree, mut survey) = parse(text).map_err(|error| CompileError { offset: error.offset + lead, ..error })?;
    check_bounds(&survey).map_err(|message| CompileError::new(message, lead))?;
    functions::check(text, &survey).map_err(|error| CompileError { offset: error.offset + lead, ..error })?;
    if is_optional(&tree) {
        return Err(CompileError::new("this is an optional value, which JSON has none of: add `.orValue(...)`", lead));
    }
    for reference in &mut survey.references {
        reference.offset += lead;
    }
    for comparison in &mut survey.comparisons {
        comparison.offset += lead;
    }
    Ok((text, tree, survey))
}

/// The tree of the expression that stands at `range` of `string`, and what it refers to, with offsets from the begin of `string`.
pub(super) fn compile_tree(string: &str, range: Range<usize>) -> Result<(IdedExpr, Vec<Reference>), CompileError> {
    checked(string, range).map(|(_, tree, survey)| (tree, survey.references))
}

/// Where a tree is evaluated: no variable is set.
pub(super) fn context() -> Context<'static, 'static> {
    Context::with_env(Arc::clone(&ENVIRONMENT))
}

fn interpret(tree: &IdedExpr, needs: &BTreeMap<String, Needs>, scope: &Scope<'_>) -> Result<String, String> {
    let mut context = context();
    for (root, needs) in needs {
        if let Some(value) = variable(root, needs, scope)? {
            context.add_variable_as_val(root, value);
        }
    }
    // The interpreter has no known panic; one that is found later must not take a shard's task with it.
    let value =
        catch_unwind(AssertUnwindSafe(|| cel::Value::resolve_val(tree, &context))).map_err(|_| "the interpreter failed".to_owned())?;
    // Whatever became of a value that was too much: `||` and `exists` go on after an error.
    verdict().map_err(|spent| spent.to_string())?;
    to_json(value.map_err(|error| describe(&error))?.as_ref())
}

fn variable(root: &str, needs: &Needs, scope: &Scope<'_>) -> Result<Option<Box<dyn Val>>, String> {
    let value = match root {
        "input" => to_cel(scope.input.as_str(), needs).map(Some),
        "steps" => {
            let steps = needs.fields().map(|(id, needs)| {
                let output = output(scope, id).zip(needs.field("output")).map(|(output, needs)| to_cel(output.as_str(), needs));
                // A step without an output is there without one, so that `has(steps.pay.output)` is false and no error.
                Ok((id.to_owned(), map(output.map(|output| output.map(|output| ("output".to_owned(), output))).into_iter())?))
            });
            map(steps).map(Some)
        }
        "saga" => saga(scope).map(|saga| to_cel(saga.as_str(), needs)).transpose(),
        "failure" => failure(scope).map(|failure| to_cel(failure.as_str(), needs)).transpose(),
        "item" => scope.item.map(|item| to_cel(item.value.as_str(), needs)).transpose(),
        "index" => scope.item.map(|item| to_cel(&item.index.to_string(), needs)).transpose(),
        _ => Ok(None),
    };
    value.map_err(|spent| spent.to_string())
}

fn parse(text: &str) -> Result<(IdedExpr, Survey), CompileError> {
    let parser = ENVIRONMENT.parser().max_recursion_depth(u16::try_from(EXPRESSION_DEPTH_MAX).unwrap_or(u16::MAX));
    // The generated parser has panicked on odd input before; a definition of a stranger must not unwind through the server.
    let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse_with_source_info(text)));
    match parsed {
        Ok(Ok((tree, info))) => {
            let survey = survey(&tree, &info);
            Ok((tree, survey))
        }
        Ok(Err(errors)) => Err(first_error(text, &errors)),
        Err(_) => Err(CompileError::new("this is no expression", 0)),
    }
}

fn check_bounds(survey: &Survey) -> Result<(), String> {
    if survey.depth > EXPRESSION_DEPTH_MAX {
        return Err(format!("the expression is nested {} deep, at most {EXPRESSION_DEPTH_MAX} are allowed", survey.depth));
    }
    if survey.loops > EXPRESSION_LOOPS_MAX {
        return Err(format!("loops are nested {} deep, at most {EXPRESSION_LOOPS_MAX} are allowed", survey.loops));
    }
    Ok(())
}

/// The parser's first error in words of its user. It names every token that could follow; that helps nobody and is left out.
fn first_error(text: &str, errors: &ParseErrors) -> CompileError {
    let chosen = errors.errors.iter().find(|error| !error.msg.starts_with("Incomplete")).or(errors.errors.first());
    let Some(error) = chosen else { return CompileError::new("this is no expression", 0) };
    if error.msg.contains("Recursion limit") {
        return CompileError::new(format!("the expression is nested more than {EXPRESSION_DEPTH_MAX} deep"), 0);
    }
    let offset = byte_offset(text, error.pos);
    let what = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    let what = what.split(" expecting ").next().unwrap_or(what);
    let message = if offset >= text.len() {
        "the expression ends too early".to_owned()
    } else if let Some(found) = what.strip_prefix("token recognition error at: ") {
        format!("{found} cannot be read")
    } else if let Some((_, found)) = what.split_once("input ").filter(|(kind, _)| matches!(*kind, "mismatched " | "extraneous ")) {
        format!("{found} does not belong here")
    } else {
        what.to_owned()
    };
    CompileError::new(message, offset)
}

/// The byte offset of a line and a column (in characters), both counted from 1.
fn byte_offset(text: &str, (line, column): (isize, isize)) -> usize {
    let line = usize::try_from(line.saturating_sub(1)).unwrap_or(0);
    let column = usize::try_from(column.saturating_sub(1)).unwrap_or(0);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let within = text[before..].char_indices().nth(column).map_or(text.len() - before, |(at, _)| at);
    before + within
}

/// Whether the tree is a variable with fields read from it, and nothing else.
fn is_path(tree: &IdedExpr) -> bool {
    let mut at = tree;
    loop {
        match &at.expr {
            Expr::Ident(_) => return true,
            Expr::Select(select) if !select.test => at = &select.operand,
            _ => return false,
        }
    }
}

fn walk<'s>(reference: &Reference, scope: &Scope<'s>) -> Result<Cow<'s, str>, String> {
    match (reference.root.as_str(), reference.path.as_slice()) {
        ("input", path) => fields::walk(scope.input.as_str(), path).map(Cow::Borrowed),
        ("steps", [id, word, path @ ..]) if word == "output" => {
            let output = output(scope, id).ok_or_else(|| format!("step `{id}` has no output"))?;
            fields::walk(output.as_str(), path).map(Cow::Borrowed)
        }
        ("saga", path) => within(saga(scope).ok_or("there is no `saga` yet")?.as_str(), path),
        ("failure", path) => within(failure(scope).ok_or("there is no failure")?.as_str(), path),
        ("item", path) => fields::walk(scope.item.ok_or("there is no item")?.value.as_str(), path).map(Cow::Borrowed),
        ("index", path) => within(&scope.item.ok_or("there is no item")?.index.to_string(), path),
        (root, _) => Err(format!("there is no `{root}`")),
    }
}

fn within<'s>(json: &str, path: &[String]) -> Result<Cow<'s, str>, String> {
    fields::walk(json, path).map(|found| Cow::Owned(found.to_owned()))
}

fn output<'s>(scope: &Scope<'s>, id: &str) -> Option<&'s JsonText> {
    scope.outputs.output(&id.parse::<StepId>().ok()?)
}

fn saga(scope: &Scope<'_>) -> Option<JsonText> {
    let saga = scope.saga?;
    Some(json!({"id": saga.id, "name": saga.name, "version": saga.version, "key": saga.key}).into())
}

fn failure(scope: &Scope<'_>) -> Option<JsonText> {
    let failure = scope.failure?;
    Some(json!({"code": failure.code, "message": failure.message}).into())
}
