//! The queue state at its bounds, and the cases that have a name.

use super::model_tests::POLICY;
use super::{DeadLettered, HandOut, Journal, LeaseTerms, QueueState, Redriven, Settled, StoredRows};
use core::ops::Range;
use sagamq_api::Offset;
use sagamq_api::limits::{IN_FLIGHT_MAX, PENDING_MAX, SETTLED_RANGES_MAX};
use sagamq_api::queue::EmptyReason;

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

/// What a restart finds.
fn stored(state: &QueueState) -> QueueState {
    let (row, bytes) = Journal::default().write(&mut state.clone());
    let mut rows = StoredRows::default();
    rows.add(row, &bytes);
    rows.queue().expect("its own bytes").state
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
    assert_eq!(stored(&state), state);
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
            assert_eq!(reason, EmptyReason::PendingLimit, "fresh records wait");
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
            let dead = state.expire(now_ms + 100, &POLICY, usize::MAX, &mut || 1.0);
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
    assert_eq!(state.extend(first, first_lease, 1_000, 1_000, false), Settled::Expired);
    assert_eq!(state.terminate(first, first_lease, 1_000), Settled::Expired);
    assert!(state.expire(1_000, &POLICY, usize::MAX, &mut || 0.0).is_empty());
    assert_eq!(state.ack(first, first_lease), Settled::Done { lease_until_ms: None });
    assert_eq!(state.ack(first, first_lease), Settled::AlreadySettled);
    let mut draw = || 77;
    assert_eq!(state.receive(1_000, 5, 1_000, Offset(2), false, &mut draw).leased[0].offset, second);
    assert_eq!(state.ack(second, second_lease), Settled::Expired);
    assert_eq!(state.ack(second, 77), Settled::Done { lease_until_ms: None });
}

#[test]
fn what_one_receive_reads_no_other_gets_and_a_failed_read_counts_no_delivery() {
    let mut state = QueueState::starting_at(Offset(0));
    let high_watermark = Offset(5);
    let first = state.reserve(0, 3, high_watermark, false);
    let second = state.reserve(0, 10, high_watermark, false);
    assert_eq!((first.offsets.len(), &second.offsets[..]), (3, &[Offset(3), Offset(4)][..]));
    let terms = LeaseTerms { lease_ms: 1_000, auto_ack: false, begins: true };
    let mut draw = leases();
    assert_eq!(state.lease(second.id, &second.offsets, 0, terms, draw()).len(), 2);
    assert_eq!(stored(&state), state, "what is passed over is pending");
    state.put_off(first.id, &first.offsets[..1], 0, 500);
    state.release(first.id);
    let again = state.receive(0, 10, 1_000, high_watermark, false, &mut draw).leased;
    assert_eq!(again.iter().map(|leased| (leased.offset.0, leased.attempt)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
    let late = state.receive(500, 10, 1_000, high_watermark, false, &mut draw).leased;
    assert_eq!(late.iter().map(|leased| (leased.offset.0, leased.attempt)).collect::<Vec<_>>(), [(0, 1)]);
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
    assert!(state.expire(1_700, &POLICY, usize::MAX, &mut || 1.0).is_empty());
    assert_eq!(stored(&state).hand_out(Offset(0)), HandOut::At(1_000));
    assert!(state.settle(Offset(0)));
    assert_eq!(state.hand_out(Offset(0)), HandOut::Unknown, "settled: it may have been, and the time is let go");
}

#[test]
fn a_record_that_was_passed_over_was_never_handed_out_and_is_settled_although_somebody_reads_it() {
    let mut state = QueueState::starting_at(Offset(0));
    state.mark_hand_outs();
    let first = state.reserve(0, 1, Offset(2), false);
    assert_eq!(state.receive(0, 1, 1_000, Offset(2), false, &mut leases()).leased[0].offset, Offset(1));
    assert_eq!((state.hand_out(Offset(0)), state.hand_out(Offset(1))), (HandOut::Never, HandOut::At(0)));
    assert!(state.settle(Offset(0)));
    let terms = LeaseTerms { lease_ms: 1_000, auto_ack: false, begins: true };
    assert!(state.lease(first.id, &first.offsets, 0, terms, 1).is_empty(), "settled before anybody saw it");
}
