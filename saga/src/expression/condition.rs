//! What can be told of an expression that is a condition without evaluating it.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

/// Functions whose values are never true or false.
const OTHER_VALUES: [&str; 7] = ["bytes", "double", "int", "size", "string", "type", "uint"];

/// Whether the expression has no value that is true or false, whatever it is evaluated with.
pub(crate) fn is_never_bool(tree: &IdedExpr) -> bool {
    match &tree.expr {
        Expr::Literal(literal) => !matches!(literal, LiteralValue::Boolean(_)),
        Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => true,
        // `map` and `filter` gather a list; `all`, `exists` and `exists_one` begin with something else.
        Expr::Comprehension(comprehension) => matches!(comprehension.accu_init.expr, Expr::List(_)),
        Expr::Call(call) => is_call_never_bool(call),
        Expr::Unspecified | Expr::Ident(_) | Expr::Select(_) => false,
    }
}

fn is_call_never_bool(call: &CallExpr) -> bool {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::CONDITIONAL, [_, then, other]) => is_never_bool(then) && is_never_bool(other),
        (operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO | operators::NEGATE, _) => {
            true
        }
        (name, _) => OTHER_VALUES.contains(&name),
    }
}

#[cfg(test)]
mod tests {
    use crate::expression::Template;

    fn condition(text: &str) -> Template {
        Template::text(&format!("${{ {text} }}")).expect("an expression")
    }

    #[test]
    fn what_is_no_condition_is_told_and_what_may_be_one_is_not() {
        for text in [
            "1",
            "'yes'",
            "null",
            "[true]",
            "{'a': true}",
            "1 + 2",
            "-input.a",
            "input.l.map(x, true)",
            "size(input.l)",
            "input.a ? 1 : 'x'",
        ] {
            assert!(condition(text).is_never_bool(), "{text}");
        }
        for text in [
            "true",
            "input.a",
            "input.a == 1",
            "!input.a",
            "input.l.exists(x, x > 1)",
            "input.l.all(x, x)",
            "has(input.a)",
            "input.a ? 1 : input.b",
            "input.?a.orValue(1)",
            "bool(input.a)",
            "input.l.exists_one(x, x)",
        ] {
            assert!(!condition(text).is_never_bool(), "{text}");
        }
        assert!(
            !Template::text("${ true } or so").expect("legal").is_expression()
                && !Template::literal(serde_json::json!(true)).is_expression()
        );
    }
}
