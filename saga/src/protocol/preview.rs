//! What an operator's verb would lead to if every participant answered with success: on copies. Nobody is called, and nothing is written.
//!
//! What participants would return is not known. Arguments that depend on such an output are left out, and so is what the saga returns.

use super::decision::{By, CallCommand, Command, Decision, Input, Rejection, Verb};
use super::event::Event;
use super::instance::Instance;
use super::lock::LockSaid;
use crate::definition::{Action, Definition, Sleep};
use crate::expression::Template;
use core::time::Duration;
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
    /// Whether it is made only if the condition of its step holds, which depends on what another call has yet to return.
    pub is_conditional: bool,
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
    let asked: Vec<(String, u64)> = commands.iter().filter_map(asked_lock).chain(waited_for(&after)).collect();
    let new = calls_of(commands, &Seen::default());
    let is_new: BTreeSet<AttemptId> = new.iter().map(|call| call.command.call.attempt.clone()).collect();
    let in_flight = after.open_calls(definition).into_iter().filter(|command| !is_new.contains(&command.call.attempt));
    let in_flight = in_flight.map(|command| ForeseenCall { command, in_flight: true, has_open_arguments: false, is_conditional: false });
    let queue = in_flight.chain(new).collect();
    let (definition, open) = without_what_is_open(definition, &after);
    let mut way = Way { definition: &definition, open: &open, state: after.clone(), now_ms, queue, calls: Vec::new() };
    way.grant(asked);
    let is_whole = way.go(may_go_on);
    Ok(Preview { duplicate, is_rerun, after, calls: way.calls, end: way.state, is_whole })
}

/// What is not known before a call returns.
#[derive(Debug, Default)]
struct Open {
    /// Operations of steps whose arguments are not.
    arguments: HashSet<(usize, Operation)>,
    /// Steps whose condition is not: that it holds is assumed.
    conditions: HashSet<usize>,
    /// Steps whose list is not: one item is assumed.
    lists: HashSet<usize>,
}

/// The same of calls that are made.
#[derive(Debug, Default)]
struct Seen {
    arguments: HashSet<AttemptId>,
    conditions: HashSet<AttemptId>,
}

fn calls_of(commands: Vec<Command>, open: &Seen) -> Vec<ForeseenCall> {
    let calls = commands.into_iter().filter_map(|command| match command {
        Command::Call(command) => Some(*command),
        Command::Settle { .. } | Command::Postpone { .. } | Command::Lock { .. } | Command::Tell(_) | Command::Relate(_) => None,
    });
    let foreseen = calls.map(|command| ForeseenCall {
        has_open_arguments: open.arguments.contains(&command.call.attempt),
        is_conditional: open.conditions.contains(&command.call.attempt),
        command,
        in_flight: false,
    });
    foreseen.collect()
}

/// The claim that is made to a lock, if one is.
fn asked_lock(command: &Command) -> Option<(String, u64)> {
    match command {
        Command::Lock { key, by, wants: true, .. } => Some((key.clone(), by.number)),
        Command::Lock { .. }
        | Command::Call(_)
        | Command::Settle { .. }
        | Command::Postpone { .. }
        | Command::Tell(_)
        | Command::Relate(_) => None,
    }
}

/// The claims to locks for which the instance waits.
fn waited_for(instance: &Instance) -> impl Iterator<Item = (String, u64)> {
    instance.lock_waits().into_iter().map(|wait| (wait.key, wait.number))
}

/// The definition with nothing in place of arguments that depend on outputs that are yet to come, and with conditions that hold.
fn without_what_is_open(definition: &Definition, instance: &Instance) -> (Definition, Open) {
    let (mut definition, mut open) = (definition.clone(), Open::default());
    definition.output = None;
    let Instance::Saga(state) = instance else { return (definition, open) };
    let to_come = |id: &str| {
        let step = state.steps.iter().find(|step| step.id.as_str() == id);
        step.is_some_and(|step| matches!(step.state, StepState::Scheduled | StepState::InProgress))
    };
    let is_open = |template: &Template| {
        let of_steps =
            template.references().into_iter().filter(|reference| reference.root == "steps").map(|reference| reference.path.first());
        of_steps.into_iter().any(|step| step.is_none_or(|step| to_come(step)))
    };
    for (index, step) in definition.steps.iter_mut().enumerate() {
        if let Some(condition) = step.when.as_mut().filter(|condition| is_open(condition)) {
            *condition = Template::literal(serde_json::Value::Bool(true));
            open.conditions.insert(index);
        }
        if let Some(each) = step.for_each.as_mut().filter(|each| is_open(&each.items)) {
            // How many calls there will be is not known: one stands for all.
            each.items = Template::literal(serde_json::json!([null]));
            open.lists.insert(index);
        }
        if let Some(lock) = step.lock.as_mut().filter(|lock| is_open(&lock.key)) {
            // Which lock it is is not known, and that it is free is assumed of all.
            lock.key = Template::literal(serde_json::Value::String(step.id.to_string()));
        }
        if step.action.value().is_some_and(&is_open) {
            // How long is not known: it is left out of the time, as what calls take is.
            step.action = Action::Sleep(Sleep::For(Duration::ZERO));
        }
        let calls = [(Operation::Action, step.action.call_mut()), (Operation::Compensation, step.compensation.as_mut())];
        for (operation, call) in calls {
            if let Some(call) = call
                && (is_open(&call.arguments) || open.lists.contains(&index))
            {
                call.arguments = Template::literal(JsonText::null());
                open.arguments.insert((index, operation));
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
        let mut seen = Seen::default();
        for command in &commands {
            let Command::Call(command) = command else { continue };
            let attempt = &command.call.attempt;
            let Some(index) = steps.iter().position(|step| step.id == attempt.step) else { continue };
            if self.open.arguments.contains(&(index, attempt.operation)) {
                seen.arguments.insert(attempt.clone());
            }
            if attempt.operation == Operation::Action && self.open.conditions.contains(&index) {
                seen.conditions.insert(attempt.clone());
            }
        }
        let asked = commands.iter().filter_map(asked_lock).collect();
        self.queue.extend(calls_of(commands, &seen));
        self.grant(asked);
    }

    /// That whoever holds a lock lets it go is assumed, as is that participants answer.
    fn grant(&mut self, asked: Vec<(String, u64)>) {
        for (key, number) in asked {
            self.tell(Input::Lock { key, number, said: LockSaid::Granted { token: 0 } });
        }
    }
}
