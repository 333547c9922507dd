//! Calls that take time, and calls whose time is over.

use crate::conformance::answer::Outcome;
use crate::conformance::case::{Case, Finding, fail};
use crate::conformance::step::{attempt, overdue};
use crate::conformance::subject::Subject;

pub(super) async fn deadline(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let late = overdue(&case.action());
    let first = subject.settle(&late).await;
    match first.outcome {
        Outcome::Succeeded => {
            case.has_effects(1, "after a success").await?;
            let again = case.succeeds(&attempt(&late, 2), "the action, again,").await?;
            if !again.has_output_of(&first) {
                return fail(format!("the action, again, got another answer: {again}; the first was {first}"));
            }
            case.has_effects(1, "after the action came again").await?;
        }
        Outcome::Refused => {
            case.has_effects(0, "after a refusal").await?;
            let again = subject.settle(&attempt(&case.action(), 2)).await;
            if !again.is(Outcome::Refused) {
                return fail(format!(
                    "the late call was refused ({first}) and the next attempt was not ({again}): a refusal is final, so a call that only comes \
                     too late must not be refused; answer 503"
                ));
            }
        }
        // That nobody knows is true.
        Outcome::Ongoing | Outcome::Unknown => {}
    }
    if subject.profile.compensation.is_some() {
        let known = first.is(Outcome::Succeeded).then_some(&first);
        case.succeeds(&case.compensation(known)?, "the compensation of the late call").await?;
        case.has_effects(0, "after the compensation of the late call").await?;
    }
    Ok(first.to_string())
}

pub(super) async fn ongoing(subject: &Subject) -> Finding {
    let case = Case::begin_if(subject, "ongoing", subject.profile.ongoing.as_ref()).await?;
    let call = case.action();
    let first = subject.call(&call).await;
    if !first.is(Outcome::Ongoing) {
        return fail(format!("the first answer was {first}; work that goes on is 202 or 425"));
    }
    if first.retry_after.is_some() && first.retry_after().is_none() {
        return fail(format!("`Retry-After: {}` is read in whole seconds only", first.retry_after.unwrap_or_default()));
    }
    let result = case.succeeds(&call, "the call that goes on").await?;
    let again = case.succeeds(&attempt(&call, 2), "the next attempt").await?;
    if !again.has_output_of(&result) {
        return fail(format!("the next attempt got another answer: {again}; the first result was {result}"));
    }
    case.has_effects(1, "after the result").await?;
    Ok(format!("first {first}, then {result}{}", case.seen("one effect")))
}
