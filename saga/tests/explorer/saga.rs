//! Sagas in a world of their own: the protocol as it is shipped, participants with a barrier, and a network that keeps every message and
//! delivers it whenever it likes, again and again or never. As in `transaction.rs`, time is not in it.

use super::plant::Plant;
use super::search::Model;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Operation, SagaVerb, StepOutcome, StepState};
use sagamq_saga::definition::{Definition, RetryPolicy, StepKind};
use sagamq_saga::dsl;
use sagamq_saga::protocol::saga::{Attempt, InstanceState, Phase, Progress, decide, open_calls};
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
    now_ms: u64,
    books: Vec<Book>,
    messages: BTreeSet<Message>,
    left: Bounds,
    /// Somebody was called while it was paused, or after it was terminated.
    has_called_in_silence: bool,
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

/// A message. Steps are named by their indices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Message {
    Call { step: usize, operation: Operation, epoch: u32 },
    Reply { step: usize, operation: Operation, epoch: u32, is_done: bool },
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
    Exchange(AttemptId),
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Call { step, operation, epoch } => write!(f, "{operation} s{step}#{epoch}"),
            Self::Reply { step, operation, epoch, is_done: true } => write!(f, "success of {operation} s{step}#{epoch}"),
            Self::Reply { step, operation, epoch, is_done: false } => write!(f, "refusal of {operation} s{step}#{epoch}"),
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
            step.action.timeout = Duration::from_secs(100_000);
            step.action.retry = RetryPolicy { attempts: 2, ..RetryPolicy::action() };
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

    pub(crate) fn with_plant(self, plant: Plant) -> Self {
        Self { plant: Some(plant), ..self }
    }

    /// Gives whether it means anything.
    fn tell(&self, world: &mut World, input: Input) -> bool {
        let decided = decide(&self.definition, &world.state, input, world.now_ms, &mut || 0.0);
        let Ok(Decision { commands, state, duplicate, .. }) = decided else { return false };
        let is_silent = state.is_paused() || state.phase == Phase::Terminated;
        world.state = Arc::new(state);
        for command in commands {
            if let Command::Call(command) = command {
                world.has_called_in_silence |= is_silent;
                world.messages.insert(self.call(&command.call.attempt));
            }
        }
        !duplicate
    }

    fn operate(&self, world: &mut World, verb: SagaVerb) -> bool {
        self.tell(world, Input::Operate { verb: Verb::Saga(verb), by: By::default() })
    }

    /// The operator looks, and sees to it that it stays true.
    fn resolve(&self, world: &mut World, step: usize) -> bool {
        let is_undoing = matches!(world.state.steps[step].state, StepState::Compensating | StepState::CompensationFailed);
        let outcome = match world.books[step] {
            _ if is_undoing => StepOutcome::Compensated,
            Book { is_done: true, is_undone: false, .. } => StepOutcome::Succeeded { output: json!({}).into() },
            _ => StepOutcome::Failed,
        };
        let id = self.definition.steps[step].id.clone();
        let is_done = self.operate(world, SagaVerb::Resolve { step: id, outcome: outcome.clone() });
        if is_done {
            let book = &mut world.books[step];
            book.is_barred |= !matches!(outcome, StepOutcome::Succeeded { .. });
            book.is_undone |= outcome == StepOutcome::Compensated && book.is_done;
        }
        is_done
    }

    fn call(&self, attempt: &AttemptId) -> Message {
        let step = self.definition.steps.iter().position(|step| step.id == attempt.step).expect("a step of the definition");
        Message::Call { step, operation: attempt.operation, epoch: attempt.epoch }
    }

    fn serve(&self, world: &mut World, call: Message, refuses: bool) -> Message {
        let Message::Call { step, operation, epoch } = call else { unreachable!("only calls are served") };
        let book = &mut world.books[step];
        let is_action = operation == Operation::Action;
        if !is_action {
            book.is_barred = self.plant != Some(Plant::HangingAction);
            book.is_undone |= book.is_done;
        } else if !book.is_done && !book.is_barred {
            book.has_refused |= refuses;
            book.is_done = !book.has_refused;
        }
        let is_done = !is_action || (book.is_done && !book.is_barred);
        let reply = Message::Reply { step, operation, epoch, is_done };
        world.messages.insert(reply);
        reply
    }

    fn hear(&self, world: &mut World, reply: Message) {
        let Message::Reply { step, operation, epoch, is_done } = reply else { unreachable!("only replies are heard") };
        let attempt =
            AttemptId { instance: world.state.head.id, step: self.definition.steps[step].id.clone(), item: None, operation, epoch };
        let outcome =
            if is_done { CallOutcome::Succeeded { output: json!({}).into() } } else { CallOutcome::Refused { failure: failure("NO") } };
        self.tell(world, Input::Reply { attempt, outcome, note: None, branch_address: None });
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
        let books = vec![Book::default(); self.definition.steps.len()];
        let (messages, left) = (BTreeSet::new(), self.bounds);
        let mut world = World { state, now_ms: 1, books, messages, left, has_called_in_silence: false };
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
                    let may_refuse = operation == Operation::Action && self.definition.steps[step].kind != StepKind::Retriable;
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
            Step::Resolve(step) => next.left.verbs -= u8::from(self.resolve(&mut next, *step)),
            Step::Exchange(attempt) => {
                let reply = self.serve(&mut next, self.call(attempt), false);
                self.hear(&mut next, reply);
            }
        }
        next
    }

    fn canonical(&self, world: &World) -> Vec<u8> {
        let state = &world.state;
        let Bounds { unheard, refusals, timeout, cancels, verbs } = world.left;
        let mut form = vec![unheard, refusals, timeout, cancels, verbs, state.phase as u8];
        let flags = [state.stop.is_some(), state.timeout_at_ms.is_some(), state.is_paused(), world.has_called_in_silence];
        form.extend(flags.map(u8::from));
        let small = |number: u32| u8::try_from(number).expect("few attempts");
        let progress = |progress: &Progress| {
            let attempt = match progress.attempt {
                Attempt::None => 0,
                Attempt::Open(open) => 1 + u8::from(open.is_handed_out),
                Attempt::Waiting { .. } => 3,
            };
            [small(progress.epoch), small(progress.forgiven), attempt, progress.settled.map_or(0, |settled| 1 + settled as u8)]
        };
        for (step, book) in state.steps.iter().zip(&world.books) {
            form.push(step.state as u8);
            form.extend(progress(&step.action));
            form.extend(progress(&step.compensation));
            form.extend([step.is_left_out, step.is_undoing_left_out].map(u8::from));
            form.extend([step.attempts_exceeded, book.is_done, book.is_undone, book.is_barred, book.has_refused].map(u8::from));
        }
        for message in &world.messages {
            let (kind, step, operation, epoch) = match *message {
                Message::Call { step, operation, epoch } => (1, step, operation, epoch),
                Message::Reply { step, operation, epoch, is_done } => (2 + u8::from(is_done), step, operation, epoch),
            };
            form.extend([kind, u8::try_from(step).expect("few steps"), operation as u8, small(epoch)]);
        }
        form
    }

    fn wrong(&self, world: &World) -> Option<String> {
        if world.has_called_in_silence {
            return Some("somebody is called while it is paused, or after it was terminated".to_owned());
        }
        let is_in_effect = |step: usize| world.books[step].is_done && !world.books[step].is_undone;
        let is_left_standing = |step: usize| world.state.steps[step].is_undoing_left_out;
        for (step, book) in world.books.iter().enumerate().filter(|(_, book)| book.is_undone) {
            if let Some(other) = self.dependents[step].iter().find(|&&other| is_in_effect(other) && !is_left_standing(other)) {
                return Some(format!("step {step} is undone, and step {other}, which rests on it, is in effect ({book:?})"));
            }
        }
        let is_undone = world.books.iter().any(|book| book.is_undone || book.is_barred);
        let pivot = self.definition.steps.iter().position(|step| step.kind == StepKind::Pivot);
        if is_undone && pivot.is_some_and(is_in_effect) {
            return Some("something is undone, and the pivot is in effect".to_owned());
        }
        let all = |holds: &dyn Fn(usize) -> bool| (0..world.books.len()).all(holds);
        let is_left_out = |step: usize| world.state.steps[step].state == StepState::Skipped;
        let standing = world.state.standing();
        let is_told = |step: usize| standing.iter().any(|effect| effect.step == world.state.steps[step].id);
        let is_stuck = |step: usize| world.state.steps[step].state == StepState::CompensationFailed && !is_left_standing(step);
        match world.state.phase {
            Phase::Completed if !all(&|step| is_in_effect(step) || is_left_out(step)) => {
                Some("completed, and a step is not in effect".to_owned())
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
