//! Why an event is none.

/// What is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// An attribute that every event has is not there, or empty.
    #[error("the event has no `{0}`")]
    Missing(&'static str),
    /// It is of another version of the specification.
    #[error("the event has the specversion `{0:.20}`: 1.0 is taken")]
    Version(String),
    /// The name of an attribute.
    #[error("`{0:.60}` is no name of an attribute: they have lower-case letters and digits, at most 60, and `data` is none")]
    Name(String),
    /// The value of an attribute.
    #[error("the attribute `{name:.60}` of the event is wrong: {reason}")]
    Value {
        /// Its name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// A field or header is there twice.
    #[error("the event has `{0:.60}` twice")]
    Twice(String),
    /// The data are there in two forms, or in none that fits their type.
    #[error("the data of the event: {0}")]
    Data(&'static str),
    /// It is no JSON object.
    #[error("the event is no JSON object: {0}")]
    Json(String),
}
