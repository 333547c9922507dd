//! What pollers may know of a group in a partition without asking its shard.

use super::QueueState;
use sagamq_api::Offset;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A queue group in a partition, as its shard showed it last.
#[derive(Debug)]
pub(crate) struct QueueView {
    next_fresh: AtomicU64,
    /// Where fresh records begin that nothing is known to keep back, and how many before them can be delivered: see [`QueueState::unlooked`].
    unlooked: AtomicU64,
    open: AtomicU64,
    /// Whether that was so with the order of keys, and how many due records wait because of it.
    is_ordered: AtomicBool,
    waiting: AtomicU64,
    /// `u64::MAX`: nothing will become due by itself.
    next_due_ms: AtomicU64,
    ready: AtomicU64,
    /// Whether hand-outs are marked and synced: the embedder asked for it.
    marks_hand_outs: AtomicBool,
    /// Whether nothing is handed out: the embedder asked for it.
    is_held: AtomicBool,
    /// What other receives read at this moment.
    reserved: AtomicU64,
    /// How many more may be in flight, and how many more fresh ones may be delivered: a partition at its bounds has nothing to give.
    in_flight_room: AtomicU64,
    fresh_room: AtomicU64,
    /// How many records may wait at gates, and how often gates of the group had been opened or closed when that was looked at.
    gated: AtomicU64,
    passes: AtomicU64,
    /// Every record below is settled, durably.
    settled_below: AtomicU64,
}

impl QueueView {
    pub(crate) fn of(state: &QueueState) -> Self {
        let view = Self {
            next_fresh: AtomicU64::default(),
            unlooked: AtomicU64::default(),
            open: AtomicU64::default(),
            is_ordered: AtomicBool::default(),
            waiting: AtomicU64::default(),
            next_due_ms: AtomicU64::default(),
            ready: AtomicU64::default(),
            marks_hand_outs: AtomicBool::default(),
            is_held: AtomicBool::default(),
            reserved: AtomicU64::default(),
            in_flight_room: AtomicU64::default(),
            fresh_room: AtomicU64::default(),
            gated: AtomicU64::default(),
            passes: AtomicU64::default(),
            settled_below: AtomicU64::new(state.settled_below().0),
        };
        view.update(state);
        view
    }

    /// Only the shard calls it, and marks the partition then: there may be something.
    pub(crate) fn update(&self, state: &QueueState) {
        self.next_fresh.store(state.next_fresh().0, Ordering::SeqCst);
        self.next_due_ms.store(state.next_due_ms().unwrap_or(u64::MAX), Ordering::SeqCst);
        let (unlooked, open) = state.unlooked();
        self.unlooked.store(unlooked.0, Ordering::Release);
        self.open.store(open as u64, Ordering::Release);
        self.is_ordered.store(state.is_ordered(), Ordering::Release);
        self.waiting.store(state.waiting(), Ordering::SeqCst);
        // One whose key is not known may be one that can be delivered.
        self.ready.store(state.ready() + state.keys_unknown(), Ordering::SeqCst);
        self.reserved.store(state.reserved(), Ordering::SeqCst);
        self.in_flight_room.store(state.in_flight_room(false) as u64, Ordering::Release);
        self.fresh_room.store(state.fresh_room() as u64, Ordering::Release);
        self.gated.store(state.gated_at_most(), Ordering::Release);
    }

    /// The shard has looked at the gates, when they had been opened or closed so often.
    pub(crate) fn follow(&self, passes: u64) {
        self.passes.store(passes, Ordering::Release);
    }

    /// Every record below is settled, durably.
    pub(crate) fn settled_below(&self) -> Offset {
        Offset(self.settled_below.load(Ordering::SeqCst))
    }

    /// From now on [`QueueView::settled_below`] is this; what it was.
    pub(crate) fn show_settled(&self, below: Offset) -> Offset {
        Offset(self.settled_below.swap(below.0, Ordering::SeqCst))
    }

    /// About how many records a receive could get now. `passes`: how often gates of the group were opened or closed.
    pub(crate) fn available(&self, high_watermark: Offset, now_ms: u64, auto_ack: bool, is_ordered: bool, passes: u64) -> u64 {
        if self.is_held() {
            return 0;
        }
        // If the topic's configuration says something else now, the shard does not know it yet: it learns it with the next question.
        let (fresh, waiting_for_key) = if self.is_ordered.load(Ordering::Acquire) == is_ordered {
            (high_watermark.0.saturating_sub(self.unlooked.load(Ordering::Acquire)) + self.open.load(Ordering::Acquire), 0)
        } else {
            (high_watermark.0.saturating_sub(self.next_fresh.load(Ordering::Acquire)), self.waiting.load(Ordering::Acquire))
        };
        let due = u64::from(self.next_due_ms.load(Ordering::Acquire) <= now_ms);
        // If a gate has opened, the shard learns that with the next question too.
        let gated = if self.passes.load(Ordering::Acquire) == passes { 0 } else { self.gated.load(Ordering::Acquire) };
        let old = self.ready.load(Ordering::Acquire) + waiting_for_key + gated + due;
        let waiting = (fresh.saturating_add(old)).saturating_sub(self.reserved.load(Ordering::Acquire));
        let within_bounds = waiting.min(old + self.fresh_room.load(Ordering::Acquire));
        // A lease that ran out frees its own place.
        if auto_ack { within_bounds } else { within_bounds.min(self.in_flight_room.load(Ordering::Acquire) + due) }
    }

    /// Whether nothing will come of this partition before somebody changes it: no fresh record, none that waits, none that is leased or
    /// reserved. One that is only kept back by a bound is not idle.
    pub(crate) fn is_idle(&self, high_watermark: Offset) -> bool {
        self.next_fresh.load(Ordering::SeqCst) >= high_watermark.0
            && self.next_due_ms.load(Ordering::SeqCst) == u64::MAX
            && self.ready.load(Ordering::SeqCst) == 0
            && self.waiting.load(Ordering::SeqCst) == 0
            && self.reserved.load(Ordering::SeqCst) == 0
    }

    /// From now on, records are marked with the time at which they are first handed out, and the mark is synced before that.
    pub(crate) fn mark_hand_outs(&self) {
        self.marks_hand_outs.store(true, Ordering::Release);
    }

    pub(crate) fn marks_hand_outs(&self) -> bool {
        self.marks_hand_outs.load(Ordering::Acquire)
    }

    /// From now on nothing is handed out, or things are again.
    pub(crate) fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Release);
    }

    pub(crate) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    /// When something will become deliverable by itself.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        Some(self.next_due_ms.load(Ordering::Acquire)).filter(|&due| due != u64::MAX)
    }
}
