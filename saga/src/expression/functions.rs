//! The functions that an expression may call, and how: the interpreter would find a slip only when a saga is half done.

use super::compile_error::CompileError;
use super::reference::{Called, Survey};

/// How a function is called.
#[derive(Clone, Copy, Debug)]
struct Function {
    name: &'static str,
    /// Arguments of `f(a)`.
    alone: Option<usize>,
    /// Arguments of `a.f(b)`, besides `a`.
    on_value: Option<usize>,
    /// How it is written, for whoever wrote it otherwise.
    form: &'static str,
}

const fn alone(name: &'static str, arguments: usize, form: &'static str) -> Function {
    Function { name, alone: Some(arguments), on_value: None, form }
}

const fn on_value(name: &'static str, arguments: usize, form: &'static str) -> Function {
    Function { name, alone: None, on_value: Some(arguments), form }
}

/// The interpreter's standard library. Macros stand here too: one whose arguments do not fit is left in the tree as a call.
const FUNCTIONS: [Function; 29] = [
    alone("bool", 1, "bool(a)"),
    alone("bytes", 1, "bytes(a)"),
    on_value("contains", 1, "text.contains(part)"),
    alone("double", 1, "double(a)"),
    alone("dyn", 1, "dyn(a)"),
    on_value("endsWith", 1, "text.endsWith(part)"),
    on_value("hasValue", 0, "optional.hasValue()"),
    alone("int", 1, "int(a)"),
    Function { name: "matches", alone: Some(2), on_value: Some(1), form: "text.matches('^[a-z]+$')" },
    on_value("or", 1, "optional.or(other)"),
    on_value("orValue", 1, "optional.orValue(other)"),
    Function { name: "size", alone: Some(1), on_value: Some(0), form: "a.size()" },
    on_value("startsWith", 1, "text.startsWith(part)"),
    alone("string", 1, "string(a)"),
    alone("type", 1, "type(a)"),
    alone("uint", 1, "uint(a)"),
    on_value("value", 0, "optional.value()"),
    alone("optional.none", 0, "optional.none()"),
    alone("optional.of", 1, "optional.of(a)"),
    alone("optional.ofNonZeroValue", 1, "optional.ofNonZeroValue(a)"),
    Function { name: "has", alone: None, on_value: None, form: "has(input.field)" },
    Function { name: "all", alone: None, on_value: None, form: "list.all(x, x > 0)" },
    Function { name: "exists", alone: None, on_value: None, form: "list.exists(x, x > 0)" },
    Function { name: "exists_one", alone: None, on_value: None, form: "list.exists_one(x, x > 0)" },
    Function { name: "filter", alone: None, on_value: None, form: "list.filter(x, x > 0)" },
    Function { name: "map", alone: None, on_value: None, form: "list.map(x, x * 2)" },
    Function { name: "optMap", alone: None, on_value: None, form: "optional.optMap(x, x * 2)" },
    Function { name: "optFlatMap", alone: None, on_value: None, form: "optional.optFlatMap(x, x.?field)" },
    Function { name: "existsOne", alone: None, on_value: None, form: "list.exists_one(x, x > 0)" },
];

/// Checks every call of the expression: that the function is there, that it is called as it is made, and that a regular expression that
/// stands there as text is one.
pub(super) fn check(text: &str, survey: &Survey) -> Result<(), CompileError> {
    survey.functions.iter().try_for_each(|called| check_call(text, called))
}

fn check_call(text: &str, called: &Called) -> Result<(), CompileError> {
    let name = called.name.as_str();
    // Operators have names that no text can spell.
    if !name.starts_with(char::is_alphabetic) {
        return Ok(());
    }
    // The parser's place of a call is its bracket.
    let at = text.get(..called.offset).and_then(|before| before.rfind(name)).unwrap_or(called.offset);
    let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
        return Err(CompileError::new(format!("there is no function `{name}`"), at));
    };
    let wanted = if called.on_value { function.on_value } else { function.alone };
    if wanted != Some(called.arguments) {
        return Err(CompileError::new(format!("`{name}` is not called like this: write `{}`", function.form), at));
    }
    match &called.pattern {
        Some((pattern, offset)) => regex::Regex::new(pattern).map(drop).map_err(|error| {
            let reason = error.to_string();
            // The parser of regular expressions draws the place over several lines; its last one is the reason.
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            CompileError::new(format!("`{pattern}` is no regular expression: {reason}"), *offset)
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the interpreter says of the call: whether it knows an overload of that form at all.
    fn is_known(call: &str) -> bool {
        let (environment, context) = (cel::Env::stdlib(), cel::Context::with_env(cel::Env::stdlib().into()));
        let Ok(program) = environment.compile(call) else { return false };
        !program.execute(&context).is_err_and(|error| error.to_string().contains("Undeclared"))
    }

    #[test]
    fn every_listed_function_is_one_of_the_interpreter_in_that_form() {
        let arguments = |count: usize| vec!["1"; count].join(", ");
        for function in FUNCTIONS {
            let (name, alone, on_value) = (function.name, function.alone, function.on_value);
            if let Some(count) = alone {
                assert!(is_known(&format!("{name}({})", arguments(count))), "{name}");
            }
            if let Some(count) = on_value {
                assert!(is_known(&format!("1.{name}({})", arguments(count))), "1.{name}");
            }
        }
        assert!(!is_known("shout(1)") && !is_known("1.shout()"), "others are not");
    }
}
