//! [`Operation`]: an entry of the table.

use super::resource::{Part, Resource};
use super::role::Role;
use crate::routes::rewrite_verb;
use core::fmt;

/// What an operation needs of whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing, not even a key.
    Nothing,
    /// Any role for what the request is about.
    AnyRole,
    /// One of these roles, or `admin`, for what the request is about.
    OneOf(&'static [Role]),
}

/// Where it stands what a request is about, of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is not about that kind.
    Nowhere,
    /// In the path, in the place of this parameter.
    Path(&'static str),
    /// In this parameter of the query; without it the request is about all of them.
    Query(&'static str),
    /// In the body, or it follows from what the path names, as the saga of an id: the handler asks for the right once more, with the name, before anything is done.
    /// Whoever has the role for nothing of that kind is refused before the body is read.
    Later,
    /// It is about all of them, as far as whoever asks may see them: the answer leaves the others out.
    Seen,
    /// It is about all of them.
    Every,
    /// It makes no difference.
    Whichever,
}

/// What comes of an operation, as far as the audit log is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changes.
    Nothing,
    /// Records and sagas move on: they are themselves what tells of it.
    Data,
    /// As [`Effect::Data`]; what it needs and is not there is made by it, and that is in the audit log.
    MayMake,
    /// What others go by is changed: each change is in the audit log.
    Change,
}

/// A method on a path, and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What logs call it, `topic.delete`: no two have one name.
    pub name: &'static str,
    /// What comes of it.
    pub effect: Effect,
    /// The method.
    pub method: &'static str,
    /// The template of the path, with its verb: `/v1/topics/{topic}/groups/{group}:receive`.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
    /// Where the topic stands.
    pub topic: Place,
    /// Where the group stands.
    pub group: Place,
    /// Where the name of the saga's definition stands.
    pub saga: Place,
    /// Whether it waits for something and changes nothing by that, so that it can be cut off.
    pub waits: bool,
}

impl Operation {
    /// The template of the path as a router has it.
    #[must_use]
    pub fn routed(&self) -> String {
        rewrite_verb(self.path).unwrap_or_else(|| self.path.to_owned())
    }

    /// What a request with this path and query is about, as far as that is known before its body is read. The path is as the router has it.
    ///
    /// Both are taken as they were sent. A name that is written with `%` matches nothing but a pattern that its decoded form matches as well,
    /// because patterns hold no `%`: a pattern of all names, or one whose beginning was sent as it is.
    #[must_use]
    pub fn resource<'a>(&self, template: &str, path: &'a str, query: Option<&'a str>) -> Resource<'a> {
        let part = |from: Place| match from {
            Place::Nowhere => Part::None,
            Place::Path(parameter) => parameter_of(template, path, parameter).map_or(Part::All, Part::Named),
            Place::Query(parameter) => query.and_then(|query| only(query, parameter)).map_or(Part::All, Part::Named),
            Place::Later | Place::Seen | Place::Whichever => Part::Some,
            Place::Every => Part::All,
        };
        Resource { topic: part(self.topic), group: part(self.group), saga: part(self.saga) }
    }
}

/// The segment of the path in the place of a parameter of its template.
fn parameter_of<'a>(template: &str, path: &'a str, parameter: &str) -> Option<&'a str> {
    let is_it = |segment: &str| segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) == Some(parameter);
    template.split('/').zip(path.split('/')).find_map(|(segment, value)| is_it(segment).then_some(value))
}

/// The value of a parameter that is there once.
fn only<'a>(query: &'a str, parameter: &str) -> Option<&'a str> {
    let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == parameter);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing | Self::Data => "—",
            Self::MayMake => "what it makes",
            Self::Change => "yes",
        })
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::AnyRole => f.write_str("any role"),
            Self::OneOf(roles) => {
                let roles: Vec<String> = roles.iter().map(|role| format!("`{role}`")).collect();
                f.write_str(&roles.join(" or "))
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nowhere => "—",
            Self::Path(_) => "that of the path",
            Self::Query(_) => "that of the query, else all",
            Self::Later => "that of the body, the id or the group",
            Self::Seen => "those that may be seen",
            Self::Every => "all",
            Self::Whichever => "whichever",
        })
    }
}
