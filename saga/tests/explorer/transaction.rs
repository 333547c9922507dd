//! Two-phase commit in a world of its own: the coordinator as it is shipped, small participants, and a network that keeps every message it
//! was ever given and delivers it whenever it likes, again and again or never: so messages are lost, doubled and out of order.
//!
//! Time is not in it. That an attempt is given up is a step which can come at any moment; pauses are over at once; and the transaction's
//! timeout can come at any moment as well, once. So the canonical form needs no times.

use super::coordinator;
use super::participant::{Participant, Said};
use super::plant::Plant;
use super::search::Model;
use super::step::{Message, Step};
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Operation};
use sagamq_api::transaction::Outcome;
use sagamq_saga::definition::Definition;
use sagamq_saga::dsl;
use sagamq_saga::protocol::twopc::{Phase, TransactionEvent, TransactionState, decide, open_calls};
use sagamq_saga::protocol::{Command, Decision, Input};
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
    /// Crashes of the coordinator.
    pub(crate) restarts: u8,
    /// Crashes of participants, of all together.
    pub(crate) crashes: u8,
    /// Calls that the business of a participant refuses.
    pub(crate) refusals: u8,
    /// Whether the transaction's timeout may come.
    pub(crate) timeout: u8,
}

/// The model.
pub(crate) struct Transaction {
    definition: Definition,
    people: Vec<Participant>,
    bounds: Bounds,
    plant: Option<Plant>,
}

/// A state of the world.
#[derive(Clone)]
pub(crate) struct World {
    /// What the coordinator has in memory. `None`: the transaction was at its end and is forgotten.
    state: Option<Arc<TransactionState>>,
    /// What it has on disk.
    durable: Arc<TransactionState>,
    now_ms: u64,
    people: Vec<Participant>,
    messages: BTreeSet<Message>,
    /// What somebody has heard of the decision.
    heard: Option<Outcome>,
    has_changed: bool,
    left: Bounds,
}

impl Transaction {
    /// A transaction whose branches have so many actions each, all of them one after the other. Branches with `readers` change nothing.
    pub(crate) fn new(branches: &[u32], readers: &[usize], bounds: Bounds) -> Self {
        let mut text = "saga: t\nversion: 1\nkey: ${ input.k }\nservices:\n".to_owned();
        for branch in 0..branches.len() {
            let _ = writeln!(text, "  b{branch}: {{ http: \"http://b{branch}\" }}");
        }
        text.push_str("steps:\n");
        let mut left = branches.to_vec();
        let mut step = 0;
        // In turns, so that branches with several actions are open while others act.
        while left.iter().any(|&actions| actions > 0) {
            for (branch, left) in left.iter_mut().enumerate() {
                if *left > 0 {
                    *left -= 1;
                    let _ = writeln!(text, "  - {{ id: s{step}, call: b{branch}.do, compensate: none }}");
                    step += 1;
                }
            }
        }
        let mut definition = dsl::compile(&text).expect("a legal definition").definition;
        definition.timeout = Some(Duration::from_secs(1));
        for step in &mut definition.steps {
            step.call_mut(Operation::Action).timeout = Duration::from_secs(100_000);
        }
        let people =
            branches.iter().enumerate().map(|(at, &all)| Participant { all, is_reader: readers.contains(&at), ..Participant::default() });
        Self { people: people.collect(), definition, bounds, plant: None }
    }

    pub(crate) fn with_plant(self, plant: Plant) -> Self {
        Self { plant: Some(plant), ..self }
    }

    /// The state in which nothing more happens if nothing goes wrong from the beginning.
    pub(crate) fn calm_end(&self) -> World {
        let mut world = self.start();
        while let Some(step) = self.quiet(&world) {
            world = self.after(&world, &step);
        }
        world
    }

    /// The coordinator is told something.
    fn tell(&self, world: &mut World, input: Input) {
        let Some(state) = &world.state else { return };
        let decided = decide(&self.definition, state, input, world.now_ms, &mut || 0.0);
        let Ok(Decision { events, commands, state, mut forced, .. }) = decided else { return };
        let has = |wanted: fn(&TransactionEvent) -> bool| events.iter().any(|recorded| wanted(&recorded.event));
        forced &= match self.plant {
            Some(Plant::ToldBeforeForced) => !has(|event| *event == TransactionEvent::CommitDecided),
            Some(Plant::DecisionGivenAwayUnforced) => !has(
                |event| matches!(event, TransactionEvent::BranchCalled { attempt, .. } if attempt.operation == Operation::CommitOnePhase),
            ),
            _ => true,
        };
        let state = Arc::new(state);
        if forced || world.left.restarts == 0 {
            world.durable = Arc::clone(&state);
        }
        world.state = Some(state);
        for command in commands {
            if let Command::Call(command) = command {
                world.messages.insert(self.message(&command.call));
            }
        }
    }

    fn message(&self, call: &sagamq_api::saga::Call) -> Message {
        let AttemptId { step, operation, epoch, .. } = &call.attempt;
        let before = call.transaction.as_ref().expect("it is of a branch").actions_done;
        Message::Call { step: self.step(step.as_str()), operation: *operation, epoch: *epoch, before }
    }

    fn step(&self, id: &str) -> usize {
        self.definition.steps.iter().position(|step| step.id.as_str() == id).expect("a step of the definition")
    }

    fn branch(&self, step: usize) -> usize {
        self.definition.steps[step].call(Operation::Action).service[1..].parse().expect("services are numbered")
    }

    /// A participant serves a call. Gives its reply.
    fn serve(&self, world: &mut World, call: Message, refuses: bool) -> Message {
        let Message::Call { step, operation, epoch, before } = call else { unreachable!("only calls are served") };
        let said = world.people[self.branch(step)].serve(operation, before, refuses, self.plant);
        match (operation, said) {
            (Operation::Commit, _) | (Operation::CommitOnePhase, Said::Done) => world.hears(Outcome::Committed),
            (Operation::Rollback, _) | (Operation::CommitOnePhase, _) => world.hears(Outcome::RolledBack),
            _ => {}
        }
        let reply = Message::Reply { step, operation, epoch, said };
        world.messages.insert(reply);
        reply
    }

    fn hear(&self, world: &mut World, reply: Message) {
        let Message::Reply { step, operation, epoch, said } = reply else { unreachable!("only replies are heard") };
        let Some(state) = &world.state else { return };
        let attempt = AttemptId { instance: state.head.id, step: self.definition.steps[step].id.clone(), item: None, operation, epoch };
        let outcome = match said {
            Said::Done => CallOutcome::Succeeded { output: json!({}).into() },
            Said::Yes => CallOutcome::Succeeded { output: json!({"vote": "yes"}).into() },
            Said::ReadOnly => CallOutcome::Succeeded { output: json!({"vote": "read_only"}).into() },
            Said::Refused(code) => CallOutcome::Refused { failure: failure(code) },
        };
        self.tell(world, Input::Reply { attempt, outcome, note: None, branch_address: None });
    }

    fn asks(&self, person: &Participant) -> bool {
        person.prepared.is_some() && self.plant != Some(Plant::NeverAsks)
    }

    fn outcome(&self, world: &World) -> Outcome {
        let outcome = world.state.as_ref().map_or(Outcome::RolledBack, |state| state.outcome());
        // Nothing is known of it: it is undecided, or forgotten.
        let is_presumed = world.state.is_none() || outcome == Outcome::Undecided;
        if self.plant == Some(Plant::PresumedCommit) && is_presumed { Outcome::Committed } else { outcome }
    }
}

impl World {
    pub(crate) fn is_committed(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.phase == Phase::Committed)
    }

    fn hears(&mut self, outcome: Outcome) {
        self.has_changed |= self.heard.is_some_and(|heard| heard != outcome);
        self.heard = Some(outcome);
    }
}

fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: String::new() }
}

impl Model for Transaction {
    type State = World;
    type Step = Step;

    fn start(&self) -> World {
        let fresh = Arc::new(TransactionState::new(Uuid::from_u128(1), &self.definition));
        let mut world = World {
            state: Some(Arc::clone(&fresh)),
            durable: fresh,
            now_ms: 1,
            people: self.people.clone(),
            messages: BTreeSet::new(),
            heard: None,
            has_changed: false,
            left: self.bounds,
        };
        self.tell(
            &mut world,
            Input::Start { parent: None, key: "k".to_owned(), generation: 1, input: json!({}).into(), cluster: Uuid::nil(), trace: None },
        );
        world
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        let left = world.left;
        let mut steps = Vec::new();
        for &message in &world.messages {
            match message {
                Message::Call { operation, .. } => {
                    steps.push(Step::Serve(message));
                    if left.refusals > 0 && !matches!(operation, Operation::Commit | Operation::Rollback) {
                        steps.push(Step::Refuse(message));
                    }
                }
                Message::Reply { .. } => steps.push(Step::Hear(message)),
            }
        }
        for (at, person) in world.people.iter().enumerate() {
            let loses = person.open.is_some() || person.is_lazy || (self.plant == Some(Plant::VoteForgotten) && person.prepared.is_some());
            if left.crashes > 0 && loses {
                steps.push(Step::Crash(at));
            }
            if self.asks(person) {
                steps.push(Step::Ask(at));
            }
        }
        let Some(state) = &world.state else { return steps };
        if left.unheard > 0 {
            steps.extend(state.open_attempts().into_iter().map(Step::Unheard));
        }
        if state.is_due(world.now_ms) {
            steps.push(Step::Retry);
        }
        if left.timeout > 0 && state.phase.is_undecided() {
            steps.push(Step::TimeOut);
        }
        if left.restarts > 0 {
            steps.extend([Step::Restart, Step::Sync]);
        }
        if state.phase.is_at_rest() {
            steps.push(Step::Forget);
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
                let outcome = CallOutcome::Unknown { failure: failure("LOST"), retry_after_ms: None };
                self.tell(&mut next, Input::Reply { attempt: attempt.clone(), outcome, note: None, branch_address: None });
            }
            Step::Retry => self.tell(&mut next, Input::Timer { hand_outs: Vec::new() }),
            Step::TimeOut => {
                next.left.timeout -= 1;
                next.now_ms = world.state.as_ref().map_or(world.now_ms, |state| state.timeout_at_ms);
                self.tell(&mut next, Input::Timer { hand_outs: Vec::new() });
            }
            Step::Restart => {
                next.left.restarts -= 1;
                next.state = Some(Arc::clone(&world.durable));
                let again: Vec<_> =
                    open_calls(&self.definition, &world.durable).iter().map(|command| self.message(&command.call)).collect();
                self.tell(&mut next, Input::Recovered);
                if next.state.as_ref().is_some_and(|state| state.phase == world.durable.phase) {
                    next.messages.extend(again);
                }
            }
            Step::Sync => next.durable = world.state.clone().unwrap_or_else(|| Arc::clone(&world.durable)),
            Step::Forget => next.state = None,
            Step::Crash(at) => {
                next.left.crashes -= 1;
                next.people[*at].crash(self.plant);
            }
            Step::Ask(at) => {
                let outcome = self.outcome(world);
                if outcome != Outcome::Undecided {
                    next.hears(outcome);
                    next.people[*at].hear(outcome);
                }
            }
            Step::Expire(at) => next.people[*at].open = None,
            Step::Exchange(attempt) => {
                let calls = world.state.as_ref().map(|state| open_calls(&self.definition, state)).unwrap_or_default();
                let call = calls.iter().find(|command| command.call.attempt == *attempt).expect("an open attempt is an open call");
                let reply = self.serve(&mut next, self.message(&call.call), false);
                self.hear(&mut next, reply);
            }
        }
        next
    }

    fn canonical(&self, world: &World) -> Vec<u8> {
        let mut form = Vec::with_capacity(256);
        let Bounds { unheard, restarts, crashes, refusals, timeout } = world.left;
        form.extend([unheard, restarts, crashes, refusals, timeout, u8::from(world.has_changed)]);
        form.push(world.heard.map_or(0, |outcome| 1 + outcome as u8));
        form.push(u8::from(world.state.is_some()));
        if let Some(state) = &world.state {
            coordinator::canonical(state, &mut form);
        }
        if restarts > 0 {
            coordinator::canonical(&world.durable, &mut form);
        }
        for person in &world.people {
            person.canonical(&mut form);
        }
        for message in &world.messages {
            message.canonical(&mut form);
        }
        form
    }

    fn wrong(&self, world: &World) -> Option<String> {
        if world.has_changed {
            return Some("somebody heard one decision, and somebody another".to_owned());
        }
        let people = &world.people;
        if let Some(at) = people.iter().position(|person| person.committed.is_some_and(|done| done < person.all)) {
            return Some(format!("participant {at} committed half of its branch"));
        }
        let is_decided = world.state.as_ref().is_some_and(|state| state.outcome() == Outcome::Committed);
        let cannot = people.iter().position(|person| !person.can_commit());
        match (people.iter().position(|person| person.committed.is_some()), cannot) {
            (Some(one), Some(other)) => return Some(format!("participant {one} committed, and participant {other} cannot")),
            (_, Some(other)) if is_decided => return Some(format!("commit is decided, and participant {other} cannot")),
            _ => {}
        }
        let state = world.state.as_ref()?;
        if state.disagreeing().is_some() {
            return Some("a branch cannot do what was decided".to_owned());
        }
        let has_committed = |person: &Participant| person.committed.is_some();
        match state.phase {
            Phase::Committed if !people.iter().all(|person| person.has_read || has_committed(person)) => {
                Some("committed, and not everywhere".to_owned())
            }
            Phase::Aborted if people.iter().any(has_committed) => Some("rolled back, and not everywhere".to_owned()),
            _ => None,
        }
    }

    fn quiet(&self, world: &World) -> Option<Step> {
        if let Some(state) = &world.state {
            if let Some(attempt) = state.open_attempts().into_iter().next() {
                return Some(Step::Exchange(attempt));
            }
            if state.is_due(world.now_ms) {
                return Some(Step::Retry);
            }
        }
        let people = &world.people;
        if let Some(at) = people.iter().position(|person| self.asks(person)).filter(|_| self.outcome(world) != Outcome::Undecided) {
            return Some(Step::Ask(at));
        }
        people.iter().position(|person| person.open.is_some()).map(Step::Expire)
    }

    fn unended(&self, world: &World) -> Option<String> {
        if world.state.as_ref().is_some_and(|state| !state.phase.is_at_rest()) {
            return Some("the transaction never ends".to_owned());
        }
        let waits = world.people.iter().position(|person| person.prepared.is_some());
        waits.map(|at| format!("participant {at} stays prepared for ever"))
    }
}
