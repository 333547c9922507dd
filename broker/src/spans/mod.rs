//! Spans: what the server did for whom and how long it took, for tracing systems.
//!
//! A span is made when it is over, from what is known then, and handed to a [`SpanSink`] that must not block. So none is kept in memory, however
//! long a saga lives, and this crate and its embedder need not know how spans are sent. A [`Tracer`] that is off makes none and asks
//! for nothing: neither time nor a number.

mod span;
mod tracer;

pub use span::{Span, SpanKind, Value};
pub use tracer::{Begun, SpanSink, Tracer};
