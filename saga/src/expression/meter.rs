//! What a decision may cost: steps, bytes and time. An expression is written by whoever publishes a definition and works on whatever its
//! callers send, so nothing else bounds two loops in each other over a long list.
//!
//! The tree of an expression is wrapped so that every value it makes is weighed before the next one is made ([`super::guard`]). The
//! interpreter gives its functions nothing but their arguments, so the meter lies beside the stack: one a thread, in place while a decision
//! runs on it. Steps and bytes are counted, not measured: the same decision always ends the same way.

use super::value::Raw;
use cel::common::functions::Function;
use cel::common::types::{CelBytes, CelList, CelMap, CelMapKey, CelOptional, CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};
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
const STEP_TEXT: u64 = 64;

/// Steps that a regular expression costs: it is compiled whenever it is used.
const STEPS_REGEX: u64 = 500;

/// About what a value takes beside its text.
const BYTES_VALUE: u64 = 48;

/// About what an entry of a map takes beside its value.
const BYTES_ENTRY: u64 = 96;

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

/// What ran out, whatever the expression made of it.
pub(crate) fn verdict() -> Result<(), Spent> {
    METER.with_borrow(|meter| meter.as_ref().and_then(|meter| meter.spent).map_or(Ok(()), Err))
}

/// Why a wrapped value is not let through.
enum Refused {
    Spent(Spent),
    Inexact(String),
}

impl From<Spent> for Refused {
    fn from(spent: Spent) -> Self {
        Self::Spent(spent)
    }
}

/// How far into a value one that cannot be computed with is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strict {
    No,
    Itself,
    Within,
}

fn weigh(value: &dyn Val, strict: Strict) -> Result<(), Refused> {
    let within = if strict == Strict::Within { Strict::Within } else { Strict::No };
    if let Some(text) = value.downcast_ref::<CelString>() {
        charge_text(text.inner())?;
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        charge(1, BYTES_VALUE)?;
        list.inner().iter().try_for_each(|item| weigh(item.as_ref(), within))?;
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        charge(1, BYTES_VALUE)?;
        for (key, value) in map.inner() {
            charge(1, BYTES_ENTRY)?;
            weigh(key.inner(), within)?;
            weigh(value.as_ref(), within)?;
        }
    } else if let Some(raw) = value.downcast_ref::<Raw>() {
        if strict != Strict::No {
            return Err(Refused::Inexact(raw.why()));
        }
        charge_text(raw.text())?;
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        let bytes = bytes.inner().len() as u64;
        charge(1 + bytes / STEP_TEXT, BYTES_VALUE + bytes)?;
    } else if let Some(inner) = value.downcast_ref::<CelOptional>().and_then(CelOptional::inner) {
        charge(1, BYTES_VALUE)?;
        weigh(inner, strict)?;
    } else {
        charge(1, BYTES_VALUE)?;
    }
    Ok(())
}

/// Weighs a value and hands it on.
pub(super) const WEIGH: &str = "@weigh";
/// As [`WEIGH`], and refuses a value that cannot be computed with.
pub(super) const EXACT: &str = "@exact";
/// As [`EXACT`], and refuses one that holds such a value anywhere.
pub(super) const EXACT_WITHIN: &str = "@exact_within";
/// As [`WEIGH`], and turns a map into the list of its keys in order: a loop over a map then takes the same way at every evaluation.
pub(super) const RANGE: &str = "@range";
/// As [`EXACT`], for a regular expression.
pub(super) const REGEX: &str = "@regex";

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Passed<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Declares the functions above. Nobody can call them: their names are no names in the language.
pub(super) fn declare(environment: &mut Env) {
    let functions: [(&str, Function); 5] = [
        (WEIGH, |args| pass(args, Strict::No)),
        (EXACT, |args| pass(args, Strict::Itself)),
        (EXACT_WITHIN, |args| pass(args, Strict::Within)),
        (RANGE, range),
        (REGEX, |args| {
            charge(STEPS_REGEX, 0).map_err(|spent| refuse(Refused::Spent(spent)))?;
            pass(args, Strict::Itself)
        }),
    ];
    for (name, function) in functions {
        environment.add_overload(name, name, vec![DYN_TYPE], function).expect("the names are our own and differ");
    }
}

fn pass<'b, 'v>(mut args: Args<'b, 'v>, strict: Strict) -> Passed<'b, 'v> {
    let value = args.pop().ok_or_else(|| refuse(Refused::Inexact("a value is missing".to_owned())))?;
    weigh(value.as_ref(), strict).map_err(refuse)?;
    Ok(value)
}

fn range<'b, 'v>(args: Args<'b, 'v>) -> Passed<'b, 'v> {
    let value = pass(args, Strict::Itself)?;
    let Some(map) = value.downcast_ref::<CelMap>() else { return Ok(value) };
    let mut keys: Vec<CelMapKey> = map.inner().keys().cloned().collect();
    keys.sort_unstable();
    Ok(CowVal::owned(CelList::from(keys.iter().map(|key| key.inner().clone_as_boxed()).collect::<Vec<_>>())))
}

fn refuse(refused: Refused) -> ExecutionError {
    let message = match refused {
        Refused::Spent(spent) => spent.to_string(),
        Refused::Inexact(why) => why,
    };
    ExecutionError::FunctionError { function: WEIGH.to_owned(), message }
}

/// The error's own words, where it is one of ours.
pub(super) fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::FunctionError { function, message } if function == WEIGH => message.clone(),
        other => other.to_string(),
    }
}
