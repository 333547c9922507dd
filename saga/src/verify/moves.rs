//! What can happen next, and how it is written in a script.

use super::call::{Call, Place, Side};
use crate::definition::Definition;

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// A call reaches its participant, which does its work and answers.
    Serve(Call),
    /// The answer reaches the orchestrator.
    Hear(Call),
    /// The orchestrator looks at what is due now.
    Look,
    /// Time passes until something is due: an answer that does not come, a retry, the saga's timeout.
    Wait,
    /// The signal comes that a step waits for.
    Signal {
        place: Place,
        /// A fault of whoever sends it: no step waits for it yet.
        is_early: bool,
    },
    /// The lock is free that a step waits for.
    Grant(Place),
    /// A message that was believed lost arrives after all.
    Arrive {
        call: Call,
        epoch: u32,
        /// Whether it is an answer. If not, it is the call itself.
        is_reply: bool,
    },
    /// A fault: the participant refuses. An action, and a compensation, for good; what must succeed, this one time.
    Refuse(Call),
    /// A fault: the call does not reach its participant in time.
    LoseCall(Call),
    /// A fault: the participant has done it, and its answer does not come in time.
    LoseReply(Call),
    /// A fault: no attempt is ever answered.
    Silence {
        call: Call,
        /// Whether the work is done all the same.
        ran: bool,
    },
    /// A fault: the participant cannot be connected to for now.
    NotSent(Call),
    /// A fault: an answer that was heard arrives again.
    Repeat(Call),
    /// A fault: the call lies in its queue until its time there is over.
    Queued(Call),
    /// A fault: the step does not get its lock: another saga held it for too long, or waited in a circle with this one.
    Deny(Place),
    /// A fault: an operator takes the lock away that the step has, the first of those that share it.
    Break(Place),
    /// A fault: the orchestrator dies, and is started again.
    Crash,
    /// A fault: somebody cancels the saga.
    Cancel,
    /// A fault: calls have waited in their queues until the saga's time is over.
    TimeOut,
}

impl Move {
    /// Whether it is something that goes wrong; else it happens by itself.
    pub(super) const fn is_fault(self) -> bool {
        match self {
            Self::Serve(_) | Self::Hear(_) | Self::Look | Self::Wait | Self::Grant(_) | Self::Arrive { .. } => false,
            Self::Signal { is_early, .. } => is_early,
            Self::Refuse(_)
            | Self::LoseCall(_)
            | Self::LoseReply(_)
            | Self::Silence { .. }
            | Self::NotSent(_)
            | Self::Repeat(_)
            | Self::Queued(_)
            | Self::Deny(_)
            | Self::Break(_)
            | Self::Crash
            | Self::Cancel
            | Self::TimeOut => true,
        }
    }

    /// Its line in a script.
    pub(super) fn write(self, definition: &Definition) -> String {
        let with = |word: &str, call: Call| format!("{word} {}", call.name(definition));
        match self {
            Self::Serve(call) => with("serve", call),
            Self::Hear(call) => with("hear", call),
            Self::Look => "look".to_owned(),
            Self::Wait => "wait".to_owned(),
            Self::Signal { place, is_early } => with(if is_early { "early signal" } else { "signal" }, Call { place, side: Side::Action }),
            Self::Arrive { call, epoch, is_reply } => {
                format!("{}#{epoch}", with(if is_reply { "late reply" } else { "late call" }, call))
            }
            Self::Refuse(call) => with("refuse", call),
            Self::LoseCall(call) => with("lose call", call),
            Self::LoseReply(call) => with("lose reply", call),
            Self::Silence { call, ran: true } => with("silent and done", call),
            Self::Silence { call, ran: false } => with("silent", call),
            Self::NotSent(call) => with("not sent", call),
            Self::Repeat(call) => with("repeat", call),
            Self::Queued(call) => with("queued too long", call),
            Self::Grant(place) => with("lock", Call { place, side: Side::Action }),
            Self::Deny(place) => with("no lock", Call { place, side: Side::Action }),
            Self::Break(place) => with("lock broken", Call { place, side: Side::Action }),
            Self::Crash => "crash".to_owned(),
            Self::Cancel => "cancel".to_owned(),
            Self::TimeOut => "timeout".to_owned(),
        }
    }

    /// What such a line means; `None`: nothing.
    pub(super) fn read(line: &str, definition: &Definition) -> Option<Self> {
        match line {
            "look" => return Some(Self::Look),
            "wait" => return Some(Self::Wait),
            "crash" => return Some(Self::Crash),
            "cancel" => return Some(Self::Cancel),
            "timeout" => return Some(Self::TimeOut),
            _ => {}
        }
        let (word, name) = line.rsplit_once(' ')?;
        if let Some(is_reply) = match word {
            "late reply" => Some(true),
            "late call" => Some(false),
            _ => None,
        } {
            let (name, epoch) = name.rsplit_once('#')?;
            return Some(Self::Arrive { call: Call::named(name, definition)?, epoch: epoch.parse().ok()?, is_reply });
        }
        let call = Call::named(name, definition)?;
        Some(match word {
            "serve" => Self::Serve(call),
            "signal" => Self::Signal { place: call.place, is_early: false },
            "early signal" => Self::Signal { place: call.place, is_early: true },
            "hear" => Self::Hear(call),
            "refuse" => Self::Refuse(call),
            "lose call" => Self::LoseCall(call),
            "lose reply" => Self::LoseReply(call),
            "silent and done" => Self::Silence { call, ran: true },
            "silent" => Self::Silence { call, ran: false },
            "not sent" => Self::NotSent(call),
            "repeat" => Self::Repeat(call),
            "queued too long" => Self::Queued(call),
            "lock" => Self::Grant(call.place),
            "no lock" => Self::Deny(call.place),
            "lock broken" => Self::Break(call.place),
            _ => return None,
        })
    }
}
