//! What can happen in the world of two-phase commit, and how it reads in a trace.

use super::participant::Said;
use sagamq_api::saga::{AttemptId, Operation};

/// A message. Steps of the definition are named by their indices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Message {
    Call { step: usize, operation: Operation, epoch: u32, before: u32 },
    Reply { step: usize, operation: Operation, epoch: u32, said: Said },
}

/// What can happen.
#[derive(Clone)]
pub(crate) enum Step {
    /// A call reaches its participant.
    Serve(Message),
    /// A call reaches its participant, whose business refuses.
    Refuse(Message),
    /// A reply reaches the coordinator.
    Hear(Message),
    /// An attempt is given up without an answer.
    Unheard(AttemptId),
    /// Pauses are over.
    Retry,
    /// The transaction's time is over.
    TimeOut,
    /// The coordinator crashes, with what it has not on disk, and is started again.
    Restart,
    /// What was only written reaches the disk.
    Sync,
    /// The coordinator forgets a transaction that is at its end.
    Forget,
    /// A participant crashes and is started again.
    Crash(usize),
    /// A participant that has prepared asks.
    Ask(usize),
    /// A participant lets go what it has open and not prepared.
    Expire(usize),
    /// A call and its answer without any delay.
    Exchange(AttemptId),
}

impl Message {
    pub(crate) fn canonical(&self, form: &mut Vec<u8>) {
        let small = |number: u32| u8::try_from(number).expect("few attempts");
        match *self {
            Self::Call { step, operation, epoch, before } => {
                form.extend([1, u8::try_from(step).expect("few steps"), operation as u8, small(epoch), small(before)]);
            }
            Self::Reply { step, operation, epoch, said } => {
                form.extend([2, u8::try_from(step).expect("few steps"), operation as u8, small(epoch)]);
                form.extend(match said {
                    Said::Done => b"d",
                    Said::Yes => b"y",
                    Said::ReadOnly => b"r",
                    Said::Refused(code) => code.as_bytes(),
                });
            }
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call { step, operation, epoch, .. } => write!(f, "{operation} s{step}#{epoch}"),
            Self::Reply { step, operation, epoch, said } => write!(f, "{said:?} to {operation} s{step}#{epoch}"),
        }
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let attempt = |id: &AttemptId| id.clone().within().to_string();
        match self {
            Self::Serve(call) => write!(f, "participant serves {call:?}"),
            Self::Refuse(call) => write!(f, "participant refuses {call:?}"),
            Self::Hear(reply) => write!(f, "coordinator hears {reply:?}"),
            Self::Unheard(id) => write!(f, "coordinator hears nothing of {}", attempt(id)),
            Self::Retry => f.write_str("coordinator's pauses are over"),
            Self::TimeOut => f.write_str("the transaction's time is over"),
            Self::Restart => f.write_str("coordinator crashes and is started again"),
            Self::Sync => f.write_str("what the coordinator wrote reaches its disk"),
            Self::Forget => f.write_str("coordinator forgets the transaction"),
            Self::Crash(at) => write!(f, "participant {at} crashes and is started again"),
            Self::Ask(at) => write!(f, "participant {at} asks and is answered"),
            Self::Expire(at) => write!(f, "participant {at} lets its branch go"),
            Self::Exchange(id) => write!(f, "{} and its answer", attempt(id)),
        }
    }
}
