//! What follows from what happens: what the instance is told and orders, and what participants do.

use super::step::Message;
use super::world::{Book, World};
use super::{Saga, failure};
use crate::plant::Plant;
use sagamq_api::StepId;
use sagamq_api::saga::{AttemptId, CallOutcome, Operation, SagaVerb, StepOutcome, StepState};
use sagamq_saga::protocol::saga::{Phase, Place, decide};
use sagamq_saga::protocol::{By, Command, Decision, Input, Verb};
use serde_json::json;
use std::sync::Arc;

impl Saga {
    /// Gives whether it means anything.
    pub(super) fn tell(&self, world: &mut World, input: Input) -> bool {
        let decided = decide(&self.definition, &world.state, input, world.now_ms, &mut || 0.0);
        let Ok(Decision { commands, state, duplicate, .. }) = decided else { return false };
        let is_silent = state.is_paused() || state.phase == Phase::Terminated;
        world.state = Arc::new(state);
        world.has_called_in_silence |= is_silent && commands.iter().any(|command| matches!(command, Command::Call(_)));
        self.send(world, commands);
        !duplicate
    }

    fn send(&self, world: &mut World, commands: Vec<Command>) {
        for command in commands {
            if let Command::Call(command) = command {
                world.messages.insert(self.call(world, &command.call.attempt));
            }
        }
    }

    /// Gives whether it is possible.
    pub(super) fn rerun(&self, world: &mut World, from: &StepId) -> bool {
        let input = Input::Operate { verb: Verb::Saga(SagaVerb::Rerun { from: from.clone(), input: None }), by: By::default() };
        let decided = decide(&self.definition, &world.state, input, world.now_ms, &mut || 0.0);
        let Ok(Decision { commands, state, next: Some(next), .. }) = decided else { return false };
        world.has_moved_the_past |= !commands.is_empty();
        world.past.push(Arc::new(state));
        world.books.push(vec![Book::default(); world.slots.len()]);
        let Decision { commands, state, .. } = *next;
        world.state = Arc::new(state);
        self.send(world, commands);
        true
    }

    pub(super) fn operate(&self, world: &mut World, verb: SagaVerb) -> bool {
        self.tell(world, Input::Operate { verb: Verb::Saga(verb), by: By::default() })
    }

    /// The operator looks, and sees to it that it stays true.
    pub(super) fn resolve(&self, world: &mut World, step: usize) -> bool {
        let is_undoing = matches!(world.status(step).state, StepState::Compensating | StepState::CompensationFailed);
        let outcome = match *world.book(step) {
            _ if is_undoing => StepOutcome::Compensated,
            Book { is_done: true, is_undone: false, .. } => StepOutcome::Succeeded { output: json!({}).into() },
            _ => StepOutcome::Failed,
        };
        let place = world.slots[step];
        let id = self.definition.steps[place.step].id.clone();
        let is_done = self.operate(world, SagaVerb::Resolve { item: place.item, step: id, outcome: outcome.clone() });
        if is_done {
            let of = world.origin(step);
            let book = &mut world.books[of][step];
            book.is_barred |= !matches!(outcome, StepOutcome::Succeeded { .. });
            book.is_undone |= outcome == StepOutcome::Compensated && book.is_done;
        }
        is_done
    }

    pub(super) fn call(&self, world: &World, attempt: &AttemptId) -> Message {
        let of = world.index_of(attempt.instance);
        let is_it = |place: &Place| self.definition.steps[place.step].id == attempt.step && place.item == attempt.item;
        let step = world.slots.iter().position(is_it).expect("a step of the definition, or an item of it");
        Message::Call { of, step, operation: attempt.operation, epoch: attempt.epoch }
    }

    pub(super) fn serve(&self, world: &mut World, call: Message, refuses: bool) -> Message {
        let Message::Call { of, step, operation, epoch } = call else { unreachable!("only calls are served") };
        let name = if self.plant == Some(Plant::UndoneInItsOwnName) { world.past.len() } else { of };
        let book = &mut world.books[name][step];
        let is_action = operation == Operation::Action;
        if !is_action {
            book.is_barred = self.plant != Some(Plant::HangingAction);
            book.is_undone |= book.is_done;
        } else if !book.is_done && !book.is_barred {
            book.has_refused |= refuses;
            book.is_done = !book.has_refused;
        }
        let is_done = !is_action || (book.is_done && !book.is_barred);
        let reply = Message::Reply { of, step, operation, epoch, is_done };
        world.messages.insert(reply);
        reply
    }

    pub(super) fn hear(&self, world: &mut World, reply: Message) {
        let Message::Reply { of, step, operation, epoch, is_done } = reply else { unreachable!("only replies are heard") };
        let place = world.slots[step];
        let (instance, id) = (world.name(of), self.definition.steps[place.step].id.clone());
        let attempt = AttemptId { instance, step: id, item: place.item, operation, epoch };
        let outcome =
            if is_done { CallOutcome::Succeeded { output: json!({}).into() } } else { CallOutcome::Refused { failure: failure("NO") } };
        let is_of_the_past = of < world.past.len() && !(operation == Operation::Compensation && world.origin(step) == of);
        let input = Input::Reply { attempt, outcome, note: None, branch_address: None };
        if is_of_the_past {
            let decided = decide(&self.definition, &world.past[of], input, world.now_ms, &mut || 0.0);
            world.has_moved_the_past |= decided.is_ok_and(|decision| !decision.events.is_empty() || !decision.commands.is_empty());
        } else {
            self.tell(world, input);
        }
    }
}
