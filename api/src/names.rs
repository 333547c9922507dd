//! Validated names. `FromStr` (and serde, which uses it) is the only way in, so a value of these types is always legal.

use crate::limits::{KEY_NAME_BYTES_MAX, NAME_BYTES_MAX};
use core::fmt;
use core::str::FromStr;
#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::sync::Arc;
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

/// Why a name was refused, and what a legal one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("{what} is empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// The name is longer than the bound.
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The name has a character outside the legal set.
    #[error("{what} `{name}` has the character {found:?}; allowed are letters, digits, `.`, `_` and `-`")]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// The name.
        name: String,
        /// The first illegal character.
        found: char,
    },
    /// `.` and `..` mean something else in paths.
    #[error("{what} cannot be `.` or `..`")]
    Dots {
        /// Which kind of name.
        what: &'static str,
    },
    /// What begins with `.` is not for programs, as in file systems.
    #[error("{what} `{name}` begins with `.`")]
    Hidden {
        /// Which kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Calls are written `service.operation`.
    #[error("{what} `{name}` must begin with a letter or `_` and hold only letters, digits, `_` and `-`: calls are `service.operation`")]
    NotWord {
        /// Which kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Step ids are used as identifiers in expressions.
    #[error("{what} `{name}` must begin with a letter or `_` and hold only letters, digits and `_`: expressions refer to it")]
    NotIdentifier {
        /// Which kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
}

fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong { what, bytes: name.len(), max: NAME_BYTES_MAX });
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots { what });
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(found) => Err(NameError::Character { what, name: name.to_owned(), found }),
        None => Ok(()),
    }
}

/// The names that stand in other texts.
fn check_short(what: &'static str, name: &str) -> Result<(), NameError> {
    check(what, name)?;
    let bytes = name.len();
    if bytes <= KEY_NAME_BYTES_MAX { Ok(()) } else { Err(NameError::TooLong { what, bytes, max: KEY_NAME_BYTES_MAX }) }
}

/// The names of files in the directory of secrets. Mounted secrets have entries beside them that begin with a dot.
fn check_secret(what: &'static str, name: &str) -> Result<(), NameError> {
    check_short(what, name)?;
    if name.starts_with('.') { Err(NameError::Hidden { what, name: name.to_owned() }) } else { Ok(()) }
}

/// The names that definitions give to services.
fn check_word(what: &'static str, name: &str) -> Result<(), NameError> {
    check(what, name)?;
    let first_is_legal = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first_is_legal && !name.contains('.') { Ok(()) } else { Err(NameError::NotWord { what, name: name.to_owned() }) }
}

fn check_identifier(what: &'static str, name: &str) -> Result<(), NameError> {
    check(what, name)?;
    let first_is_legal = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first_is_legal && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Ok(())
    } else {
        Err(NameError::NotIdentifier { what, name: name.to_owned() })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(ToSchema))]
        #[cfg_attr(feature = "json-schema", derive(JsonSchema))]
        #[serde(try_from = "String")]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        #[cfg_attr(feature = "json-schema", schemars(with = "String"))]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                $check($what, name)?;
                Ok(Self(name.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The name of a topic: Kafka's rule, letters, digits, `.`, `_`, `-`.
    TopicName, "the topic name", check
}
name! {
    /// The name of a consumer group; unique within its topic.
    GroupName, "the group name", check
}
name! {
    /// The id of a member of a stream group: chosen by the member, and new for each process.
    MemberId, "the member id", check
}
name! {
    /// The id of an instance of a program that reads in a stream group: the same after its restart.
    InstanceId, "the instance id", check
}
name! {
    /// The name of a producer: the same for whatever takes its place.
    ProducerName, "the name of the producer", check
}
name! {
    /// The name of an API key: what logs and histories call whoever presents it.
    KeyName, "the name of the key", check_short
}
name! {
    /// The name of a saga definition.
    SagaName, "the saga name", check
}
name! {
    /// The name of a signal that steps of a saga wait for.
    SignalName, "the name of the signal", check
}
name! {
    /// The name of a service, as definitions call it.
    ServiceName, "the name of the service", check_word
}
name! {
    /// The name of a secret that the server shows where it calls: that of a file, or of a variable.
    SecretName, "the name of the secret", check_secret
}
name! {
    /// The id of a step in a saga definition: an identifier, because expressions refer to it.
    StepId, "the step id", check_identifier
}

/// The dead-letter topic of a group: `<topic>.<group>.dlq`. If the group's name has dots, their number follows, `<topic>.<group>.dlq-2`, so
/// that no two groups share one.
///
/// # Errors
/// When topic and group together are too long for a topic name.
pub fn dead_letter_topic(topic: &TopicName, group: &GroupName) -> Result<TopicName, NameError> {
    match group.as_ref().bytes().filter(|&byte| byte == b'.').count() {
        0 => format!("{topic}.{group}.dlq").parse(),
        dots => format!("{topic}.{group}.dlq-{dots}").parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_are_accepted_and_others_say_why() {
        assert_eq!("orders.v1_a-b".parse::<TopicName>().map(|t| t.to_string()), Ok("orders.v1_a-b".to_owned()));
        assert!(matches!("".parse::<TopicName>(), Err(NameError::Empty { .. })));
        assert!(matches!("..".parse::<TopicName>(), Err(NameError::Dots { .. })));
        assert!(matches!("a/b".parse::<GroupName>(), Err(NameError::Character { found: '/', .. })));
        assert!(matches!("é".parse::<GroupName>(), Err(NameError::Character { found: 'é', .. })));
        assert!(matches!("x".repeat(250).parse::<TopicName>(), Err(NameError::TooLong { bytes: 250, .. })));
        assert!("x".repeat(249).parse::<TopicName>().is_ok());
    }

    #[test]
    fn secrets_are_files_that_are_not_hidden() {
        assert!("payment_token.v2".parse::<SecretName>().is_ok());
        assert!(matches!("..data".parse::<SecretName>(), Err(NameError::Hidden { .. })));
        assert!(matches!("../key".parse::<SecretName>(), Err(NameError::Character { found: '/', .. })));
    }

    #[test]
    fn step_ids_are_identifiers() {
        assert!("create_order".parse::<StepId>().is_ok());
        assert!(matches!("create-order".parse::<StepId>(), Err(NameError::NotIdentifier { .. })));
        assert!(matches!("1st".parse::<StepId>(), Err(NameError::NotIdentifier { .. })));
    }

    #[test]
    fn serde_refuses_what_from_str_refuses() {
        assert!(serde_json::from_str::<TopicName>("\"a b\"").is_err());
        assert_eq!(serde_json::to_string(&"ab".parse::<TopicName>().expect("legal")).expect("a string"), "\"ab\"");
    }

    #[test]
    fn a_dead_letter_topic_must_be_a_legal_name_too() {
        let topic: TopicName = "t".repeat(245).parse().expect("legal");
        assert!(dead_letter_topic(&topic, &"g".parse().expect("legal")).is_err());
    }

    #[test]
    fn no_two_groups_share_a_dead_letter_topic() {
        let of = |topic: &str, group: &str| {
            dead_letter_topic(&topic.parse().expect("legal"), &group.parse().expect("legal")).expect("legal").to_string()
        };
        assert_eq!(of("orders", "billing"), "orders.billing.dlq");
        // Every split of names of up to five parts, some of which look like the ends of such names.
        let mut seen = std::collections::HashMap::new();
        let parts = ["a", "dlq", "dlq-1", "1"];
        for number in 0..parts.len().pow(5) {
            let all: Vec<_> = (0..5).map(|place| parts[number / parts.len().pow(place) % parts.len()]).collect();
            for (length, split) in (2..=5).flat_map(|length| (1..length).map(move |split| (length, split))) {
                let (topic, group) = (all[..split].join("."), all[split..length].join("."));
                let before = seen.insert(of(&topic, &group), (topic.clone(), group.clone()));
                assert!(before.is_none_or(|before| before == (topic, group)), "{all:?}");
            }
        }
    }
}
