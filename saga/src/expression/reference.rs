//! What an expression refers to, found without evaluating it: the linter proves with it that everything is there at run time.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use cel::common::types::CelString;

/// A variable of an expression with the fields that are read from it, for example `steps.pay.output.receipt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The variable, for example `steps`.
    pub root: String,
    /// The fields as far as they are known without evaluating, for example `pay`, `output`, `receipt`.
    pub path: Vec<String>,
    /// Whether the expression only asks if it is there (`has()`), or takes its absence (`.?`).
    pub optional: bool,
    /// Where the variable stands in the string that holds the expression, in bytes.
    pub offset: usize,
    /// Length of the variable's name in bytes.
    pub length: usize,
}

/// What was found in the tree of an expression.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Every free variable, in the order of the tree.
    pub(crate) references: Vec<Reference>,
    /// Names of the functions that are called, with their place.
    pub(crate) functions: Vec<(String, usize)>,
    /// Depth of the tree: evaluating it takes as many nested calls.
    pub(crate) depth: usize,
    /// How deep `map`, `filter`, `all`, `exists` are nested: the degree of the polynomial that bounds the run time.
    pub(crate) loops: usize,
}

/// Names of types, which are values of their own: `type(input.a) == int`.
const TYPES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

struct Visit<'e> {
    node: &'e IdedExpr,
    bound: Vec<&'e str>,
    depth: usize,
    loops: usize,
}

/// Surveys a tree with a stack of its own, so that no tree is too deep for it.
pub(crate) fn survey(root: &IdedExpr, info: &SourceInfo) -> Survey {
    let mut survey = Survey::default();
    let mut open = vec![Visit { node: root, bound: Vec::new(), depth: 1, loops: 0 }];
    while let Some(visit) = open.pop() {
        survey.depth = survey.depth.max(visit.depth);
        survey.loops = survey.loops.max(visit.loops);
        if let Some((reference, name)) = chain(visit.node, info) {
            if !visit.bound.contains(&name) && !name.starts_with('@') && !TYPES.contains(&name) {
                survey.references.push(reference);
            }
            survey.depth = survey.depth.max(visit.depth + chain_length(visit.node));
            push_dynamic_parts(&mut open, &visit);
            continue;
        }
        if let Expr::Call(call) = &visit.node.expr {
            let is_optional = call.target.as_ref().is_some_and(|target| matches!(&target.expr, Expr::Ident(name) if name == "optional"));
            if is_optional {
                // A function with a name of two words, not a variable.
                survey.functions.push((format!("optional.{}", call.func_name), offset(visit.node, info).0));
                let inner = |node| Visit { node, bound: visit.bound.clone(), depth: visit.depth + 1, loops: visit.loops };
                open.extend(call.args.iter().map(inner));
                continue;
            }
            survey.functions.push((call.func_name.clone(), offset(visit.node, info).0));
        }
        push_children(&mut open, &visit);
    }
    survey.references.sort_by_key(|reference| reference.offset);
    survey
}

fn push_children<'e>(open: &mut Vec<Visit<'e>>, visit: &Visit<'e>) {
    let mut push = |node: &'e IdedExpr| open.push(Visit { node, bound: visit.bound.clone(), depth: visit.depth + 1, loops: visit.loops });
    match &visit.node.expr {
        Expr::Call(call) => call.target.iter().map(AsRef::as_ref).chain(&call.args).for_each(push),
        Expr::List(list) => list.elements.iter().for_each(push),
        Expr::Select(select) => push(&select.operand),
        Expr::Map(map) => map.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => [&entry.key, &entry.value].into_iter().for_each(&mut push),
            EntryExpr::StructField(field) => push(&field.value),
        }),
        Expr::Struct(built) => built.entries.iter().for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => [&entry.key, &entry.value].into_iter().for_each(&mut push),
            EntryExpr::StructField(field) => push(&field.value),
        }),
        Expr::Comprehension(comprehension) => {
            push(&comprehension.iter_range);
            push(&comprehension.accu_init);
            let mut bound = visit.bound.clone();
            bound.push(&comprehension.iter_var);
            bound.extend(comprehension.iter_var2.as_deref());
            bound.push(&comprehension.accu_var);
            for node in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
                open.push(Visit { node, bound: bound.clone(), depth: visit.depth + 1, loops: visit.loops + 1 });
            }
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

/// One link of a chain of field reads: what is read from, the field if it is known, and whether absence is taken.
fn link(node: &IdedExpr) -> Option<(&IdedExpr, Option<&str>, bool)> {
    match &node.expr {
        Expr::Select(select) => Some((&select.operand, Some(&select.field), select.test)),
        Expr::Call(call)
            if call.args.len() == 2
                && matches!(call.func_name.as_str(), operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT) =>
        {
            let field = match &call.args[1].expr {
                Expr::Literal(LiteralValue::String(text)) => Some(text_of(text)),
                _ => None,
            };
            Some((&call.args[0], field, call.func_name != operators::INDEX))
        }
        _ => None,
    }
}

fn text_of<'a>(text: &'a CelString<'static>) -> &'a str {
    text.inner()
}

/// The reference that a chain of field reads on a variable spells.
fn chain<'e>(node: &'e IdedExpr, info: &SourceInfo) -> Option<(Reference, &'e str)> {
    let mut links = Vec::new();
    let mut optional = false;
    let mut at = node;
    while let Some((operand, field, may_be_absent)) = link(at) {
        links.push(field);
        optional |= may_be_absent;
        at = operand;
    }
    let Expr::Ident(name) = &at.expr else { return None };
    let path = links.into_iter().rev().map_while(|field| field.map(str::to_owned)).collect();
    let (offset, length) = offset(at, info);
    Some((Reference { root: name.clone(), path, optional, offset, length: length.max(name.len()) }, name))
}

fn chain_length(node: &IdedExpr) -> usize {
    core::iter::successors(Some(node), |node| link(node).map(|(operand, ..)| operand)).count()
}

/// The computed indices of a chain are expressions of their own.
fn push_dynamic_parts<'e>(open: &mut Vec<Visit<'e>>, visit: &Visit<'e>) {
    let mut at = visit.node;
    while let Some((operand, field, _)) = link(at) {
        if let (None, Expr::Call(call)) = (field, &at.expr) {
            open.push(Visit { node: &call.args[1], bound: visit.bound.clone(), depth: visit.depth + 1, loops: visit.loops });
        }
        at = operand;
    }
}

fn offset(node: &IdedExpr, info: &SourceInfo) -> (usize, usize) {
    let (start, stop) = info.offset_for(node.id).unwrap_or_default();
    (start as usize, (stop as usize + 1).saturating_sub(start as usize))
}
