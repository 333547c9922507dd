//! Wraps the tree of an expression so that every value it makes is weighed, and none that cannot be held exactly is computed with.
//!
//! The interpreter has fast ways for the loops that `map`, `filter`, `all` and `exists` stand for, and knows them by their shape; the shape
//! is kept.

use super::weigh::{ADDEND, EXACT, EXACT_WITHIN, RANGE, REGEX, WEIGH};
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, operators};

/// The tree, wrapped.
pub(crate) fn guard(tree: IdedExpr) -> IdedExpr {
    wrapped(tree, WEIGH)
}

/// Wraps what is in the expression, and then the expression.
fn wrapped(expression: IdedExpr, by: &str) -> IdedExpr {
    let IdedExpr { id, expr } = expression;
    let expr = match expr {
        literal @ (Expr::Literal(_) | Expr::Unspecified) => return IdedExpr { id, expr: literal },
        Expr::Ident(name) if is_own(&name) => return IdedExpr { id, expr: Expr::Ident(name) },
        name @ Expr::Ident(_) => name,
        Expr::Select(mut select) => {
            // A chain of fields on a variable is looked up as one name.
            if !is_name(&select.operand) {
                *select.operand = wrapped(core::mem::take(&mut *select.operand), EXACT);
            }
            Expr::Select(select)
        }
        Expr::Call(call) => Expr::Call(called(call)),
        Expr::List(mut list) => {
            each(&mut list.elements, WEIGH);
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    one(&mut entry.key, EXACT);
                    one(&mut entry.value, WEIGH);
                }
            }
            Expr::Map(map)
        }
        Expr::Comprehension(mut comprehension) => {
            one(&mut comprehension.iter_range, RANGE);
            comprehension.loop_step = step(core::mem::take(&mut comprehension.loop_step));
            one(&mut comprehension.result, WEIGH);
            Expr::Comprehension(comprehension)
        }
        other @ Expr::Struct(_) => other,
    };
    let inner = IdedExpr { id, expr };
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: by.to_owned(), target: None, args: vec![inner] }) }
}

fn called(mut call: CallExpr) -> CallExpr {
    // `optional` in `optional.of(x)` is a part of the function's name.
    if let Some(target) = &mut call.target
        && !matches!(&target.expr, Expr::Ident(name) if name == "optional")
    {
        one(target, WEIGH);
    }
    let by = match call.func_name.as_str() {
        operators::EQUALS | operators::NOT_EQUALS | operators::IN => EXACT_WITHIN,
        operators::ADD => ADDEND,
        operators::OPT_INDEX | operators::OPT_SELECT | operators::INDEX | "type" | "matches" => EXACT,
        _ => WEIGH,
    };
    call.args.iter_mut().for_each(|argument| one(argument, by));
    if call.func_name == "matches" {
        // `text.matches(pattern)` and `matches(text, pattern)` are the same.
        let args = call.target.map(|text| *text).into_iter().chain(call.args).collect();
        return CallExpr { func_name: REGEX.to_owned(), target: None, args };
    }
    call
}

/// The step of a loop: what the interpreter's macros make of it keeps its shape.
fn step(expression: IdedExpr) -> IdedExpr {
    let IdedExpr { id, expr } = expression;
    let Expr::Call(mut call) = expr else { return wrapped(IdedExpr { id, expr }, WEIGH) };
    match (call.func_name.as_str(), call.args.as_mut_slice()) {
        // `map`: the result so far and one value more.
        (operators::ADD, [so_far, added]) if is_accumulator(so_far) => match &mut added.expr {
            Expr::List(list) => each(&mut list.elements, WEIGH),
            _ => one(added, WEIGH),
        },
        // `filter`: only where this holds.
        (operators::CONDITIONAL, [condition, then, so_far]) if is_accumulator(so_far) => {
            one(condition, WEIGH);
            *then = step(core::mem::take(then));
        }
        // `all` and `exists`.
        (operators::LOGICAL_AND | operators::LOGICAL_OR, [so_far, holds]) if is_accumulator(so_far) => one(holds, WEIGH),
        _ => return wrapped(IdedExpr { id, expr: Expr::Call(call) }, WEIGH),
    }
    IdedExpr { id, expr: Expr::Call(call) }
}

fn one(expression: &mut IdedExpr, by: &str) {
    *expression = wrapped(core::mem::take(expression), by);
}

fn each(expressions: &mut [IdedExpr], by: &str) {
    expressions.iter_mut().for_each(|expression| one(expression, by));
}

/// Whether it is one of the names that the interpreter's macros bind and nobody can write.
fn is_own(name: &str) -> bool {
    name.starts_with('@')
}

fn is_accumulator(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if is_own(name))
}

/// Whether it is a variable, or a chain of fields on one.
fn is_name(expression: &IdedExpr) -> bool {
    let mut at = expression;
    loop {
        match &at.expr {
            Expr::Ident(_) => return true,
            Expr::Select(select) if !select.test => at = &select.operand,
            _ => return false,
        }
    }
}
