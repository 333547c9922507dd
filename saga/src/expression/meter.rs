//! What a decision may cost: steps, bytes and time. An expression is written by whoever publishes a definition and works on whatever its
//! callers send, so nothing else bounds two loops in each other over a long list.
//!
//! The interpreter gives its functions nothing but their arguments, so the meter lies beside the stack: one a thread, in place while a
//! decision runs on it. Steps and bytes are counted, not measured: the same decision always ends the same way.

use core::cell::RefCell;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Steps of all expressions of one decision: a step is a value that is made, looked at, or copied.
pub const DECISION_STEPS_MAX: u64 = 1_000_000;

/// Bytes of all values and texts that one decision makes, about as they lie in memory.
pub const DECISION_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long one decision may compute, when it runs beside its lane.
pub const DECISION_TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of text that are read or copied in a step.
pub(super) const STEP_TEXT: u64 = 64;

/// About what a value takes beside its text.
pub(super) const BYTES_VALUE: u64 = 48;

thread_local! {
    static METER: RefCell<Option<Meter>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Meter {
    steps_left: u64,
    bytes_left: u64,
    stop: Option<Arc<AtomicBool>>,
    spent: Option<Spent>,
}

/// What ran out. From then on everything that is weighed fails, so that a loop that swallows errors ends as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Spent {
    #[error("the expressions of a decision take more than {DECISION_STEPS_MAX} steps")]
    Steps,
    #[error("the expressions of a decision make more than {DECISION_BYTES_MAX} bytes of values")]
    Bytes,
    #[error("the expressions of a decision take longer than {DECISION_TIME_MAX:?}")]
    Time,
}

/// Runs `work` under the meter that is in place, or under a fresh one.
pub(crate) fn metered<T>(work: impl FnOnce() -> T) -> T {
    if METER.with_borrow(Option::is_some) { work() } else { metered_until(None, work) }
}

/// Runs `work` under a fresh meter, whose time is over when that of the meter in place is.
pub(crate) fn metered_anew<T>(work: impl FnOnce() -> T) -> T {
    let stop = METER.with_borrow(|meter| meter.as_ref().and_then(|meter| meter.stop.clone()));
    metered_until(stop, work)
}

/// Runs `work` under a fresh meter; when `stop` becomes true, its time is over.
pub(crate) fn metered_until<T>(stop: Option<Arc<AtomicBool>>, work: impl FnOnce() -> T) -> T {
    /// Puts the meter before back, also when `work` panics.
    struct Restore(Option<Meter>);
    impl Drop for Restore {
        fn drop(&mut self) {
            METER.set(self.0.take());
        }
    }
    let meter = Meter { steps_left: DECISION_STEPS_MAX, bytes_left: DECISION_BYTES_MAX, stop, spent: None };
    let _restore = Restore(METER.replace(Some(meter)));
    work()
}

/// Takes steps and bytes off the meter.
pub(crate) fn charge(steps: u64, bytes: u64) -> Result<(), Spent> {
    METER.with_borrow_mut(|meter| {
        let Some(meter) = meter else { return Ok(()) };
        if let Some(spent) = meter.spent {
            return Err(spent);
        }
        let spent = if steps > meter.steps_left {
            Spent::Steps
        } else if bytes > meter.bytes_left {
            Spent::Bytes
        } else if meter.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            Spent::Time
        } else {
            meter.steps_left -= steps;
            meter.bytes_left -= bytes;
            return Ok(());
        };
        meter.spent = Some(spent);
        Err(spent)
    })
}

/// Takes a value of this text off the meter.
pub(crate) fn charge_text(text: &str) -> Result<(), Spent> {
    charge(1 + text.len() as u64 / STEP_TEXT, BYTES_VALUE + text.len() as u64)
}

/// Takes the reading of a text off the meter, of which nothing is kept.
pub(crate) fn charge_reading(text: &str) -> Result<(), Spent> {
    charge(1 + text.len() as u64 / (4 * STEP_TEXT), 0)
}

/// Whether what a decision may cost has run out.
pub(crate) fn is_spent() -> bool {
    verdict().is_err()
}

/// What ran out, whatever the expression made of it.
pub(crate) fn verdict() -> Result<(), Spent> {
    METER.with_borrow(|meter| meter.as_ref().and_then(|meter| meter.spent).map_or(Ok(()), Err))
}
