//! Expressions in definitions: CEL in `${ }`, compiled when a definition is published and evaluated by the protocol.
//!
//! CEL always ends and has no side effects, so a definition can neither hang nor harm the orchestrator, and evaluating it again
//! after a crash gives the same value. What an expression can see is its [`Scope`]:
//!
//! | variable | what it is |
//! |---|---|
//! | `input` | what the instance was started with |
//! | `steps.<id>.output` | what a step returned |
//! | `failure.code`, `failure.message` | why the instance is compensated |
//! | `saga.id`, `.name`, `.version`, `.key` | the instance |
//!
//! A JSON integer is a CEL `int` and a JSON number with a fraction or an exponent is a `double`; CEL does not mix them, so a price
//! is computed as `double(input.price) * 1.2`. A field that may be absent is read with `input.?coupon.orValue("none")` or
//! guarded with `has(input.coupon)`.

mod fields;
mod functions;
mod program;
mod reference;
mod scope;
mod stored;
mod template;
mod text;
mod value;

pub use program::{CompileError, EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_LOOPS_MAX, ExpressionError};
pub use reference::Reference;
pub use scope::{Outputs, SagaScope, Scope};
pub use template::{RenderError, Template};
pub(crate) use text::{Piece, expression_end, split};

#[cfg(test)]
mod tests;
