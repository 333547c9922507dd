//! [`Resource`]: what a request is about.

use crate::TopicName;
use crate::saga::REPLY_TOPIC;
use core::fmt;

/// What a request is about, of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part<'a> {
    /// Nothing: a role that is given for some of that kind does not reach.
    #[default]
    None,
    /// Something that is not known yet, or that makes no difference: a role for whatever of that kind reaches.
    Some,
    /// All of that kind: only a role for all of them reaches.
    All,
    /// This one.
    Named(&'a str),
}

/// What a request is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resource<'a> {
    /// Of the topics.
    pub topic: Part<'a>,
    /// Of the groups.
    pub group: Part<'a>,
    /// Of the sagas, by the names of their definitions.
    pub saga: Part<'a>,
}

impl<'a> Resource<'a> {
    /// Nothing but the server itself, which takes a role for everything.
    pub const SERVER: Self = Self { topic: Part::None, group: Part::None, saga: Part::None };

    /// A topic as a whole: no role for a group of it reaches.
    #[must_use]
    pub const fn topic(name: &'a str) -> Self {
        Self { topic: Part::Named(name), group: Part::None, saga: Part::None }
    }

    /// A topic, for whoever may do something with it or with a group of it.
    #[must_use]
    pub const fn topic_of_any_group(name: &'a str) -> Self {
        Self { topic: Part::Named(name), group: Part::Some, saga: Part::None }
    }

    /// A group of a topic.
    #[must_use]
    pub const fn group(topic: &'a str, group: &'a str) -> Self {
        Self { topic: Part::Named(topic), group: Part::Named(group), saga: Part::None }
    }

    /// Sagas of every definition.
    pub const ALL_SAGAS: Self = Self { topic: Part::None, group: Part::None, saga: Part::All };

    /// What else whoever stores records in a topic must be allowed to answer for: one in the topic of replies answers a call of any saga.
    #[must_use]
    pub fn answered_by_records_in(topic: &TopicName) -> Option<Self> {
        (topic.as_str() == REPLY_TOPIC).then_some(Self::ALL_SAGAS)
    }

    /// Sagas of a definition.
    #[must_use]
    pub const fn saga(name: &'a str) -> Self {
        Self { topic: Part::None, group: Part::None, saga: Part::Named(name) }
    }
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("topic", "topics", self.topic), ("group", "groups", self.group), ("saga", "sagas", self.saga)];
        let said = parts.into_iter().filter_map(|(one, all, part)| match part {
            Part::None | Part::Some => None,
            Part::All => Some(format!("all {all}")),
            Part::Named(name) => Some(format!("{one} `{name}`")),
        });
        let said: Vec<String> = said.collect();
        match (said.is_empty(), *self == Self::SERVER) {
            (false, _) => f.write_str(&said.join(", ")),
            (true, true) => f.write_str("the whole server"),
            (true, false) => f.write_str("anything of that kind"),
        }
    }
}
