//! The queue state against a naive model: a map from offset to what became of it.

use super::{
    DeadLetterCause, DeadLettered, HandOut, Journal, LeaseTerms, Leased, QueuePolicy, QueueRow, QueueState, Redriven, Reserved, Settled,
    Sought, StoredQueue, StoredRows,
};
use proptest::prelude::*;
use sagamq_api::Offset;
use sagamq_api::queue::EmptyReason;
use std::collections::{BTreeMap, BTreeSet};

/// What a receive got whose reading took no time and did not fail.
pub(super) struct Received {
    pub(super) leased: Vec<Leased>,
    pub(super) empty: Option<EmptyReason>,
}

impl QueueState {
    /// Reserves and leases in one go.
    pub(super) fn receive(
        &mut self,
        now_ms: u64,
        max: u32,
        lease_ms: u64,
        high_watermark: Offset,
        auto_ack: bool,
        next_lease_id: &mut dyn FnMut() -> u64,
    ) -> Received {
        self.receive_as(now_ms, max, LeaseTerms { lease_ms, auto_ack, begins: true }, high_watermark, next_lease_id)
    }

    fn receive_as(
        &mut self,
        now_ms: u64,
        max: u32,
        terms: LeaseTerms,
        high_watermark: Offset,
        next_lease_id: &mut dyn FnMut() -> u64,
    ) -> Received {
        let reserved = self.reserve(now_ms, max, high_watermark, terms.auto_ack);
        let leased = self.lease(reserved.id, &reserved.offsets, now_ms, terms, next_lease_id());
        self.release(reserved.id);
        let empty = if leased.is_empty() { self.why_empty(high_watermark, terms.auto_ack) } else { None };
        Received { leased, empty }
    }
}

pub(super) const POLICY: QueuePolicy = QueuePolicy { delivery_limit: 3, backoff_initial_ms: 100, backoff_max_ms: 250 };
const START: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Fresh,
    /// `began`: how often somebody did, the holder included if `begun`.
    Leased {
        lease_id: u64,
        deadline_ms: u64,
        began: u32,
        begun: bool,
        returned: u32,
    },
    Delayed {
        attempt: u32,
        returned: u32,
        due_ms: u64,
        lapsed: Option<u64>,
    },
    Settled,
}

#[derive(Clone, Copy, Debug)]
enum Unread {
    PutOff(u64),
    Gone,
    LetGo,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Produce(u64),
    /// One more record, which a consumer waits for: leased in the commit that appends it, if it is its turn.
    Append {
        lease_ms: u64,
    },
    Receive {
        max: u32,
        terms: LeaseTerms,
    },
    Reserve {
        max: u32,
    },
    /// One of the open reservations was read: the records of the mask are leased, the others are put off, gone or let go.
    Read {
        reservation: usize,
        mask: u16,
        unread: Unread,
        terms: LeaseTerms,
    },
    /// The receipt is one of all that were ever issued, the newest counted from 0.
    Ack(usize),
    Nack {
        receipt: usize,
        delay_ms: Option<u64>,
        jitter: f64,
    },
    Extend {
        receipt: usize,
        lease_ms: u64,
        begins: bool,
    },
    Terminate(usize),
    Undo(usize),
    Settle(u64),
    Redrive(u64),
    Postpone(u64, u64),
    Pass {
        ms: u64,
        jitter: f64,
    },
    ForgetBelow(u64),
    /// All that is there is settled.
    Purge,
    /// Everything below is settled, and everything else fresh.
    Seek(u64),
}

fn unread() -> impl Strategy<Value = Unread> {
    prop_oneof![(0_u64..200).prop_map(Unread::PutOff), Just(Unread::Gone), Just(Unread::LetGo)]
}

fn terms() -> impl Strategy<Value = LeaseTerms> {
    (1_u64..400, prop::bool::weighted(0.15), any::<bool>()).prop_map(|(lease_ms, auto_ack, begins)| LeaseTerms {
        lease_ms,
        auto_ack,
        begins,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let jitter = 0.0..1.0_f64;
    prop_oneof![
        3 => (1_u64..6).prop_map(Step::Produce),
        3 => (1_u64..400).prop_map(|lease_ms| Step::Append { lease_ms }),
        6 => (1_u32..6, terms()).prop_map(|(max, terms)| Step::Receive { max, terms }),
        4 => (1_u32..6).prop_map(|max| Step::Reserve { max }),
        4 => (0_usize..4, any::<u16>(), unread(), terms())
            .prop_map(|(reservation, mask, unread, terms)| Step::Read { reservation, mask, unread, terms }),
        5 => (0_usize..12).prop_map(Step::Ack),
        4 => (0_usize..12, prop::option::of(0_u64..200), jitter.clone())
            .prop_map(|(receipt, delay_ms, jitter)| Step::Nack { receipt, delay_ms, jitter }),
        2 => (0_usize..12, 1_u64..400, any::<bool>())
            .prop_map(|(receipt, lease_ms, begins)| Step::Extend { receipt, lease_ms, begins }),
        1 => (0_usize..12).prop_map(Step::Terminate),
        1 => (0_usize..3).prop_map(Step::Undo),
        1 => (START..START + 40).prop_map(Step::Settle),
        2 => (START..START + 40).prop_map(Step::Redrive),
        1 => (START..START + 40, 0_u64..300).prop_map(|(offset, ms)| Step::Postpone(offset, ms)),
        4 => (0_u64..300, jitter).prop_map(|(ms, jitter)| Step::Pass { ms, jitter }),
        1 => (START..START + 10).prop_map(Step::ForgetBelow),
        1 => Just(Step::Purge),
        1 => (START..START + 40).prop_map(Step::Seek),
    ]
}

/// The state under test beside the model, and everything that was ever issued.
struct Run {
    state: QueueState,
    model: BTreeMap<u64, Fate>,
    now_ms: u64,
    high_watermark: u64,
    next_lease: u64,
    issued: Vec<(Offset, u64)>,
    /// Pending records that nobody was ever given.
    untouched: BTreeSet<u64>,
    /// When each pending record was first handed out.
    handed_out: BTreeMap<u64, u64>,
    open: Vec<Reserved>,
    journal: Journal,
    /// What is stored of the state.
    rows: BTreeMap<QueueRow, Vec<u8>>,
    /// Offsets that open reservations still hold, by number.
    reserved: BTreeMap<u64, u64>,
}

impl Run {
    fn new() -> Self {
        let mut state = QueueState::starting_at(Offset(START));
        state.mark_hand_outs();
        Self {
            state,
            model: BTreeMap::new(),
            now_ms: 1_000,
            high_watermark: START,
            next_lease: 0,
            issued: Vec::new(),
            untouched: BTreeSet::new(),
            handed_out: BTreeMap::new(),
            open: Vec::new(),
            journal: Journal::default(),
            rows: BTreeMap::new(),
            reserved: BTreeMap::new(),
        }
    }

    fn fate(&self, offset: Offset) -> Fate {
        self.model.get(&offset.0).copied().unwrap_or(if offset.0 < START { Fate::Settled } else { Fate::Fresh })
    }

    fn set(&mut self, offset: Offset, fate: Fate) {
        if fate == Fate::Settled {
            self.reserved.remove(&offset.0);
            self.untouched.remove(&offset.0);
        }
        self.model.insert(offset.0, fate);
    }

    /// One of the receipts, or one that nobody got.
    fn receipt(&self, back: usize) -> (Offset, u64) {
        let at = self.issued.len().checked_sub(back + 1);
        at.map_or((Offset(START + back as u64), u64::MAX), |at| self.issued[at])
    }

    fn expected_batch(&self, max: u32) -> Vec<(Offset, u32)> {
        let written = || self.model.range(..self.high_watermark);
        let due = written().filter_map(|(&offset, fate)| match *fate {
            Fate::Delayed { attempt, due_ms, .. } if due_ms <= self.now_ms => Some((Offset(offset), attempt + 1)),
            _ => None,
        });
        let fresh = (START..self.high_watermark).map(Offset).filter(|&offset| self.fate(offset) == Fate::Fresh);
        let all = due.chain(fresh.map(|offset| (offset, 1)));
        all.filter(|(offset, _)| !self.reserved.contains_key(&offset.0)).take(max as usize).collect()
    }

    fn receive(&mut self, max: u32, terms: LeaseTerms) {
        let expected = self.expected_batch(max);
        let Self { state, next_lease, .. } = self;
        let mut draw = || {
            *next_lease += 1;
            *next_lease
        };
        let received = state.receive_as(self.now_ms, max, terms, Offset(self.high_watermark), &mut draw);
        assert_eq!(received.leased.iter().map(|l| (l.offset, l.attempt)).collect::<Vec<_>>(), expected);
        assert_eq!(received.empty.is_some(), expected.is_empty());
        for leased in received.leased {
            let fate = self.fate(leased.offset);
            assert!(matches!(fate, Fate::Fresh | Fate::Delayed { .. }), "{} was {fate:?}", leased.offset);
            self.issued.push((leased.offset, leased.lease_id));
            if fate == Fate::Fresh || self.untouched.contains(&leased.offset.0) {
                self.handed_out.insert(leased.offset.0, self.now_ms);
            }
            assert_eq!(leased.handed_out_ms, self.handed_out.get(&leased.offset.0).copied(), "{}", leased.offset);
            self.pass_over(leased.offset);
            self.untouched.remove(&leased.offset.0);
            let lease = self.lease(leased, terms);
            self.set(leased.offset, lease);
        }
        if let Some(reason) = received.empty {
            assert_eq!(reason, self.expected_reason());
        }
    }

    /// What a record is that was just handed out. Its returns are looked at.
    fn lease(&self, leased: Leased, terms: LeaseTerms) -> Fate {
        let Leased { offset, attempt, returned, lease_id, .. } = leased;
        let before = if let Fate::Delayed { returned, .. } = self.fate(offset) { returned } else { 0 };
        assert_eq!(returned, before, "{offset}");
        let began = if terms.begins { attempt } else { attempt - 1 };
        let lease = Fate::Leased { lease_id, deadline_ms: self.now_ms + terms.lease_ms, began, begun: terms.begins, returned };
        if terms.auto_ack { Fate::Settled } else { lease }
    }

    /// Fresh records below one that is delivered are pending from then on: others read them, or could not.
    fn pass_over(&mut self, delivered: Offset) {
        if self.fate(delivered) == Fate::Fresh {
            for offset in (START..delivered.0).map(Offset) {
                if self.fate(offset) == Fate::Fresh {
                    self.set(offset, Fate::Delayed { attempt: 0, returned: 0, due_ms: self.now_ms, lapsed: None });
                    self.untouched.insert(offset.0);
                }
            }
        }
    }

    fn reserve(&mut self, max: u32) {
        let expected: Vec<Offset> = self.expected_batch(max).into_iter().map(|(offset, _)| offset).collect();
        let reserved = self.state.reserve(self.now_ms, max, Offset(self.high_watermark), false);
        assert_eq!(reserved.offsets, expected);
        self.reserved.extend(expected.iter().map(|offset| (offset.0, reserved.id)));
        self.open.push(reserved);
    }

    /// Nothing that waits longer is overtaken, and the lease is as one that is received.
    fn append(&mut self, lease_ms: u64) {
        let offset = Offset(self.high_watermark);
        let is_due = |fate: &Fate| matches!(fate, Fate::Delayed { due_ms, .. } if *due_ms <= self.now_ms);
        let has_fresh = (START..offset.0).any(|earlier| self.fate(Offset(earlier)) == Fate::Fresh);
        let waits = has_fresh || !self.reserved.is_empty() || self.model.values().any(is_due);
        let is_next = !waits && self.fate(offset) == Fate::Fresh;
        assert_eq!(self.state.is_next(offset, self.now_ms), is_next, "{offset}");
        if is_next {
            self.next_lease += 1;
            let (lease_id, deadline_ms) = (self.next_lease, self.now_ms + lease_ms);
            let leased = self.state.lease_appended(offset, self.now_ms, LeaseTerms { lease_ms, auto_ack: false, begins: true }, lease_id);
            let handed_out_ms = Some(self.now_ms);
            assert_eq!(leased, Leased { offset, attempt: 1, returned: 0, lease_id, deadline_ms, handed_out_ms });
            self.handed_out.insert(offset.0, self.now_ms);
            self.issued.push((offset, lease_id));
            self.set(offset, Fate::Leased { lease_id, deadline_ms, began: 1, begun: true, returned: 0 });
        }
        // Readers see it when the commit is durable.
        self.high_watermark += 1;
    }

    fn read(&mut self, at: usize, mask: u16, unread: Unread, terms: LeaseTerms) {
        if at >= self.open.len() {
            return;
        }
        let Reserved { id, offsets } = self.open.remove(at);
        let (read, left): (Vec<_>, Vec<_>) = offsets.iter().enumerate().partition(|(index, _)| mask & (1 << (index % 16)) != 0);
        let [read, left] = [read, left].map(|part| part.into_iter().map(|(_, &offset)| offset).collect::<Vec<_>>());
        self.next_lease += 1;
        let leased = self.state.lease(id, &read, self.now_ms, terms, self.next_lease);
        let held = |run: &Self, offset: &Offset| run.reserved.get(&offset.0) == Some(&id);
        let expected: Vec<Offset> = read.into_iter().filter(|offset| held(self, offset)).collect();
        assert_eq!(leased.iter().map(|leased| leased.offset).collect::<Vec<_>>(), expected);
        for leased in leased {
            let attempt = match self.fate(leased.offset) {
                Fate::Fresh => 1,
                Fate::Delayed { attempt, .. } => attempt + 1,
                fate => panic!("{} was {fate:?}", leased.offset),
            };
            assert_eq!(leased.attempt, attempt);
            if self.fate(leased.offset) == Fate::Fresh || self.untouched.contains(&leased.offset.0) {
                self.handed_out.insert(leased.offset.0, self.now_ms);
            }
            assert_eq!(leased.handed_out_ms, self.handed_out.get(&leased.offset.0).copied(), "{}", leased.offset);
            self.pass_over(leased.offset);
            self.untouched.remove(&leased.offset.0);
            self.reserved.remove(&leased.offset.0);
            self.issued.push((leased.offset, leased.lease_id));
            let lease = self.lease(leased, terms);
            self.set(leased.offset, lease);
        }
        match unread {
            Unread::PutOff(ms) => self.state.put_off(id, &left, self.now_ms, self.now_ms + ms),
            Unread::Gone => self.state.settle_gone(id, &left),
            Unread::LetGo => {}
        }
        self.state.release(id);
        for offset in left.into_iter().filter(|offset| held(self, offset)).collect::<Vec<_>>() {
            self.reserved.remove(&offset.0);
            match (unread, self.fate(offset)) {
                (Unread::LetGo, _) => {}
                (Unread::Gone, _) => self.set(offset, Fate::Settled),
                (Unread::PutOff(ms), Fate::Delayed { attempt, returned, lapsed, .. }) => {
                    self.set(offset, Fate::Delayed { attempt, returned, due_ms: self.now_ms + ms, lapsed });
                }
                (Unread::PutOff(ms), _) => {
                    self.pass_over(offset);
                    self.set(offset, Fate::Delayed { attempt: 0, returned: 0, due_ms: self.now_ms + ms, lapsed: None });
                    self.untouched.insert(offset.0);
                }
            }
        }
    }

    fn expected_reason(&self) -> EmptyReason {
        let is = |wanted: fn(&Fate) -> bool| self.model.iter().any(|(offset, fate)| wanted(fate) && !self.reserved.contains_key(offset));
        if is(|fate| matches!(fate, Fate::Delayed { .. })) {
            EmptyReason::AllDelayed
        } else if !self.reserved.is_empty() || is(|fate| matches!(fate, Fate::Leased { .. })) {
            EmptyReason::AllLeased
        } else {
            EmptyReason::CaughtUp
        }
    }

    /// The attempt of a lease that is the record's last and not over, begun or not, and its returns.
    fn held(&self, (offset, lease): (Offset, u64)) -> Option<(u32, u32)> {
        match self.fate(offset) {
            Fate::Leased { lease_id, deadline_ms, began, begun, returned } if lease_id == lease && self.now_ms < deadline_ms => {
                Some((if begun { began } else { began + 1 }, returned))
            }
            _ => None,
        }
    }

    fn not_held(&self, offset: Offset) -> Settled {
        if self.fate(offset) == Fate::Settled { Settled::AlreadySettled } else { Settled::Expired }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Produce(records) => self.high_watermark += records,
            Step::Append { lease_ms } => self.append(lease_ms),
            Step::Receive { max, terms } => self.receive(max, terms),
            Step::Reserve { max } => self.reserve(max),
            Step::Read { reservation, mask, unread, terms } => self.read(reservation, mask, unread, terms),
            Step::Ack(back) => self.ack(self.receipt(back)),
            Step::Nack { receipt, delay_ms, jitter } => self.nack(self.receipt(receipt), delay_ms, jitter),
            Step::Extend { receipt, lease_ms, begins } => self.extend(self.receipt(receipt), lease_ms, begins),
            Step::Terminate(back) => self.terminate(self.receipt(back)),
            Step::Undo(back) => self.undo(self.receipt(back)),
            Step::Settle(offset) => {
                assert_eq!(self.state.settle(Offset(offset)), self.fate(Offset(offset)) != Fate::Settled);
                self.set(Offset(offset), Fate::Settled);
            }
            Step::Redrive(offset) => self.redrive(Offset(offset)),
            Step::Postpone(offset, ms) => self.postpone(Offset(offset), self.now_ms + ms),
            Step::Pass { ms, jitter } => self.pass(ms, jitter),
            Step::Purge => self.forget_below(self.high_watermark),
            Step::Seek(to) => self.seek(Offset(to.min(self.high_watermark))),
            Step::ForgetBelow(log_start) => self.forget_below(log_start),
        }
    }

    fn forget_below(&mut self, log_start: u64) {
        let unsettled = (START..log_start).filter(|&offset| self.fate(Offset(offset)) != Fate::Settled).count() as u64;
        assert_eq!(self.state.forget_below(Offset(log_start)), unsettled);
        for offset in START..log_start {
            self.set(Offset(offset), Fate::Settled);
        }
        self.high_watermark = self.high_watermark.max(log_start);
        self.reserved = self.reserved.split_off(&log_start);
    }

    fn seek(&mut self, to: Offset) {
        let is_settled = |offset: u64| self.fate(Offset(offset)) == Fate::Settled;
        let last = self.model.keys().next_back().map_or(to.0, |last| last + 1).max(self.high_watermark);
        let skipped = (START..to.0).filter(|&offset| !is_settled(offset)).count() as u64;
        let again = (to.0..last).filter(|&offset| is_settled(offset)).count() as u64;
        assert_eq!(self.state.seek(to), Sought { offset: to, skipped, again });
        self.model = (START..to.0).map(|offset| (offset, Fate::Settled)).collect();
        self.untouched.clear();
        self.handed_out.clear();
        self.reserved.clear();
    }

    fn ack(&mut self, (offset, lease): (Offset, u64)) {
        let is_last = match self.fate(offset) {
            Fate::Leased { lease_id, .. } => lease_id == lease,
            Fate::Delayed { lapsed, .. } => lapsed == Some(lease),
            Fate::Fresh | Fate::Settled => false,
        };
        let expected = if is_last { Settled::Done { lease_until_ms: None } } else { self.not_held(offset) };
        assert_eq!(self.state.ack(offset, lease), expected);
        if is_last {
            self.set(offset, Fate::Settled);
        }
    }

    fn nack(&mut self, receipt @ (offset, lease): (Offset, u64), delay_ms: Option<u64>, jitter: f64) {
        let answer = self.state.nack(offset, lease, self.now_ms, delay_ms, &POLICY, jitter);
        let Some((attempt, returned)) = self.held(receipt) else { return assert_eq!(answer, self.not_held(offset)) };
        if attempt >= POLICY.delivery_limit {
            assert_eq!(answer, Settled::DeadLetter { attempts: attempt, cause: DeadLetterCause::DeliveryLimit });
            self.set(offset, Fate::Settled);
        } else {
            assert_eq!(answer, Settled::Done { lease_until_ms: None });
            let due_ms = self.now_ms + delay_ms.unwrap_or_else(|| POLICY.backoff_ms(attempt, jitter));
            self.set(offset, Fate::Delayed { attempt, returned, due_ms, lapsed: None });
        }
    }

    fn extend(&mut self, receipt @ (offset, lease): (Offset, u64), lease_ms: u64, begins: bool) {
        let answer = self.state.extend(offset, lease, self.now_ms, lease_ms, begins);
        let Some((attempt, returned)) = self.held(receipt) else { return assert_eq!(answer, self.not_held(offset)) };
        let Fate::Leased { began, begun, .. } = self.fate(offset) else { unreachable!("it is held") };
        let (began, begun) = if begins { (attempt, true) } else { (began, begun) };
        let deadline_ms = self.now_ms + lease_ms;
        assert_eq!(answer, Settled::Done { lease_until_ms: Some(deadline_ms) });
        self.set(offset, Fate::Leased { lease_id: lease, deadline_ms, began, begun, returned });
    }

    fn terminate(&mut self, receipt @ (offset, lease): (Offset, u64)) {
        let answer = self.state.terminate(offset, lease, self.now_ms);
        let Some((attempts, _)) = self.held(receipt) else { return assert_eq!(answer, self.not_held(offset)) };
        assert_eq!(answer, Settled::DeadLetter { attempts, cause: DeadLetterCause::Terminated });
        self.set(offset, Fate::Settled);
    }

    fn undo(&mut self, (offset, lease): (Offset, u64)) {
        let fate = self.fate(offset);
        let done = self.state.undo_lease(offset, lease, self.now_ms);
        match fate {
            Fate::Leased { lease_id, began, begun, returned, .. } if lease_id == lease => {
                assert!(done);
                let attempt = if begun { began - 1 } else { began };
                self.set(offset, Fate::Delayed { attempt, returned, due_ms: self.now_ms, lapsed: None });
            }
            _ => assert!(!done),
        }
    }

    fn redrive(&mut self, offset: Offset) {
        if self.fate(offset) == Fate::Settled {
            assert_eq!(self.state.redrive(offset, self.now_ms), Redriven::Done);
            self.handed_out.remove(&offset.0);
            self.set(offset, Fate::Delayed { attempt: 0, returned: 0, due_ms: self.now_ms, lapsed: None });
        } else {
            assert_eq!(self.state.redrive(offset, self.now_ms), Redriven::NotSettled);
        }
    }

    fn postpone(&mut self, offset: Offset, due_ms: u64) {
        let done = self.state.postpone(offset, due_ms);
        match self.fate(offset) {
            Fate::Leased { lease_id, began: attempt, returned, .. } => {
                self.set(offset, Fate::Delayed { attempt, returned, due_ms, lapsed: Some(lease_id) });
            }
            Fate::Delayed { attempt, returned, lapsed, .. } => {
                self.reserved.remove(&offset.0);
                self.set(offset, Fate::Delayed { attempt, returned, due_ms, lapsed });
            }
            Fate::Fresh | Fate::Settled => return assert!(!done),
        }
        assert!(done);
    }

    fn pass(&mut self, ms: u64, jitter: f64) {
        self.now_ms += ms;
        let mut dead = Vec::new();
        // In parts, as the shard does it to keep its commits small.
        loop {
            let part = self.state.expire(self.now_ms, &POLICY, 1, &mut || jitter);
            if part.is_empty() {
                break;
            }
            dead.extend(part);
        }
        dead.sort_by_key(|dead| dead.offset);
        let mut expected = Vec::new();
        for (&offset, fate) in &mut self.model {
            let Fate::Leased { lease_id, deadline_ms, began, begun, returned } = *fate else { continue };
            if deadline_ms > self.now_ms {
                continue;
            }
            // What nobody had begun with is not counted three times, and is from then on.
            let (attempt, returned) = match (begun, returned) {
                (true, _) => (began, returned),
                (false, 0..3) => (began, returned + 1),
                (false, _) => (began + 1, returned),
            };
            if attempt >= POLICY.delivery_limit {
                expected.push(DeadLettered { offset: Offset(offset), attempts: attempt });
                *fate = Fate::Settled;
            } else {
                let due_ms = self.now_ms + POLICY.backoff_ms(attempt + returned, jitter);
                *fate = Fate::Delayed { attempt, returned, due_ms, lapsed: Some(lease_id) };
            }
        }
        assert_eq!(dead, expected);
        assert!(self.state.next_due_ms().is_none_or(|due_ms| due_ms > self.now_ms), "a poller would spin");
    }

    fn check(&self, floor_before: Offset) {
        let all = || (0..self.high_watermark.max(START + 50)).map(Offset);
        for offset in all() {
            assert_eq!(self.state.is_settled(offset), self.fate(offset) == Fate::Settled, "{offset}");
            let hand_out = match self.fate(offset) {
                Fate::Fresh => HandOut::Never,
                Fate::Settled => HandOut::Unknown,
                Fate::Delayed { .. } if self.untouched.contains(&offset.0) => HandOut::Never,
                Fate::Leased { .. } | Fate::Delayed { .. } => {
                    self.handed_out.get(&offset.0).map_or(HandOut::Unknown, |&at_ms| HandOut::At(at_ms))
                }
            };
            assert_eq!(self.state.hand_out(offset), hand_out, "{offset}");
        }
        let high_watermark = Offset(self.high_watermark);
        let count = |wanted: fn(&Fate) -> bool| self.model.values().filter(|fate| wanted(fate)).count() as u64;
        assert_eq!(self.state.in_flight(), count(|fate| matches!(fate, Fate::Leased { .. })));
        assert_eq!(self.state.delayed(), count(|fate| matches!(fate, Fate::Delayed { .. })));
        // A record that an embedder settled before it was written, and that was redriven, is pending above the watermark.
        let is_counted = |offset: &Offset| *offset < high_watermark || matches!(self.fate(*offset), Fate::Delayed { .. });
        let unsettled = || all().filter(|&offset| self.fate(offset) != Fate::Settled);
        assert_eq!(self.state.lag(high_watermark), unsettled().filter(is_counted).count() as u64);
        assert_eq!(self.state.oldest_unsettled(high_watermark), unsettled().find(|&offset| offset < high_watermark));
        assert!(self.state.ack_floor() >= floor_before, "the floor fell");
        assert_eq!(self.state.reserved(), self.reserved.len() as u64);
        assert!(self.state.ack_floor() <= self.state.next_fresh());
        assert_eq!(self.state.validate(), Ok(()));
    }

    /// Writes what has changed; what is stored is the state then, exactly.
    fn write(&mut self) {
        let (row, bytes) = self.journal.write(&mut self.state);
        self.rows.insert(row, bytes);
        let (loaded, journal) = self.load();
        assert_eq!((&loaded, journal.position()), (&self.state, self.journal.position()));
        assert_eq!(loaded.encode_whole(1), self.state.encode_whole(1));
        let high_watermark = Offset(self.high_watermark);
        assert_eq!(loaded.lag(high_watermark), self.state.lag(high_watermark));
    }

    fn load(&self) -> (QueueState, Journal) {
        let mut stored = StoredRows::default();
        self.rows.iter().for_each(|(row, bytes)| stored.add(*row, bytes));
        let StoredQueue { state, journal, .. } = stored.queue().expect("its own bytes");
        (state, journal)
    }

    /// The process ends and begins again: what is not stored is gone.
    fn restart(&mut self) {
        (self.state, self.journal) = self.load();
        self.state.mark_hand_outs();
        self.open.clear();
        self.reserved.clear();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_does_what_the_model_does(
        steps in prop::collection::vec(step(), 1..80),
        write_every in 1_usize..5,
        restart_every in 1_usize..20,
        // How large the whole state counts: what is a change and what the whole is chosen by it, and must make no difference.
        whole_bytes in prop::option::of(0_usize..4_000),
    ) {
        let mut run = Run::new();
        for (at, step) in steps.into_iter().enumerate() {
            let floor = run.state.ack_floor();
            let is_seek = matches!(step, Step::Seek(_));
            run.apply(step);
            run.check(if is_seek { Offset(START) } else { floor });
            if at % write_every == 0 || at % restart_every == 0 {
                run.write();
                if let Some(bytes) = whole_bytes {
                    run.journal.pretend_whole_bytes(bytes);
                }
            }
            if at % restart_every == 0 {
                run.restart();
            }
        }
    }
}
