//! The bounds of a payload that comes from a client.

use sagamq_api::JsonText;
use sagamq_api::json::depth;
use sagamq_api::limits::{SAGA_JSON_DEPTH_MAX, SAGA_PAYLOAD_BYTES_MAX};

/// A payload that is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfBounds {
    /// It is too large.
    #[error("it has {bytes} bytes of JSON, at most {SAGA_PAYLOAD_BYTES_MAX} are allowed: keep the data elsewhere and pass a reference")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It nests deeper than what stores it can read back.
    #[error("it nests {levels} levels deep, at most {SAGA_JSON_DEPTH_MAX} are allowed: pass what lies deeper as text")]
    TooDeep {
        /// Its levels.
        levels: usize,
    },
}

pub(super) fn require_bounds(payload: &JsonText) -> Result<(), OutOfBounds> {
    let bytes = payload.len();
    if bytes > SAGA_PAYLOAD_BYTES_MAX {
        return Err(OutOfBounds::TooLarge { bytes });
    }
    match depth(payload.as_str()) {
        levels if levels > SAGA_JSON_DEPTH_MAX => Err(OutOfBounds::TooDeep { levels }),
        _ => Ok(()),
    }
}
