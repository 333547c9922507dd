//! [`Grant`]: a role, and for what it is given.

use super::pattern::{Pattern, PatternError};
use super::resource::{Part, Resource};
use super::role::Role;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A role, and the topics and groups or the sagas that it is given for, as text: `produce:topic=orders*`,
/// `consume:topic=orders,group=billing`, `operate:saga=checkout`. Without patterns it is given for everything: `admin`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    role: Role,
    topic: Option<Pattern>,
    group: Option<Pattern>,
    saga: Option<Pattern>,
}

/// Why a grant was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It does not begin with a role.
    #[error(
        "`{0}` is no role: expected produce, consume, manage, operate or admin, alone or with `:topic=…`, `:topic=…,group=…` or `:saga=…`"
    )]
    Role(String),
    /// What follows the role is not `kind=pattern`.
    #[error("`{0}` says not for what the role is: expected topic=PATTERN, group=PATTERN or saga=PATTERN, divided by commas")]
    Kind(String),
    /// A kind is there twice.
    #[error("`{0}` is there twice: give the role once more for another pattern")]
    Twice(&'static str),
    /// No request is about both.
    #[error("a role is for topics and groups, or for sagas: give it once for each")]
    Mixed,
    /// Nothing of that kind can be done with the role.
    #[error("the role `produce` is not for groups: leave `group=` out")]
    NoGroups,
    /// A pattern matches nothing.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl Grant {
    /// A role for everything.
    #[must_use]
    pub const fn of_all(role: Role) -> Self {
        Self { role, topic: None, group: None, saga: None }
    }

    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether it is for everything there is.
    #[must_use]
    pub const fn is_of_all(&self) -> bool {
        self.topic.is_none() && self.group.is_none() && self.saga.is_none()
    }

    /// Whether what is asked for lies within what it is given for: of each kind that it names, the request is about something that matches.
    #[must_use]
    pub fn covers(&self, resource: &Resource<'_>) -> bool {
        let covers = |pattern: &Option<Pattern>, part: Part<'_>| pattern.as_ref().is_none_or(|pattern| within(pattern, part));
        covers(&self.topic, resource.topic) && covers(&self.group, resource.group) && covers(&self.saga, resource.saga)
    }
}

fn within(pattern: &Pattern, part: Part<'_>) -> bool {
    match part {
        Part::None => false,
        Part::Some => true,
        Part::All => pattern.is_all(),
        Part::Named(name) => pattern.matches(name),
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (role, of) = text.split_once(':').map_or((text, None), |(role, of)| (role, Some(of)));
        let role = Role::named(role).ok_or_else(|| GrantError::Role(role.to_owned()))?;
        let mut grant = Self::of_all(role);
        for part in of.into_iter().flat_map(|of| of.split(',')) {
            let unknown = || GrantError::Kind(part.to_owned());
            let (kind, pattern) = part.split_once('=').ok_or_else(unknown)?;
            let (kind, place) = match kind {
                "topic" => ("topic", &mut grant.topic),
                "group" => ("group", &mut grant.group),
                "saga" => ("saga", &mut grant.saga),
                _ => return Err(unknown()),
            };
            if place.replace(pattern.parse()?).is_some() {
                return Err(GrantError::Twice(kind));
            }
        }
        if grant.saga.is_some() && (grant.topic.is_some() || grant.group.is_some()) {
            return Err(GrantError::Mixed);
        }
        if grant.group.is_some() && role == Role::Produce {
            return Err(GrantError::NoGroups);
        }
        Ok(grant)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.role.as_str(), f)?;
        let parts = [("topic", &self.topic), ("group", &self.group), ("saga", &self.saga)];
        let parts = parts.into_iter().filter_map(|(kind, pattern)| Some((kind, pattern.as_ref()?)));
        for (index, (kind, pattern)) in parts.enumerate() {
            write!(f, "{}{kind}={pattern}", if index == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Grant {
    type Error = GrantError;

    fn try_from(text: String) -> Result<Self, GrantError> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}
