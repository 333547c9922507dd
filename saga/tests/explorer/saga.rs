//! Sagas in a world of their own: the protocol as it is shipped, participants with a barrier, and a network that keeps every message and
//! delivers it whenever it likes, again and again or never. As in `transaction.rs`, time is not in it.

use super::plant::Plant;
use super::search::Model;
use sagamq_api::StepId;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Operation, SagaVerb, StepOutcome, StepState};
use sagamq_saga::definition::{Definition, RetryPolicy, StepKind};
use sagamq_saga::dsl;
use sagamq_saga::protocol::saga::{Attempt, InstanceState, Phase, Progress, StepStatus, decide, open_calls};
use sagamq_saga::protocol::{By, Command, Decision, Input, Verb};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How often things go wrong at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Attempts that are given up without an answer.
    pub(crate) unheard: u8,
    /// Actions that are refused.
    pub(crate) refusals: u8,
    /// Whether the saga's timeout may come.
    pub(crate) timeout: u8,
    /// Cancellations.
    pub(crate) cancels: u8,
    /// Other verbs of operators, who say of a step only what is true.
    pub(crate) verbs: u8,
    /// Reruns of what came to rest.
    pub(crate) reruns: u8,
}

/// The model.
pub(crate) struct Saga {
    definition: Definition,
    /// The steps that rest on each, also by way of others.
    dependents: Vec<Vec<usize>>,
    bounds: Bounds,
    plant: Option<Plant>,
}

/// A state of the world.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<InstanceState>,
    /// The instances that were rerun, the first one first.
    past: Vec<Arc<InstanceState>>,
    now_ms: u64,
    /// What participants have in the name of each instance.
    books: Vec<Vec<Book>>,
    messages: BTreeSet<Message>,
    left: Bounds,
    /// Somebody was called while it was paused, or after it was terminated.
    has_called_in_silence: bool,
    /// Something has happened to an instance that was rerun.
    has_moved_the_past: bool,
}

/// What a participant has on disk of its step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Book {
    is_done: bool,
    is_undone: bool,
    /// The action must not be done any more.
    is_barred: bool,
    has_refused: bool,
}

/// A message. Steps, and the instances in whose name they are called, are named by their indices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Message {
    Call { of: usize, step: usize, operation: Operation, epoch: u32 },
    Reply { of: usize, step: usize, operation: Operation, epoch: u32, is_done: bool },
}

/// What can happen.
#[derive(Clone)]
pub(crate) enum Step {
    Serve(Message),
    Refuse(Message),
    Hear(Message),
    Unheard(AttemptId),
    Retry,
    TimeOut,
    Cancel,
    Operate(SagaVerb),
    Resolve(usize),
    Rerun(StepId),
    Exchange(AttemptId),
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call { of, step, operation, epoch } => write!(f, "{operation} {of}/s{step}#{epoch}"),
            Self::Reply { of, step, operation, epoch, is_done: true } => write!(f, "success of {operation} {of}/s{step}#{epoch}"),
            Self::Reply { of, step, operation, epoch, is_done: false } => write!(f, "refusal of {operation} {of}/s{step}#{epoch}"),
        }
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serve(call) => write!(f, "participant serves {call:?}"),
            Self::Refuse(call) => write!(f, "participant refuses {call:?}"),
            Self::Hear(reply) => write!(f, "orchestrator hears {reply:?}"),
            Self::Unheard(id) => write!(f, "orchestrator hears nothing of {}", id.clone().within()),
            Self::Retry => f.write_str("pauses are over"),
            Self::TimeOut => f.write_str("the saga's time is over"),
            Self::Cancel => f.write_str("an operator cancels"),
            Self::Operate(verb) => write!(f, "an operator says {verb:?}"),
            Self::Resolve(step) => write!(f, "an operator says what is true of s{step}"),
            Self::Rerun(from) => write!(f, "an operator has it rerun from {from}"),
            Self::Exchange(id) => write!(f, "{} and its answer", id.clone().within()),
        }
    }
}

impl Saga {
    /// A saga of steps that wait for others; `pivot` is the index of its pivot.
    pub(crate) fn new(after: &[&[usize]], pivot: Option<usize>, bounds: Bounds) -> Self {
        let mut text = "saga: s\nversion: 1\nkey: ${ input.k }\nservices: { a: { http: \"http://a\" } }\nsteps:\n".to_owned();
        let mut dependents = vec![Vec::new(); after.len()];
        for (step, before) in after.iter().enumerate() {
            let names: Vec<_> = before.iter().map(|before| format!("s{before}")).collect();
            let rests_on_pivot = pivot.is_some_and(|pivot| dependents_of(after, pivot).contains(&step));
            let rest = match pivot {
                Some(pivot) if pivot == step => ", pivot: true",
                _ if rests_on_pivot => "",
                _ => ", compensate: a.undo",
            };
            let _ = writeln!(text, "  - {{ id: s{step}, call: a.do, after: [{}]{rest} }}", names.join(", "));
            dependents[step] = dependents_of(after, step);
        }
        let mut definition = dsl::compile(&text).expect("a legal definition").definition;
        definition.timeout = Some(Duration::from_secs(1));
        for step in &mut definition.steps {
            step.call_mut(Operation::Action).timeout = Duration::from_secs(100_000);
            step.call_mut(Operation::Action).retry = RetryPolicy { attempts: 2, ..RetryPolicy::action() };
            if let Some(compensation) = &mut step.compensation {
                compensation.timeout = Duration::from_secs(100_000);
            }
        }
        Self { definition, dependents, bounds, plant: None }
    }

    /// Compensations are called once, so that they block it.
    pub(crate) fn with_one_attempt_to_undo(mut self) -> Self {
        for step in &mut self.definition.steps {
            step.compensation.iter_mut().for_each(|compensation| compensation.retry.attempts = 1);
        }
        self
    }

    /// The saga goes on without this step.
    pub(crate) fn with_optional(mut self, step: usize) -> Self {
        self.definition.steps[step].optional = true;
        self
    }

    pub(crate) fn with_plant(self, plant: Plant) -> Self {
        Self { plant: Some(plant), ..self }
    }

    /// Gives whether it means anything.
    fn tell(&self, world: &mut World, input: Input) -> bool {
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
    fn rerun(&self, world: &mut World, from: &StepId) -> bool {
        let input = Input::Operate { verb: Verb::Saga(SagaVerb::Rerun { from: from.clone(), input: None }), by: By::default() };
        let decided = decide(&self.definition, &world.state, input, world.now_ms, &mut || 0.0);
        let Ok(Decision { commands, state, next: Some(next), .. }) = decided else { return false };
        world.has_moved_the_past |= !commands.is_empty();
        world.past.push(Arc::new(state));
        world.books.push(vec![Book::default(); self.definition.steps.len()]);
        let Decision { commands, state, .. } = *next;
        world.state = Arc::new(state);
        self.send(world, commands);
        true
    }

    fn operate(&self, world: &mut World, verb: SagaVerb) -> bool {
        self.tell(world, Input::Operate { verb: Verb::Saga(verb), by: By::default() })
    }

    /// The operator looks, and sees to it that it stays true.
    fn resolve(&self, world: &mut World, step: usize) -> bool {
        let is_undoing = matches!(world.state.steps[step].state, StepState::Compensating | StepState::CompensationFailed);
        let outcome = match *world.book(step) {
            _ if is_undoing => StepOutcome::Compensated,
            Book { is_done: true, is_undone: false, .. } => StepOutcome::Succeeded { output: json!({}).into() },
            _ => StepOutcome::Failed,
        };
        let id = self.definition.steps[step].id.clone();
        let is_done = self.operate(world, SagaVerb::Resolve { step: id, outcome: outcome.clone() });
        if is_done {
            let of = world.origin(step);
            let book = &mut world.books[of][step];
            book.is_barred |= !matches!(outcome, StepOutcome::Succeeded { .. });
            book.is_undone |= outcome == StepOutcome::Compensated && book.is_done;
        }
        is_done
    }

    fn call(&self, world: &World, attempt: &AttemptId) -> Message {
        let of = world.index_of(attempt.instance);
        let step = self.definition.steps.iter().position(|step| step.id == attempt.step).expect("a step of the definition");
        Message::Call { of, step, operation: attempt.operation, epoch: attempt.epoch }
    }

    fn serve(&self, world: &mut World, call: Message, refuses: bool) -> Message {
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

    fn hear(&self, world: &mut World, reply: Message) {
        let Message::Reply { of, step, operation, epoch, is_done } = reply else { unreachable!("only replies are heard") };
        let (instance, id) = (world.name(of), self.definition.steps[step].id.clone());
        let attempt = AttemptId { instance, step: id, item: None, operation, epoch };
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

impl World {
    /// The name of an instance.
    fn name(&self, of: usize) -> Uuid {
        self.past.get(of).unwrap_or(&self.state).head.id
    }

    fn index_of(&self, name: Uuid) -> usize {
        (0..=self.past.len()).find(|&of| self.name(of) == name).expect("only instances call")
    }

    /// In whose name the step was done, if it was.
    fn origin(&self, step: usize) -> usize {
        self.state.steps[step].origin.as_ref().map_or(self.past.len(), |origin| self.index_of(origin.instance))
    }

    /// What the participant of a step has in that name.
    fn book(&self, step: usize) -> &Book {
        &self.books[self.origin(step)][step]
    }
}

/// The steps that rest on one, also by way of others.
fn dependents_of(after: &[&[usize]], step: usize) -> Vec<usize> {
    let mut found = vec![step];
    for (other, before) in after.iter().enumerate() {
        if before.iter().any(|before| found.contains(before)) {
            found.push(other);
        }
    }
    found.split_off(1)
}

fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: String::new() }
}

impl Model for Saga {
    type State = World;
    type Step = Step;

    fn start(&self) -> World {
        let state = Arc::new(InstanceState::new(Uuid::from_u128(1), &self.definition));
        let books = vec![vec![Book::default(); self.definition.steps.len()]];
        let (messages, left, past) = (BTreeSet::new(), self.bounds, Vec::new());
        let mut world = World { state, past, now_ms: 1, books, messages, left, has_called_in_silence: false, has_moved_the_past: false };
        self.tell(&mut world, Input::Start { key: "k".to_owned(), generation: 1, input: json!({}).into(), cluster: Uuid::nil() });
        world
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        let (left, state) = (world.left, &world.state);
        let mut steps = Vec::new();
        for &message in &world.messages {
            match message {
                Message::Call { step, operation, .. } => {
                    steps.push(Step::Serve(message));
                    let Definition { steps: of, .. } = &self.definition;
                    let may_refuse = operation == Operation::Action && (of[step].kind != StepKind::Retriable || of[step].optional);
                    if left.refusals > 0 && may_refuse {
                        steps.push(Step::Refuse(message));
                    }
                }
                Message::Reply { .. } => steps.push(Step::Hear(message)),
            }
        }
        if left.unheard > 0 {
            steps.extend(state.open_attempts().into_iter().map(Step::Unheard));
        }
        if state.is_due(world.now_ms) {
            steps.push(Step::Retry);
        }
        if left.timeout > 0 && state.timeout_at_ms.is_some() && state.phase == Phase::Running {
            steps.push(Step::TimeOut);
        }
        if left.cancels > 0 && state.phase == Phase::Running {
            steps.push(Step::Cancel);
        }
        if left.verbs > 0 && !state.phase.is_final() {
            steps.extend([SagaVerb::Pause, SagaVerb::Terminate, SagaVerb::Retry { step: None }].map(Step::Operate));
            for (index, step) in state.steps.iter().enumerate() {
                steps.extend([Step::Operate(SagaVerb::Skip { step: step.id.clone() }), Step::Resolve(index)]);
            }
        }
        if left.verbs > 0 && state.phase.is_final() {
            let in_doubt = |step: &StepStatus| state.standing().iter().any(|effect| effect.in_doubt && effect.step == step.id);
            steps.extend(state.steps.iter().enumerate().filter(|(_, step)| in_doubt(step)).map(|(index, _)| Step::Resolve(index)));
        }
        if left.reruns > 0 && state.phase.is_at_rest() {
            steps.extend(state.steps.iter().map(|step| Step::Rerun(step.id.clone())));
        }
        // What was paused can always be resumed.
        if state.is_paused() {
            steps.push(Step::Operate(SagaVerb::Resume));
        }
        steps
    }

    fn after(&self, world: &World, step: &Step) -> World {
        let mut next = world.clone();
        match step {
            Step::Serve(call) => drop(self.serve(&mut next, *call, false)),
            Step::Refuse(call) => {
                next.left.refusals -= 1;
                self.serve(&mut next, *call, true);
            }
            Step::Hear(reply) => self.hear(&mut next, *reply),
            Step::Unheard(attempt) => {
                next.left.unheard -= 1;
                let outcome = match self.plant {
                    Some(Plant::UnknownIsRefused) => CallOutcome::Refused { failure: failure("LOST") },
                    _ => CallOutcome::Unknown { failure: failure("LOST"), retry_after_ms: None },
                };
                self.tell(&mut next, Input::Reply { attempt: attempt.clone(), outcome, note: None, branch_address: None });
            }
            Step::Retry => drop(self.tell(&mut next, Input::Timer { hand_outs: Vec::new() })),
            Step::TimeOut => {
                next.left.timeout -= 1;
                next.now_ms = world.state.timeout_at_ms.unwrap_or(world.now_ms);
                self.tell(&mut next, Input::Timer { hand_outs: Vec::new() });
            }
            Step::Cancel => {
                next.left.cancels -= 1;
                self.operate(&mut next, SagaVerb::Cancel);
            }
            Step::Operate(SagaVerb::Resume) => drop(self.operate(&mut next, SagaVerb::Resume)),
            // What is refused, or is so already, is as if nobody had said it.
            Step::Operate(verb) => next.left.verbs -= u8::from(self.operate(&mut next, verb.clone())),
            Step::Rerun(from) => next.left.reruns -= u8::from(self.rerun(&mut next, from)),
            Step::Resolve(step) => next.left.verbs -= u8::from(self.resolve(&mut next, *step)),
            Step::Exchange(attempt) => {
                let reply = self.serve(&mut next, self.call(world, attempt), false);
                self.hear(&mut next, reply);
            }
        }
        next
    }

    fn canonical(&self, world: &World) -> Vec<u8> {
        let state = &world.state;
        let Bounds { unheard, refusals, timeout, cancels, verbs, reruns } = world.left;
        let mut form = vec![unheard, refusals, timeout, cancels, verbs, reruns, state.phase as u8];
        let flags = [state.stop.is_some(), state.timeout_at_ms.is_some(), state.is_paused(), world.has_called_in_silence];
        form.extend(flags.map(u8::from));
        form.push(u8::from(world.has_moved_the_past));
        let small = |number: u32| u8::try_from(number).expect("few attempts");
        let progress = |progress: &Progress| {
            let attempt = match progress.attempt {
                Attempt::None => 0,
                Attempt::Open(open) => 1 + u8::from(open.is_handed_out),
                Attempt::Waiting { .. } => 3,
                Attempt::Asleep(_) => 4,
            };
            [small(progress.epoch), small(progress.forgiven), attempt, progress.settled.map_or(0, |settled| 1 + settled as u8)]
        };
        for (step, index) in state.steps.iter().zip(0..) {
            form.extend([step.state as u8, u8::try_from(world.origin(index)).expect("few instances")]);
            form.extend(progress(&step.action));
            form.extend(progress(&step.compensation));
            form.extend([step.is_left_out, step.is_undoing_left_out, step.has_no_effect].map(u8::from));
            form.extend([u8::from(step.attempts_exceeded), step.condition.map_or(0, |holds| 1 + u8::from(holds))]);
        }
        for past in &world.past {
            form.push(past.phase as u8);
            form.extend(past.steps.iter().flat_map(|step| [step.state as u8, u8::from(step.is_handed_over)]));
        }
        for book in world.books.iter().flatten() {
            form.extend([book.is_done, book.is_undone, book.is_barred, book.has_refused].map(u8::from));
        }
        for message in &world.messages {
            let (kind, of, step, operation, epoch) = match *message {
                Message::Call { of, step, operation, epoch } => (1, of, step, operation, epoch),
                Message::Reply { of, step, operation, epoch, is_done } => (2 + u8::from(is_done), of, step, operation, epoch),
            };
            let [of, step] = [of, step].map(|index| u8::try_from(index).expect("few of them"));
            form.extend([kind, of, step, operation as u8, small(epoch)]);
        }
        form
    }

    fn wrong(&self, world: &World) -> Option<String> {
        if world.has_called_in_silence {
            return Some("somebody is called while it is paused, or after it was terminated".to_owned());
        }
        if world.has_moved_the_past {
            return Some("something happened to an instance that was rerun".to_owned());
        }
        for (at, past) in world.past.iter().enumerate() {
            let standing = past.standing();
            let is_told = |step: &StepStatus| standing.iter().any(|effect| effect.step == step.id);
            let book = |step: &StepStatus, index: usize| {
                let of = step.origin.as_ref().map_or(at, |origin| world.index_of(origin.instance));
                world.books[of][index]
            };
            let mut kept = past.steps.iter().enumerate().filter(|(_, step)| !step.is_handed_over);
            if kept.any(|(index, step)| book(step, index).is_done && !book(step, index).is_undone && !is_told(step)) {
                return Some("an effect of an instance that was rerun stands, and that is told by nobody".to_owned());
            }
        }
        let is_in_effect = |step: usize| world.book(step).is_done && !world.book(step).is_undone;
        let is_left_standing = |step: usize| world.state.steps[step].is_undoing_left_out;
        let books = || (0..world.state.steps.len()).map(|step| (step, world.book(step)));
        // What is optional is undone alone, before what rests on it begins.
        let is_optional = |step: usize| self.definition.steps[step].optional;
        for (step, book) in books().filter(|(step, book)| book.is_undone && !is_optional(*step)) {
            if let Some(other) = self.dependents[step].iter().find(|&&other| is_in_effect(other) && !is_left_standing(other)) {
                return Some(format!("step {step} is undone, and step {other}, which rests on it, is in effect ({book:?})"));
            }
        }
        let is_undone = books().any(|(step, book)| (book.is_undone || book.is_barred) && !is_optional(step));
        let pivot = self.definition.steps.iter().position(|step| step.kind == StepKind::Pivot);
        if is_undone && pivot.is_some_and(is_in_effect) {
            return Some("something is undone, and the pivot is in effect".to_owned());
        }
        let all = |holds: &dyn Fn(usize) -> bool| (0..world.state.steps.len()).all(holds);
        let is_left_out = |step: usize| world.state.steps[step].state == StepState::Skipped;
        let standing = world.state.standing();
        let is_told = |step: usize| standing.iter().any(|effect| effect.step == world.state.steps[step].id);
        let is_stuck = |step: usize| world.state.steps[step].state == StepState::CompensationFailed && !is_left_standing(step);
        match world.state.phase {
            Phase::Completed if !all(&|step| is_in_effect(step) || is_left_out(step) || is_optional(step)) => {
                Some("completed, and a step is not in effect".to_owned())
            }
            Phase::Completed
                if !all(&|step| !is_in_effect(step) || world.state.steps[step].state == StepState::Succeeded || is_told(step)) =>
            {
                Some("completed, and an effect that it went on without stands, and is not told".to_owned())
            }
            Phase::Compensated | Phase::Failed if !all(&|step| !is_in_effect(step)) => Some("over, and a step is in effect".to_owned()),
            Phase::Blocked if all(&|step| !is_stuck(step)) => Some("blocked without a reason".to_owned()),
            Phase::Blocked | Phase::Terminated if !all(&|step| !is_in_effect(step) || is_told(step)) => {
                Some("an effect stands, and that is not told".to_owned())
            }
            Phase::New
            | Phase::Running
            | Phase::Compensating
            | Phase::Completed
            | Phase::Compensated
            | Phase::Failed
            | Phase::Blocked
            | Phase::Terminated => None,
        }
    }

    fn quiet(&self, world: &World) -> Option<Step> {
        let state = &world.state;
        if state.is_paused() {
            return Some(Step::Operate(SagaVerb::Resume));
        }
        let calls = open_calls(&self.definition, state);
        let open = calls.into_iter().next().map(|command| Step::Exchange(command.call.attempt));
        open.or_else(|| state.is_due(world.now_ms).then_some(Step::Retry))
    }

    fn unended(&self, world: &World) -> Option<String> {
        (!world.state.phase.is_at_rest()).then(|| "the saga never ends".to_owned())
    }
}
