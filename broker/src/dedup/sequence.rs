//! What a batch of a producer that counts its records means: pure, so that every order of arrival and every crash can be tried.
//!
//! A producer counts the records that it sends to a partition, from 0 in each of its epochs. What comes next is appended, what came lately is
//! answered with its place, and all else is refused: nothing is stored twice, and nothing passes what it follows.

use sagamq_api::Offset;
use sagamq_api::batch::{SEQUENCE_MAX, Stamp, sequence_after};
use sagamq_api::limits::PRODUCER_BATCHES_KEPT;

/// A batch that a producer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sequenced {
    pub(crate) stamp: Stamp,
    pub(crate) records: u32,
    /// Its checksum as it was sent: a retry has the same.
    pub(crate) crc: u32,
}

/// What is kept of a batch that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptBatch {
    pub(crate) sequence: u32,
    pub(crate) records: u32,
    pub(crate) crc: u32,
    pub(crate) base: Offset,
    /// The time that records without one of their own got.
    pub(crate) arrived_ms: i64,
}

/// What a partition knows of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub(crate) epoch: u16,
    /// When it was heard of last, in milliseconds since 1970.
    pub(crate) used_ms: u64,
    /// Its newest batches, the oldest first; at least one, at most [`PRODUCER_BATCHES_KEPT`], all of this epoch.
    pub(crate) batches: Vec<KeptBatch>,
}

/// What becomes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is the next one.
    Append,
    /// It was stored: the answer is its place.
    Duplicate { base: Offset, arrived_ms: i64 },
    /// Others must come before it: this sequence is next.
    Ahead { expected: u32 },
    /// It lies before the next one and is none of the newest; it may have been stored.
    Behind { expected: u32 },
    /// Its sequence was used for other records.
    Reused { base: Offset },
    /// The producer has begun a newer epoch.
    Fenced { epoch: u16 },
    /// Nothing is known of the producer, and it does not begin.
    Unknown,
}

/// What becomes of a batch, given what the partition knows of its producer.
pub(crate) fn decide(known: Option<&ProducerState>, sent: &Sequenced) -> Decision {
    let Stamp { epoch, sequence, .. } = sent.stamp;
    let Some(known) = known else { return if sequence == 0 { Decision::Append } else { Decision::Unknown } };
    if epoch < known.epoch {
        return Decision::Fenced { epoch: known.epoch };
    }
    let expected = if epoch == known.epoch { known.next_sequence() } else { 0 };
    if sequence == expected {
        return Decision::Append;
    }
    if epoch > known.epoch {
        return Decision::Ahead { expected };
    }
    if let Some(kept) = known.batches.iter().find(|kept| kept.sequence == sequence) {
        let KeptBatch { records, crc, base, arrived_ms, .. } = *kept;
        let is_same = (records, crc) == (sent.records, sent.crc);
        return if is_same { Decision::Duplicate { base, arrived_ms } } else { Decision::Reused { base } };
    }
    // The sequences are a circle: of two, the one is ahead from which the way forward is the longer one.
    let is_ahead = sequence.wrapping_sub(expected) & SEQUENCE_MAX <= SEQUENCE_MAX / 2;
    if is_ahead { Decision::Ahead { expected } } else { Decision::Behind { expected } }
}

impl ProducerState {
    /// The sequence that is next in its epoch.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.batches.last().map_or(0, |last| sequence_after(last.sequence, last.records))
    }

    /// Whether it has sent one batch, the first of its epoch, and nothing since.
    pub(crate) fn has_sent_once(&self) -> bool {
        matches!(self.batches[..], [KeptBatch { sequence: 0, .. }])
    }

    /// The offset behind its newest batch.
    pub(crate) fn end(&self) -> Offset {
        self.batches.last().map_or(Offset(0), |last| last.base.plus(last.records.into()))
    }

    /// What is known when a batch is stored that was to be appended.
    pub(crate) fn after(known: Option<Self>, sent: &Sequenced, base: Offset, arrived_ms: i64, now_ms: u64) -> Self {
        let Stamp { epoch, sequence, .. } = sent.stamp;
        let mut state = known.filter(|known| known.epoch == epoch).unwrap_or_else(|| Self {
            epoch,
            used_ms: now_ms,
            batches: Vec::with_capacity(PRODUCER_BATCHES_KEPT),
        });
        if state.batches.len() == PRODUCER_BATCHES_KEPT {
            state.batches.remove(0);
        }
        state.batches.push(KeptBatch { sequence, records: sent.records, crc: sent.crc, base, arrived_ms });
        state.used_ms = now_ms;
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(epoch: u16, sequence: u32, records: u32) -> Sequenced {
        Sequenced { stamp: Stamp { producer: 7, epoch, sequence }, records, crc: sequence ^ (u32::from(epoch) << 16) }
    }

    fn stored(batches: &[(u16, u32, u32)]) -> ProducerState {
        let mut state = None;
        let mut end = 0;
        for &(epoch, sequence, records) in batches {
            let sent = sent(epoch, sequence, records);
            assert_eq!(decide(state.as_ref(), &sent), Decision::Append, "{sent:?}");
            state = Some(ProducerState::after(state, &sent, Offset(end), 5, 9));
            end += u64::from(records);
        }
        state.expect("some")
    }

    #[test]
    fn each_rule() {
        assert_eq!(decide(None, &sent(3, 0, 1)), Decision::Append);
        assert_eq!(decide(None, &sent(3, 1, 1)), Decision::Unknown);
        let state = stored(&[(1, 0, 2), (1, 2, 2), (1, 4, 2), (1, 6, 2), (1, 8, 2), (1, 10, 2)]);
        assert_eq!((state.next_sequence(), state.end(), state.batches.len()), (12, Offset(12), 5));
        assert_eq!(decide(Some(&state), &sent(1, 12, 9)), Decision::Append);
        assert_eq!(decide(Some(&state), &sent(1, 2, 2)), Decision::Duplicate { base: Offset(2), arrived_ms: 5 });
        assert_eq!(decide(Some(&state), &sent(1, 0, 2)), Decision::Behind { expected: 12 }, "only the newest are kept");
        assert_eq!(decide(Some(&state), &sent(1, 3, 1)), Decision::Behind { expected: 12 });
        assert_eq!(decide(Some(&state), &sent(1, 10, 3)), Decision::Reused { base: Offset(10) });
        assert_eq!(decide(Some(&state), &Sequenced { crc: 0, ..sent(1, 10, 2) }), Decision::Reused { base: Offset(10) });
        assert_eq!(decide(Some(&state), &sent(1, 13, 1)), Decision::Ahead { expected: 12 });
        assert_eq!(decide(Some(&state), &sent(0, 12, 1)), Decision::Fenced { epoch: 1 });
        assert_eq!(decide(Some(&state), &sent(0, 0, 2)), Decision::Fenced { epoch: 1 });
        assert_eq!(decide(Some(&state), &sent(2, 12, 1)), Decision::Ahead { expected: 0 });
        assert_eq!(decide(Some(&state), &sent(2, 0, 1)), Decision::Append);
        let anew = ProducerState::after(Some(state), &sent(2, 0, 1), Offset(12), 5, 9);
        assert_eq!((anew.epoch, anew.next_sequence(), anew.batches.len()), (2, 1, 1), "what was before the epoch is forgotten");
    }

    #[test]
    fn the_sequences_go_round() {
        let kept = KeptBatch { sequence: SEQUENCE_MAX - 1, records: 3, crc: 0, base: Offset(0), arrived_ms: 0 };
        let state = ProducerState { epoch: 0, used_ms: 0, batches: vec![kept] };
        assert_eq!(state.next_sequence(), 1);
        assert_eq!(decide(Some(&state), &sent(0, 1, 1)), Decision::Append);
        assert_eq!(decide(Some(&state), &sent(0, 2, 1)), Decision::Ahead { expected: 1 });
        assert_eq!(decide(Some(&state), &sent(0, SEQUENCE_MAX, 1)), Decision::Behind { expected: 1 });
        assert_eq!(decide(Some(&state), &sent(0, 0, 1)), Decision::Behind { expected: 1 });
    }

    /// What the producer of the model does next, or the world to it.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// It sends a new batch of so many records, if no more than are kept follow the first that has no answer.
        Send(u32),
        /// A copy of the nth of its batches without an answer arrives; its answer is lost.
        Arrive(usize),
        /// The same, and the answer comes.
        Answered(usize),
        /// The partition is opened again: what it knows is what is stored.
        Restart,
        /// The producer gives up what is on its way and begins an epoch.
        Epoch,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => (1..4_u32).prop_map(Event::Send),
            4 => (0..8_usize).prop_map(Event::Arrive),
            6 => (0..8_usize).prop_map(Event::Answered),
            1 => Just(Event::Restart),
            1 => Just(Event::Epoch),
        ];
        proptest::collection::vec(event, 1..120)
    }

    /// Copies on the network: of every batch that was ever sent, for ever.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Parcel {
        sent: Sequenced,
        first: u32,
        /// How many were sent before it.
        before: usize,
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

        /// With as many on their way as are kept, whatever is lost, repeated and passed by others: what is stored is stored once and in order, and
        /// who hears an answer hears the place where it lies.
        #[test]
        fn records_are_stored_once_and_in_order(events in events(), begin in prop_oneof![Just(0), Just(SEQUENCE_MAX - 20)]) {
            let mut log: Vec<u32> = Vec::new();
            let (mut known, mut epoch, mut next, mut record) = (None, 0_u16, begin, 0_u32);
            if begin > 0 {
                // As if so many had been stored before.
                let kept = KeptBatch { sequence: begin - 1, records: 1, crc: 1, base: Offset(0), arrived_ms: 0 };
                known = Some(ProducerState { epoch: 0, used_ms: 0, batches: vec![kept] });
                log.push(u32::MAX);
            }
            let (mut open, mut ever): (Vec<Parcel>, Vec<Parcel>) = (Vec::new(), Vec::new());
            for event in events {
                let mut arrive = |copy: Parcel, known: &mut Option<ProducerState>| {
                    let decision = decide(known.as_ref(), &copy.sent);
                    if decision == Decision::Append {
                        let base = Offset(log.len() as u64);
                        log.extend(copy.first..copy.first + copy.sent.records);
                        *known = Some(ProducerState::after(known.take(), &copy.sent, base, 0, 0));
                        return Some(base);
                    }
                    match decision {
                        Decision::Duplicate { base, .. } => Some(base),
                        _ => None,
                    }
                };
                match event {
                    Event::Send(records) if open.first().is_none_or(|first| ever.len() - first.before < PRODUCER_BATCHES_KEPT) => {
                        let copy = Parcel { sent: sent(epoch, next, records), first: record, before: ever.len() };
                        (next, record) = (sequence_after(next, records), record + records);
                        open.push(copy);
                        ever.push(copy);
                    }
                    Event::Send(_) => {}
                    // Any that was ever sent may come late.
                    Event::Arrive(n) => {
                        if let Some(&copy) = ever.iter().rev().nth(n) {
                            arrive(copy, &mut known);
                        }
                    }
                    Event::Answered(n) => {
                        if n < open.len()
                            && let Some(base) = arrive(open[n], &mut known)
                        {
                            let copy = open.remove(n);
                            let at = usize::try_from(base.0).expect("small");
                            let place: Vec<u32> = log[at..at + copy.sent.records as usize].to_vec();
                            prop_assert!(place.into_iter().eq(copy.first..copy.first + copy.sent.records), "the place is that of the records");
                        }
                    }
                    Event::Restart => {
                        let row = known.as_ref().map(crate::dedup::producer_row::encode);
                        known = row.map(|row| crate::dedup::producer_row::decode(&row).expect("its own row"));
                    }
                    Event::Epoch => {
                        open.clear();
                        (epoch, next) = (epoch + 1, 0);
                    }
                }
            }
            // At last everything that is open is repeated until it is answered.
            for _ in 0..=open.len() {
                open.retain(|copy| {
                    let decision = decide(known.as_ref(), &copy.sent);
                    if decision == Decision::Append {
                        let base = Offset(log.len() as u64);
                        log.extend(copy.first..copy.first + copy.sent.records);
                        known = Some(ProducerState::after(known.take(), &copy.sent, base, 0, 0));
                    }
                    !matches!(decision, Decision::Append | Decision::Duplicate { .. })
                });
            }
            prop_assert!(open.is_empty(), "whoever repeats what is open comes to an end: {open:?}");
            let own = if begin > 0 { &log[1..] } else { &log[..] };
            prop_assert!(own.windows(2).all(|pair| pair[0] < pair[1]), "once and in order: {own:?}");
        }
    }
}
