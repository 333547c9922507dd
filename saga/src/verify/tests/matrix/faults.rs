//! What goes wrong, and when.

use super::super::super::call::{Call, Place, Side};
use super::super::super::moves::Move;
use super::super::super::world::{Way, World};
use crate::definition::Definition;
use sagamq_api::saga::StepState;

/// A moment in the life of a call, or of a step that calls nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// It is decided and committed, and waits for its participant.
    Queued,
    /// The participant has served it, and the answer is on its way.
    Answered,
    /// No answer to it will come in time.
    Lost,
    /// Its outcome is committed.
    Settled,
    /// The step is not called, and does not wait, yet.
    Early,
    /// The step sleeps, or waits for its signal.
    Asleep,
    /// The step waits for its signal.
    Unsignalled,
    /// The step waits for its lock.
    Unlocked,
}

/// What is done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Refuse,
    LoseReply,
    LoseCall,
    Repeat,
    NotSent,
    QueueOver,
    Crash,
    TimeOut,
    Cancel,
    Signal,
    /// Time passes until something is due: the signal has not come.
    Wait,
    /// The step does not get its lock.
    Deny,
    /// An operator ends the sub-saga, when it has done its work or before.
    EndAsItIs {
        done: bool,
    },
}

/// Something that goes wrong with the step in the middle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// What it is, for whoever reads the page.
    pub(super) says: &'static str,
    /// What happens when, one after the other.
    pub(super) acts: &'static [(At, Act)],
    /// Whether what was believed lost comes after all, at any later moment.
    pub(super) comes_late: bool,
}

const fn fault(name: &'static str, says: &'static str, acts: &'static [(At, Act)]) -> Fault {
    Fault { name, says, acts, comes_late: false }
}

const fn late(name: &'static str, says: &'static str, acts: &'static [(At, Act)]) -> Fault {
    Fault { name, says, acts, comes_late: true }
}

/// What goes wrong with the action.
pub(super) const OF_ACTIONS: [Fault; 21] = [
    fault("Nothing goes wrong", "Every call is answered with success.", &[]),
    fault(
        "It is refused",
        "The participant says that the call took no effect and never will (409). What must succeed is refused once here and answered with success then.",
        &[(At::Queued, Act::Refuse)],
    ),
    fault(
        "A reply is lost, and it ran",
        "The participant did it; its answer does not come within the attempt's `timeout`: a cut connection, a killed worker, a 500 after the commit.",
        &[(At::Answered, Act::LoseReply)],
    ),
    fault(
        "A reply is lost, and it did not run",
        "The same to look at, but nothing was done: the participant died before it began.",
        &[(At::Queued, Act::LoseCall)],
    ),
    fault(
        "Every reply is lost, and it ran",
        "As many attempts as `attempts` allows (two here) have no known outcome. What must be known or must succeed is called on, and answered at last.",
        &[(At::Answered, Act::LoseReply), (At::Answered, Act::LoseReply)],
    ),
    fault(
        "Every reply is lost, and it did not run",
        "The same, and nothing was ever done.",
        &[(At::Queued, Act::LoseCall), (At::Queued, Act::LoseCall)],
    ),
    late(
        "A reply comes late",
        "It comes after its attempt was given up: before the next attempt, during it, behind it, or at the saga's end.",
        &[(At::Answered, Act::LoseReply)],
    ),
    late(
        "Every reply comes late",
        "No attempt is answered in time, and the answers come after all: the first one's while the last one is still open, or while the saga is undone, or after its end.",
        &[(At::Answered, Act::LoseReply), (At::Answered, Act::LoseReply)],
    ),
    late(
        "A call runs late",
        "The call hung on its way, and reaches the participant when its attempt was long given up.",
        &[(At::Queued, Act::LoseCall)],
    ),
    late(
        "Every call runs late",
        "All attempts hang, and reach the participant while the last one is still open, while the saga is undone, or after its end. The barrier refuses what comes after its compensation.",
        &[(At::Queued, Act::LoseCall), (At::Queued, Act::LoseCall)],
    ),
    fault("Its reply comes twice", "The answer that was heard is heard once more.", &[(At::Settled, Act::Repeat)]),
    fault(
        "It cannot be sent for a while",
        "No connection comes about, no worker takes the call, the breaker is open: no attempt is used up.",
        &[(At::Queued, Act::NotSent)],
    ),
    fault(
        "It is never sent: `queue_timeout`",
        "It was handed to nobody until its `queue_timeout` was over. Behind the pivot only optional steps have one.",
        &[(At::Queued, Act::QueueOver)],
    ),
    fault("A crash before the call goes out", "The server dies when the call is committed and not sent.", &[(At::Queued, Act::Crash)]),
    fault(
        "A crash before the reply is committed",
        "The server dies when the participant has answered. Over HTTP the answer is gone, and the call is made again under the same key and epoch; a worker of a topic sends its reply again.",
        &[(At::Answered, Act::Crash)],
    ),
    fault("A crash after the reply is committed", "The server dies just then.", &[(At::Settled, Act::Crash)]),
    fault(
        "The saga's `timeout` while it waits to be sent",
        "Nobody has the call when the saga's time is over.",
        &[(At::Queued, Act::TimeOut)],
    ),
    fault(
        "The saga's `timeout` while it is called",
        "The participant has the call, and its answer is heard behind that.",
        &[(At::Answered, Act::TimeOut)],
    ),
    fault("A cancel while it waits to be sent", "Nobody has the call when somebody cancels the saga.", &[(At::Queued, Act::Cancel)]),
    fault(
        "A cancel while it is called",
        "The participant has the call, and its answer is heard behind that.",
        &[(At::Answered, Act::Cancel)],
    ),
    fault(
        "A cancel while it is called, and the reply is lost",
        "The participant did it, the saga is cancelled, and no answer comes in time.",
        &[(At::Answered, Act::LoseReply), (At::Lost, Act::Cancel)],
    ),
];

/// What goes wrong with the compensation.
pub(super) const OF_COMPENSATIONS: [Fault; 14] = [
    fault("Nothing goes wrong", "The step is undone.", &[]),
    fault(
        "It is refused",
        "The participant refuses to undo, each time. A refusal of a compensation is not final: it is tried until its attempts run out.",
        &[(At::Queued, Act::Refuse)],
    ),
    fault("A reply is lost, and it ran", "It is undone, and the answer does not come in time.", &[(At::Answered, Act::LoseReply)]),
    fault("A reply is lost, and it did not run", "It is not undone, and no answer comes in time.", &[(At::Queued, Act::LoseCall)]),
    fault(
        "Every reply is lost, and it ran",
        "It is undone, and its attempts run out without an answer.",
        &[(At::Answered, Act::LoseReply), (At::Answered, Act::LoseReply)],
    ),
    fault(
        "Every reply is lost, and it did not run",
        "It is not undone, and its attempts run out without an answer.",
        &[(At::Queued, Act::LoseCall), (At::Queued, Act::LoseCall)],
    ),
    late(
        "Every reply comes late",
        "Its attempts ran out, and then a success comes: the saga goes on from there.",
        &[(At::Answered, Act::LoseReply), (At::Answered, Act::LoseReply)],
    ),
    late(
        "Every call runs late",
        "Its attempts hung, ran out, and then reach the participant.",
        &[(At::Queued, Act::LoseCall), (At::Queued, Act::LoseCall)],
    ),
    fault("Its reply comes twice", "The answer that was heard is heard once more.", &[(At::Settled, Act::Repeat)]),
    fault("It cannot be sent for a while", "No attempt is used up.", &[(At::Queued, Act::NotSent)]),
    fault("A crash before the call goes out", "The server dies when the call is committed and not sent.", &[(At::Queued, Act::Crash)]),
    fault("A crash before the reply is committed", "The server dies when the participant has answered.", &[(At::Answered, Act::Crash)]),
    fault("A crash after the reply is committed", "The server dies just then.", &[(At::Settled, Act::Crash)]),
    fault("A cancel meanwhile", "Somebody cancels what is being undone.", &[(At::Queued, Act::Cancel)]),
];

/// What goes wrong with a step that calls nobody.
pub(super) const OF_WAITS: [Fault; 9] = [
    fault("Nothing goes wrong", "It wakes when its time is over; its signal comes.", &[]),
    fault("The signal comes before its step", "It is kept, and taken when the step begins.", &[(At::Early, Act::Signal)]),
    fault("The signal does not come in time", "The `timeout` of `wait_for` is over.", &[(At::Unsignalled, Act::Wait)]),
    fault(
        "The signal comes too late",
        "It comes when that time is over: it is refused (`SIGNAL_NOT_AWAITED`).",
        &[(At::Unsignalled, Act::Wait), (At::Settled, Act::Signal)],
    ),
    fault("The signal comes twice", "A second one without an id of its own has no step any more.", &[(At::Settled, Act::Signal)]),
    fault("A crash while it waits", "The server dies and is started again.", &[(At::Asleep, Act::Crash)]),
    fault("The saga's `timeout` while it waits", "The saga's time is over before.", &[(At::Asleep, Act::TimeOut)]),
    fault("A cancel while it waits", "Somebody cancels the saga.", &[(At::Asleep, Act::Cancel)]),
    fault("A crash behind it", "The server dies when it is over and the next step is called.", &[(At::Settled, Act::Crash)]),
];

/// What goes wrong with the first item of a step that fans out, of [`OF_ACTIONS`] by name.
pub(super) const OF_ITEMS: [&str; 9] = [
    "Nothing goes wrong",
    "It is refused",
    "A reply is lost, and it ran",
    "Every reply is lost, and it ran",
    "Every reply is lost, and it did not run",
    "A crash before the reply is committed",
    "The saga's `timeout` while it is called",
    "A cancel while it is called",
    "A cancel while it is called, and the reply is lost",
];

/// What goes wrong with its compensation, of [`OF_COMPENSATIONS`] by name.
pub(super) const OF_ITEMS_UNDONE: [&str; 4] =
    ["Nothing goes wrong", "It is refused", "A reply is lost, and it did not run", "Every reply is lost, and it ran"];

/// What goes wrong with a sub-saga.
pub(super) const OF_SUB_SAGAS: [Fault; 9] = [
    fault("Nothing goes wrong", "It is `COMPLETED`.", &[]),
    fault(
        "It ends undone",
        "It is `COMPENSATED` or `FAILED`, or cannot be started: that is a refusal. What must succeed starts another one, which is `COMPLETED` here.",
        &[(At::Queued, Act::Refuse)],
    ),
    fault(
        "An operator ends it, and its work is done",
        "It is `TERMINATED`: what it did stands, and nobody undoes it. What must succeed waits for an operator then, and has no row.",
        &[(At::Queued, Act::EndAsItIs { done: true })],
    ),
    fault(
        "An operator ends it, and nothing is done",
        "The same, before it had any effect.",
        &[(At::Queued, Act::EndAsItIs { done: false })],
    ),
    fault("A crash while it runs", "The server dies, and both go on.", &[(At::Queued, Act::Crash)]),
    fault("The saga's `timeout` while it runs", "It is cancelled, and the saga waits for its end.", &[(At::Queued, Act::TimeOut)]),
    fault("The saga's `timeout` when it has ended", "Its end is on its way to the saga.", &[(At::Answered, Act::TimeOut)]),
    fault("A cancel while it runs", "It is cancelled as well, and the saga waits for its end.", &[(At::Queued, Act::Cancel)]),
    fault("A cancel when it has ended", "Its end is on its way to the saga.", &[(At::Answered, Act::Cancel)]),
];

/// What goes wrong while a sub-saga is undone.
pub(super) const OF_SUB_SAGAS_UNDONE: [Fault; 3] = [
    fault("Nothing goes wrong", "It is undone as a whole.", &[]),
    fault("An operator ends it meanwhile", "It is `TERMINATED`, and what is left of it stands.", &[(At::Queued, Act::Refuse)]),
    fault("A crash meanwhile", "The server dies, and both go on.", &[(At::Queued, Act::Crash)]),
];

/// What goes wrong while a step waits for its lock.
pub(super) const OF_LOCKS: [Fault; 4] = [
    fault(
        "It does not get its lock",
        "Another saga had it for longer than the step waits, both wait in a circle and this one gives way, or too many wait.",
        &[(At::Unlocked, Act::Deny)],
    ),
    fault(
        "A crash while it waits for its lock",
        "The server dies, and the saga has its place in the queue still.",
        &[(At::Unlocked, Act::Crash)],
    ),
    fault("The saga's `timeout` while it waits for its lock", "The saga's time is over before.", &[(At::Unlocked, Act::TimeOut)]),
    fault("A cancel while it waits for its lock", "Somebody cancels the saga.", &[(At::Unlocked, Act::Cancel)]),
];

impl At {
    /// Whether it is that moment.
    pub(super) fn is_now(self, world: &World, call: Call) -> bool {
        if self == Self::Unlocked {
            // A step that fans out waits before it has items.
            return world.state.steps[call.place.index()].awaits_lock();
        }
        let Some(step) = call.place.status(&world.state) else { return false };
        let operation = call.side.operation();
        let way = world.flight(call).map(|flight| flight.way);
        match self {
            Self::Queued => way == Some(Way::Queued),
            Self::Answered => matches!(way, Some(Way::Answered { .. })),
            Self::Lost => way == Some(Way::Lost),
            Self::Settled if step.is_call => {
                way.is_none() && step.progress(operation).epoch > 0 && step.live_operation() != Some(operation)
            }
            Self::Settled => step.state != StepState::Scheduled && !step.action.attempt.is_asleep(),
            Self::Early => step.state == StepState::Scheduled,
            Self::Asleep => step.action.attempt.is_asleep(),
            Self::Unsignalled => step.action.attempt.is_asleep() && step.signal.is_some(),
            Self::Unlocked => unreachable!("it is asked of the step, above"),
        }
    }
}

impl Act {
    /// The move of it, for that call.
    pub(super) const fn as_move(self, call: Call) -> Move {
        match self {
            Self::Refuse => Move::Refuse(call),
            Self::LoseReply => Move::LoseReply(call),
            Self::LoseCall => Move::LoseCall(call),
            Self::Repeat => Move::Repeat(call),
            Self::NotSent => Move::NotSent(call),
            Self::QueueOver => Move::Queued(call),
            Self::Crash => Move::Crash,
            Self::TimeOut => Move::TimeOut,
            Self::Cancel => Move::Cancel,
            Self::Signal => Move::Signal { place: call.place, is_early: true },
            Self::Wait => Move::Wait,
            Self::Deny => Move::Deny(Place { item: 0, ..call.place }),
            Self::EndAsItIs { done } => Move::Silence { call, ran: done },
        }
    }
}

/// The call of the step with that id; of one that fans out, that of its first item.
pub(super) fn call_of(definition: &Definition, id: &str, side: Side) -> Call {
    let step = definition.steps.iter().position(|step| step.id.as_str() == id).expect("the frame has it");
    let item = u16::from(definition.steps[step].for_each.is_some());
    Call { place: Place { item, ..Place::of(step) }, side }
}
