//! What this process remembers of a branch.

use super::session::Session;
use crate::branch::{BRANCH_COMMITTED, BRANCH_EXPIRED, BRANCH_ROLLED_BACK, BRANCH_UNKNOWN, BranchError};
use crate::worker::CallError;
use sagamq_api::JsonText;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The failure code of a call that was answered before, with other arguments.
const IDEMPOTENCY_KEY_REUSED: &str = "IDEMPOTENCY_KEY_REUSED";

/// A branch that this process has heard of. Verbs of one branch take turns at its state.
#[derive(Default)]
pub(super) struct Slot {
    /// Cuts off the handler that runs, so that a rollback need not wait for it.
    pub(super) cut: CancellationToken,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
#[expect(clippy::large_enum_variant, reason = "there is one a branch, and most of them are open")]
pub(super) enum State {
    /// This process has not opened it: what became of it, the database knows.
    #[default]
    Absent,
    Open(Open),
    /// It has voted yes.
    Prepared(Answers),
    Ended(End),
}

/// A branch whose transaction is open.
pub(super) struct Open {
    pub(super) session: Session,
    pub(super) answers: Answers,
    /// When it was last heard of.
    pub(super) heard: Instant,
    /// For how long it may hear nothing.
    pub(super) patience: Duration,
}

/// What the actions of a branch returned, by idempotency key.
#[derive(Default)]
pub(super) struct Answers(BTreeMap<String, Answer>);

struct Answer {
    call: String,
    arguments: JsonText,
    output: JsonText,
}

/// How a branch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Committed,
    ReadOnly,
    /// Rolled back, and why.
    RolledBack(String),
    Expired,
    /// Some of its work is gone, or it never was here.
    Lost(String),
}

impl End {
    /// What is said to whoever wants it to take effect.
    pub(super) fn refusal(&self) -> (&'static str, String) {
        match self {
            Self::Committed => (BRANCH_COMMITTED, "it is committed".to_owned()),
            Self::ReadOnly => (BRANCH_ROLLED_BACK, "it has changed nothing, has voted so, and is over".to_owned()),
            Self::RolledBack(reason) => (BRANCH_ROLLED_BACK, reason.clone()),
            Self::Expired => (BRANCH_EXPIRED, "it heard nothing for too long and was rolled back".to_owned()),
            Self::Lost(reason) => (BRANCH_UNKNOWN, reason.clone()),
        }
    }

    pub(super) fn branch_error(&self) -> BranchError {
        let (code, message) = self.refusal();
        BranchError::refused(code, message)
    }

    pub(super) fn call_error(&self) -> CallError {
        let (code, message) = self.refusal();
        CallError::refused(code, message)
    }
}

impl Answers {
    /// How many actions are done.
    pub(super) fn done(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// What was answered to this key; a refusal if it was another call.
    pub(super) fn of(&self, key: &str, call: &str, arguments: &JsonText) -> Option<Result<JsonText, CallError>> {
        let answer = self.0.get(key)?;
        if answer.call == call && answer.arguments == *arguments {
            return Some(Ok(answer.output.clone()));
        }
        let message = format!("`{key}` was answered before, and was another operation or had other arguments then");
        Some(Err(CallError::refused(IDEMPOTENCY_KEY_REUSED, message)))
    }

    pub(super) fn remember(&mut self, key: String, call: String, arguments: JsonText, output: JsonText) {
        self.0.insert(key, Answer { call, arguments, output });
    }
}
