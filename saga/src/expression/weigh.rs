//! The functions that put what an expression makes on the meter. The tree of an expression is wrapped in them (`guard.rs`), so that every
//! value it makes is weighed before the next one is made.

use super::meter::{BYTES_VALUE, STEP_TEXT, Spent, charge, charge_text};
use super::pattern::{Unmatched, is_match};
use super::value::Raw;
use cel::common::functions::Function;
use cel::common::types::{CelBool, CelBytes, CelList, CelMap, CelMapKey, CelOptional, CelString, DYN_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{Env, ExecutionError};

/// About what an entry of a map takes beside its value.
const BYTES_ENTRY: u64 = 96;

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

impl From<Unmatched> for Refused {
    fn from(unmatched: Unmatched) -> Self {
        match unmatched {
            Unmatched::Spent(spent) => Self::Spent(spent),
            Unmatched::Illegal(reason) => Self::Inexact(reason),
        }
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
        // A map has no order of its own: of several values that are refused, that of the first key is told, so that it is the same each time.
        let mut first: Option<(&CelMapKey, String)> = None;
        for (key, value) in map.inner() {
            charge(1, BYTES_ENTRY)?;
            match weigh(key.inner(), within).and_then(|()| weigh(value.as_ref(), within)) {
                Err(Refused::Inexact(why)) if first.as_ref().is_none_or(|(least, _)| key < *least) => first = Some((key, why)),
                Ok(()) | Err(Refused::Inexact(_)) => {}
                Err(spent @ Refused::Spent(_)) => return Err(spent),
            }
        }
        if let Some((_, why)) = first {
            return Err(Refused::Inexact(why));
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
/// As [`WEIGH`], and refuses a map: the library would add its keys to a list, in another order each time.
pub(super) const ADDEND: &str = "@addend";
/// Whether a text matches a regular expression.
pub(super) const REGEX: &str = "@regex";

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Passed<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Declares the functions above. Nobody can call them: their names are no names in the language.
pub(super) fn declare(environment: &mut Env) {
    let functions: [(&str, Function); 6] = [
        (WEIGH, |args| pass(args, Strict::No)),
        (EXACT, |args| pass(args, Strict::Itself)),
        (EXACT_WITHIN, |args| pass(args, Strict::Within)),
        (RANGE, range),
        (ADDEND, addend),
        (REGEX, matches),
    ];
    for (name, function) in functions {
        let args = if name == REGEX { vec![DYN_TYPE, DYN_TYPE] } else { vec![DYN_TYPE] };
        environment.add_overload(name, name, args, function).expect("the names are our own and differ");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the library calls it, with what is its own")]
fn matches<'b, 'v>(args: Args<'b, 'v>) -> Passed<'b, 'v> {
    let texts: Vec<&str> = args.iter().filter_map(|arg| arg.downcast_ref::<CelString>().map(|text| text.inner())).collect();
    let [text, pattern] = texts.as_slice() else {
        return Err(refuse(Refused::Inexact("`matches` compares a text with a text".to_owned())));
    };
    let is_match = is_match(text, pattern).map_err(|unmatched| refuse(unmatched.into()))?;
    Ok(CowVal::owned(CelBool::from(is_match)))
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

fn addend<'b, 'v>(args: Args<'b, 'v>) -> Passed<'b, 'v> {
    let value = pass(args, Strict::No)?;
    if value.downcast_ref::<CelMap>().is_some() {
        return Err(refuse(Refused::Inexact("a map cannot be added to something".to_owned())));
    }
    Ok(value)
}

fn refuse(refused: Refused) -> ExecutionError {
    let message = match refused {
        Refused::Spent(spent) => spent.to_string(),
        Refused::Inexact(why) => why,
    };
    ExecutionError::FunctionError { function: WEIGH.to_owned(), message }
}
