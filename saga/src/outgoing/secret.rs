//! [`SecretText`]: the content of a secret, which shows nowhere.

use core::fmt;
use std::sync::Arc;

/// The content of a secret. Its `Debug` says nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<[u8]>);

impl SecretText {
    /// A secret with this content.
    #[must_use]
    pub fn new(content: &[u8]) -> Self {
        Self(content.into())
    }

    /// The content, for the request that it is for.
    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The content as one line: editors and `echo` end files with a line break.
    pub(crate) fn line(&self) -> &[u8] {
        let line = self.0.strip_suffix(b"\n").unwrap_or(&self.0);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}
