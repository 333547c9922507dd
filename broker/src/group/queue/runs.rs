//! What a state says of its offsets, in runs: neighbours of which the very same is said are said it once.
//!
//! | field of a run | form |
//! |---|---|
//! | distance from the end of the run before (the first: from 0) | varint |
//! | number of offsets, at least 1 | varint |
//! | what is said | one byte, a sum: 0 not pending, 1 leased, 2 delayed, 3 delayed by a lease that ran out; and 4: in the settled part |
//! | leased, delayed by a lease that ran out: the lease id | u64, eight bytes big-endian |
//! | leased: the deadline; delayed: when it is due; in milliseconds since 1970 | varint |
//! | leased, delayed: attempts that began, below 2^32; of a lease whose holder has begun at least 1 | varint |
//! | leased: twice the returns before anybody began, and one more if its holder has not begun; delayed: the returns; below 2^32 | varint |
//! | leased, delayed: the mark of the first hand-out: its time in milliseconds since 1970 and one more, 0 for none | varint |
//!
//! Runs are in the order of their offsets, and two that touch say different things. The records of one receive in a partition have one
//! lease id, so they are one run as long as nothing happens to a part of them.

use super::state::{Delayed, Lease, QueueState};
use crate::group::decode_error::DecodeError;
use crate::group::varint::{Input, put};
use sagamq_api::Offset;
use sagamq_api::limits::PENDING_MAX;

/// Pending records of which no state has more: each was reserved when there was room for it, and one that was let go may be passed over.
const PENDING_READ_MAX: u64 = 4 * PENDING_MAX as u64;

const LEASED: u8 = 1;
const DELAYED: u8 = 2;
const LAPSED: u8 = 3;
const SETTLED: u8 = 4;

/// What is pending of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    No,
    Leased(Lease),
    Delayed(Delayed),
}

/// Offsets of which the same is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    start: Offset,
    end: Offset,
    /// In the settled part: a redriven record is pending as well.
    is_settled: bool,
    pending: Pending,
}

impl Run {
    /// Whether it says only what the floor says anyway.
    pub(super) fn is_needless_below(&self, floor: Offset) -> bool {
        self.pending == Pending::No && self.start <= floor
    }

    fn says_the_same(&self, other: &Self) -> bool {
        (self.is_settled, self.pending) == (other.is_settled, other.pending)
    }

    fn write(&self, previous: Offset, out: &mut Vec<u8>) {
        put(out, self.start.0 - previous.0);
        put(out, self.end.0 - self.start.0);
        let settled = if self.is_settled { SETTLED } else { 0 };
        match self.pending {
            Pending::No => out.push(settled),
            Pending::Leased(Lease { lease_id, deadline_ms, attempt, is_begun, returned, handed_out_ms }) => {
                out.push(settled + LEASED);
                out.extend(lease_id.to_be_bytes());
                put(out, deadline_ms);
                put(out, u64::from(attempt));
                put(out, 2 * u64::from(returned) + u64::from(!is_begun));
                put(out, mark(handed_out_ms));
            }
            Pending::Delayed(Delayed { attempt, returned, due_ms, lapsed_lease, handed_out_ms }) => {
                out.push(settled + if lapsed_lease.is_some() { LAPSED } else { DELAYED });
                out.extend(lapsed_lease.iter().flat_map(|lease_id| lease_id.to_be_bytes()));
                put(out, due_ms);
                put(out, u64::from(attempt));
                put(out, u64::from(returned));
                put(out, mark(handed_out_ms));
            }
        }
    }

    fn read(previous: u64, input: &mut Input<'_>) -> Result<Self, DecodeError> {
        let start = input.offset_after(previous, "an offset")?;
        let end = input.offset_after(start, "the length of a run")?;
        let said = input.byte()?;
        let pending = match said & !SETTLED {
            0 => Pending::No,
            LEASED => {
                let (lease_id, deadline_ms) = (input.fixed()?, input.varint("a deadline")?);
                let (attempt, returns) = (number(input, "attempts")?, input.varint("returns")?);
                let returned = u32::try_from(returns / 2).map_err(|_| DecodeError::Number("returns"))?;
                let is_begun = returns.is_multiple_of(2);
                Pending::Leased(Lease { lease_id, deadline_ms, attempt, is_begun, returned, handed_out_ms: handed_out(input)? })
            }
            kind @ (DELAYED | LAPSED) => Pending::Delayed(Delayed {
                lapsed_lease: (kind == LAPSED).then(|| input.fixed()).transpose()?,
                due_ms: input.varint("a due time")?,
                attempt: number(input, "attempts")?,
                returned: number(input, "returns")?,
                handed_out_ms: handed_out(input)?,
            }),
            _ => return Err(DecodeError::Number("what is said of a run")),
        };
        let run = Self { start: Offset(start), end: Offset(end), is_settled: said & SETTLED != 0, pending };
        match run.pending {
            _ if start == end => Err(DecodeError::Contradiction("a run is empty")),
            Pending::No if !run.is_settled => Err(DecodeError::Contradiction("a run says nothing")),
            Pending::Leased(Lease { attempt: 0, is_begun: true, .. }) => {
                Err(DecodeError::Contradiction("an attempt that began is not counted"))
            }
            Pending::No | Pending::Leased(_) | Pending::Delayed(_) => Ok(run),
        }
    }
}

fn number(input: &mut Input<'_>, what: &'static str) -> Result<u32, DecodeError> {
    u32::try_from(input.varint(what)?).map_err(|_| DecodeError::Number(what))
}

fn handed_out(input: &mut Input<'_>) -> Result<Option<u64>, DecodeError> {
    Ok(input.varint("the time of a hand-out")?.checked_sub(1))
}

fn mark(handed_out_ms: Option<u64>) -> u64 {
    handed_out_ms.map_or(0, |at_ms| at_ms.saturating_add(1))
}

/// Writes runs in the order of their offsets; joins those that touch and say the same.
#[derive(Debug, Default)]
pub(super) struct RunWriter {
    out: Vec<u8>,
    count: u64,
    /// Not written yet: the next one may join it.
    open: Option<Run>,
    written_to: Offset,
}

impl RunWriter {
    fn push(&mut self, run: Run) {
        match &mut self.open {
            Some(open) if open.end == run.start && open.says_the_same(&run) => open.end = run.end,
            _ => {
                self.write_open();
                self.open = Some(run);
            }
        }
    }

    fn write_open(&mut self) {
        if let Some(open) = self.open.take() {
            open.write(self.written_to, &mut self.out);
            self.written_to = open.end;
            self.count += 1;
        }
    }

    /// The number of runs and their bytes.
    pub(super) fn finish(mut self) -> (u64, Vec<u8>) {
        self.write_open();
        (self.count, self.out)
    }
}

/// Reads runs as [`RunWriter`] wrote them.
#[derive(Debug)]
pub(super) struct RunReader {
    left: u64,
    before: Option<Run>,
}

impl RunReader {
    pub(super) fn new(count: u64) -> Self {
        Self { left: count, before: None }
    }

    pub(super) fn next(&mut self, input: &mut Input<'_>) -> Result<Option<Run>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        let run = Run::read(self.before.map_or(0, |before| before.end.0), input)?;
        if self.before.is_some_and(|before| before.end == run.start && before.says_the_same(&run)) {
            return Err(DecodeError::Contradiction("two runs that touch say the same"));
        }
        (self.left, self.before) = (self.left - 1, Some(run));
        Ok(Some(run))
    }
}

impl QueueState {
    /// All that is pending, and all that is settled above the floor.
    pub(super) fn write_runs(&self, out: &mut RunWriter) {
        let mut next = Offset(0);
        let settled = |out: &mut RunWriter, from: Offset, to: Offset| {
            for (start, end) in self.settled.within(from, to) {
                out.push(Run { start, end, is_settled: true, pending: Pending::No });
            }
        };
        for (offset, pending) in self.pending_within(Offset(0), Offset(u64::MAX)) {
            settled(out, next, offset);
            out.push(self.run_of(offset, pending));
            next = offset.next();
        }
        settled(out, next, Offset(u64::MAX));
    }

    /// Every offset that has changed since the last write.
    pub(super) fn write_changed_runs(&self, out: &mut RunWriter) {
        for (start, end) in self.changed.iter() {
            let mut next = start;
            let settled = |out: &mut RunWriter, start: Offset, end: Offset| {
                if start < end {
                    out.push(Run { start, end, is_settled: true, pending: Pending::No });
                }
            };
            for (offset, pending) in self.pending_within(start, end) {
                settled(out, next, offset);
                out.push(self.run_of(offset, pending));
                next = offset.next();
            }
            // What was touched and is not pending is settled: nothing becomes fresh again.
            settled(out, next, end);
        }
    }

    fn run_of(&self, offset: Offset, pending: Pending) -> Run {
        Run { start: offset, end: offset.next(), is_settled: self.is_in_settled_part(offset), pending }
    }

    /// Pending records of the half-open range, in order.
    fn pending_within(&self, start: Offset, end: Offset) -> impl Iterator<Item = (Offset, Pending)> + '_ {
        let mut leased = self.in_flight.range(start..end).map(|(&offset, &lease)| (offset, Pending::Leased(lease))).peekable();
        let mut delayed = self.delayed.range(start..end).map(|(&offset, &delayed)| (offset, Pending::Delayed(delayed))).peekable();
        core::iter::from_fn(move || match (leased.peek(), delayed.peek()) {
            (Some((lease, _)), Some((delay, _))) if lease < delay => leased.next(),
            (Some(_), None) => leased.next(),
            (None | Some(_), _) => delayed.next(),
        })
    }

    /// Takes over what a run says of its offsets, whatever was said before.
    pub(super) fn put_run(&mut self, run: &Run) -> Result<(), DecodeError> {
        let before: Vec<Offset> = self.pending_within(run.start, run.end).map(|(offset, _)| offset).collect();
        for offset in before {
            if self.take_in_flight(offset).is_none() {
                self.take_delayed(offset);
            }
            if self.is_in_settled_part(offset) {
                self.redriven -= 1;
            }
        }
        if run.is_settled {
            self.mark_settled_range(run.start, run.end);
        } else if run.start < self.ack_floor || self.settled.within(run.start, run.end).next().is_some() {
            return Err(DecodeError::Contradiction("a settled record is not settled any more"));
        }
        if run.pending == Pending::No {
            return Ok(());
        }
        let count = run.end.0 - run.start.0;
        if count > PENDING_READ_MAX - (self.pending() as u64).min(PENDING_READ_MAX) {
            return Err(DecodeError::Number("pending records"));
        }
        for offset in (run.start.0..run.end.0).map(Offset) {
            match run.pending {
                Pending::Leased(lease) => self.put_in_flight(offset, lease),
                Pending::Delayed(delayed) => self.put_delayed(offset, delayed),
                Pending::No => unreachable!("looked at before"),
            }
            self.redriven += u64::from(run.is_settled);
        }
        Ok(())
    }
}
