//! Order by key: a record is delivered only when every earlier one of its key is settled.
//!
//! The unsettled records of a key stand in a line, by their offsets. The first has its turn, and only while none of the line is out: leased,
//! or read by a receive. A record without a key stands in no line, so it always has its turn.
//!
//! Where partitions were added, a key's line may go on in another partition than it stood in: there its records wait at a [gate](KeyGate) until
//! what was produced before is settled in the partition that the key had then.
//!
//! Keys are a fact of the log, and the state knows no records. So it says whose keys it wants ([`QueueState::keys_wanted`]), whoever reads
//! the log tells it ([`QueueState::learn`]), and what it does not know it does not deliver. Nothing of it is stored: after a restart it asks
//! again. Keys are told apart by their hashes; two keys with one hash are kept in one line, which costs them time and breaks no order.

use super::key_lines::{KeyGate, KeyHash, KeyOrder};
use super::state::QueueState;
use sagamq_api::Offset;
use sagamq_api::limits::{PENDING_MAX, RECEIVE_RECORDS_MAX};
use std::collections::{BTreeSet, HashMap};
use std::mem;

/// Records whose keys are asked for in one go.
const WANTED_MAX: usize = RECEIVE_RECORDS_MAX as usize;

impl QueueState {
    /// From now on records of one key are delivered one after the other, or as they come again. What receives read at the moment of the change
    /// they do not get; what is leased stays leased.
    pub fn order_by_key(&mut self, is_ordered: bool) {
        match (&mut self.order, is_ordered) {
            (None, true) => {
                self.reserved = HashMap::default();
                let unknown = self.in_flight.keys().chain(self.delayed.keys()).copied().collect();
                let waiting = mem::take(&mut self.ready);
                self.order = Some(Box::new(KeyOrder { known_to: self.next_fresh, unknown, waiting, ..KeyOrder::default() }));
            }
            (Some(order), false) => {
                self.ready.append(&mut order.waiting);
                self.order = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// At which gates records wait from now on. Without the order of keys there are none.
    pub fn set_gates(&mut self, gates: Vec<KeyGate>) {
        let Some(order) = self.order.as_mut().filter(|order| order.gates != gates) else { return };
        order.gates = gates;
        let known: Vec<Offset> = order.keys.keys().copied().collect();
        for offset in known {
            match self.has_turn(offset) {
                true => self.promote(offset),
                false => self.demote(offset),
            }
        }
    }

    /// How many records may be there that wait at a gate: those that are known, if there is a gate.
    pub(super) fn gated_at_most(&self) -> u64 {
        self.order.as_ref().filter(|order| !order.gates.is_empty()).map_or(0, |order| order.keys.len() as u64)
    }

    /// Whether records wait at a gate and for nothing else.
    pub(super) fn has_gated(&self) -> bool {
        self.order.as_ref().is_some_and(|order| order.has_gated())
    }

    /// Whether records of one key are delivered one after the other.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.order.is_some()
    }

    /// The records below the high watermark whose keys have to be [learnt](QueueState::learn) before more can be delivered: the pending ones
    /// first, then fresh ones, in order. None beyond the bound on what is looked past.
    #[must_use]
    pub fn keys_wanted(&self, high_watermark: Offset) -> Vec<Offset> {
        let Some(order) = &self.order else { return Vec::new() };
        if !order.unknown.is_empty() {
            return order.unknown.range(..high_watermark).take(WANTED_MAX).copied().collect();
        }
        let mut wanted = Vec::new();
        let mut next = self.settled.next_absent(self.looked_to());
        while next < high_watermark && wanted.len() < WANTED_MAX.min(PENDING_MAX.saturating_sub(order.keys.len())) {
            wanted.push(next);
            next = self.settled.next_absent(next.next());
        }
        wanted
    }

    /// Takes note of the key of a record. What is known already or was not wanted is passed by.
    pub fn learn(&mut self, offset: Offset, key: KeyHash) {
        let next = self.settled.next_absent(self.looked_to());
        let Some(order) = &mut self.order else { return };
        if order.unknown.remove(&offset) {
            self.join(offset, key);
            self.promote_all();
        } else if offset == next {
            order.known_to = offset.next();
            self.join(offset, key);
        }
    }

    /// Where fresh records begin of which nothing is known that would keep them back, and how many before it have their turn.
    pub(super) fn unlooked(&self) -> (Offset, usize) {
        match &self.order {
            None => (self.next_fresh, 0),
            Some(order) if order.keys.len() >= PENDING_MAX => (Offset(u64::MAX), order.open.len()),
            Some(order) => (self.looked_to(), order.open.len()),
        }
    }

    /// Pending records whose keys are not known.
    #[must_use]
    pub fn keys_unknown(&self) -> u64 {
        self.order.as_ref().map_or(0, |order| order.unknown.len() as u64)
    }

    /// Delayed records that are due and wait for an earlier one of their key.
    pub(super) fn waiting(&self) -> u64 {
        self.order.as_ref().map_or(0, |order| order.waiting.len() as u64)
    }

    /// Records that are known to wait for an earlier one of their key.
    #[must_use]
    pub fn waiting_for_key(&self) -> u64 {
        let Some(order) = &self.order else { return 0 };
        let is_kept = |offset: &&Offset| !order.open.contains(offset) && !self.reserved.contains_key(offset) && !self.is_pending(**offset);
        let fresh = order.keys.range(self.next_fresh..).map(|(offset, _)| offset).filter(is_kept);
        let due = order.waiting.iter().filter(|offset| !self.reserved.contains_key(offset));
        (due.count() + fresh.count()) as u64
    }

    /// Whether fresh records lie behind the last one that may be looked at.
    pub(super) fn is_at_look_bound(&self, high_watermark: Offset) -> bool {
        let is_full = self.order.as_ref().is_some_and(|order| order.keys.len() >= PENDING_MAX);
        is_full && self.settled.next_absent(self.looked_to()) < high_watermark
    }

    /// Fresh records below are known.
    fn looked_to(&self) -> Offset {
        self.order.as_ref().map_or(self.next_fresh, |order| order.known_to.max(self.next_fresh))
    }

    /// Whether no earlier record of its key stands before it.
    pub(super) fn has_turn(&self, offset: Offset) -> bool {
        self.order.as_ref().is_none_or(|order| order.has_turn(offset))
    }

    /// Whether a record of its key is out.
    pub(super) fn is_key_out(&self, offset: Offset) -> bool {
        self.order.as_ref().is_some_and(|order| order.key_of(offset).is_some_and(|key| order.is_out(key)))
    }

    /// A record is out: nobody gets another one of its key.
    pub(super) fn note_out(&mut self, offset: Offset) {
        let Some(order) = &mut self.order else { return };
        let Some(key) = order.key_of(offset) else { return };
        *order.out.entry(key).or_default() += 1;
        if let Some(first) = order.first(key).filter(|&first| first != offset) {
            self.demote(first);
        }
    }

    /// A record is not out any more, as far as the receive or the lease goes that ends.
    pub(super) fn note_back(&mut self, offset: Offset) {
        let Some(order) = &mut self.order else { return };
        let Some(key) = order.key_of(offset) else { return };
        let out = order.out.get_mut(&key).expect("what comes back was out");
        *out -= 1;
        if *out == 0 {
            order.out.remove(&key);
            self.promote_first(key);
        }
    }

    /// Records of the half-open range are settled: the next of their keys have their turn.
    pub(super) fn leave_lines(&mut self, start: Offset, end: Offset) {
        let Some(order) = self.order.as_mut().filter(|_| start < end) else { return };
        let left: Vec<(Offset, KeyHash)> = order.keys.range(start..end).map(|(&offset, &key)| (offset, key)).collect();
        let were_unknown = order.unknown.len();
        let unknown: Vec<Offset> = order.unknown.range(start..end).copied().collect();
        for offset in unknown {
            order.unknown.remove(&offset);
        }
        for (offset, key) in left {
            let Some(order) = &mut self.order else { return };
            order.keys.remove(&offset);
            order.open.remove(&offset);
            if let Some(key) = key {
                order.lines.remove(&(key, offset));
                self.promote_first(key);
            }
        }
        if self.keys_unknown() < were_unknown as u64 {
            self.promote_all();
        }
    }

    /// A record is pending that was settled: nobody knows its key.
    pub(super) fn join_unknown(&mut self, offset: Offset) {
        let Some(order) = &mut self.order else { return };
        if order.unknown.is_empty() {
            order.waiting.append(&mut self.ready);
            order.open.clear();
        }
        order.unknown.insert(offset);
    }

    /// Fresh records below this one are none any more.
    pub(super) fn fresh_begins_later(&mut self) {
        let next_fresh = self.next_fresh;
        if let Some(order) = &mut self.order
            && order.open.first().is_some_and(|&first| first < next_fresh)
        {
            order.open = order.open.split_off(&next_fresh);
        }
    }

    fn join(&mut self, offset: Offset, key: KeyHash) {
        let is_leased = self.in_flight.contains_key(&offset);
        let Some(order) = &mut self.order else { return };
        order.keys.insert(offset, key);
        let Some(key) = key else { return self.promote(offset) };
        let before = order.first(key);
        order.lines.insert((key, offset));
        if let Some(before) = before.filter(|&before| offset < before) {
            self.demote(before);
        }
        if is_leased {
            self.note_out(offset);
        }
        self.promote_first(key);
    }

    fn promote_first(&mut self, key: u64) {
        if let Some(first) = self.order.as_ref().and_then(|order| order.first(key)) {
            self.promote(first);
        }
    }

    /// Lets a record be delivered if it has its turn and waits for nothing else.
    fn promote(&mut self, offset: Offset) {
        let is_fresh = offset >= self.next_fresh && !self.is_in_settled_part(offset) && !self.is_pending(offset);
        let Some(order) = self.order.as_mut().filter(|order| order.has_turn(offset)) else { return };
        if order.waiting.remove(&offset) {
            self.ready.insert(offset);
        } else if is_fresh {
            order.open.insert(offset);
        }
    }

    fn promote_all(&mut self) {
        let Some(order) = self.order.as_ref().filter(|order| order.unknown.is_empty()) else { return };
        let fresh = order.keys.range(self.next_fresh..).map(|(&offset, _)| offset);
        for offset in order.waiting.iter().copied().chain(fresh).collect::<Vec<_>>() {
            self.promote(offset);
        }
    }

    fn demote(&mut self, offset: Offset) {
        let Some(order) = &mut self.order else { return };
        order.open.remove(&offset);
        if self.ready.remove(&offset) {
            order.waiting.insert(offset);
        }
    }

    /// All of the index, which takes as long as it is large. The reason says what is not true of it.
    pub(super) fn validate_order(&self) -> Result<(), &'static str> {
        let Some(order) = &self.order else { return Ok(()) };
        let is = |is: bool, reason| if is { Ok(()) } else { Err(reason) };
        let pending = || self.in_flight.keys().chain(self.delayed.keys());
        is(
            pending().all(|offset| order.keys.contains_key(offset) != order.unknown.contains(offset)),
            "a pending record is not in the lines",
        )?;
        let is_unsettled = |offset: &Offset| self.is_pending(*offset) || (*offset >= self.next_fresh && !self.is_in_settled_part(*offset));
        is(order.keys.keys().chain(&order.unknown).all(is_unsettled), "a settled record is in the lines")?;
        let lines: BTreeSet<(u64, Offset)> = order.keys.iter().filter_map(|(&offset, key)| key.map(|key| (key, offset))).collect();
        is(lines == order.lines, "the lines are not those of the keys")?;
        let mut out: HashMap<u64, usize> = HashMap::new();
        for offset in self.in_flight.keys().chain(self.reserved.keys()) {
            if let Some(key) = order.key_of(*offset) {
                *out.entry(key).or_default() += 1;
            }
        }
        is(out == order.out, "what is out is miscounted")?;
        let turn = |offset: &Offset| order.has_turn(*offset) || self.reserved.contains_key(offset);
        is(self.ready.iter().chain(&order.open).all(turn), "a record may be delivered before its turn")?;
        let stuck = |offset: &Offset| order.has_turn(*offset);
        is(!order.waiting.iter().any(stuck), "a record waits although it has its turn")?;
        let mut fresh = order.keys.range(self.next_fresh..).map(|(offset, _)| offset).filter(|offset| !self.is_pending(**offset));
        is(fresh.all(|offset| order.open.contains(offset) || !order.has_turn(*offset)), "a fresh record is stuck")
    }
}
