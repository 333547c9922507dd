//! What a participant answers to single calls.

use crate::conformance::answer::Outcome;
use crate::conformance::case::{Case, Finding, fail, not_run};
use crate::conformance::step::attempt;
use crate::conformance::subject::{Subject, call_headers};
use sagamq_api::json::depth;
use sagamq_api::limits::{SAGA_JSON_DEPTH_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::saga::Operation;

/// From so many bytes on an output is large: beyond what a server sends in one go.
const LARGE: usize = 64 * 1024;

pub(super) async fn first_call(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let answer = case.succeeds(&case.action(), "the action").await?;
    let Some(change) = case.change().await? else { return Ok(answer.to_string()) };
    if change == 0 {
        return fail(format!("{answer}, and the probe counts no effect: it must tell how many are in force"));
    }
    let unit = *subject.unit.get_or_init(|| change);
    Ok(format!("{answer}; the probe changed by {unit}"))
}

pub(super) async fn malformed_body(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let call = case.action();
    for body in ["", "{", "[]", "{}", "\u{0}"] {
        let answer = subject.post(&call.call, call_headers(&call), body.as_bytes().to_vec(), Operation::Action).await;
        let is_right = answer.status.is_some_and(|status| status.is_client_error()) && answer.is(Outcome::Unknown);
        if !is_right {
            return fail(format!("the body `{}` was answered with {answer}; it must be 4xx, and neither 409 nor 425", body.escape_debug()));
        }
    }
    case.has_effects(0, "after bodies that are no calls").await?;
    Ok("each was 4xx".to_owned())
}

pub(super) async fn unknown_operation(subject: &Subject) -> Finding {
    let case = Case::begin(subject).await?;
    let mut call = case.action();
    call.call = "no_such_operation".to_owned();
    let answer = subject.call(&call).await;
    match answer.outcome {
        Outcome::Unknown => Ok(answer.to_string()),
        Outcome::Refused => fail(format!("{answer}: a refusal is final, and the operation may come with the next deployment; answer 404")),
        Outcome::Succeeded | Outcome::Ongoing => fail(format!("{answer}: nobody can have done that; answer 404")),
    }
}

pub(super) async fn large_output(subject: &Subject) -> Finding {
    let case = Case::begin_if(subject, "large", subject.profile.large.as_ref()).await?;
    let call = case.action();
    let first = case.succeeds(&call, "the action").await?;
    let bytes = first.body.len();
    if bytes < LARGE {
        return not_run(format!("the output has {bytes} bytes; it is large from {LARGE} on"));
    }
    if bytes > SAGA_PAYLOAD_BYTES_MAX {
        return fail(format!("the output has more than {SAGA_PAYLOAD_BYTES_MAX} bytes: the saga would see null instead"));
    }
    let levels = depth(&String::from_utf8_lossy(&first.body));
    if levels > SAGA_JSON_DEPTH_MAX {
        return fail(format!("the output nests {levels} levels deep, more than {SAGA_JSON_DEPTH_MAX}: the saga would see null instead"));
    }
    let again = case.succeeds(&attempt(&call, 2), "the action, again,").await?;
    if !again.has_output_of(&first) {
        return fail("the call that came again got another output");
    }
    case.has_effects(1, "after the call came twice").await?;
    Ok(format!("{bytes} bytes, the same again"))
}
