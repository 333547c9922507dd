//! What tracing systems are told of sagas, computed from what is stored.
//!
//! The span that started an instance is in its first event, so its trace outlives every restart. The ids of its spans follow from the trace
//! and from what each is about: an attempt that is made again after a crash is the same span, and whoever was called before the crash is its
//! child. A span is made when it is over: none is kept in memory, however long a saga lives.

mod causes;
mod ended;

pub(crate) use causes::Causes;
pub(crate) use ended::spans_of;
