//! What the owner knows of a branch that has not ended.

use super::BranchTransaction;
use super::jobs::Prepared;
use super::request::Verb;
use sagamq_api::JsonText;
use sagamq_api::saga::Call;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The transaction of a branch while the owner has it.
pub(super) enum Held<'db> {
    Open(BranchTransaction<'db>),
    Prepared(Prepared<'db>),
}

/// A branch.
pub(super) struct Branch<'db> {
    /// None while it is lent to a worker, or is being looked for on disk.
    pub(super) held: Option<Held<'db>>,
    /// When it was prepared, also while it is lent.
    pub(super) prepared_at_ms: Option<u64>,
    /// What comes after the verb that is running.
    pub(super) waiting: VecDeque<Verb>,
    /// The actions that were done, in their order.
    done: Vec<Done>,
    /// When it last came back.
    quiet_since: Instant,
    /// How long it may hear nothing.
    idle: Duration,
}

/// An action that was done in a branch.
struct Done {
    key: String,
    call: String,
    arguments: JsonText,
    output: JsonText,
}

/// What is remembered of a call.
pub(super) enum Remembered {
    /// Nothing: it is new.
    Nothing,
    /// Its output.
    Output(JsonText),
    /// The key stands for another call.
    Other,
}

impl<'db> Branch<'db> {
    pub(super) fn new(held: Option<Held<'db>>, now: Instant, idle: Duration) -> Self {
        let prepared_at_ms = match &held {
            Some(Held::Prepared(prepared)) => Some(prepared.at_ms),
            Some(Held::Open(_)) | None => None,
        };
        Self { held, prepared_at_ms, waiting: VecDeque::new(), done: Vec::new(), quiet_since: now, idle }
    }

    /// How many actions were done.
    pub(super) fn actions_done(&self) -> u32 {
        u32::try_from(self.done.len()).expect("a definition has fewer steps")
    }

    pub(super) fn recall(&self, call: &Call) -> Remembered {
        match self.done.iter().find(|done| done.key == call.idempotency_key) {
            None => Remembered::Nothing,
            Some(done) if done.call == call.call && done.arguments == call.arguments => Remembered::Output(done.output.clone()),
            Some(_) => Remembered::Other,
        }
    }

    pub(super) fn remember(&mut self, call: Call, output: JsonText) {
        let Call { idempotency_key: key, call, arguments, .. } = call;
        self.done.push(Done { key, call, arguments, output });
    }

    /// Takes the transaction back.
    pub(super) fn give_back(&mut self, held: Held<'db>, now: Instant) {
        self.prepared_at_ms = match &held {
            Held::Open(_) => None,
            Held::Prepared(prepared) => Some(prepared.at_ms),
        };
        (self.held, self.quiet_since) = (Some(held), now);
    }

    /// A call begins: after it the branch may be quiet for this long, and never for less than the call itself may take.
    pub(super) fn called(&mut self, call: &Call, idle: Duration) {
        self.idle = idle.max(Duration::from_millis(call.timeout_ms));
    }

    /// Whether it is open, is not working, and has heard nothing for too long.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        matches!(self.held, Some(Held::Open(_))) && now.duration_since(self.quiet_since) >= self.idle
    }
}
