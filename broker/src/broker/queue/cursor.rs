//! A place in the dead letters of a group, as an answer gives it and a later request passes it back.

use crate::broker::parameter::ParameterError;
use crate::topic::Group;
use core::str::FromStr;
use sagamq_api::Offset;

/// A place in the dead letters of a group: `partition:offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) partition: usize,
    pub(super) offset: Offset,
}

impl Cursor {
    /// The place in a request; the beginning if it names none.
    pub(super) fn parse(text: Option<&str>, group: &Group) -> Result<Self, ParameterError> {
        let Some(text) = text else { return Ok(Self { partition: 0, offset: Offset(0) }) };
        let parsed = text.parse::<Self>().ok().filter(|cursor| cursor.partition < group.queues().len());
        parsed.ok_or_else(|| ParameterError::new("`cursor` is not one that an answer for this group gave"))
    }
}

impl core::fmt::Display for Cursor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (partition, offset) = text.split_once(':').ok_or(())?;
        Ok(Self { partition: partition.parse().map_err(drop)?, offset: Offset(offset.parse().map_err(drop)?) })
    }
}
