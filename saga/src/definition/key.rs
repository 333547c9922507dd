//! The business key of an instance, which the definition takes out of its input.

use super::model::Definition;
use crate::expression::Scope;
use sagamq_api::JsonText;
use sagamq_api::limits::SAGA_KEY_BYTES_MAX;

/// An input that has no business key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// The expression has no value.
    #[error("`key` of the definition: {0}")]
    NoValue(String),
    /// The value cannot be read as text.
    #[error("its key is no text: {0}")]
    NoText(String),
    /// The value is neither text nor a number.
    #[error("its key is {0}: a key is text or a number")]
    OtherType(JsonText),
    /// The key is empty or too long.
    #[error("its key has {0} bytes, allowed are 1 to {SAGA_KEY_BYTES_MAX}")]
    Length(usize),
}

impl Definition {
    /// The business key of this input.
    ///
    /// # Errors
    /// When there is none.
    pub fn business_key(&self, input: &JsonText) -> Result<String, NoKey> {
        let key = self.key.render(&Scope { input, outputs: &(), failure: None, saga: None, item: None });
        let key = key.map_err(|error| NoKey::NoValue(error.to_string()))?;
        let key: String = match key.as_str().as_bytes() {
            [b'"', ..] => key.read().map_err(|error| NoKey::NoText(error.to_string()))?,
            // A number is its own text: read as a number, keys beyond 64 bits would become the same.
            [b'-' | b'0'..=b'9', ..] => key.as_str().to_owned(),
            _ => return Err(NoKey::OtherType(key)),
        };
        if key.is_empty() || key.len() > SAGA_KEY_BYTES_MAX { Err(NoKey::Length(key.len())) } else { Ok(key) }
    }
}
