//! Why a text is no expression.

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CompileError {
    /// What is wrong.
    pub message: String,
    /// Where, in bytes from the begin of the text.
    pub offset: usize,
    /// Whether its end was not found, which is what YAML makes of an expression that had to be quoted.
    pub is_unclosed: bool,
}

impl CompileError {
    pub(super) fn new(message: impl Into<String>, offset: usize) -> Self {
        Self { message: message.into(), offset, is_unclosed: false }
    }
}
