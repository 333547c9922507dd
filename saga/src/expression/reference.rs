//! What an expression refers to, found without evaluating it: the linter proves with it that everything is there at run time.

use super::implied::Implied;
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use cel::common::types::CelString;
use serde_json::Value;

/// A variable of an expression with the fields that are read from it, for example `steps.pay.output.receipt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The variable, for example `steps`.
    pub root: String,
    /// The fields as far as they are known without evaluating, for example `pay`, `output`, `receipt`.
    pub path: Vec<String>,
    /// Whether the expression only asks if it is there (`has()`), or takes its absence (`.?`).
    pub optional: bool,
    /// Which field of the path is the first whose absence is asked for or taken.
    pub optional_at: Option<usize>,
    /// How many fields of the path are there for sure, from the first on, because a condition around the reference says so.
    pub known: usize,
    /// Where the variable stands in the string that holds the expression, in bytes.
    pub offset: usize,
    /// Length of the variable's name in bytes.
    pub length: usize,
}

/// A variable with fields that is compared with a value that stands there, for example `input.kind == "card"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The variable.
    pub root: String,
    /// The fields that are read from it.
    pub path: Vec<String>,
    /// What it is compared with.
    pub value: Value,
    /// Where that stands in the string that holds the expression, in bytes.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
}

/// What was found in the tree of an expression.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Every free variable, in the order of the tree.
    pub(crate) references: Vec<Reference>,
    /// What is compared with values that stand there.
    pub(crate) comparisons: Vec<Comparison>,
    /// The functions that are called.
    pub(crate) functions: Vec<Called>,
    /// Depth of the tree: evaluating it takes as many nested calls.
    pub(crate) depth: usize,
    /// How deep `map`, `filter`, `all`, `exists` are nested: the degree of the polynomial that bounds the run time.
    pub(crate) loops: usize,
    /// What is there when the whole of it is true.
    pub(crate) implied: Implied,
}

/// A call of a function.
#[derive(Debug)]
pub(crate) struct Called {
    /// Name of the function.
    pub(crate) name: String,
    /// Where the call stands.
    pub(crate) offset: usize,
    /// Whether it is called on a value: `a.f()`.
    pub(crate) on_value: bool,
    /// Number of its arguments, besides that value.
    pub(crate) arguments: usize,
    /// A regular expression that stands there as text, and where.
    pub(crate) pattern: Option<(String, usize)>,
}

/// Names of types, which are values of their own: `type(input.a) == int`.
const TYPES: [&str; 10] = ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"];

struct Visit<'e> {
    node: &'e IdedExpr,
    bound: Vec<&'e str>,
    /// What is there whenever the node is evaluated.
    known: Vec<Known<'e>>,
    depth: usize,
    loops: usize,
}

impl<'e> Visit<'e> {
    fn child(&self, node: &'e IdedExpr) -> Self {
        Self { node, bound: self.bound.clone(), known: self.known.clone(), depth: self.depth + 1, loops: self.loops }
    }

    /// A child that is only evaluated when the condition is `truth`.
    fn child_if(&self, node: &'e IdedExpr, condition: &'e IdedExpr, truth: bool) -> Self {
        let mut child = self.child(node);
        known_if(condition, truth, &mut child.known);
        child
    }
}

/// Surveys a tree with a stack of its own, so that no tree is too deep for it.
pub(crate) fn survey(root: &IdedExpr, info: &SourceInfo) -> Survey {
    let mut survey = Survey { implied: implied(root), ..Survey::default() };
    let mut open = vec![Visit { node: root, bound: Vec::new(), known: Vec::new(), depth: 1, loops: 0 }];
    while let Some(visit) = open.pop() {
        survey.depth = survey.depth.max(visit.depth);
        survey.loops = survey.loops.max(visit.loops);
        if let Some((mut reference, name)) = chain(visit.node, info) {
            reference.known = visit.known.iter().map(|known| known.covers(&reference)).max().unwrap_or(0);
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
                survey.functions.push(called(call, format!("optional.{}", call.func_name), visit.node, info));
                open.extend(call.args.iter().map(|node| visit.child(node)));
                continue;
            }
            survey.functions.push(called(call, call.func_name.clone(), visit.node, info));
            survey.comparisons.extend(comparisons(call, &visit.bound, info));
        }
        push_children(&mut open, &visit);
    }
    survey.references.sort_by_key(|reference| reference.offset);
    survey
}

fn called(call: &CallExpr, name: String, node: &IdedExpr, info: &SourceInfo) -> Called {
    let on_value = call.target.is_some() && !name.starts_with("optional.");
    let pattern = match (name.as_str(), on_value, call.args.as_slice()) {
        ("matches", true, [pattern]) | ("matches", false, [_, pattern]) => match &pattern.expr {
            Expr::Literal(LiteralValue::String(text)) => Some((text_of(text).to_owned(), offset(pattern, info).0)),
            _ => None,
        },
        _ => None,
    };
    Called { name, offset: offset(node, info).0, on_value, arguments: call.args.len(), pattern }
}

/// What a call compares: a whole chain of fields with a value, or with each value of a list.
fn comparisons(call: &CallExpr, bound: &[&str], info: &SourceInfo) -> Vec<Comparison> {
    let (chain, values) = match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::EQUALS | operators::NOT_EQUALS, [one, other]) => match (literal(one), literal(other)) {
            (None, Some(_)) => (one, core::slice::from_ref(other)),
            (Some(_), None) => (other, core::slice::from_ref(one)),
            _ => return Vec::new(),
        },
        (operators::IN, [one, IdedExpr { expr: Expr::List(list), .. }]) => (one, list.elements.as_slice()),
        _ => return Vec::new(),
    };
    // What may be absent is no value, and what is indexed by a number is another one each time.
    let Some(Chain { name, path, optional_at: None, .. }) = Chain::of(chain).filter(|found| found.path.len() + 1 == chain_length(chain))
    else {
        return Vec::new();
    };
    if bound.contains(&name) {
        return Vec::new();
    }
    let path: Vec<String> = path.into_iter().map(str::to_owned).collect();
    let compared = values.iter().filter_map(|node| literal(node).map(|value| (value, offset(node, info))));
    let compared =
        compared.map(|(value, (offset, length))| Comparison { root: name.to_owned(), path: path.clone(), value, offset, length });
    compared.collect()
}

/// The JSON of a value that stands there.
fn literal(node: &IdedExpr) -> Option<Value> {
    match &node.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text_of(text).into()),
        Expr::Literal(LiteralValue::Int(int)) => Some((*int.inner()).into()),
        Expr::Literal(LiteralValue::Boolean(truth)) => Some((*truth.inner()).into()),
        Expr::Literal(LiteralValue::Null) => Some(Value::Null),
        _ => None,
    }
}

fn push_children<'e>(open: &mut Vec<Visit<'e>>, visit: &Visit<'e>) {
    let mut push = |node: &'e IdedExpr| open.push(visit.child(node));
    match &visit.node.expr {
        // What is evaluated only when a condition holds, or only when it does not, knows what that says.
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::CONDITIONAL, [condition, then, other]) => {
                push(condition);
                open.push(visit.child_if(then, condition, true));
                open.push(visit.child_if(other, condition, false));
            }
            (operators::LOGICAL_AND, [first, second]) => {
                push(first);
                open.push(visit.child_if(second, first, true));
            }
            (operators::LOGICAL_OR, [first, second]) => {
                push(first);
                open.push(visit.child_if(second, first, false));
            }
            (_, args) => call.target.iter().map(AsRef::as_ref).chain(args).for_each(push),
        },
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
                open.push(Visit { bound: bound.clone(), loops: visit.loops + 1, ..visit.child(node) });
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

/// A variable with the fields that are read from it.
struct Chain<'e> {
    /// Where the variable stands.
    at: &'e IdedExpr,
    name: &'e str,
    path: Vec<&'e str>,
    optional_at: Option<usize>,
}

impl<'e> Chain<'e> {
    fn of(node: &'e IdedExpr) -> Option<Self> {
        let mut links = Vec::new();
        let mut at = node;
        while let Some((operand, field, may_be_absent)) = link(at) {
            links.push((field, may_be_absent));
            at = operand;
        }
        links.reverse();
        let Expr::Ident(name) = &at.expr else { return None };
        let optional_at = links.iter().position(|(_, may_be_absent)| *may_be_absent);
        let path = links.into_iter().map_while(|(field, _)| field).collect();
        Some(Self { at, name, path, optional_at })
    }
}

/// The reference that a chain of field reads on a variable spells.
fn chain<'e>(node: &'e IdedExpr, info: &SourceInfo) -> Option<(Reference, &'e str)> {
    let Chain { at, name, path, optional_at } = Chain::of(node)?;
    let (offset, length) = offset(at, info);
    let path = path.into_iter().map(str::to_owned).collect();
    let length = length.max(name.len());
    Some((Reference { root: name.to_owned(), path, optional: optional_at.is_some(), optional_at, known: 0, offset, length }, name))
}

/// A variable with fields that are there.
#[derive(Clone, Debug)]
struct Known<'e> {
    root: &'e str,
    path: Vec<&'e str>,
}

impl Known<'_> {
    /// How many fields of the reference are there because these are.
    fn covers(&self, reference: &Reference) -> usize {
        if self.root != reference.root {
            return 0;
        }
        self.path.iter().zip(&reference.path).take_while(|(known, field)| *known == field).count()
    }
}

/// What is there when the condition is `truth`: what `has()` and `hasValue()` asked for.
fn known_if<'e>(condition: &'e IdedExpr, truth: bool, known: &mut Vec<Known<'e>>) {
    let asked = match &condition.expr {
        Expr::Select(select) if select.test && truth => condition,
        Expr::Call(call) => match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, None, [inner]) => return known_if(inner, !truth, known),
            (operators::LOGICAL_AND, None, [first, second]) if truth => {
                known_if(first, true, known);
                return known_if(second, true, known);
            }
            (operators::LOGICAL_OR, None, [first, second]) if !truth => {
                known_if(first, false, known);
                return known_if(second, false, known);
            }
            ("hasValue", Some(target), []) if truth => target,
            _ => return,
        },
        _ => return,
    };
    known.extend(Chain::of(asked).map(|chain| Known { root: chain.name, path: chain.path }));
}

fn implied(root: &IdedExpr) -> Implied {
    let mut known = Vec::new();
    known_if(root, true, &mut known);
    let named = known.into_iter().map(|Known { root, path }| core::iter::once(root).chain(path).map(str::to_owned).collect());
    Implied(named.collect())
}

/// Whether the tree is a chain of field reads that gives an optional value: JSON has none.
pub(crate) fn is_optional(tree: &IdedExpr) -> bool {
    let links = core::iter::successors(Some(tree), |node| link(node).map(|(operand, ..)| operand));
    links.into_iter().any(|node| matches!(&node.expr, Expr::Call(_)) && link(node).is_some_and(|(.., may_be_absent)| may_be_absent))
}

fn chain_length(node: &IdedExpr) -> usize {
    core::iter::successors(Some(node), |node| link(node).map(|(operand, ..)| operand)).count()
}

/// The computed indices of a chain are expressions of their own.
fn push_dynamic_parts<'e>(open: &mut Vec<Visit<'e>>, visit: &Visit<'e>) {
    let mut at = visit.node;
    while let Some((operand, field, _)) = link(at) {
        if let (None, Expr::Call(call)) = (field, &at.expr) {
            open.push(visit.child(&call.args[1]));
        }
        at = operand;
    }
}

fn offset(node: &IdedExpr, info: &SourceInfo) -> (usize, usize) {
    let (start, stop) = info.offset_for(node.id).unwrap_or_default();
    (start as usize, (stop as usize + 1).saturating_sub(start as usize))
}
