//! What the HTTP client says went wrong, in words.

use sagamq_api::limits::REASON_BYTES_MAX;

/// An error with its causes: the outermost alone only says that sending failed.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = core::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text.chars().take(REASON_BYTES_MAX).collect()
}
