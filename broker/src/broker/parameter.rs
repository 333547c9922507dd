//! Parameters of requests, checked against their ranges.

/// A parameter is out of its range, or does not go with another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParameterError(String);

impl ParameterError {
    /// `reason` says which parameter, what is wrong, and what to do.
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Checks a parameter against its range.
pub(super) fn in_range<T: PartialOrd + Copy + core::fmt::Display>(name: &str, value: T, min: T, max: T) -> Result<T, ParameterError> {
    if value < min || value > max {
        return Err(ParameterError(format!("`{name}` is {value}, allowed is {min} to {max}")));
    }
    Ok(value)
}
