//! Where a record is: in the log, or on its way there.

use sagamq_api::{Offset, ScheduleId};

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// In the log.
    Log(Offset),
    /// Not there yet: it waits for its time.
    Schedule(ScheduleId),
}
