//! An event in the headers and the body of a request: the *binary* mode of the binding to HTTP.

use super::attribute::is_name;
use super::error::EventError;
use super::event::{CloudEvent, SPECVERSION};
use bytes::Bytes;
use std::collections::HashSet;

/// Headers of attributes begin so.
const PREFIX: &str = "ce-";

impl CloudEvent {
    /// Whether a request with a header of this name has an event in its headers. Names of headers are in lower case.
    #[must_use]
    pub fn is_attribute_header(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// Whether a page in a browser that names this header means an attribute: its name is the sender's.
    #[must_use]
    pub fn is_legal_attribute_header(name: &str) -> bool {
        name.strip_prefix(PREFIX).is_some_and(is_name)
    }

    /// The event of a request. A body without bytes and without a type is no data.
    ///
    /// # Errors
    /// When something is missing, twice, or wrong.
    pub fn from_http<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Self, EventError> {
        let (mut attributes, mut seen) = (Vec::new(), HashSet::new());
        for (name, value) in headers {
            let Some(name) = name.strip_prefix(PREFIX) else { continue };
            if name == "datacontenttype" {
                return Err(EventError::Value { name: name.to_owned(), reason: "it is the header content-type" });
            }
            if !seen.insert(name) {
                return Err(EventError::Twice(name.to_owned()));
            }
            attributes.push((name.to_owned(), decoded(name, value)?));
        }
        attributes.extend(content_type.map(|of| ("datacontenttype".to_owned(), of.to_owned())));
        let data = (content_type.is_some() || !body.is_empty()).then_some(body);
        Self::made(attributes, data)
    }

    /// The headers of a request that has the event, without `content-type`.
    pub fn http_headers(&self) -> impl Iterator<Item = (String, String)> {
        let version = ("specversion", SPECVERSION);
        core::iter::once(version).chain(self.attributes()).map(|(name, value)| (format!("{PREFIX}{name}"), encoded(value)))
    }
}

/// The text of a header's value: what is no printable ASCII, and space, `"` and `%`, is written as `%` and two digits.
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'%' {
            text.push(byte.into());
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn decoded(name: &str, value: &[u8]) -> Result<String, EventError> {
    let wrong = |reason| EventError::Value { name: name.to_owned(), reason };
    // Some senders put a value with spaces in quotes.
    let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
    let (mut bytes, mut rest) = (Vec::with_capacity(value.len()), value);
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |at: usize| behind.get(at).and_then(|&digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(wrong("`%` without two hexadecimal digits behind it")) };
        bytes.push(u8::try_from(high * 16 + low).expect("two digits are a byte"));
        rest = &behind[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong("it is no UTF-8"))
}
