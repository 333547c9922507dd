//! One span.

use sagamq_api::TraceContext;
use std::borrow::Cow;

/// Something that was done, with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its trace and its id.
    pub context: TraceContext,
    /// The span that caused it; `None`: it is the first of its trace.
    pub parent_span_id: Option<u64>,
    /// Whether that one was in another process.
    pub is_parent_remote: bool,
    /// What it is to the processes on both sides.
    pub kind: SpanKind,
    /// What was done, in few different words: numbers and names of single things are attributes.
    pub name: Cow<'static, str>,
    /// When it began, in nanoseconds since 1970.
    pub start_ns: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end_ns: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans that it has to do with, beside the one that caused it.
    pub links: Vec<TraceContext>,
    /// What went wrong, as a code, if something did.
    pub error: Option<Cow<'static, str>>,
}

/// What a span is to the processes on both sides, as OpenTelemetry tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Nobody else is involved.
    Internal,
    /// A request was answered.
    Server,
    /// A request was made.
    Client,
    /// A message was sent.
    Producer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<Cow<'static, str>> for Value {
    fn from(text: Cow<'static, str>) -> Self {
        Self::Text(text)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}
