//! A part of the records that a request has for one shard.

use crate::log::partition::Partition;
use std::sync::Arc;

/// What one partition gets.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) partition: Arc<Partition>,
    pub(crate) records: usize,
    pub(crate) batches: usize,
    /// Whether its records wait for their time: they are in no batch then, and stand among those that do.
    pub(crate) is_scheduled: bool,
}
