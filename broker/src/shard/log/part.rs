//! A part of the records that a request has for one shard.

use crate::log::partition::Partition;
use std::sync::Arc;

/// What one partition gets.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) partition: Arc<Partition>,
    pub(crate) records: usize,
    pub(crate) batches: usize,
}
