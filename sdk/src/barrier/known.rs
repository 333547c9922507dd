//! What the barrier knows of a step's action when it lets the business code run.

use sagamq_api::JsonText;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is known of the action of a step when a barrier runs business code that may have effects outside of its database.
///
/// Business code that is an *action* learns whether an earlier attempt may have had an effect outside of the database. Business code
/// that is a *compensation* learns whether there is an effect, and which, or that nobody knows.
#[derive(Debug)]
pub struct Known {
    state: State,
    /// Atomic, so that async business may hold a reference across its awaits on any thread.
    is_cleared: AtomicBool,
}

#[derive(Debug)]
enum State {
    /// The business code is the action, and it was never begun.
    First,
    /// The action was begun and nobody knows what came of it.
    InDoubt,
    /// The business code is the compensation of an action that succeeded.
    Succeeded(JsonText),
}

impl Known {
    fn of(state: State) -> Self {
        Self { state, is_cleared: AtomicBool::new(false) }
    }

    pub(super) fn first() -> Self {
        Self::of(State::First)
    }

    pub(super) fn in_doubt() -> Self {
        Self::of(State::InDoubt)
    }

    pub(super) fn succeeded(output: JsonText) -> Self {
        Self::of(State::Succeeded(output))
    }

    /// Whether the action was begun and nobody knows what came of it: its writes in this database were rolled back, its effects
    /// outside may be there.
    ///
    /// An action that runs again repeats its outside effect under the same key; a compensation undoes outside what may have been done
    /// under the action's key ([`Call::action_key`](sagamq_api::saga::Call::action_key)), and finds nothing of it in this database.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.state, State::InDoubt)
    }

    /// In a compensation whose action succeeded: what the action returned. `None` when the action is in doubt, and in an action.
    #[must_use]
    pub fn action_output(&self) -> Option<&JsonText> {
        match &self.state {
            State::Succeeded(output) => Some(output),
            State::First | State::InDoubt => None,
        }
    }

    /// In an action in doubt: the outside was asked, nothing of the earlier attempts took effect there, and nothing of them ever will.
    /// Only then can the action be refused; a refusal without this is given on as an unknown outcome, because the saga does not
    /// compensate what was refused.
    pub fn clear_doubt(&self) {
        self.is_cleared.store(true, Ordering::Relaxed);
    }

    /// Whether a refusal of the action now means that nothing took effect.
    pub(super) fn may_refuse(&self) -> bool {
        !self.is_in_doubt() || self.is_cleared.load(Ordering::Relaxed)
    }
}
