//! [`Pattern`].

use crate::names::{NameError, TopicName};
use core::fmt;
use core::str::FromStr;

/// Names that a role is given for: one name, or all that begin alike (`orders*`), or all (`*`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    begins: Box<str>,
    is_prefix: bool,
}

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// There is nothing.
    #[error("the pattern is empty: give a name, the beginning of names and `*`, or `*` for all")]
    Empty,
    /// What stands before the `*`, or the whole, can be no name.
    #[error("the pattern `{pattern}` matches no name: {reason}")]
    NoName {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: NameError,
    },
}

impl Pattern {
    /// Whether it matches every name.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.is_prefix && self.begins.is_empty()
    }

    /// Whether it matches this name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&*self.begins) } else { name == &*self.begins }
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (begins, is_prefix) = text.strip_suffix('*').map_or((text, false), |begins| (begins, true));
        if begins.is_empty() {
            return if is_prefix { Ok(Self { begins: "".into(), is_prefix }) } else { Err(PatternError::Empty) };
        }
        // All names of topics, groups and sagas keep to one rule. A dot or two can begin a name, though none is one.
        let checked = if is_prefix { format!("{begins}x").parse::<TopicName>() } else { begins.parse() };
        match checked {
            Ok(_) => Ok(Self { begins: begins.into(), is_prefix }),
            Err(reason) => Err(PatternError::NoName { pattern: text.to_owned(), reason }),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.begins)?;
        if self.is_prefix { f.write_str("*") } else { Ok(()) }
    }
}
