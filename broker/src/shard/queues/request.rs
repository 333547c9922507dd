//! What can be asked of a queue group in one partition.

use crate::audit::Note;
use crate::group::queue::{HandOut, KeyHash, LeaseTerms, Leased, Settled, Sought};
use crate::ids::GroupKey;
use crate::log::batch::Record;
use crate::shard::commit::WriteError;
use crate::shard::queues::queue::Queue;
use crate::shard::queues::reservation::Reservation;
use core::ops::Range;
use sagamq_api::Offset;
use sagamq_api::queue::{EmptyReason, RedriveLimit};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Something with queue groups of one shard.
pub(crate) enum QueueRequest {
    /// An operation with its address.
    Of { key: GroupKey, op: QueueOp },
    /// Were these records ever handed out? Answered at once: the answer may be ahead of the disk, never behind it.
    HandOuts { asked: Vec<(GroupKey, Offset)>, reply: oneshot::Sender<Vec<HandOut>> },
}

/// Something with one group in one partition.
pub(crate) enum QueueOp {
    /// Nobody else gets these records until they are leased or released. Answered at once: it tells of nothing.
    Reserve {
        max: u32,
        auto_ack: bool,
        /// Keys of records that an earlier reservation wanted to know.
        learnt: Vec<(Offset, KeyHash)>,
        reply: Reply<Reservation>,
    },
    /// Leases what was read of a reservation and lets the rest go.
    Lease {
        reservation: Reservation,
        outcome: Box<ReadOutcome>,
        terms: LeaseTerms,
        reply: Reply<Vec<Leased>>,
    },
    WhyEmpty {
        auto_ack: bool,
        reply: Reply<Option<EmptyReason>>,
    },
    Settle {
        verb: Verb,
        leases: Vec<(Offset, u64)>,
        reply: Reply<Vec<Settled>>,
    },
    Describe {
        reply: Reply<QueueNumbers>,
    },
    /// Settles every record that is there. How many were not settled.
    Purge {
        note: Note,
        reply: Reply<u64>,
    },
    /// Sets where the group stands, or where the log begins if that lies behind.
    Seek {
        to: Offset,
        note: Note,
        reply: Reply<Sought>,
    },
    DeadLetters {
        which: LetterRange,
        reply: Reply<Vec<Offset>>,
    },
    EndLetters {
        end: LettersEnd,
        note: Note,
        reply: Reply<LettersDone>,
    },
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, QueueError>>;

/// Why a group did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueueError {
    /// The group or its topic is deleted.
    #[error("the group is deleted")]
    GroupDeleted,
    /// The durable write failed or is not tried any more.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What became of the records of a reservation. What is not named is let go.
#[derive(Debug, Default)]
pub(crate) struct ReadOutcome {
    /// Read, and part of the answer.
    pub(crate) read: Vec<Offset>,
    /// There is no record any more.
    pub(crate) gone: Vec<Offset>,
    /// Nor is there one at any of these offsets, of which only the first were reserved.
    pub(crate) gap: Option<Range<Offset>>,
    /// Could not be read: tried again later.
    pub(crate) failed: Vec<Offset>,
}

/// How a receipt is settled.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    Ack,
    Nack {
        delay_ms: Option<u64>,
        reason: Option<Arc<str>>,
    },
    /// Give back what nobody has begun with: the delivery does not count.
    GiveBack,
    Extend {
        lease_ms: u64,
        begins: bool,
    },
    Terminate {
        reason: Arc<str>,
    },
}

/// A queue in numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueNumbers {
    pub(crate) ack_floor: Offset,
    pub(crate) next_fresh: Offset,
    pub(crate) lag: u64,
    pub(crate) oldest_unsettled: Option<Offset>,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
    pub(crate) waiting_for_key: u64,
    pub(crate) dead_letters: u64,
    pub(crate) trimmed: u64,
}

impl QueueNumbers {
    pub(super) fn of(queue: &Queue) -> Self {
        let (state, high_watermark) = (&queue.state, queue.of().high_watermark());
        Self {
            ack_floor: state.ack_floor(),
            next_fresh: state.next_fresh(),
            lag: state.lag(high_watermark),
            oldest_unsettled: state.oldest_unsettled(high_watermark),
            in_flight: state.in_flight(),
            delayed: state.delayed(),
            waiting_for_key: state.waiting_for_key(),
            dead_letters: queue.letters_left(),
            trimmed: queue.trimmed(),
        }
    }
}

/// Which dead letters are asked for.
#[derive(Clone, Debug)]
pub(crate) enum LetterRange {
    /// Up to `max` from this offset of the dead-letter partition on.
    From { from: Offset, max: usize },
    /// Those of these offsets; sorted.
    At(Vec<Offset>),
}

/// A dead letter and the record it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    /// Its offset in the dead-letter partition.
    pub(crate) offset: Offset,
    /// Offset of the record in the partition of the same number.
    pub(crate) origin: Offset,
    /// What is delivered in its place, if it was edited.
    pub(crate) edited: Option<Box<Record>>,
}

/// How dead letters are done with.
#[derive(Clone, Debug)]
pub(crate) enum LettersEnd {
    /// Their records are delivered to the group again.
    Redrive(Vec<Letter>, Pace),
    /// Nothing comes of them. Named by their offsets in the dead-letter partition: what cannot be read can be discarded as well.
    Discard(Vec<Offset>),
}

/// How fast records are delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Records before these.
    pub(crate) before: u64,
    /// Records in a second; none: all at once.
    pub(crate) per_second: Option<u32>,
}

impl Pace {
    /// When the next record is due, if `more` of these come before it.
    pub(super) fn due_ms(self, now_ms: u64, more: u64) -> u64 {
        let wait_ms = |per_second| (self.before + more).saturating_mul(1_000) / u64::from(per_second);
        now_ms.saturating_add(self.per_second.map_or(0, wait_ms))
    }
}

/// What became of dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LettersDone {
    /// Dead letters that are done with, and were not before.
    pub(crate) done: u64,
    /// Why not all that were asked for.
    pub(crate) limit: Option<RedriveLimit>,
}
