//! Why stored bytes of a group cannot be read.

/// Why bytes are no state of a group. The stored value is damaged, or of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The first byte is a version that this code does not know.
    #[error("group state has version {0}, which this program does not read")]
    Version(u8),
    /// The bytes end in the middle of a field.
    #[error("group state ends in the middle of a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("group state has {0} bytes too many")]
    TrailingBytes(usize),
    /// A number is longer than it may be, or larger.
    #[error("group state has an illegal number for {0}")]
    Number(&'static str),
    /// The parts contradict each other.
    #[error("group state contradicts itself: {0}")]
    Contradiction(&'static str),
}
