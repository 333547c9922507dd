//! What a participant refuses, and what it does not know.

use crate::conformance::answer::Outcome;
use crate::conformance::case::{Case, Finding, fail};
use crate::conformance::step::attempt;
use crate::conformance::subject::Subject;
use serde_json::Value;

pub(super) async fn refusal(subject: &Subject) -> Finding {
    let case = Case::begin_if(subject, "refused", subject.profile.refused.as_ref()).await?;
    let call = case.action();
    let first = subject.settle(&call).await;
    match first.outcome {
        Outcome::Refused => {}
        Outcome::Succeeded => return fail(format!("answered with {first}, which says that it is done; what is refused is 409")),
        Outcome::Ongoing | Outcome::Unknown => {
            return fail(format!("answered with {first}, which says that nobody knows; what is refused is 409"));
        }
    }
    case.has_effects(0, "after a refusal").await?;
    for (again, which) in [(call.clone(), "the same attempt, again,"), (attempt(&call, 2), "the next attempt")] {
        let answer = subject.settle(&again).await;
        if !answer.is(Outcome::Refused) {
            return fail(format!("{which} was answered with {answer}; a refusal is final: {first}"));
        }
        if code(&answer.body) != code(&first.body) {
            return fail(format!("{which} was refused otherwise: {answer}; the first was {first}"));
        }
    }
    case.has_effects(0, "after three refusals").await?;
    Ok(format!("three times {first}{}", case.seen("no effect")))
}

/// The code of a refusal, if it has one.
fn code(body: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(body).ok()?.get("code").cloned()
}

pub(super) async fn doubt(subject: &Subject) -> Finding {
    let case = Case::begin_if(subject, "doubtful", subject.profile.doubtful.as_ref()).await?;
    let call = case.action();
    let answer = subject.call(&call).await;
    match answer.outcome {
        Outcome::Refused => {
            return fail(format!(
                "answered with {answer}: a refusal says that nothing took effect, and the participant does not know that; answer 503"
            ));
        }
        Outcome::Succeeded => {
            return fail(format!("answered with {answer}, which says that it is done; the participant does not know that"));
        }
        Outcome::Ongoing | Outcome::Unknown => {}
    }
    if subject.profile.compensation.is_some() {
        case.succeeds(&case.compensation(None)?, "the compensation of an action in doubt").await?;
        case.has_effects(0, "after the compensation of an action in doubt").await?;
    }
    Ok(answer.to_string())
}
