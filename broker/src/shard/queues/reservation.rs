//! Records that a receive reads, and what becomes of them when it goes away.

use crate::group::queue::Reserved;
use crate::ids::GroupKey;
use crate::log::batch::Record;
use sagamq_api::Offset;
use std::sync::{Arc, Mutex, PoisonError};

/// Reservations whose receives went away before they leased: the shard releases them when it comes to it.
#[derive(Clone, Debug, Default)]
pub(super) struct DroppedReservations(Arc<Mutex<Vec<(GroupKey, u64)>>>);

impl DroppedReservations {
    fn push(&self, key: GroupKey, reservation: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((key, reservation));
    }

    pub(super) fn take(&self) -> Vec<(GroupKey, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Records that a receive reads. Dropping it lets them go, wherever the receive ended.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) offsets: Vec<Offset>,
    /// What is delivered in the places of those that were redriven from what their dead letters kept.
    pub(crate) edited: Vec<(Offset, Record)>,
    /// Records whose keys have to be known before there can be more.
    pub(crate) keys_wanted: Vec<Offset>,
    id: u64,
    key: GroupKey,
    dropped: Option<DroppedReservations>,
}

impl Reservation {
    pub(super) fn new(
        key: GroupKey,
        reserved: Reserved,
        edited: Vec<(Offset, Record)>,
        keys_wanted: Vec<Offset>,
        dropped: DroppedReservations,
    ) -> Self {
        let Reserved { id, offsets } = reserved;
        Self { offsets, edited, keys_wanted, id, key, dropped: Some(dropped) }
    }

    /// The shard has it back: its group and its number.
    pub(super) fn take_back(mut self) -> (GroupKey, u64) {
        self.dropped = None;
        (self.key, self.id)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped
            && !self.offsets.is_empty()
        {
            dropped.push(self.key, self.id);
        }
    }
}
