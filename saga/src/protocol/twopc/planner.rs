//! The working state of one decision: events are applied as they are decided, so that each rule sees what the rules before it did.

use super::call::{action_command, branch_command, policy, render_arguments};
use super::event::TransactionEvent;
use super::state::TransactionState;
use crate::definition::Definition;
use crate::protocol::decision::{Command, Decision, Recorded};
use crate::protocol::pause::{millis, pause_ms};
use core::time::Duration;
use sagamq_api::limits::SAGA_EVENTS_MAX;
use sagamq_api::saga::{Failure, Operation, StepAttempt};

pub(super) struct Planner<'a> {
    pub(super) definition: &'a Definition,
    pub(super) state: TransactionState,
    pub(super) now_ms: u64,
    /// Whether nobody may hear of this decision before it is on disk.
    pub(super) forced: bool,
    jitter: &'a mut dyn FnMut() -> f64,
    events: Vec<Recorded<TransactionEvent>>,
    commands: Vec<Command>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(definition: &'a Definition, state: &TransactionState, now_ms: u64, jitter: &'a mut dyn FnMut() -> f64) -> Self {
        Self { definition, state: state.clone(), now_ms, forced: false, jitter, events: Vec::new(), commands: Vec::new() }
    }

    pub(super) fn finish(self, duplicate: bool) -> Decision<TransactionState, TransactionEvent> {
        Decision { events: self.events, commands: self.commands, state: self.state, duplicate, forced: self.forced, next: None }
    }

    /// Decides an event: it is applied at once.
    pub(super) fn emit(&mut self, event: TransactionEvent) {
        self.state.apply(&event, self.now_ms).expect("the protocol decides legal events only, and none leads to an impossible state");
        self.events.push(Recorded { at_ms: self.now_ms, event });
    }

    /// The time that is this much later than now, in milliseconds since 1970.
    pub(super) fn after(&self, pause: Duration) -> u64 {
        self.now_ms.saturating_add(millis(pause))
    }

    /// The attempt of an action; epoch 0 if it was not called.
    pub(super) fn action(&self, index: usize) -> StepAttempt {
        let action = &self.state.actions[index];
        StepAttempt { step: action.id.clone(), item: None, operation: Operation::Action, epoch: action.epoch }
    }

    /// The current or last attempt of an operation of a branch; epoch 0 if there was none.
    pub(super) fn attempt(&self, index: usize, operation: Operation) -> StepAttempt {
        let branch = &self.state.branches[index];
        let step = self.state.actions[branch.first_step()].id.clone();
        StepAttempt { step, item: None, operation, epoch: branch.progress(operation).epoch }
    }

    /// How long the branch has held its locks.
    pub(super) fn held_ms(&self, index: usize) -> u64 {
        self.state.branches[index].held_ms(self.now_ms)
    }

    /// Calls an action: writes the intent and orders the call. On an error nothing is decided.
    pub(super) fn call_action(&mut self, index: usize) -> Result<(), Failure> {
        let arguments = render_arguments(self.definition, &self.state, index)?;
        let deadline_ms = self.after(self.definition.steps[index].call(Operation::Action).timeout);
        let attempt = StepAttempt { epoch: 1, ..self.action(index) };
        self.emit(TransactionEvent::ActionCalled { attempt, deadline_ms, arguments });
        let command = action_command(self.definition, &self.state, index).expect("the action was just called");
        self.commands.push(Command::Call(Box::new(command)));
        Ok(())
    }

    /// Starts the next attempt at a branch: writes the intent and orders the call.
    pub(super) fn call_branch(&mut self, index: usize, operation: Operation) {
        let step = self.state.branches[index].first_step();
        let last = self.attempt(index, operation);
        let attempt = StepAttempt { epoch: last.epoch + 1, ..last };
        let deadline_ms = self.after(self.definition.steps[step].call(Operation::Action).timeout);
        let detour = self.state.branches[index].takes_detour(operation);
        self.emit(TransactionEvent::BranchCalled { attempt, deadline_ms, detour });
        let command = branch_command(self.definition, &self.state, index).expect("the branch was just called");
        self.commands.push(Command::Call(Box::new(command)));
    }

    /// The action in progress is over: its call is given up.
    pub(super) fn settle_action(&mut self, index: usize) {
        let action = &self.state.actions[index];
        if action.open.is_some() {
            let target = self.state.branches[action.branch].way();
            self.commands.push(Command::Settle { attempt: self.action(index).of(self.state.head.id), target, unseen: false });
        }
    }

    /// The attempt at the branch in progress is over: its call is given up.
    pub(super) fn settle_branch(&mut self, index: usize) {
        let branch = &self.state.branches[index];
        if let Some((operation, progress)) = branch.live()
            && progress.attempt.open().is_some()
        {
            let target = branch.way();
            self.commands.push(Command::Settle { attempt: self.attempt(index, operation).of(self.state.head.id), target, unseen: false });
        }
    }

    /// The attempt at the branch ended without a word that counts, and another one follows.
    pub(super) fn retry_branch(&mut self, index: usize, operation: Operation, failure: Failure, refused: bool, asked_ms: Option<u64>) {
        let attempt = self.attempt(index, operation);
        let policy = policy(self.definition, self.state.branches[index].first_step(), operation);
        let pause_ms = pause_ms(&policy, attempt.epoch, self.state.head.events, asked_ms, self.jitter);
        let retry_at_ms = self.now_ms.saturating_add(pause_ms);
        self.settle_branch(index);
        self.emit(TransactionEvent::BranchAttemptFailed { attempt, failure, refused, retry_at_ms });
    }

    /// Events after which a transaction that can be rolled back must be: telling its branches still needs room.
    pub(super) fn has_too_many_events(&self) -> bool {
        // Where there are many branches, what is kept free for them leaves room to decide all the same.
        let room = (32 * self.state.branches.len() as u64 + 16).min(SAGA_EVENTS_MAX / 2);
        self.state.head.events >= SAGA_EVENTS_MAX - room
    }
}
