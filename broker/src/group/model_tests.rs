//! The queue state against a naive model (a map from offset to what became of it), and at its bounds.

use super::{DeadLetterCause, DeadLettered, HandOut, QueuePolicy, QueueState, Redriven, Settled};
use core::ops::Range;
use proptest::prelude::*;
use sagamq_api::Offset;
use sagamq_api::group::EmptyReason;
use sagamq_api::limits::{IN_FLIGHT_MAX, PENDING_MAX, SETTLED_RANGES_MAX};
use std::collections::BTreeMap;

const POLICY: QueuePolicy = QueuePolicy { delivery_limit: 3, backoff_initial_ms: 100, backoff_max_ms: 250 };
const START: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Fresh,
    Leased { lease_id: u64, deadline_ms: u64, attempt: u32 },
    Delayed { attempt: u32, due_ms: u64, lapsed: Option<u64> },
    Settled,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Produce(u64),
    Receive {
        max: u32,
        lease_ms: u64,
        auto_ack: bool,
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
}

fn step() -> impl Strategy<Value = Step> {
    let jitter = 0.0..1.0_f64;
    prop_oneof![
        3 => (1_u64..6).prop_map(Step::Produce),
        6 => (1_u32..6, 1_u64..400, prop::bool::weighted(0.15)).prop_map(|(max, lease_ms, auto_ack)| Step::Receive { max, lease_ms, auto_ack }),
        5 => (0_usize..12).prop_map(Step::Ack),
        4 => (0_usize..12, prop::option::of(0_u64..200), jitter.clone())
            .prop_map(|(receipt, delay_ms, jitter)| Step::Nack { receipt, delay_ms, jitter }),
        1 => (0_usize..12, 1_u64..400).prop_map(|(receipt, lease_ms)| Step::Extend { receipt, lease_ms }),
        1 => (0_usize..12).prop_map(Step::Terminate),
        1 => (0_usize..3).prop_map(Step::Undo),
        1 => (START..START + 40).prop_map(Step::Settle),
        2 => (START..START + 40).prop_map(Step::Redrive),
        1 => (START..START + 40, 0_u64..300).prop_map(|(offset, ms)| Step::Postpone(offset, ms)),
        4 => (0_u64..300, jitter).prop_map(|(ms, jitter)| Step::Pass { ms, jitter }),
        1 => (START..START + 10).prop_map(Step::ForgetBelow),
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
    /// When each pending record was first handed out.
    handed_out: BTreeMap<u64, u64>,
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
            handed_out: BTreeMap::new(),
        }
    }

    fn fate(&self, offset: Offset) -> Fate {
        self.model.get(&offset.0).copied().unwrap_or(if offset.0 < START { Fate::Settled } else { Fate::Fresh })
    }

    fn set(&mut self, offset: Offset, fate: Fate) {
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
        due.chain(fresh.map(|offset| (offset, 1))).take(max as usize).collect()
    }

    fn receive(&mut self, max: u32, lease_ms: u64, auto_ack: bool) {
        let expected = self.expected_batch(max);
        let Self { state, next_lease, .. } = self;
        let mut draw = || {
            *next_lease += 1;
            *next_lease
        };
        let received = state.receive(self.now_ms, max, lease_ms, Offset(self.high_watermark), auto_ack, &mut draw);
        assert_eq!(received.leased.iter().map(|l| (l.offset, l.attempt)).collect::<Vec<_>>(), expected);
        assert_eq!(received.empty.is_some(), expected.is_empty());
        for leased in received.leased {
            let fate = self.fate(leased.offset);
            assert!(matches!(fate, Fate::Fresh | Fate::Delayed { .. }), "{} was {fate:?}", leased.offset);
            self.issued.push((leased.offset, leased.lease_id));
            if fate == Fate::Fresh {
                self.handed_out.insert(leased.offset.0, self.now_ms);
            }
            assert_eq!(leased.handed_out_ms, self.handed_out.get(&leased.offset.0).copied(), "{}", leased.offset);
            let lease = Fate::Leased { lease_id: leased.lease_id, deadline_ms: self.now_ms + lease_ms, attempt: leased.attempt };
            self.set(leased.offset, if auto_ack { Fate::Settled } else { lease });
        }
        if let Some(reason) = received.empty {
            assert_eq!(reason, self.expected_reason());
        }
    }

    fn expected_reason(&self) -> EmptyReason {
        let is = |wanted: fn(&Fate) -> bool| self.model.values().any(wanted);
        if is(|fate| matches!(fate, Fate::Delayed { .. })) {
            EmptyReason::AllDelayed
        } else if is(|fate| matches!(fate, Fate::Leased { .. })) {
            EmptyReason::AllLeased
        } else {
            EmptyReason::CaughtUp
        }
    }

    /// The attempt of a lease that is the record's last and not over.
    fn held(&self, (offset, lease): (Offset, u64)) -> Option<u32> {
        match self.fate(offset) {
            Fate::Leased { lease_id, deadline_ms, attempt } if lease_id == lease && self.now_ms < deadline_ms => Some(attempt),
            _ => None,
        }
    }

    fn not_held(&self, offset: Offset) -> Settled {
        if self.fate(offset) == Fate::Settled { Settled::AlreadySettled } else { Settled::Expired }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Produce(records) => self.high_watermark += records,
            Step::Receive { max, lease_ms, auto_ack } => self.receive(max, lease_ms, auto_ack),
            Step::Ack(back) => self.ack(self.receipt(back)),
            Step::Nack { receipt, delay_ms, jitter } => self.nack(self.receipt(receipt), delay_ms, jitter),
            Step::Extend { receipt, lease_ms } => self.extend(self.receipt(receipt), lease_ms),
            Step::Terminate(back) => self.terminate(self.receipt(back)),
            Step::Undo(back) => self.undo(self.receipt(back)),
            Step::Settle(offset) => {
                assert_eq!(self.state.settle(Offset(offset)), self.fate(Offset(offset)) != Fate::Settled);
                self.set(Offset(offset), Fate::Settled);
            }
            Step::Redrive(offset) => self.redrive(Offset(offset)),
            Step::Postpone(offset, ms) => self.postpone(Offset(offset), self.now_ms + ms),
            Step::Pass { ms, jitter } => self.pass(ms, jitter),
            Step::ForgetBelow(log_start) => {
                self.state.forget_below(Offset(log_start));
                for offset in START..log_start {
                    self.set(Offset(offset), Fate::Settled);
                }
                self.high_watermark = self.high_watermark.max(log_start);
            }
        }
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
        let Some(attempt) = self.held(receipt) else { return assert_eq!(answer, self.not_held(offset)) };
        if attempt >= POLICY.delivery_limit {
            assert_eq!(answer, Settled::DeadLetter { attempts: attempt, cause: DeadLetterCause::DeliveryLimit });
            self.set(offset, Fate::Settled);
        } else {
            assert_eq!(answer, Settled::Done { lease_until_ms: None });
            let due_ms = self.now_ms + delay_ms.unwrap_or_else(|| POLICY.backoff_ms(attempt, jitter));
            self.set(offset, Fate::Delayed { attempt, due_ms, lapsed: None });
        }
    }

    fn extend(&mut self, receipt @ (offset, lease): (Offset, u64), lease_ms: u64) {
        let answer = self.state.extend(offset, lease, self.now_ms, lease_ms);
        let Some(attempt) = self.held(receipt) else { return assert_eq!(answer, self.not_held(offset)) };
        let deadline_ms = self.now_ms + lease_ms;
        assert_eq!(answer, Settled::Done { lease_until_ms: Some(deadline_ms) });
        self.set(offset, Fate::Leased { lease_id: lease, deadline_ms, attempt });
    }

    fn terminate(&mut self, receipt @ (offset, lease): (Offset, u64)) {
        let answer = self.state.terminate(offset, lease, self.now_ms);
        let Some(attempts) = self.held(receipt) else { return assert_eq!(answer, self.not_held(offset)) };
        assert_eq!(answer, Settled::DeadLetter { attempts, cause: DeadLetterCause::Terminated });
        self.set(offset, Fate::Settled);
    }

    fn undo(&mut self, (offset, lease): (Offset, u64)) {
        let fate = self.fate(offset);
        let done = self.state.undo_lease(offset, lease, self.now_ms);
        match fate {
            Fate::Leased { lease_id, attempt, .. } if lease_id == lease => {
                assert!(done);
                self.set(offset, Fate::Delayed { attempt: attempt - 1, due_ms: self.now_ms, lapsed: None });
            }
            _ => assert!(!done),
        }
    }

    fn redrive(&mut self, offset: Offset) {
        if self.fate(offset) == Fate::Settled {
            assert_eq!(self.state.redrive(offset, self.now_ms), Redriven::Done);
            self.handed_out.remove(&offset.0);
            self.set(offset, Fate::Delayed { attempt: 0, due_ms: self.now_ms, lapsed: None });
        } else {
            assert_eq!(self.state.redrive(offset, self.now_ms), Redriven::NotSettled);
        }
    }

    fn postpone(&mut self, offset: Offset, due_ms: u64) {
        let done = self.state.postpone(offset, due_ms);
        match self.fate(offset) {
            Fate::Leased { lease_id, attempt, .. } => self.set(offset, Fate::Delayed { attempt, due_ms, lapsed: Some(lease_id) }),
            Fate::Delayed { attempt, lapsed, .. } => self.set(offset, Fate::Delayed { attempt, due_ms, lapsed }),
            Fate::Fresh | Fate::Settled => return assert!(!done),
        }
        assert!(done);
    }

    fn pass(&mut self, ms: u64, jitter: f64) {
        self.now_ms += ms;
        let mut dead = self.state.expire(self.now_ms, &POLICY, &mut || jitter);
        dead.sort_by_key(|dead| dead.offset);
        let mut expected = Vec::new();
        for (&offset, fate) in &mut self.model {
            let Fate::Leased { lease_id, deadline_ms, attempt } = *fate else { continue };
            if deadline_ms > self.now_ms {
                continue;
            }
            if attempt >= POLICY.delivery_limit {
                expected.push(DeadLettered { offset: Offset(offset), attempts: attempt });
                *fate = Fate::Settled;
            } else {
                let due_ms = self.now_ms + POLICY.backoff_ms(attempt, jitter);
                *fate = Fate::Delayed { attempt, due_ms, lapsed: Some(lease_id) };
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
        assert!(self.state.ack_floor() <= self.state.next_fresh());
        let decoded = QueueState::decode(&self.state.encode()).expect("its own bytes");
        assert_eq!(decoded, self.state);
        assert_eq!(decoded.lag(high_watermark), self.state.lag(high_watermark));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80), restart_every in 1_usize..20) {
        let mut run = Run::new();
        for (at, step) in steps.into_iter().enumerate() {
            let floor = run.state.ack_floor();
            run.apply(step);
            run.check(floor);
            if at % restart_every == 0 {
                run.state = QueueState::decode(&run.state.encode()).expect("its own bytes");
                run.state.mark_hand_outs();
            }
        }
    }
}

fn leases() -> impl FnMut() -> u64 {
    let mut next = 0;
    move || {
        next += 1;
        next
    }
}

fn filled(offsets: Range<u64>) -> (QueueState, Vec<(Offset, u64)>) {
    let mut state = QueueState::starting_at(Offset(offsets.start));
    let mut draw = leases();
    let received = state.receive(0, 1_000, 1_000, Offset(offsets.end), false, &mut draw);
    let receipts = received.leased.iter().map(|leased| (leased.offset, leased.lease_id)).collect();
    (state, receipts)
}

#[test]
fn the_in_flight_bound_stops_delivery_and_says_so_and_delayed_records_hold_no_slot() {
    let (mut state, receipts) = filled(0..5_000);
    assert_eq!(state.in_flight(), IN_FLIGHT_MAX as u64);
    let mut draw = {
        let mut next = 10_000;
        move || {
            next += 1;
            next
        }
    };
    let full = state.receive(1, 10, 1_000, Offset(5_000), false, &mut draw);
    assert_eq!((full.leased.len(), full.empty), (0, Some(EmptyReason::InFlightLimit)));
    let (offset, lease_id) = receipts[0];
    assert_eq!(state.nack(offset, lease_id, 1, Some(500), &POLICY, 0.0), Settled::Done { lease_until_ms: None });
    let next = state.receive(1, 10, 1_000, Offset(5_000), false, &mut draw);
    assert_eq!(next.leased.iter().map(|leased| leased.offset).collect::<Vec<_>>(), [Offset(1_000)]);
    let auto = state.receive(1, 10, 1_000, Offset(5_000), true, &mut draw);
    assert_eq!(auto.leased.len(), 10, "settled at once, so no slot is needed");
}

#[test]
fn too_many_settled_ranges_stop_fresh_records_until_the_floor_moves() {
    let mut state = QueueState::starting_at(Offset(0));
    for at in 0..SETTLED_RANGES_MAX as u64 {
        assert!(state.settle(Offset(2 * at + 1)));
    }
    assert_eq!(state.settled_ranges(), SETTLED_RANGES_MAX);
    let high_watermark = Offset(30_000);
    let blocked = state.receive(0, 1, 1_000, high_watermark, false, &mut leases());
    assert_eq!(blocked.empty, Some(EmptyReason::SettledRangesLimit));
    assert!(state.settle(Offset(0)));
    assert_eq!(state.ack_floor(), Offset(2));
    assert_eq!(state.receive(0, 1, 1_000, high_watermark, false, &mut leases()).leased[0].offset, Offset(2));
    assert_eq!(QueueState::decode(&state.encode()).as_ref(), Ok(&state));
}

#[test]
fn too_many_waiting_records_stop_fresh_ones_and_redrives() {
    let mut state = QueueState::starting_at(Offset(100));
    let mut draw = leases();
    let high_watermark = Offset(50_000);
    loop {
        let received = state.receive(0, 1_000, 1_000, high_watermark, false, &mut draw);
        for leased in &received.leased {
            let _ = state.nack(leased.offset, leased.lease_id, 0, Some(9_000), &POLICY, 0.0);
        }
        if let Some(reason) = received.empty {
            assert_eq!(reason, EmptyReason::AllDelayed);
            break;
        }
    }
    assert_eq!(state.delayed(), PENDING_MAX as u64);
    assert_eq!(state.redrive(Offset(3), 0), Redriven::Full);
    assert_eq!(state.lag(high_watermark), 49_900, "no record was forgotten");
    assert_eq!(state.next_due_ms(), Some(9_000));
    let again = state.receive(9_000, 1_000, 1_000, high_watermark, false, &mut draw);
    assert_eq!((again.leased.len(), again.leased[0].offset, again.leased[0].attempt), (1_000, Offset(100), 2));
}

#[test]
fn a_batch_settled_in_any_order_leaves_one_floor() {
    let (mut state, mut receipts) = filled(0..1_000);
    receipts.reverse();
    for (offset, lease_id) in &receipts {
        assert_eq!(state.ack(*offset, *lease_id), Settled::Done { lease_until_ms: None });
    }
    assert_eq!(state, QueueState::starting_at(Offset(1_000)));
}

#[test]
fn a_record_is_a_dead_letter_exactly_at_its_limit_and_a_redrive_starts_it_again_below_the_floor() {
    let mut state = QueueState::starting_at(Offset(0));
    let mut draw = leases();
    let high_watermark = Offset(1);
    for round in 0..2_u64 {
        for attempt in 1..=POLICY.delivery_limit {
            let now_ms = 1_000 * (10 * round + u64::from(attempt));
            let leased = state.receive(now_ms, 1, 100, high_watermark, false, &mut draw).leased[0];
            assert_eq!(leased.attempt, attempt);
            let dead = state.expire(now_ms + 100, &POLICY, &mut || 1.0);
            let expected = (attempt == POLICY.delivery_limit).then_some(DeadLettered { offset: Offset(0), attempts: attempt });
            assert_eq!(dead, Vec::from_iter(expected));
        }
        assert_eq!((state.ack_floor(), state.lag(high_watermark)), (Offset(1), 0));
        assert_eq!(state.redrive(Offset(0), 1_000 * (10 * round + 9)), Redriven::Done);
        assert_eq!(state.redrive(Offset(0), 1_000 * (10 * round + 9)), Redriven::NotSettled);
        assert_eq!((state.ack_floor(), state.lag(high_watermark)), (Offset(1), 1));
        assert_eq!(state.oldest_unsettled(high_watermark), Some(Offset(0)));
    }
}

#[test]
fn a_late_acknowledgement_counts_until_somebody_else_gets_the_record() {
    let (mut state, receipts) = filled(0..2);
    let [(first, first_lease), (second, second_lease)] = receipts[..] else { panic!("two records") };
    // Over, but nobody looked yet.
    assert_eq!(state.nack(first, first_lease, 1_000, None, &POLICY, 0.0), Settled::Expired);
    assert_eq!(state.extend(first, first_lease, 1_000, 1_000), Settled::Expired);
    assert_eq!(state.terminate(first, first_lease, 1_000), Settled::Expired);
    assert!(state.expire(1_000, &POLICY, &mut || 0.0).is_empty());
    assert_eq!(state.ack(first, first_lease), Settled::Done { lease_until_ms: None });
    assert_eq!(state.ack(first, first_lease), Settled::AlreadySettled);
    let mut draw = || 77;
    assert_eq!(state.receive(1_000, 5, 1_000, Offset(2), false, &mut draw).leased[0].offset, second);
    assert_eq!(state.ack(second, second_lease), Settled::Expired);
    assert_eq!(state.ack(second, 77), Settled::Done { lease_until_ms: None });
}

#[test]
fn a_hand_out_leaves_a_mark_that_neither_a_give_back_nor_a_new_lease_changes() {
    let mut state = QueueState::starting_at(Offset(0));
    state.mark_hand_outs();
    let mut draw = leases();
    assert_eq!(state.hand_out(Offset(0)), HandOut::Never);
    let first = state.receive(1_000, 1, 500, Offset(2), false, &mut draw).leased[0];
    let _ = state.give_back(first.offset, first.lease_id, 1_100);
    assert_eq!((state.hand_out(Offset(0)), state.hand_out(Offset(1))), (HandOut::At(1_000), HandOut::Never));
    let again = state.receive(1_200, 1, 500, Offset(2), false, &mut draw).leased[0];
    assert_eq!((again.offset, again.attempt, again.handed_out_ms), (Offset(0), 1, Some(1_000)));
    assert!(state.expire(1_700, &POLICY, &mut || 1.0).is_empty());
    assert_eq!(QueueState::decode(&state.encode()).expect("its own bytes").hand_out(Offset(0)), HandOut::At(1_000));
    assert!(state.settle(Offset(0)));
    assert_eq!(state.hand_out(Offset(0)), HandOut::Unknown, "settled: it may have been, and the time is let go");
}
