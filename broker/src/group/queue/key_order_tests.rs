//! Order by key against a naive model: never two records of a key out, never one before an earlier one is settled, and nothing that could be
//! delivered is kept back.

use super::model_tests::POLICY;
use super::{Journal, KeyGate, KeyHash, LeaseTerms, QueueRow, QueueState, Redriven, Reserved, Settled, StoredRows};
use proptest::prelude::*;
use sagamq_api::Offset;
use sagamq_api::limits::PENDING_MAX;
use sagamq_api::queue::EmptyReason;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Fresh,
    Leased { lease_id: u64, deadline_ms: u64, attempt: u32 },
    Delayed { attempt: u32, due_ms: u64 },
    Settled,
}

#[derive(Clone, Debug)]
enum Step {
    Produce(Vec<u8>),
    Receive {
        max: u32,
        lease_ms: u64,
        auto_ack: bool,
    },
    Reserve(u32),
    /// One of the open reservations was read: the records of the mask are leased, the others are let go, put off, or not there any more.
    Read {
        reservation: usize,
        mask: u16,
        unread: u8,
    },
    Ack(usize),
    Nack(usize, u64),
    GiveBack(usize),
    Extend(usize),
    Terminate(usize),
    Settle(u64),
    Redrive(u64),
    Pass(u64),
    ForgetBelow(u64),
    Seek(u64),
    Restart,
    /// The topic's configuration changes, and changes back.
    Toggle,
    /// Partitions are added: from here on keys come that were in another one, of two or of three, and the second of them is this.
    Add(usize),
    /// One of the partitions of before is settled as far as it has to be, or is not any more.
    Gate(usize, usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(0_u8..5, 1..8).prop_map(Step::Produce),
        6 => (1_u32..8, 1_u64..300, prop::bool::weighted(0.2)).prop_map(|(max, lease_ms, auto_ack)| Step::Receive { max, lease_ms, auto_ack }),
        4 => (1_u32..6).prop_map(Step::Reserve),
        5 => (0_usize..3, any::<u16>(), 0_u8..3).prop_map(|(reservation, mask, unread)| Step::Read { reservation, mask, unread }),
        6 => (0_usize..8).prop_map(Step::Ack),
        3 => (0_usize..8, 0_u64..200).prop_map(|(receipt, ms)| Step::Nack(receipt, ms)),
        1 => (0_usize..8).prop_map(Step::GiveBack),
        1 => (0_usize..8).prop_map(Step::Extend),
        1 => (0_usize..8).prop_map(Step::Terminate),
        1 => (0_u64..40).prop_map(Step::Settle),
        2 => (0_u64..40).prop_map(Step::Redrive),
        3 => (0_u64..300).prop_map(Step::Pass),
        1 => (0_u64..8).prop_map(Step::ForgetBelow),
        1 => (0_u64..40).prop_map(Step::Seek),
        1 => Just(Step::Restart),
        1 => Just(Step::Toggle),
        1 => (2_usize..4).prop_map(Step::Add),
        2 => (0_usize..3, 0_usize..3, any::<bool>()).prop_map(|(gate, partition, is_passed)| Step::Gate(gate, partition, is_passed)),
    ]
}

struct Run {
    state: QueueState,
    fates: Vec<Fate>,
    /// 0 stands for no key.
    keys: Vec<u8>,
    now_ms: u64,
    next_lease: u64,
    issued: Vec<(Offset, u64)>,
    open: Vec<Reserved>,
    reserved: BTreeSet<u64>,
    /// Where never delivered records begin.
    next_fresh: u64,
    log_start: u64,
    gates: Vec<KeyGate>,
    journal: Journal,
    rows: BTreeMap<QueueRow, Vec<u8>>,
}

impl Run {
    fn new() -> Self {
        let mut state = QueueState::starting_at(Offset(0));
        state.order_by_key(true);
        Self {
            state,
            fates: Vec::new(),
            keys: Vec::new(),
            now_ms: 1_000,
            next_lease: 0,
            issued: Vec::new(),
            open: Vec::new(),
            reserved: BTreeSet::new(),
            next_fresh: 0,
            log_start: 0,
            gates: Vec::new(),
            journal: Journal::default(),
            rows: BTreeMap::new(),
        }
    }

    fn end(&self) -> Offset {
        Offset(self.fates.len() as u64)
    }

    fn key(&self, offset: Offset) -> KeyHash {
        // Two keys with one hash are one.
        Some(u64::from(self.keys[offset.0 as usize])).filter(|&key| key > 0)
    }

    fn fate(&mut self, offset: u64) -> &mut Fate {
        &mut self.fates[offset as usize]
    }

    /// The order of keys is kept from now on.
    fn order(&mut self) {
        self.state.order_by_key(true);
        self.state.set_gates(self.gates.clone());
    }

    /// Whether the partition that its key had before has something that comes first.
    fn is_gated(&self, offset: u64) -> bool {
        let key = usize::from(self.keys[offset as usize]);
        key > 0 && self.gates.iter().any(|gate| offset >= gate.begins.0 && !gate.passed[key % gate.passed.len()])
    }

    /// Whether it is the first of its key that is not settled, and none of its key is out.
    fn is_first(&self, at: u64) -> bool {
        let same = |other: u64| other != at && self.keys[other as usize] > 0 && self.keys[other as usize] == self.keys[at as usize];
        let mut others = (0..self.fates.len() as u64).filter(|&other| same(other));
        !others.any(|other| self.is_out(other) || (other < at && self.fates[other as usize] != Fate::Settled))
    }

    fn is_out(&self, offset: u64) -> bool {
        self.reserved.contains(&offset) || matches!(self.fates[offset as usize], Fate::Leased { .. })
    }

    /// What may be delivered: due, not out, none of its key out, and none of its key unsettled before it.
    fn expected(&self, max: u32) -> Vec<u64> {
        let all = 0..self.fates.len() as u64;
        let is_free = |&at: &u64| {
            let is_due = match self.fates[at as usize] {
                Fate::Fresh => true,
                Fate::Delayed { due_ms, .. } => due_ms <= self.now_ms,
                Fate::Leased { .. } | Fate::Settled => false,
            };
            is_due && !self.reserved.contains(&at) && self.is_first(at) && !self.is_gated(at)
        };
        let (fresh, due): (Vec<u64>, Vec<u64>) = all.filter(is_free).partition(|&at| self.fates[at as usize] == Fate::Fresh);
        due.into_iter().chain(fresh).take(max as usize).collect()
    }

    /// Tells the state the keys it wants, as whoever receives does.
    fn learn(&mut self) {
        loop {
            let wanted = self.state.keys_wanted(self.end());
            if wanted.is_empty() {
                return;
            }
            for offset in wanted {
                self.state.learn(offset, self.key(offset));
            }
        }
    }

    fn reserve(&mut self, max: u32, auto_ack: bool) -> Reserved {
        self.learn();
        let reserved = self.state.reserve(self.now_ms, max, self.end(), auto_ack);
        assert_eq!(reserved.offsets.iter().map(|offset| offset.0).collect::<Vec<_>>(), self.expected(max));
        self.reserved.extend(reserved.offsets.iter().map(|offset| offset.0));
        if reserved.offsets.is_empty() {
            self.check_reason();
        }
        reserved
    }

    fn check_reason(&self) {
        let unsettled = (0..self.fates.len() as u64).filter(|&at| self.fates[at as usize] != Fate::Settled).collect::<Vec<_>>();
        let not_due = |at: u64| matches!(self.fates[at as usize], Fate::Delayed { due_ms, .. } if due_ms > self.now_ms);
        let waits = |&at: &u64| !self.is_out(at) && !not_due(at);
        let reason = match () {
            () if unsettled.iter().any(|&at| !self.is_out(at) && self.is_first(at) && self.is_gated(at)) => EmptyReason::PartitionsAdded,
            () if unsettled.iter().any(waits) => EmptyReason::KeyOrder,
            () if unsettled.iter().any(|&at| not_due(at) && !self.reserved.contains(&at)) => EmptyReason::AllDelayed,
            () if !unsettled.is_empty() => EmptyReason::AllLeased,
            () => EmptyReason::CaughtUp,
        };
        assert_eq!(self.state.why_empty(self.end(), false), Some(reason));
        assert_eq!(self.state.waiting_for_key(), unsettled.iter().copied().filter(|at| waits(at)).count() as u64);
    }

    /// What was passed over is pending from then on.
    fn pass_over(&mut self, delivered: u64) {
        if delivered >= self.next_fresh {
            for at in self.next_fresh..delivered {
                if self.fates[at as usize] == Fate::Fresh {
                    *self.fate(at) = Fate::Delayed { attempt: 0, due_ms: self.now_ms };
                }
            }
            self.next_fresh = delivered + 1;
        }
    }

    fn lease(&mut self, id: u64, offsets: &[Offset], terms: LeaseTerms) {
        self.next_lease += 1;
        let leased = self.state.lease(id, offsets, self.now_ms, terms, self.next_lease);
        let held: Vec<u64> = offsets.iter().map(|offset| offset.0).filter(|at| self.reserved.contains(at)).collect();
        assert_eq!(leased.iter().map(|leased| leased.offset.0).collect::<Vec<_>>(), held);
        for leased in leased {
            let at = leased.offset.0;
            // One that was redriven before those in front of it were handed out passes over none of them: to the state it is of the settled part.
            if *self.fate(at) == Fate::Fresh {
                self.pass_over(at);
            }
            self.reserved.remove(&at);
            self.issued.push((leased.offset, leased.lease_id));
            let lease = Fate::Leased { lease_id: leased.lease_id, deadline_ms: self.now_ms + terms.lease_ms, attempt: leased.attempt };
            *self.fate(at) = if terms.auto_ack { Fate::Settled } else { lease };
        }
    }

    fn read(&mut self, at: usize, mask: u16, unread: u8) {
        if at >= self.open.len() {
            return;
        }
        let Reserved { id, offsets } = self.open.remove(at);
        let (read, left): (Vec<_>, Vec<_>) = offsets.iter().enumerate().partition(|(index, _)| mask & (1 << index) != 0);
        let [read, left] = [read, left].map(|part| part.into_iter().map(|(_, &offset)| offset).collect::<Vec<_>>());
        self.lease(id, &read, LeaseTerms { lease_ms: 100, auto_ack: false, begins: true });
        let left: Vec<Offset> = left.into_iter().filter(|offset| self.reserved.contains(&offset.0)).collect();
        match unread {
            0 => self.state.settle_gone(id, &left),
            1 => self.state.put_off(id, &left, self.now_ms, self.now_ms + 50),
            _ => {}
        }
        self.state.release(id);
        for offset in left.iter().map(|offset| offset.0) {
            self.reserved.remove(&offset);
            match (unread, *self.fate(offset)) {
                (0, _) => *self.fate(offset) = Fate::Settled,
                (1, Fate::Delayed { attempt, .. }) => *self.fate(offset) = Fate::Delayed { attempt, due_ms: self.now_ms + 50 },
                (1, _) => {
                    self.pass_over(offset);
                    *self.fate(offset) = Fate::Delayed { attempt: 0, due_ms: self.now_ms + 50 };
                }
                _ => {}
            }
        }
    }

    /// A receipt whose lease is not over.
    fn held(&self, back: usize) -> Option<(Offset, u64, u32)> {
        let (offset, id) = *self.issued.get(self.issued.len().checked_sub(back + 1)?)?;
        match self.fates[offset.0 as usize] {
            Fate::Leased { lease_id, deadline_ms, attempt } if lease_id == id && self.now_ms < deadline_ms => Some((offset, id, attempt)),
            _ => None,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Produce(keys) => {
                self.fates.extend(keys.iter().map(|_| Fate::Fresh));
                self.keys.extend(keys);
            }
            Step::Receive { max, lease_ms, auto_ack } => {
                let Reserved { id, offsets } = self.reserve(max, auto_ack);
                self.lease(id, &offsets, LeaseTerms { lease_ms, auto_ack, begins: true });
                self.state.release(id);
            }
            Step::Reserve(max) => {
                let reserved = self.reserve(max, false);
                self.open.push(reserved);
            }
            Step::Read { reservation, mask, unread } => self.read(reservation, mask, unread),
            Step::Ack(back) => {
                if let Some((offset, id, _)) = self.held(back) {
                    assert_eq!(self.state.ack(offset, id), Settled::Done { lease_until_ms: None });
                    *self.fate(offset.0) = Fate::Settled;
                }
            }
            Step::Nack(back, ms) => {
                if let Some((offset, id, attempt)) = self.held(back) {
                    let is_dead = matches!(self.state.nack(offset, id, self.now_ms, Some(ms), &POLICY, 0.5), Settled::DeadLetter { .. });
                    assert_eq!(is_dead, attempt >= POLICY.delivery_limit);
                    *self.fate(offset.0) = if is_dead { Fate::Settled } else { Fate::Delayed { attempt, due_ms: self.now_ms + ms } };
                }
            }
            Step::GiveBack(back) => {
                if let Some((offset, id, attempt)) = self.held(back) {
                    assert_eq!(self.state.give_back(offset, id, self.now_ms), Settled::Done { lease_until_ms: None });
                    *self.fate(offset.0) = Fate::Delayed { attempt: attempt - 1, due_ms: self.now_ms };
                }
            }
            Step::Extend(back) => {
                if let Some((offset, id, attempt)) = self.held(back) {
                    let _ = self.state.extend(offset, id, self.now_ms, 500, false);
                    *self.fate(offset.0) = Fate::Leased { lease_id: id, deadline_ms: self.now_ms + 500, attempt };
                }
            }
            Step::Terminate(back) => {
                if let Some((offset, id, _)) = self.held(back) {
                    assert!(matches!(self.state.terminate(offset, id, self.now_ms), Settled::DeadLetter { .. }));
                    *self.fate(offset.0) = Fate::Settled;
                }
            }
            Step::Settle(at) => {
                if at < self.end().0 {
                    self.state.settle(Offset(at));
                    self.reserved.remove(&at);
                    // Whoever was reading it has it no more, also if it comes again and another one reads it.
                    self.open.iter_mut().for_each(|reserved| reserved.offsets.retain(|offset| offset.0 != at));
                    *self.fate(at) = Fate::Settled;
                }
            }
            Step::Redrive(at) => {
                if at < self.end().0 && at >= self.log_start && *self.fate(at) == Fate::Settled {
                    assert_eq!(self.state.redrive(Offset(at), self.now_ms), Redriven::Done);
                    *self.fate(at) = Fate::Delayed { attempt: 0, due_ms: self.now_ms };
                }
            }
            Step::Pass(ms) => self.pass(ms),
            Step::ForgetBelow(at) => {
                let at = at.min(self.end().0);
                self.state.forget_below(Offset(at));
                self.log_start = self.log_start.max(at);
                for offset in 0..at {
                    self.reserved.remove(&offset);
                    *self.fate(offset) = Fate::Settled;
                }
            }
            Step::Seek(to) => {
                let to = to.clamp(self.log_start, self.end().0);
                self.state.seek(Offset(to));
                self.order();
                self.open.clear();
                self.reserved.clear();
                for at in 0..self.end().0 {
                    *self.fate(at) = if at < to { Fate::Settled } else { Fate::Fresh };
                }
            }
            Step::Restart => {
                let mut stored = StoredRows::default();
                self.rows.iter().for_each(|(row, bytes)| stored.add(*row, bytes));
                let found = stored.queue().expect("its own bytes");
                (self.state, self.journal) = (found.state, found.journal);
                self.order();
                self.open.clear();
                self.reserved.clear();
            }
            Step::Toggle => {
                self.state.order_by_key(false);
                assert_eq!(self.state.validate(), Ok(()));
                self.order();
                // What receives read at that moment they do not get.
                self.open.clear();
                self.reserved.clear();
            }
            Step::Add(partitions) => {
                // The first of them is the one that the state is of.
                let passed = (0..partitions).map(|partition| partition == 0).collect();
                self.gates.push(KeyGate { begins: self.end(), passed });
                self.state.set_gates(self.gates.clone());
            }
            Step::Gate(gate, partition, is_passed) => {
                if let Some(passed) = self.gates.get_mut(gate).and_then(|gate| gate.passed.get_mut(partition)) {
                    *passed = is_passed || partition == 0;
                    self.state.set_gates(self.gates.clone());
                }
            }
        }
        self.next_fresh = self.state.next_fresh().0;
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let now_ms = self.now_ms;
        assert!(self.state.expire(now_ms, &POLICY, usize::MAX, &mut || 0.5).iter().all(|dead| dead.attempts >= POLICY.delivery_limit));
        for fate in &mut self.fates {
            if let Fate::Leased { deadline_ms, attempt, .. } = *fate
                && deadline_ms <= now_ms
            {
                let due_ms = now_ms + POLICY.backoff_ms(attempt, 0.5);
                *fate = if attempt >= POLICY.delivery_limit { Fate::Settled } else { Fate::Delayed { attempt, due_ms } };
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.state.validate(), Ok(()));
        let mut out = BTreeSet::new();
        for at in (0..self.fates.len() as u64).filter(|&at| self.keys[at as usize] > 0 && self.is_out(at)) {
            assert!(out.insert(self.keys[at as usize]), "two records of a key are out");
        }
        for (offset, fate) in self.fates.iter().enumerate() {
            assert_eq!(self.state.is_settled(Offset(offset as u64)), *fate == Fate::Settled, "{offset}");
        }
    }

    fn write(&mut self) {
        let (row, bytes) = self.journal.write(&mut self.state);
        self.rows.insert(row, bytes);
    }

    /// Everything can be brought to its end, whatever came before: nothing is stuck.
    fn drain(&mut self) {
        self.open.clear();
        self.reserved.clear();
        for id in 0..=self.state.last_reservation {
            self.state.release(id);
        }
        self.gates.clear();
        self.state.set_gates(Vec::new());
        while self.fates.iter().any(|fate| *fate != Fate::Settled) {
            let before = self.fates.iter().filter(|fate| **fate == Fate::Settled).count();
            // Leases end with the first, their backoffs with the second.
            self.pass(1_000);
            self.pass(1_000);
            self.apply(Step::Receive { max: 1_000, lease_ms: 1, auto_ack: true });
            assert!(self.fates.iter().filter(|fate| **fate == Fate::Settled).count() > before, "stuck: {:?}", self.fates);
        }
        assert_eq!(self.state.ack_floor(), self.end());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn keys_are_kept_in_order_and_nothing_is_stuck(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        run.write();
        for step in steps {
            run.apply(step);
            run.check();
            run.write();
        }
        run.drain();
    }
}

#[test]
fn a_record_that_is_redriven_before_those_in_front_of_it_were_handed_out() {
    let mut run = Run::new();
    run.write();
    for step in [
        Step::Add(2),
        Step::Produce(vec![0, 0, 0]),
        Step::ForgetBelow(3),
        Step::Produce(vec![1, 0, 1, 1, 1, 0, 1]),
        Step::Produce(vec![2, 1]),
        Step::Reserve(3),
        Step::Produce(vec![0, 1, 1, 1, 1, 0]),
        Step::Reserve(2),
        Step::Read { reservation: 1, mask: 4504, unread: 0 },
        Step::Redrive(17),
        Step::Receive { max: 1, lease_ms: 1, auto_ack: false },
    ] {
        run.apply(step);
        run.check();
        run.write();
    }
    run.drain();
}

/// Records of these keys, known, in a group that keeps their order.
fn learnt(keys: impl IntoIterator<Item = KeyHash>) -> (QueueState, Offset) {
    let mut state = QueueState::starting_at(Offset(0));
    state.order_by_key(true);
    let keys: Vec<KeyHash> = keys.into_iter().collect();
    let end = Offset(keys.len() as u64);
    loop {
        let wanted = state.keys_wanted(end);
        if wanted.is_empty() {
            return (state, end);
        }
        for offset in wanted {
            state.learn(offset, keys[offset.0 as usize]);
        }
    }
}

#[test]
fn no_more_is_looked_past_than_the_bound_and_it_says_so() {
    // One key fills all that may be looked past; behind it is another.
    let keys = (0..PENDING_MAX as u64 + 1).map(|at| Some(u64::from(at == PENDING_MAX as u64)));
    let (mut state, end) = learnt(keys);
    let terms = LeaseTerms { lease_ms: 1_000, auto_ack: false, begins: true };
    let reserved = state.reserve(0, 100, end, false);
    assert_eq!(reserved.offsets, [Offset(0)]);
    assert_eq!(state.lease(reserved.id, &reserved.offsets, 0, terms, 7).len(), 1);
    assert_eq!(state.why_empty(end, false), Some(EmptyReason::KeyOrderLimit));
    assert_eq!(state.unlooked(), (Offset(u64::MAX), 0), "pollers must not take it for something");
    let _ = state.ack(Offset(0), 7);
    let wanted = state.keys_wanted(end);
    assert_eq!(wanted, [Offset(PENDING_MAX as u64)]);
    state.learn(wanted[0], Some(1));
    let reserved = state.reserve(0, 100, end, false);
    assert_eq!(reserved.offsets, [Offset(1), Offset(PENDING_MAX as u64)], "the next of the one key, and the first of the other");
    assert_eq!(state.lease(reserved.id, &reserved.offsets, 0, terms, 8).len(), 2);
    assert_eq!(state.why_empty(end, false), Some(EmptyReason::KeyOrder));
    assert_eq!(state.waiting_for_key(), PENDING_MAX as u64 - 2);
}

#[test]
fn a_redriven_record_takes_its_place_in_the_line_and_waits_for_what_is_out() {
    let (mut state, end) = learnt([Some(1); 3]);
    let terms = LeaseTerms { lease_ms: 1_000, auto_ack: false, begins: true };
    let next = |state: &mut QueueState, lease_id| {
        for offset in state.keys_wanted(end) {
            state.learn(offset, Some(1));
        }
        let reserved = state.reserve(0, 100, end, false);
        let leased = state.lease(reserved.id, &reserved.offsets, 0, terms, lease_id);
        leased.iter().map(|leased| leased.offset.0).collect::<Vec<_>>()
    };
    assert_eq!(next(&mut state, 1), [0]);
    assert!(matches!(state.terminate(Offset(0), 1, 0), Settled::DeadLetter { .. }));
    assert_eq!(next(&mut state, 2), [1], "a dead letter holds nobody back");
    assert_eq!(state.redrive(Offset(0), 0), Redriven::Done);
    assert_eq!(next(&mut state, 3), [0; 0], "one of the key is out");
    let _ = state.nack(Offset(1), 2, 0, Some(0), &POLICY, 0.0);
    assert_eq!(next(&mut state, 4), [0], "the earlier one first");
    let _ = state.ack(Offset(0), 4);
    assert_eq!(next(&mut state, 5), [1]);
}
