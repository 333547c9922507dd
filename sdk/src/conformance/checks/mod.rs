//! The checks, in the order in which they run.

mod answers;
mod compensations;
mod duplicates;
mod refusals;
mod time;

use super::case::Finding;
use super::subject::Subject;
use futures_util::future::BoxFuture;

/// The check that others need.
pub(super) const FIRST_CALL: &str = "first-call";

/// One check.
pub(super) struct Check {
    /// Its name: part of the interface.
    pub(super) name: &'static str,
    /// What the participant must do.
    about: &'static str,
    /// Whether it makes no sense if not even the first call succeeds.
    pub(super) needs_success: bool,
    /// Looks.
    pub(super) run: for<'a> fn(&'a Subject) -> BoxFuture<'a, Finding>,
}

macro_rules! check {
    ($name:expr, $needs_success:literal, $run:path, $about:literal) => {
        Check { name: $name, about: $about, needs_success: $needs_success, run: |subject| Box::pin($run(subject)) }
    };
}

/// Every check.
pub(super) const ALL: &[Check] = &[
    check!(FIRST_CALL, false, answers::first_call, "a call that can be done is answered with 2xx"),
    check!("malformed-body", false, answers::malformed_body, "a body that is no call is 4xx, and neither 409 nor 425"),
    check!("unknown-operation", false, answers::unknown_operation, "an operation that is not there is neither done, refused nor ongoing"),
    check!("duplicate", true, duplicates::duplicate, "a call that comes again gets the same answer; its effect happens once"),
    check!("other-arguments", true, duplicates::other_arguments, "a key that comes with other arguments has no second effect"),
    check!("older-attempt", true, duplicates::older_attempt, "an older attempt behind a newer one changes nothing"),
    check!(
        "concurrent-duplicates",
        true,
        duplicates::concurrent,
        "the same call at the same time is never refused; its effect happens once"
    ),
    check!("refusal", true, refusals::refusal, "what is refused is 409, for good, and has no effect"),
    check!("doubt", true, refusals::doubt, "an outcome that the participant does not know is neither 2xx nor 409"),
    check!("compensation", true, compensations::compensation, "a compensation undoes its action"),
    check!("compensation-twice", true, compensations::twice, "a compensation that comes again succeeds; it undoes once"),
    check!("empty-compensation", true, compensations::empty, "a compensation without an action succeeds and does nothing"),
    check!(
        "action-after-compensation",
        true,
        compensations::hanging_action,
        "an action that its compensation has overtaken never takes effect"
    ),
    check!("late-action", true, compensations::late_action, "an action that comes again after its compensation has no effect"),
    check!("compensation-of-refused", true, compensations::of_refused, "the compensation of a refused action succeeds and does nothing"),
    check!("race", true, compensations::race, "an action beside its compensation leaves no effect behind"),
    check!("deadline", true, time::deadline, "a call whose time is over is answered truthfully"),
    check!("ongoing", true, time::ongoing, "work that goes on is 202 or 425, and its result comes under the same key"),
    check!("large-output", true, answers::large_output, "a large output arrives whole, within the bounds, and the same again"),
];

/// The names of all checks, each with what the participant must do.
#[must_use]
pub fn list() -> Vec<(&'static str, &'static str)> {
    ALL.iter().map(|check| (check.name, check.about)).collect()
}
