//! What an answer over HTTP means for a call.
//!
//! | answer | outcome |
//! |---|---|
//! | 2xx but 202; 410 to a compensation of a saga | succeeded; the body is the output |
//! | 409 | refused; the body may be `{code, message}` or a problem document |
//! | 202, 425 | ongoing; asked again after `Retry-After` (1 s without) under the same key and epoch |
//! | anything else, and no answer | unknown; `Retry-After` wins over the backoff |

use super::causes::describe;
use super::credentials::Ready;
use super::progress::Progress;
use crate::participant::output::{Output, output_of};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use sagamq_api::limits::{FAILURE_CODE_BYTES_MAX, REASON_BYTES_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::saga::{CallOutcome, Failure, Operation};
use serde::Deserialize;

/// Most bytes of an answer that is no success; more is not read.
const FAILURE_BYTES_MAX: usize = 64 * 1024;

/// Reads an answer, without the secrets that were shown with the call.
pub(super) async fn word_of(mut response: reqwest::Response, operation: Operation, shown: &Ready) -> Progress {
    let (status, retry_after_ms) = (response.status(), retry_after_ms(response.headers()));
    // What is gone needs no undoing. To an action it only says that nobody answers here any more.
    let is_gone = status == StatusCode::GONE && operation == Operation::Compensation;
    let is_success = (status.is_success() && status != StatusCode::ACCEPTED) || is_gone;
    let bound = if is_success { SAGA_PAYLOAD_BYTES_MAX + 1 } else { FAILURE_BYTES_MAX };
    let mut body = Vec::new();
    while body.len() < bound {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) if is_success || status == StatusCode::CONFLICT => {
                return unknown("ANSWER_CUT_OFF", describe(&error), retry_after_ms);
            }
            Err(_) => break,
        }
    }
    let body = shown.without_secrets(body);
    let reply = match status {
        _ if is_success => {
            let Output { output, note } = output_of(&body);
            return Progress::Word { reply: CallOutcome::Succeeded { output }, note, branch_address: None };
        }
        StatusCode::CONFLICT => CallOutcome::Refused { failure: failure_of(&body, "REFUSED") },
        StatusCode::ACCEPTED | StatusCode::TOO_EARLY => CallOutcome::Ongoing { retry_after_ms },
        status => CallOutcome::Unknown { failure: failure_of(&body, &format!("HTTP_{}", status.as_u16())), retry_after_ms },
    };
    Progress::Word { reply, note: None, branch_address: None }
}

/// The word on a call that nobody answered.
pub(super) fn unknown(code: &str, message: String, retry_after_ms: Option<u64>) -> Progress {
    let failure = Failure { code: code.to_owned(), message };
    Progress::Word { reply: CallOutcome::Unknown { failure, retry_after_ms }, note: None, branch_address: None }
}

/// What a participant says about a failure: `{code, message}`, a problem document, or any text.
fn failure_of(body: &[u8], default_code: &str) -> Failure {
    #[derive(Deserialize)]
    struct Said {
        code: Option<String>,
        message: Option<String>,
        detail: Option<String>,
        title: Option<String>,
    }
    let message_of = |text: String| text.chars().take(REASON_BYTES_MAX).collect::<String>();
    // A list is no object, though serde reads a struct from one, field by field.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    match serde_json::from_slice::<Said>(body) {
        Ok(said) if is_object => Failure {
            code: said.code.map_or_else(|| default_code.to_owned(), |code| code.chars().take(FAILURE_CODE_BYTES_MAX).collect()),
            message: message_of(said.message.or(said.detail).or(said.title).unwrap_or_default()),
        },
        Ok(_) | Err(_) => Failure { code: default_code.to_owned(), message: message_of(String::from_utf8_lossy(body).into_owned()) },
    }
}

/// `Retry-After` in seconds; the form with a date is not used between services.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_an_object_or_a_text_and_never_a_list() {
        let of = |body: &str| failure_of(body.as_bytes(), "REFUSED");
        let object = of(r#" {"code": "NO_STOCK", "message": "none left"}"#);
        assert_eq!((object.code.as_str(), object.message.as_str()), ("NO_STOCK", "none left"));
        for text in [r#"["NO_STOCK", "none left", null, null]"#, "none left", ""] {
            let failure = of(text);
            assert_eq!((failure.code.as_str(), failure.message.as_str()), ("REFUSED", text));
        }
    }
}
