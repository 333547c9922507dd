//! Compensations, in every order with their actions.

use crate::conformance::answer::Outcome;
use crate::conformance::case::{Case, Finding, fail, not_run};
use crate::conformance::step::attempt;
use crate::conformance::subject::Subject;
use futures_util::future::join;

/// So often an action and its compensation are sent beside each other.
const RACES: usize = 8;

pub(super) async fn compensation(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    case.compensation(None)?;
    let done = case.succeeds(&case.action(), "the action").await?;
    let undone = case.succeeds(&case.compensation(Some(&done))?, "the compensation").await?;
    case.has_effects(0, "after the compensation").await?;
    Ok(format!("{undone}{}", case.seen("the effect is gone")))
}

pub(super) async fn twice(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    case.compensation(None)?;
    let done = case.succeeds(&case.action(), "the action").await?;
    let undo = case.compensation(Some(&done))?;
    let first = case.succeeds(&undo, "the compensation").await?;
    for epoch in [1, 2] {
        let again = case.succeeds(&attempt(&undo, epoch), "the compensation, again,").await?;
        if !again.has_output_of(&first) {
            return fail(format!("the compensation, again, got another answer: {again}; the first was {first}"));
        }
    }
    case.has_effects(0, "after the compensation came three times").await?;
    Ok(format!("three times {first}{}", case.seen("undone once")))
}

pub(super) async fn empty(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let undo = case.compensation(None)?;
    let first = case.succeeds(&undo, "the compensation of an action that never came").await?;
    case.has_effects(0, "after the compensation of an action that never came").await?;
    case.succeeds(&attempt(&undo, 2), "the same compensation, again,").await?;
    case.has_effects(0, "after the same compensation, again,").await?;
    Ok(format!("{first}{}", case.seen("no effect")))
}

pub(super) async fn hanging_action(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    case.succeeds(&case.compensation(None)?, "the compensation of an action that has not come yet").await?;
    let late = subject.settle(&case.action()).await;
    if late.is(Outcome::Succeeded) {
        return fail(format!("the action took effect behind its compensation: {late}; nobody will undo it any more, so it must be 409"));
    }
    case.has_effects(0, "after an action behind its compensation").await?;
    if !late.is(Outcome::Refused) && !case.is_counted() {
        return not_run(format!("the answer {late} does not say whether it took effect, and there is no probe; 409 would"));
    }
    Ok(format!("{late}{}", case.seen("no effect")))
}

pub(super) async fn late_action(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    case.compensation(None)?;
    let call = case.action();
    let done = case.succeeds(&call, "the action").await?;
    case.succeeds(&case.compensation(Some(&done))?, "the compensation").await?;
    let late = subject.settle(&attempt(&call, 2)).await;
    case.has_effects(0, "after the action came again behind its compensation").await?;
    if late.is(Outcome::Succeeded) && !case.is_counted() {
        if late.has_output_of(&done) {
            return not_run(format!("the answer {late} is the first one, and without a probe nobody sees whether it was done again"));
        }
        return fail(format!("the action was done again behind its compensation: {late}; the first answer was {done}"));
    }
    Ok(format!("{late}{}", case.seen("no effect")))
}

pub(super) async fn of_refused(subject: &Subject) -> Finding {
    let case = Case::begin_if(subject, "refused", subject.profile.refused.as_ref()).await?;
    let undo = case.compensation(None)?;
    let refused = subject.settle(&case.action()).await;
    if !refused.is(Outcome::Refused) {
        return not_run(format!("the action was not refused: {refused}"));
    }
    let undone = case.succeeds(&undo, "the compensation of a refused action").await?;
    case.has_effects(0, "after the compensation of a refused action").await?;
    Ok(format!("{undone}{}", case.seen("no effect")))
}

pub(super) async fn race(subject: &Subject) -> Finding {
    let mut overtaken = 0;
    for _ in 0..RACES {
        let case = Case::begin(subject).await?;
        let (act, undo) = (case.action(), case.compensation(None)?);
        if !case.is_counted() {
            return not_run("without a probe nobody sees what is left behind");
        }
        let (acted, _) = join(subject.call(&act), subject.call(&undo)).await;
        case.succeeds(&attempt(&undo, 2), "the compensation").await?;
        overtaken += usize::from(!acted.is(Outcome::Succeeded));
        case.has_effects(0, "after an action beside its compensation").await?;
        subject.settle(&attempt(&act, 2)).await;
        case.has_effects(0, "after the action came again").await?;
    }
    Ok(format!("{RACES} times, no effect left; {overtaken} times the compensation was first"))
}
