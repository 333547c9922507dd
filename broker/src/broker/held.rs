//! An answer with its share of the memory for answers: the share is given back when the answer is sent, not when it is made.

use crate::log::MemoryShare;

/// A value and the memory it is charged for.
#[derive(Debug)]
pub struct Held<T> {
    value: T,
    share: MemoryShare,
}

impl<T> Held<T> {
    pub(crate) fn new(value: T, share: MemoryShare) -> Self {
        Self { value, share }
    }

    /// What is made of the value, which goes; the share is that of the value.
    #[must_use]
    pub fn map<R>(self, make: impl FnOnce(T) -> R) -> Held<R> {
        Held { value: make(self.value), share: self.share }
    }

    /// The value and the share, which is to be kept as long as the value or its bytes.
    #[must_use]
    pub fn into_parts(self) -> (T, MemoryShare) {
        (self.value, self.share)
    }

    /// The value alone: its memory is not counted any more.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}
