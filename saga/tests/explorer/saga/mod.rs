//! Sagas in a world of their own: the protocol as it is shipped, participants with a barrier, and a network that keeps every message and
//! delivers it whenever it likes, again and again or never. As in `transaction.rs`, time is not in it.

mod acts;
mod form;
mod judge;
mod step;
mod world;

use super::plant::Plant;
use super::search::Model;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{CallOutcome, Failure, Operation, SagaVerb};
use sagamq_saga::definition::{Definition, ForEach, RetryPolicy, StepKind};
use sagamq_saga::dsl;
use sagamq_saga::expression::Template;
use sagamq_saga::protocol::Input;
use sagamq_saga::protocol::saga::{InstanceState, Phase, Place, open_calls};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use step::{Message, Step};
use uuid::Uuid;
use world::{Book, World};

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
    slots: Arc<[Place]>,
    bounds: Bounds,
    plant: Option<Plant>,
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
        let slots = (0..after.len()).map(Place::from).collect();
        Self { definition, dependents, slots, bounds, plant: None }
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

    /// The step fans out over two items.
    pub(crate) fn with_items(mut self, step: usize, max_parallel: u32) -> Self {
        self.definition.steps[step].for_each = Some(ForEach { items: Template::literal(json!([7, 8])), max_parallel });
        let items = [0, 1].map(|item| Place { step, item: Some(ItemIndex(item)) });
        let others = |place: &Place| if place.step == step { items.to_vec() } else { vec![*place] };
        self.slots = self.slots.iter().flat_map(others).collect();
        self
    }

    pub(crate) fn with_plant(self, plant: Plant) -> Self {
        Self { plant: Some(plant), ..self }
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
        let (books, slots) = (vec![vec![Book::default(); self.slots.len()]], Arc::clone(&self.slots));
        let (messages, left, past) = (BTreeSet::new(), self.bounds, Vec::new());
        let mut world =
            World { state, slots, past, now_ms: 1, books, messages, left, has_called_in_silence: false, has_moved_the_past: false };
        self.tell(
            &mut world,
            Input::Start { parent: None, key: "k".to_owned(), generation: 1, input: json!({}).into(), cluster: Uuid::nil(), trace: None },
        );
        world
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        let (left, state) = (world.left, &world.state);
        let mut steps = Vec::new();
        for &message in &world.messages {
            match message {
                Message::Call { step, operation, .. } => {
                    steps.push(Step::Serve(message));
                    let of = &self.definition.steps[world.slots[step].step];
                    let may_refuse = operation == Operation::Action && (of.kind != StepKind::Retriable || of.optional);
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
            steps.extend([SagaVerb::Pause, SagaVerb::Terminate, SagaVerb::Retry { item: None, step: None }].map(Step::Operate));
            for (slot, place) in world.slots.iter().enumerate() {
                let (step, item) = (state.steps[place.step].id.clone(), place.item.filter(|_| state.steps[place.step].fan.is_some()));
                steps.extend([Step::Operate(SagaVerb::Skip { item, step }), Step::Resolve(slot)]);
            }
        }
        if left.verbs > 0 && state.phase.is_final() {
            let standing = state.standing();
            let is_it = |place: &Place| {
                let id = &state.steps[place.step].id;
                standing.iter().any(|effect| effect.in_doubt && effect.step == *id && effect.item == place.item)
            };
            steps.extend(world.slots.iter().enumerate().filter(|(_, place)| is_it(place)).map(|(slot, _)| Step::Resolve(slot)));
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
        world.canonical()
    }

    fn wrong(&self, world: &World) -> Option<String> {
        self.judge(world)
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
