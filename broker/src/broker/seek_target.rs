//! [`SeekTarget`]: where a seek goes to, of a queue group or a stream group.

use super::parameter::ParameterError;
use sagamq_api::Offset;
use sagamq_api::stream::SeekPosition;

/// Where to.
#[derive(Clone, Copy, Debug)]
pub(super) enum SeekTarget {
    Offset(Offset),
    Time(i64),
    Position(SeekPosition),
}

impl SeekTarget {
    /// What a request says with exactly one of its three fields. `needed` is what an offset needs beside it and has not.
    pub(super) fn of(
        offset: Option<Offset>,
        timestamp_ms: Option<i64>,
        position: Option<SeekPosition>,
        needed: Option<&str>,
    ) -> Result<Self, ParameterError> {
        match (offset, timestamp_ms, position, needed) {
            (Some(_), _, _, Some(needed)) => {
                Err(ParameterError::new(format!("`offset` needs {needed}: an offset means something in one partition only")))
            }
            (Some(offset), None, None, None) => Ok(Self::Offset(offset)),
            (None, Some(timestamp_ms), None, _) => Ok(Self::Time(timestamp_ms)),
            (None, None, Some(position), _) => Ok(Self::Position(position)),
            _ => Err(ParameterError::new("exactly one of `offset`, `timestamp_ms` and `position` says where to")),
        }
    }
}
