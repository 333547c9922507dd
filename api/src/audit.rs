//! The audit log: who changed what, and who was refused. A topic of its own, which is read through its own route and written by nobody but the
//! server.

use crate::json::JsonText;
use core::fmt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
#[cfg(feature = "openapi")]
use utoipa::{IntoParams, ToSchema};

/// The topic of the audit log. No topic of a user can have the name, and no route of topics knows it.
pub const AUDIT_TOPIC: &str = "sagamq.audit";

/// The beginning of the types of its CloudEvents; the name of the operation follows.
pub const AUDIT_TYPE: &str = "sagamq.audit.";

/// What the server itself is called that acts by its settings.
pub const ACTOR_CONFIG: &str = "config";

/// Who acts where nobody is asked who he is.
pub const ACTOR_ANONYMOUS: &str = "anonymous";

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// Something is there that was not.
    Created,
    /// It is otherwise than it was.
    Changed,
    /// It is gone.
    Deleted,
    /// It was done to it, as an operator's verb is.
    Done,
    /// Nothing: whoever asked may not.
    Refused,
}

impl AuditOutcome {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for AuditOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An entry of the audit log: one change, in the commit of which it is. It has no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct AuditEntry {
    /// No two entries have the same.
    pub id: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who: `key:NAME`, `token:SUBJECT`, `anonymous` where nobody is asked for a key, or `config`: the server, by its settings.
    pub actor: String,
    /// Whom the request says beside that; nothing vouches for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub said: Option<String>,
    /// What was asked for, by the name in the table of operations: `topic.delete`.
    pub operation: String,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// What it was done to, by kind: `topic`, `group`, `partition`, `key`, `saga`, `id` and so on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub on: BTreeMap<String, String>,
    /// The settings as they were.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<JsonText>,
    /// The settings as they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<JsonText>,
    /// What else there is to tell: how many records were settled, for example.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<JsonText>,
    /// Why, as whoever asked has said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The code of the error of a refusal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Refusals before this one that are not in the log, because there were too many.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub left_out: Option<u64>,
    /// The request, as `x-request-id` and the server's log have it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// The address that the request came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
}

impl AuditEntry {
    /// Whether a query asks for it.
    #[must_use]
    pub fn is_asked_for(&self, query: &AuditQuery) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_deref().is_none_or(|pattern| matches(pattern, text));
        let lies_on = |on: &str| match on.split_once('=') {
            Some((kind, name)) => self.on.get(kind).is_some_and(|found| matches(name, found)),
            None => self.on.contains_key(on),
        };
        fits(&query.actor, &self.actor)
            && fits(&query.operation, &self.operation)
            && query.outcome.is_none_or(|outcome| outcome == self.outcome)
            && query.on.as_deref().is_none_or(lies_on)
    }
}

/// A name, or the beginning of names and `*`.
fn matches(pattern: &str, text: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == text, |beginning| text.starts_with(beginning))
}

/// `GET /v1/audit`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Where to go on: `next` of the answer before. Left out: with the oldest entry, or with `since_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Entries from this time on, in milliseconds since 1970; not with `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Those of this actor: `key:ann`, or the beginning and `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Those of this operation: `topic.delete`, or `topic.*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Those about this: a kind, `topic`, or a kind and a name, `topic=orders`, `topic=orders*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// Those with this outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AuditOutcome>,
    /// Most entries of the answer, 1 to 1000 (default 100).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How long to wait for a first entry, in milliseconds (default 0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Entries, the oldest first, those of one shard in the order of their commits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(ToSchema))]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Where to go on; also if there is nothing yet.
    pub next: String,
    /// Whether there may be more by now: a page looks at a bounded number of entries, so one without any need not be the last.
    pub has_more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_who_what_and_on_what() {
        let entry = AuditEntry {
            id: "1".to_owned(),
            at_ms: 1,
            actor: "key:ann".to_owned(),
            said: None,
            operation: "topic.delete".to_owned(),
            outcome: AuditOutcome::Deleted,
            on: [("topic".to_owned(), "orders".to_owned())].into(),
            before: None,
            after: None,
            result: None,
            reason: None,
            code: None,
            left_out: None,
            request_id: None,
            address: None,
        };
        let asked = |field: fn(&mut AuditQuery) -> &mut Option<String>, text: &str| {
            let mut query = AuditQuery::default();
            *field(&mut query) = Some(text.to_owned());
            entry.is_asked_for(&query)
        };
        assert!(entry.is_asked_for(&AuditQuery::default()));
        for (text, is_found) in [("key:ann", true), ("key:*", true), ("key:an", false), ("token:*", false), ("*", true)] {
            assert_eq!(asked(|query| &mut query.actor, text), is_found, "{text}");
        }
        for (text, is_found) in [("topic.delete", true), ("topic.*", true), ("topic", false), ("group.*", false)] {
            assert_eq!(asked(|query| &mut query.operation, text), is_found, "{text}");
        }
        for (text, is_found) in [("topic", true), ("topic=orders", true), ("topic=ord*", true), ("topic=order", false), ("group", false)] {
            assert_eq!(asked(|query| &mut query.on, text), is_found, "{text}");
        }
        let of = |outcome| entry.is_asked_for(&AuditQuery { outcome: Some(outcome), ..AuditQuery::default() });
        assert!(of(AuditOutcome::Deleted) && !of(AuditOutcome::Refused));
    }
}
