//! What an operator's verb would lead to if every participant answered with success: on copies. Nobody is called, and nothing is written.
//!
//! What participants would return is not known. Arguments that depend on such an output are left out, and so is what the saga returns.

use super::decision::{By, CallCommand, Command, Decision, Input, Rejection, Verb};
use super::event::Event;
use super::instance::Instance;
use crate::definition::{Call, Definition};
use crate::expression::Template;
use sagamq_api::JsonText;
use sagamq_api::saga::{AttemptId, CallOutcome, Operation, StepState};
use std::collections::{BTreeSet, HashSet, VecDeque};

/// What would follow.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Whether the verb would change nothing, because it is so already.
    pub duplicate: bool,
    /// Whether what follows is told of the rerun that the verb starts.
    pub is_rerun: bool,
    /// The instance just after the verb, or its rerun.
    pub after: Instance,
    /// The calls until it rests, in their order.
    pub calls: Vec<ForeseenCall>,
    /// The instance then.
    pub end: Instance,
    /// Whether the way was followed to its end.
    pub is_whole: bool,
}

/// A call that would be made, or is in flight.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeseenCall {
    /// The call.
    pub command: CallCommand,
    /// Whether it is made already: it runs on.
    pub in_flight: bool,
    /// Whether its arguments depend on what another call has yet to return: those in `command` are none then.
    pub has_open_arguments: bool,
}

/// The verb on a copy, and then the rest of its way, as long as it `may_go_on`.
///
/// # Errors
/// When the verb is not possible.
pub fn preview(
    definition: &Definition,
    instance: &Instance,
    verb: Verb,
    now_ms: u64,
    may_go_on: &dyn Fn() -> bool,
) -> Result<Preview, Rejection> {
    let input = Input::Operate { verb, by: By::default() };
    let Decision { mut commands, state: mut after, duplicate, next, .. } = instance.decide(definition, input, now_ms, &mut || 0.0)?;
    let is_rerun = next.is_some();
    if let Some(next) = next {
        // The instance itself is at its end.
        (commands, after) = (next.commands, next.state);
    }
    let new = calls_of(commands, &HashSet::new());
    let is_new: BTreeSet<AttemptId> = new.iter().map(|call| call.command.call.attempt.clone()).collect();
    let in_flight = after.open_calls(definition).into_iter().filter(|command| !is_new.contains(&command.call.attempt));
    let in_flight = in_flight.map(|command| ForeseenCall { command, in_flight: true, has_open_arguments: false });
    let queue = in_flight.chain(new).collect();
    let (definition, open) = without_open_arguments(definition, &after);
    let mut way = Way { definition: &definition, open: &open, state: after.clone(), now_ms, queue, calls: Vec::new() };
    let is_whole = way.go(may_go_on);
    Ok(Preview { duplicate, is_rerun, after, calls: way.calls, end: way.state, is_whole })
}

/// Operations of steps whose arguments are not known before a call returns.
type Open = HashSet<(usize, Operation)>;

fn calls_of(commands: Vec<Command>, open: &HashSet<AttemptId>) -> Vec<ForeseenCall> {
    let calls = commands.into_iter().filter_map(|command| match command {
        Command::Call(command) => Some(*command),
        Command::Settle { .. } | Command::Postpone { .. } => None,
    });
    calls.map(|command| ForeseenCall { has_open_arguments: open.contains(&command.call.attempt), command, in_flight: false }).collect()
}

/// The definition with nothing in place of what depends on outputs that are yet to come.
fn without_open_arguments(definition: &Definition, instance: &Instance) -> (Definition, Open) {
    let (mut definition, mut open) = (definition.clone(), Open::new());
    definition.output = None;
    let Instance::Saga(state) = instance else { return (definition, open) };
    let to_come = |id: &str| {
        let step = state.steps.iter().find(|step| step.id.as_str() == id);
        step.is_some_and(|step| matches!(step.state, StepState::Scheduled | StepState::InProgress))
    };
    let is_open = |call: &Call| {
        let of_steps =
            call.arguments.references().into_iter().filter(|reference| reference.root == "steps").map(|reference| reference.path.first());
        of_steps.into_iter().any(|step| step.is_none_or(|step| to_come(step)))
    };
    for (index, step) in definition.steps.iter_mut().enumerate() {
        let calls = [(Operation::Action, step.action.call_mut()), (Operation::Compensation, step.compensation.as_mut())];
        for (operation, call) in calls {
            if let Some(call) = call
                && is_open(call)
            {
                call.arguments = Template::literal(JsonText::null());
                open.insert((index, operation));
            }
        }
    }
    (definition, open)
}

/// A simulation under way.
struct Way<'a> {
    definition: &'a Definition,
    open: &'a Open,
    state: Instance,
    now_ms: u64,
    queue: VecDeque<ForeseenCall>,
    calls: Vec<ForeseenCall>,
}

impl Way<'_> {
    /// Gives whether it came to its end.
    fn go(&mut self, may_go_on: &dyn Fn() -> bool) -> bool {
        while may_go_on() {
            while may_go_on()
                && let Some(call) = self.queue.pop_front()
            {
                // It may have been taken back since.
                if self.state.open_attempts().contains(&call.command.call.attempt) {
                    let attempt = call.command.call.attempt.clone();
                    self.calls.push(call);
                    let outcome = CallOutcome::Succeeded { output: JsonText::null() };
                    self.tell(Input::Reply { attempt, outcome, note: None, branch_address: None });
                }
            }
            let due_ms = if self.state.is_due(self.now_ms) { Some(self.now_ms) } else { self.state.next_look_ms(self.now_ms) };
            let Some(due_ms) = due_ms.filter(|_| self.queue.is_empty()) else { return self.queue.is_empty() };
            self.now_ms = due_ms.max(self.now_ms);
            let before = self.state.head().events;
            self.tell(Input::Timer { hand_outs: Vec::new() });
            if self.state.head().events == before {
                return true;
            }
        }
        false
    }

    fn tell(&mut self, input: Input) {
        let decided: Result<Decision<Instance, Event>, Rejection> = self.state.decide(self.definition, input, self.now_ms, &mut || 0.0);
        let Ok(Decision { commands, state, .. }) = decided else { return };
        self.state = state;
        let steps = &self.definition.steps;
        let is_open = |attempt: &AttemptId| {
            let index = steps.iter().position(|step| step.id == attempt.step);
            index.is_some_and(|index| self.open.contains(&(index, attempt.operation)))
        };
        let open = commands.iter().filter_map(|command| match command {
            Command::Call(command) if is_open(&command.call.attempt) => Some(command.call.attempt.clone()),
            _ => None,
        });
        let open: HashSet<AttemptId> = open.collect();
        self.queue.extend(calls_of(commands, &open));
    }
}
