//! What is said of a value that was refused.

use crate::web::problem::ApiError;
use sagamq_api::{ErrorCode, GroupName, NameError, ProducerName, SagaName, StepId, TopicName};

/// Most bytes of what a parser says about a value: it may repeat the value.
const REASON_BYTES_MAX: usize = 500;

/// The beginning of what a parser says, and where.
pub(super) fn clipped(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let place = reason.rfind(" at line ").map_or_else(String::new, |at| reason[at..].to_owned());
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.push('…');
        reason.push_str(&place);
    }
    reason
}

/// The problem of a value that was refused: one with a code of its own if the value is a name that breaks the rule.
///
/// Values are checked while they are deserialized, and serde keeps only the text of an error; so the text is looked at for the
/// opening words that all errors of names share.
pub(super) fn refused(detail: String, reason: &str) -> ApiError {
    let openings = [
        name_opening::<TopicName>(),
        name_opening::<GroupName>(),
        name_opening::<ProducerName>(),
        name_opening::<SagaName>(),
        name_opening::<StepId>(),
    ];
    let is_name = openings.iter().flatten().any(|opening| reason.contains(opening.as_str()));
    ApiError::new(if is_name { ErrorCode::InvalidName } else { ErrorCode::InvalidRequest }, detail)
}

/// How the errors of this kind of name begin, for example `the topic name `.
fn name_opening<N: core::str::FromStr<Err = NameError>>() -> Option<String> {
    let empty = "".parse::<N>().err()?.to_string();
    empty.strip_suffix("is empty").map(str::to_owned)
}
