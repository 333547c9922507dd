//! Names and values of attributes.

use super::error::EventError;

/// Longest name. The specification advises 20, and takes more.
const NAME_BYTES_MAX: usize = 60;

/// An attribute that has a field of its own: it has to say something.
pub(super) fn check(name: &'static str, value: &str) -> Result<(), EventError> {
    if value.is_empty() {
        return Err(EventError::Missing(name));
    }
    check_value(name, value)
}

/// The name of an extension.
pub(super) fn check_name(name: &str) -> Result<(), EventError> {
    if is_name(name) { Ok(()) } else { Err(EventError::Name(name.to_owned())) }
}

/// Whether an attribute may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let is_legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_legal) && name != "data"
}

/// Any text without control characters.
pub(super) fn check_value(name: &str, value: &str) -> Result<(), EventError> {
    if value.contains(char::is_control) {
        return Err(EventError::Value { name: name.to_owned(), reason: "it has a control character" });
    }
    Ok(())
}

/// Whether a media type is one of JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(essence.as_str(), "application/json" | "text/json") || essence.ends_with("+json")
}
