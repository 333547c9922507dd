//! [`Tracer`]: makes spans begin and brings them to their sink, or does nothing.

use super::span::Span;
use crate::env::{Clock, Random};
use core::fmt;
use core::num::{NonZeroU64, NonZeroU128};
use sagamq_api::TraceContext;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Where spans go.
pub trait SpanSink: Send + Sync + 'static {
    /// Whether a span is recorded that begins under this parent, or begins this trace.
    fn samples(&self, parent: Option<&TraceContext>, trace_id: u128) -> bool;

    /// Takes a span. It never waits; what is too much is dropped.
    fn record(&self, span: Span);
}

/// Makes spans; clones are the same one. The default is off.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    sink: Arc<dyn SpanSink>,
    clock: Arc<dyn Clock>,
    random: Mutex<Random>,
}

/// A span that has begun, and is recorded when it is over.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Its trace and its id.
    pub context: TraceContext,
    /// The span that caused it.
    pub parent_span_id: Option<u64>,
    start_ns: u64,
    since: Instant,
}

impl Tracer {
    /// Spans go there.
    #[must_use]
    pub fn new(sink: Arc<dyn SpanSink>, clock: Arc<dyn Clock>, random: Random) -> Self {
        Self(Some(Arc::new(Inner { sink, clock, random: Mutex::new(random) })))
    }

    /// Whether spans are made at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a span under that one, or a trace. `None`: it is not recorded; then what came is given on as it is.
    #[must_use]
    pub fn begin(&self, parent: Option<&TraceContext>) -> Option<Begun> {
        let inner = self.0.as_ref()?;
        let (trace_id, span_id) = inner.draw();
        let trace_id = parent.map_or(trace_id.get(), TraceContext::trace_id);
        if !inner.sink.samples(parent, trace_id) {
            return None;
        }
        let context = TraceContext::new(NonZeroU128::new(trace_id)?, span_id, true);
        let context = parent.map_or(context, |parent| parent.with_span(span_id).sampled());
        let parent_span_id = parent.map(TraceContext::span_id);
        Some(Begun { context, parent_span_id, start_ns: inner.clock.now_ms().saturating_mul(1_000_000), since: start_timer() })
    }

    /// Takes a span that is over. It never waits.
    pub fn record(&self, span: Span) {
        if let Some(inner) = &self.0 {
            inner.sink.record(span);
        }
    }
}

impl Inner {
    fn draw(&self) -> (NonZeroU128, NonZeroU64) {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let (high, low, span_id) = (random.next_u64(), random.next_u64(), random.next_u64());
        drop(random);
        // Zero is no id, and is drawn once in a long time.
        let trace_id = NonZeroU128::new(u128::from(high) << 64 | u128::from(low)).unwrap_or(NonZeroU128::MAX);
        (trace_id, NonZeroU64::new(span_id).unwrap_or(NonZeroU64::MAX))
    }
}

impl Begun {
    /// When it began and when it ends, if that is now, in nanoseconds since 1970.
    #[must_use]
    pub fn times_ns(&self) -> (u64, u64) {
        let took = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        (self.start_ns, self.start_ns.saturating_add(took))
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a span took decides nothing")]
fn start_timer() -> Instant {
    Instant::now()
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

impl PartialEq for Tracer {
    /// Whether they are the same one.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl Eq for Tracer {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::ManualClock;

    /// Samples what is told, and keeps nothing.
    struct Says(bool);

    impl SpanSink for Says {
        fn samples(&self, _: Option<&TraceContext>, _: u128) -> bool {
            self.0
        }

        fn record(&self, _: Span) {}
    }

    fn tracer(samples: bool) -> Tracer {
        Tracer::new(Arc::new(Says(samples)), Arc::new(ManualClock::at(7)), Random::from_seed(1))
    }

    #[test]
    fn a_span_goes_on_with_the_trace_of_its_parent_or_begins_one() {
        let parent = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some("a=1")).expect("legal");
        let tracer = tracer(true);
        let child = tracer.begin(Some(&parent)).expect("it is sampled");
        assert_eq!((child.context.trace_id(), child.parent_span_id), (parent.trace_id(), Some(parent.span_id())));
        assert_ne!(child.context.span_id(), parent.span_id());
        assert_eq!((child.context.tracestate(), child.context.is_sampled()), (Some("a=1"), true), "whoever follows is to know");
        assert_eq!(child.times_ns().0, 7_000_000);
        let (one, other) = (tracer.begin(None).expect("sampled"), tracer.begin(None).expect("sampled"));
        assert_ne!(one.context.trace_id(), other.context.trace_id());
        assert_eq!(one.parent_span_id, None);
    }

    #[test]
    fn nothing_begins_where_spans_are_off_or_not_sampled() {
        assert!(Tracer::default().begin(None).is_none() && !Tracer::default().is_on());
        assert!(tracer(false).begin(None).is_none());
    }
}
