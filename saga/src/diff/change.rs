//! One difference between two versions, and who sees it.

use serde::Serialize;

/// One difference.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Who sees it.
    pub seen_by: SeenBy,
    /// The step, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What is different: a key of the definition, or a part of one.
    pub what: String,
    /// How it was; nothing: it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// How it is; nothing: it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// What follows, where that is not plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Who sees a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenBy {
    /// Who starts sagas: what was taken may be refused, or makes another instance.
    Starters,
    /// Participants: they are called otherwise.
    Participants,
    /// Who runs them: order, times, attempts, what is returned.
    Operators,
}
