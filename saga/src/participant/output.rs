//! What is kept of an output. A success is known whatever comes with it.

use crate::protocol::codes;
use sagamq_api::JsonText;
use sagamq_api::json::{JsonTextError, depth};
use sagamq_api::limits::{SAGA_JSON_DEPTH_MAX, SAGA_PAYLOAD_BYTES_MAX};
use sagamq_api::saga::Failure;

/// An output as it is kept.
pub(super) struct Output {
    pub(super) output: JsonText,
    /// Why it is `null` instead of what the participant returned.
    pub(super) note: Option<Failure>,
}

/// The output in the body of a success: JSON if it is JSON, else text.
pub(super) fn output_of(body: &[u8]) -> Output {
    if body.len() > SAGA_PAYLOAD_BYTES_MAX {
        return too_large(body.len());
    }
    match JsonText::parse(body) {
        Ok(output) => kept(output),
        Err(JsonTextError::TooDeep { depth }) => too_deep(depth),
        Err(JsonTextError::Malformed(_)) if body.is_empty() => Output { output: JsonText::null(), note: None },
        Err(JsonTextError::Malformed(_)) => kept(JsonText::of(&*String::from_utf8_lossy(body)).expect("text is JSON")),
    }
}

/// The output, if it is within the bounds: too large an output is left out, and that is told.
pub(super) fn kept(output: JsonText) -> Output {
    let (bytes, levels) = (output.len(), depth(output.as_str()));
    if bytes > SAGA_PAYLOAD_BYTES_MAX {
        too_large(bytes)
    } else if levels > SAGA_JSON_DEPTH_MAX {
        too_deep(levels)
    } else {
        Output { output, note: None }
    }
}

fn too_large(bytes: usize) -> Output {
    let message = format!("the output has at least {bytes} bytes, at most {SAGA_PAYLOAD_BYTES_MAX} are kept: it is null");
    left_out(codes::PAYLOAD_TOO_LARGE, message)
}

fn too_deep(levels: usize) -> Output {
    let message = format!("the output nests {levels} levels deep, at most {SAGA_JSON_DEPTH_MAX} are kept: it is null");
    left_out(codes::PAYLOAD_TOO_DEEP, message)
}

fn left_out(code: &str, message: String) -> Output {
    Output { output: JsonText::null(), note: Some(Failure { code: code.to_owned(), message }) }
}
