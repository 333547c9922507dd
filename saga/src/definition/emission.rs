//! What a step tells others of its own: a record in a topic, in the commit that settles it.

use crate::expression::Template;
use sagamq_api::TopicName;
use serde::{Deserialize, Serialize};

/// A record that is written when a step has done something, or has undone it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emission {
    /// Where it goes. It has one partition a shard, and the record goes to that of the instance.
    pub topic: TopicName,
    /// Its key; `None`: the business key of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Template>,
    /// What it says.
    pub value: Template,
    /// Headers beside those that every such record has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, Template)>,
}

impl Emission {
    /// Everything in it that has expressions.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.key.iter().chain([&self.value]).chain(self.headers.iter().map(|(_, value)| value))
    }

    /// Whether an expression of it may take more than a moment.
    pub(super) fn is_long(&self) -> bool {
        self.templates().any(Template::is_long)
    }
}
