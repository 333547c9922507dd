//! The same call more than once.

use crate::conformance::answer::{Answer, Outcome};
use crate::conformance::case::{Case, Finding, Stop, fail};
use crate::conformance::step::attempt;
use crate::conformance::subject::Subject;
use futures_util::future::join_all;
use serde_json::{Value, json};

/// So many come at the same time.
const AT_ONCE: usize = 8;

/// A field that other arguments have, if the profile has none.
const OTHER_FIELD: &str = "sagamq_conformance";

/// An answer to a call that has succeeded: it must not contradict that.
fn not_against(first: &Answer, again: &Answer, which: &str) -> Result<(), Stop> {
    match again.outcome {
        Outcome::Refused => {
            fail(format!("{which} was answered with {again}: a refusal says that nothing took effect, and it has: {first}"))
        }
        Outcome::Succeeded if !again.has_output_of(first) => fail(format!("{which} got another answer: {again}; the first was {first}")),
        Outcome::Succeeded | Outcome::Ongoing | Outcome::Unknown => Ok(()),
    }
}

pub(super) async fn duplicate(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let call = case.action();
    let first = case.succeeds(&call, "the action").await?;
    for (again, which) in [(call.clone(), "the same attempt, again,"), (attempt(&call, 2), "the next attempt")] {
        let answer = subject.settle(&again).await;
        not_against(&first, &answer, which)?;
        if !answer.is(Outcome::Succeeded) {
            return fail(format!("{which} was answered with {answer}; it must get the first answer: {first}"));
        }
    }
    case.has_effects(1, "after three calls under one key").await?;
    Ok(format!("three times {first}{}", case.seen("one effect")))
}

pub(super) async fn other_arguments(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let call = case.action();
    let first = case.succeeds(&call, "the action").await?;
    let other = attempt(&case.action_with(&others(subject)), 2);
    let answer = subject.call(&other).await;
    not_against(&first, &answer, "the key with other arguments")?;
    case.has_effects(1, "after the key came with other arguments").await?;
    let again = case.succeeds(&attempt(&call, 3), "the action, again,").await?;
    not_against(&first, &again, "the first call, again,")?;
    Ok(format!("{answer}{}", case.seen("one effect")))
}

fn others(subject: &Subject) -> Value {
    let profile = &subject.profile;
    if let Some(other) = &profile.other {
        return other.clone();
    }
    match profile.arguments.clone() {
        Value::Object(mut fields) => {
            fields.insert(OTHER_FIELD.to_owned(), json!("other arguments"));
            Value::Object(fields)
        }
        _ => json!({ OTHER_FIELD: "other arguments" }),
    }
}

pub(super) async fn older_attempt(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let call = case.action();
    let first = case.succeeds(&attempt(&call, 3), "the third attempt").await?;
    let older = subject.call(&attempt(&call, 1)).await;
    not_against(&first, &older, "the first attempt, behind the third,")?;
    case.has_effects(1, "after an older attempt came behind a newer one").await?;
    Ok(format!("{older}{}", case.seen("one effect")))
}

pub(super) async fn concurrent(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let call = case.action();
    let answers = join_all((0..AT_ONCE).map(|_| subject.call(&call))).await;
    if let Some(refused) = answers.iter().find(|answer| answer.is(Outcome::Refused)) {
        return fail(format!(
            "one of {AT_ONCE} at the same time was answered with {refused}: that is a refusal, and the saga would be undone while the others take \
             effect; answer 425, 503, or wait for the first"
        ));
    }
    let last = case.succeeds(&attempt(&call, 2), "the action, after all came at the same time,").await?;
    for answer in &answers {
        not_against(&last, answer, "one of those at the same time")?;
    }
    case.has_effects(1, "after the call came at the same time").await?;
    let done = answers.iter().filter(|answer| answer.is(Outcome::Succeeded)).count();
    Ok(format!("{done} of {AT_ONCE} with the answer, none refused{}", case.seen("one effect")))
}
