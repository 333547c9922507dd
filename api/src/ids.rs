//! Numeric identities. No bare integer passes this file.

use core::fmt;
use core::str::FromStr;
#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
#[cfg(feature = "openapi")]
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
#[cfg(feature = "openapi")]
use utoipa::{PartialSchema, ToSchema};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(ToSchema))]
        #[cfg_attr(feature = "json-schema", derive(JsonSchema))]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A partition of a topic, counted from 0.
    PartitionId(u32)
}

id! {
    /// The place of a record in its partition: the first is 0, each next one is one higher, none is used twice.
    Offset(u64)
}

id! {
    /// One item of a step that fans out, counted from 0.
    ItemIndex(u32)
}

impl Offset {
    /// The offset `count` places later.
    ///
    /// # Panics
    /// When the sum passes `u64::MAX`: a partition cannot hold that many records.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("offsets never reach u64::MAX"))
    }

    /// The offset of the next record.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }
}

/// Names a record that waits for its time. Clients pass it on as it is: its text is the server's. It says where the record lies, so that it is
/// found without a search, and is never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleId {
    /// When the record is due, in milliseconds since 1970.
    pub due_ms: u64,
    /// The shard that has it.
    pub shard: u16,
    /// Number of the shard's commit that stored it.
    pub commit: u64,
    /// Its place among those of that commit.
    pub index: u32,
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { due_ms, shard, commit, index } = self;
        f.pad(&format!("{due_ms}-{shard}-{commit}-{index}"))
    }
}

/// A text that is no schedule's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("that is no id of a schedule: take it as an answer gave it")]
pub struct ScheduleIdError;

impl FromStr for ScheduleId {
    type Err = ScheduleIdError;

    fn from_str(text: &str) -> Result<Self, ScheduleIdError> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(ScheduleIdError);
        let (due_ms, shard, commit, index) = (next()?, next()?, next()?, next()?);
        let id = Self {
            due_ms: due_ms.parse().map_err(|_| ScheduleIdError)?,
            shard: shard.parse().map_err(|_| ScheduleIdError)?,
            commit: commit.parse().map_err(|_| ScheduleIdError)?,
            index: index.parse().map_err(|_| ScheduleIdError)?,
        };
        // One id has one text.
        if id.to_string() == text { Ok(id) } else { Err(ScheduleIdError) }
    }
}

impl Serialize for ScheduleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ScheduleId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl PartialSchema for ScheduleId {
    fn schema() -> RefOr<Schema> {
        let description = "Names a record that waits for its time. Pass it on as it is.";
        ObjectBuilder::new().schema_type(Type::String).description(Some(description)).into()
    }
}

#[cfg(feature = "openapi")]
impl ToSchema for ScheduleId {}

/// Names a producer in its batches. As text, because it is larger than what some readers of JSON take for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub u64);

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ProducerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ProducerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl PartialSchema for ProducerId {
    fn schema() -> RefOr<Schema> {
        let description = "Names a producer in its batches: a number below 2^63, in decimal.";
        ObjectBuilder::new().schema_type(Type::String).description(Some(description)).into()
    }
}

#[cfg(feature = "openapi")]
impl ToSchema for ProducerId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedules_id_has_one_text() {
        let id = ScheduleId { due_ms: 1_800_000_000_000, shard: 3, commit: 42, index: 0 };
        assert_eq!(id.to_string(), "1800000000000-3-42-0");
        assert_eq!("1800000000000-3-42-0".parse(), Ok(id));
        assert_eq!(serde_json::from_str::<ScheduleId>("\"1800000000000-3-42-0\"").expect("an id"), id);
        for bad in ["", "1-2-3", "1-2-3-4-5", "01-2-3-4", "+1-2-3-4", "1-65536-3-4", "1-2-3-x", "1 -2-3-4"] {
            assert_eq!(bad.parse::<ScheduleId>(), Err(ScheduleIdError), "{bad}");
        }
    }
}
