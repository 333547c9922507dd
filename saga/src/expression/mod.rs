//! Expressions in definitions: CEL in `${ }`, compiled when a definition is published and evaluated by the protocol.
//!
//! CEL always ends and has no side effects, but what it takes until then is bounded by nothing: the budget of a decision does that
//! (`meter.rs`). Evaluating an expression again after a crash gives the same value. What it can see is its [`Scope`]:
//!
//! | variable | what it is |
//! |---|---|
//! | `input` | what the instance was started with |
//! | `steps.<id>.output` | what a step returned |
//! | `failure.code`, `failure.message` | why the instance is compensated |
//! | `item`, `index` | what a call of a step that fans out is for, and its place in the list |
//! | `saga.id`, `.name`, `.version`, `.key` | the instance |
//!
//! Values are exact or an error: a path copies the text, a computation refuses what it cannot hold (`value.rs`).
//!
//! A JSON integer is a CEL `int` and a JSON number with a fraction or an exponent is a `double`; CEL does not mix them, so a price
//! is computed as `double(input.price) * 1.2`. A field that may be absent is read with `input.?coupon.orValue("none")` or
//! guarded with `has(input.coupon)`.

mod assertion;
mod compile_error;
mod condition;
mod exact;
mod fields;
mod functions;
mod guard;
mod implied;
mod meter;
mod pattern;
mod program;
mod reason;
mod reference;
mod same;
mod scope;
mod shape;
mod stored;
mod template;
mod text;
mod value;
mod weigh;

pub use assertion::{Assertion, Truth};
pub use compile_error::CompileError;
pub(crate) use implied::Implied;
pub use meter::{DECISION_BYTES_MAX, DECISION_STEPS_MAX, DECISION_TIME_MAX};
pub(crate) use meter::{is_spent, metered, metered_anew, metered_until};
pub use program::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_LOOPS_MAX, ExpressionError};
pub use reference::{Comparison, Reference};
pub(crate) use same::same;
pub use scope::{Item, Outputs, SagaScope, Scope};
pub(crate) use shape::Shape;
pub use template::{RenderError, Template};
pub(crate) use text::{Piece, expression_end, split};

#[cfg(test)]
mod tests;
