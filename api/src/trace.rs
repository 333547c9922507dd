//! W3C Trace Context: which span of which trace something was caused by, as the headers `traceparent` and `tracestate` say it.
//!
//! It travels with HTTP requests, with records and with sagas. Whoever makes no spans gives on what came; who makes one gives on its own.
//! The id of a span that must be the same after a crash is [derived](TraceContext::derived) from what it is about, not drawn.

use crate::headers::{TRACEPARENT, TRACESTATE};
use crate::record::Headers;
use core::fmt;
use core::num::{NonZeroU64, NonZeroU128};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// Longest `tracestate` that is given on, in bytes: the recommendation asks for at least 512. A longer one is left out; the trace goes on.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// Length of a `traceparent` of version 00.
const TRACEPARENT_BYTES: usize = 55;

/// The flag that says that somebody records the trace.
const SAMPLED: u8 = 1;

/// A span of a trace, as others refer to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct TraceContext {
    trace_id: NonZeroU128,
    span_id: NonZeroU64,
    flags: u8,
    state: Option<Box<str>>,
}

/// The two headers, as they are stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    traceparent: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tracestate: Option<Box<str>>,
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no traceparent: expected 00-<32 hexadecimal digits>-<16>-<2>, in small letters")]
pub struct NoTraceParent;

impl TraceContext {
    /// The span with this id in the trace with that one.
    #[must_use]
    pub const fn new(trace_id: NonZeroU128, span_id: NonZeroU64, is_sampled: bool) -> Self {
        Self { trace_id, span_id, flags: if is_sampled { SAMPLED } else { 0 }, state: None }
    }

    /// Reads the two headers. A `traceparent` of a later version counts as far as version 00 goes; a `tracestate` that cannot be given on is
    /// left out.
    ///
    /// # Errors
    /// When the first is no `traceparent`. Then there is no trace to go on with.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Result<Self, NoTraceParent> {
        let (head, rest) = traceparent.split_at_checked(TRACEPARENT_BYTES).ok_or(NoTraceParent)?;
        let mut fields = head.split('-');
        let mut field = |digits: usize| {
            let field = fields.next().filter(|field| field.len() == digits && field.bytes().all(is_digit));
            field.and_then(|field| u128::from_str_radix(field, 16).ok()).ok_or(NoTraceParent)
        };
        let (version, trace_id, span_id, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        if version == 0xff || !(rest.is_empty() || version > 0 && rest.starts_with('-')) {
            return Err(NoTraceParent);
        }
        let span_id = u64::try_from(span_id).ok().and_then(NonZeroU64::new).ok_or(NoTraceParent)?;
        Ok(Self {
            trace_id: NonZeroU128::new(trace_id).ok_or(NoTraceParent)?,
            span_id,
            // Of the other bits nobody can say what they would mean behind us.
            flags: u8::try_from(flags).unwrap_or_default() & SAMPLED,
            state: tracestate.filter(|state| may_be_given_on(state)).map(Into::into),
        })
    }

    /// What the headers of a record say, if they say something.
    #[must_use]
    pub fn of_record(headers: &Headers) -> Option<Self> {
        Self::parse(headers.get(TRACEPARENT)?, headers.get(TRACESTATE)).ok()
    }

    /// Makes a record be caused by this span, unless it says itself what caused it.
    pub fn put_if_absent(&self, headers: &mut Headers) {
        if !headers.contains(TRACEPARENT) {
            headers.set(TRACEPARENT, self.traceparent());
            match &self.state {
                Some(state) => headers.set(TRACESTATE, state.as_ref()),
                // One that stands there alone belongs to no trace.
                None => headers.remove(TRACESTATE),
            }
        }
    }

    /// Bytes that it adds to a record.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        TRACEPARENT.len() + TRACEPARENT_BYTES + self.state.as_ref().map_or(0, |state| TRACESTATE.len() + state.len())
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(&self) -> u128 {
        self.trace_id.get()
    }

    /// The span.
    #[must_use]
    pub const fn span_id(&self) -> u64 {
        self.span_id.get()
    }

    /// Whether somebody records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What tracing systems said of the trace.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The header `traceparent`.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// The same, with what tracing systems say of the trace; nothing if that cannot be given on.
    #[must_use]
    pub fn with_state(mut self, state: &str) -> Self {
        self.state = may_be_given_on(state).then(|| state.into());
        self
    }

    /// The same, recorded by somebody.
    #[must_use]
    pub const fn sampled(mut self) -> Self {
        self.flags |= SAMPLED;
        self
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(&self, span_id: NonZeroU64) -> Self {
        Self { span_id, ..self.clone() }
    }

    /// The span of the same trace that is about this: always the same one.
    #[must_use]
    pub fn derived(&self, about: &impl fmt::Display) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&self.trace_id.get().to_be_bytes());
        hash.update(about.to_string().as_bytes());
        // Zero is no id.
        self.with_span(NonZeroU64::new(hash.digest()).unwrap_or(NonZeroU64::MAX))
    }
}

/// A hexadecimal digit, in small letters as the recommendation wants it.
const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Whether a `tracestate` is short enough, and can stand in a header.
fn may_be_given_on(state: &str) -> bool {
    !state.is_empty() && state.len() <= TRACESTATE_BYTES_MAX && state.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

impl From<TraceContext> for Written {
    fn from(context: TraceContext) -> Self {
        Self { traceparent: context.traceparent(), tracestate: context.state }
    }
}

impl TryFrom<Written> for TraceContext {
    type Error = NoTraceParent;

    fn try_from(Written { traceparent, tracestate }: Written) -> Result<Self, NoTraceParent> {
        Self::parse(&traceparent, tracestate.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_recommendation_is_read_and_written() {
        let context = TraceContext::parse(PARENT, Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")).expect("it is the example");
        assert_eq!((context.trace_id(), context.span_id()), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7));
        assert!(context.is_sampled());
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.tracestate(), Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        assert!(!TraceContext::parse(&PARENT.replace("-01", "-00"), None).expect("legal").is_sampled());
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        for wrong in ["", "00", zero_trace, zero_span, "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01"] {
            assert_eq!(TraceContext::parse(wrong, None), Err(NoTraceParent), "{wrong}");
        }
        for (from, to) in
            [("4b", "4B"), ("00-4", "ff-4"), ("-01", "-0x"), ("-01", "-01-"), ("-01", "-01 "), ("b7", "b7é"), ("00f0", "+0f0")]
        {
            let wrong = PARENT.replacen(from, to, 1);
            assert_eq!(TraceContext::parse(&wrong, None), Err(NoTraceParent), "{wrong}");
        }
    }

    #[test]
    fn a_later_version_counts_as_far_as_it_is_known() {
        let later = PARENT.replacen("00-", "01-", 1).replace("-01", "-03");
        for text in [later.clone(), format!("{later}-more")] {
            assert_eq!(TraceContext::parse(&text, None).map(|context| context.traceparent()), Ok(PARENT.to_owned()), "{text}");
        }
        assert_eq!(TraceContext::parse(&format!("{later}x"), None), Err(NoTraceParent));
    }

    #[test]
    fn a_tracestate_that_cannot_be_given_on_is_left_out_and_the_trace_goes_on() {
        for state in [String::new(), "a=\n".to_owned(), "ä=1".to_owned(), format!("a={}", "x".repeat(TRACESTATE_BYTES_MAX))] {
            assert_eq!(TraceContext::parse(PARENT, Some(&state)).expect("the trace").tracestate(), None, "{state}");
        }
    }

    #[test]
    fn a_record_keeps_what_it_says_itself() {
        let context = TraceContext::parse(PARENT, Some("a=1")).expect("legal");
        let mut bare: Headers = [("x", "y"), (TRACESTATE, "alone=1")].into_iter().collect();
        context.put_if_absent(&mut bare);
        assert_eq!(TraceContext::of_record(&bare), Some(context.clone()));
        let own = context.derived(&"another");
        let mut says: Headers = [(TRACEPARENT, own.traceparent())].into_iter().collect();
        context.put_if_absent(&mut says);
        assert_eq!(says.get(TRACEPARENT), Some(own.traceparent().as_str()));
        assert_eq!(says.get(TRACESTATE), None, "that is of another trace");
    }

    #[test]
    fn what_is_derived_is_the_same_each_time_and_other_for_others() {
        let context = TraceContext::parse(PARENT, Some("a=1")).expect("legal");
        let step = context.derived(&"7/pay/action/1");
        // Written down: a participant of an earlier process may refer to it.
        assert_eq!(step.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-cf59b887c88dea7b-01");
        assert_eq!(
            (step.clone(), step.tracestate()),
            (context.derived(&"x").derived(&"7/pay/action/1"), Some("a=1")),
            "the span above does not count"
        );
        assert_ne!(step, context.derived(&"7/pay/action/2"));
        let other = TraceContext::parse(&PARENT.replacen("4bf9", "4bfa", 1), None).expect("legal");
        assert_ne!(step.span_id(), other.derived(&"7/pay/action/1").span_id());
    }

    #[test]
    fn it_is_stored_as_its_headers() {
        let context = TraceContext::parse(PARENT, Some("a=1")).expect("legal");
        let json = format!(r#"{{"traceparent":"{PARENT}","tracestate":"a=1"}}"#);
        assert_eq!(serde_json::to_string(&context).expect("json"), json);
        assert_eq!(serde_json::from_str::<TraceContext>(&json).expect("a context"), context);
        assert!(serde_json::from_str::<TraceContext>(r#"{"traceparent":"00-1-2-3"}"#).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,70}", state in "\\PC{0,20}") {
            if let Ok(context) = TraceContext::parse(&text, Some(&state)) {
                prop_assert_eq!(TraceContext::parse(&context.traceparent(), context.tracestate()), Ok(context));
            }
        }

        #[test]
        fn every_context_is_read_back(trace_id in 1u128.., span_id in 1u64.., is_sampled: bool) {
            let context = TraceContext::new(trace_id.try_into().expect("not 0"), span_id.try_into().expect("not 0"), is_sampled);
            prop_assert_eq!(TraceContext::parse(&context.traceparent(), None), Ok(context));
        }
    }
}
