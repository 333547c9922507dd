//! Consumers that wait for records of groups of lane topics: a record that is appended for one of them is leased to it in the commit that
//! appends it, and handed to it when that is durable.

use crate::group::queue::Leased;
use crate::ids::GroupKey;
use crate::log::batch::StoredRecord;
use sagamq_api::Offset;
use sagamq_api::record::Payload;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Who waits for records of a group, first come first served.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<VecDeque<Arc<Claim>>>);

/// A consumer that waits; it may wait for several groups.
#[derive(Debug)]
pub(crate) struct Claim {
    lease_ms: u64,
    /// What it takes still.
    room: Mutex<Room>,
}

#[derive(Debug)]
struct Room {
    records: usize,
    bytes: usize,
    /// Where records come; none if it takes no more.
    handed: Option<mpsc::UnboundedSender<Handed>>,
}

/// A place of a consumer that waits, for one record. The consumer waits until every place that was taken is handed its record or let go.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) lease_ms: u64,
    handed: mpsc::UnboundedSender<Handed>,
}

/// A record that was leased to a consumer that waits. Dropped before it is [kept](Handed::keep), it is given back: nobody has begun with it.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) key: GroupKey,
    pub(crate) record: StoredRecord,
    pub(crate) leased: Leased,
    given_back: Option<GivenBack>,
}

/// Leases of a shard that nobody took: the shard takes them back when it comes to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenBack(Arc<Mutex<Vec<(GroupKey, Offset, u64)>>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is whole in itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Claim {
    /// A claim on so many records, and on about so many bytes; and where they come.
    pub(crate) fn new(records: usize, bytes: usize, lease_ms: u64) -> (Arc<Self>, mpsc::UnboundedReceiver<Handed>) {
        let (handed, receiver) = mpsc::unbounded_channel();
        (Arc::new(Self { lease_ms, room: Mutex::new(Room { records, bytes, handed: Some(handed) }) }), receiver)
    }

    /// Takes a place for a record of this size.
    fn take_place(&self, bytes: usize) -> Option<Place> {
        let mut room = lock(&self.room);
        let handed = room.handed.as_ref().filter(|handed| room.records > 0 && room.bytes > 0 && !handed.is_closed())?.clone();
        room.records -= 1;
        room.bytes = room.bytes.saturating_sub(bytes);
        Some(Place { lease_ms: self.lease_ms, handed })
    }

    /// It takes no more places. What was leased to those that it has still comes; then nothing does.
    pub(crate) fn close(&self) {
        lock(&self.room).handed = None;
    }
}

impl Place {
    /// Hands a durable lease over. If the consumer has gone, it is given back.
    pub(crate) fn hand(self, handed: Handed) {
        drop(self.handed.send(handed));
    }
}

impl Claims {
    pub(crate) fn add(&self, claim: &Arc<Claim>) {
        lock(&self.0).push_back(Arc::clone(claim));
    }

    pub(crate) fn remove(&self, claim: &Arc<Claim>) {
        lock(&self.0).retain(|other| !Arc::ptr_eq(other, claim));
    }

    /// A place for a record of this size with the first who has one.
    pub(crate) fn take_place(&self, bytes: usize) -> Option<Place> {
        let mut claims = lock(&self.0);
        while let Some(first) = claims.front() {
            if let Some(place) = first.take_place(bytes) {
                return Some(place);
            }
            claims.pop_front();
        }
        None
    }
}

impl Handed {
    pub(crate) fn new(key: GroupKey, record: StoredRecord, leased: Leased, given_back: GivenBack) -> Self {
        Self { key, record, leased, given_back: Some(given_back) }
    }

    /// It goes to the consumer.
    pub(crate) fn keep(mut self) -> (GroupKey, StoredRecord, Leased) {
        self.given_back = None;
        let empty = StoredRecord { offset: self.record.offset, timestamp_ms: 0, payload: Payload::default() };
        (self.key, core::mem::replace(&mut self.record, empty), self.leased)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(given_back) = &self.given_back {
            lock(&given_back.0).push((self.key, self.leased.offset, self.leased.lease_id));
        }
    }
}

impl GivenBack {
    pub(crate) fn take(&self) -> Vec<(GroupKey, Offset, u64)> {
        core::mem::take(&mut *lock(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, PartitionKey, ShardId, TopicId};
    use sagamq_api::PartitionId;

    fn handed(given_back: &GivenBack) -> Handed {
        let partition = PartitionKey { shard: ShardId(0), topic: TopicId(1), partition: PartitionId(0) };
        let leased = Leased { offset: Offset(5), attempt: 1, returned: 0, lease_id: 7, deadline_ms: 9, handed_out_ms: Some(3) };
        let record = StoredRecord { offset: Offset(5), timestamp_ms: 0, payload: Payload::default() };
        Handed::new(GroupKey { partition, group: GroupId(1) }, record, leased, given_back.clone())
    }

    #[test]
    fn places_are_given_in_order_and_never_beyond_the_room_of_anybody() {
        let claims = Claims::default();
        let (first, _first) = Claim::new(2, 1_000, 1);
        let (second, _second) = Claim::new(9, 10, 2);
        claims.add(&first);
        claims.add(&second);
        let got = |bytes| claims.take_place(bytes).map(|place| place.lease_ms);
        assert_eq!([got(1), got(1), got(11), got(1)], [Some(1), Some(1), Some(2), None], "the last had no room for more bytes");
        claims.add(&first);
        claims.remove(&first);
        assert_eq!(got(1), None);
    }

    #[test]
    fn what_nobody_takes_is_given_back_and_what_is_kept_is_not() {
        let (claims, given_back) = (Claims::default(), GivenBack::default());
        let (claim, mut receiver) = Claim::new(4, 1_000, 5);
        claims.add(&claim);
        let place = || claims.take_place(1).expect("there is room");
        let [first, second, third] = [place(), place(), place()];
        first.hand(handed(&given_back));
        let (_, record, _) = receiver.try_recv().expect("it is there").keep();
        assert_eq!((record.offset, given_back.take().len()), (Offset(5), 0));
        second.hand(handed(&given_back));
        drop(receiver);
        third.hand(handed(&given_back));
        assert_eq!(given_back.take().iter().map(|(_, offset, id)| (offset.0, *id)).collect::<Vec<_>>(), [(5, 7), (5, 7)]);
        assert!(claims.take_place(1).is_none(), "who has gone gets nothing");
    }

    #[test]
    fn who_takes_no_more_hears_when_nothing_more_comes() {
        let (claims, given_back) = (Claims::default(), GivenBack::default());
        let (claim, mut receiver) = Claim::new(9, 1_000, 5);
        claims.add(&claim);
        let [first, second] = [1, 1].map(|bytes| claims.take_place(bytes).expect("there is room"));
        claim.close();
        assert!(claims.take_place(1).is_none(), "it takes no more");
        first.hand(handed(&given_back));
        assert!(receiver.try_recv().is_ok());
        assert_eq!(receiver.try_recv().expect_err("one place is taken still"), mpsc::error::TryRecvError::Empty);
        drop(second);
        assert_eq!(receiver.try_recv().expect_err("its commit failed"), mpsc::error::TryRecvError::Disconnected);
    }
}
