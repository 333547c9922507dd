//! Definitions by hand and an instance to drive: no YAML, no clock, jitter that always draws the longest wait.

use crate::definition::{Action, Call, Definition, ForEach, OnTimeout, RetryPolicy, Sleep, Step, StepKind, Target, WaitFor};
use crate::expression::Template;
use crate::protocol::saga::{InstanceState, SagaEvent, StepStatus, decide};
use crate::protocol::{By, Command, Decision, HandOut, Input, Recorded, Rejection, Signal, Verb, instance_id};
use core::time::Duration;
use sagamq_api::StepId;
use sagamq_api::ids::ItemIndex;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Mode, Operation, SagaState, SagaVerb, StepAttempt, StepState};
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) fn id(name: &str) -> StepId {
    name.parse().expect("legal")
}

pub(super) fn policy(attempts: u32) -> RetryPolicy {
    let (initial, max) = (Duration::from_millis(100), Duration::from_millis(400));
    RetryPolicy { initial, factor: 2.0, max, attempts, never_on: vec!["HOPELESS".to_owned()] }
}

#[expect(clippy::needless_pass_by_value, reason = "tests write the arguments in place")]
pub(super) fn call(name: &str, arguments: Value, attempts: u32) -> Call {
    Call {
        service: "svc".to_owned(),
        target: Target::Topic("svc.commands".parse().expect("legal")),
        name: name.to_owned(),
        arguments: Template::compile(&arguments).expect("legal expressions"),
        timeout: Duration::from_millis(1_000),
        retry: policy(attempts),
    }
}

pub(super) fn step(name: &str, after: &[usize], kind: StepKind) -> Step {
    Step {
        id: id(name),
        after: after.to_vec(),
        kind,
        action: call(name, json!({}), 3).into(),
        compensation: (kind == StepKind::Compensatable).then(|| call(&format!("undo_{name}"), json!({}), 3)),
        queue_timeout: None,
        when: None,
        for_each: None,
        optional: false,
        emit: None,
        emit_undone: None,
        lock: None,
    }
}

/// A step that fans out over what an expression gives. Its arguments, and those of its compensation, are its item and its index.
pub(super) fn each(name: &str, after: &[usize], kind: StepKind, items: &str, max_parallel: u32) -> Step {
    let arguments = || Template::compile(&json!({"item": "${ item }", "index": "${ index }"})).expect("legal expressions");
    let mut step = step(name, after, kind);
    step.call_mut(Operation::Action).arguments = arguments();
    step.compensation.iter_mut().for_each(|compensation| compensation.arguments = arguments());
    step.for_each = Some(ForEach { items: Template::text(items).expect("a legal expression"), max_parallel });
    step
}

/// A step that sleeps.
pub(super) fn sleep(name: &str, after: &[usize], kind: StepKind, sleep: Sleep) -> Step {
    Step { action: Action::Sleep(sleep), compensation: None, ..step(name, after, kind) }
}

/// A step that waits for a signal.
pub(super) fn wait_for(name: &str, after: &[usize], kind: StepKind, signal: &str, timeout_ms: Option<u64>, on_timeout: OnTimeout) -> Step {
    let wait = WaitFor { signal: signal.parse().expect("legal"), timeout: timeout_ms.map(Duration::from_millis), on_timeout };
    Step { action: Action::WaitFor(wait), compensation: None, ..step(name, after, kind) }
}

pub(super) fn definition(steps: Vec<Step>) -> Definition {
    let key = Template::literal(json!("k"));
    Definition {
        name: "test".parse().expect("legal"),
        version: 1,
        input: None,
        mode: Mode::Saga,
        no_saga: None,
        key,
        timeout: Some(Duration::from_secs(60)),
        steps,
        output: None,
        decision_retry: policy(3),
    }
}

/// a, b, c one after the other; `pivot` names the index of the pivot.
pub(super) fn chain(pivot: Option<usize>) -> Definition {
    let kind = |index: usize| match pivot {
        Some(pivot) if index == pivot => StepKind::Pivot,
        Some(pivot) if index > pivot => StepKind::Retriable,
        _ => StepKind::Compensatable,
    };
    definition(vec![step("a", &[], kind(0)), step("b", &[0], kind(1)), step("c", &[1], kind(2))])
}

pub(super) fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: String::new() }
}

/// Nobody by name, and why.
pub(super) fn by(reason: &str) -> By {
    By { actor: None, reason: Some(reason.to_owned()) }
}

pub(super) fn done() -> CallOutcome {
    CallOutcome::Succeeded { output: json!({"ok": true}).into() }
}

pub(super) fn refused() -> CallOutcome {
    CallOutcome::Refused { failure: failure("NO") }
}

pub(super) fn unknown() -> CallOutcome {
    CallOutcome::Unknown { failure: failure("LOST"), retry_after_ms: None }
}

/// An instance that is driven by hand. Every decision is replayed: the fold of all events must be the live state.
pub(super) struct Run {
    pub(super) definition: Definition,
    pub(super) state: InstanceState,
    pub(super) now_ms: u64,
    pub(super) history: Vec<Recorded<SagaEvent>>,
    pub(super) commands: Vec<Command>,
    /// The rerun that the last input started.
    pub(super) next: Option<Box<Decision<InstanceState, SagaEvent>>>,
}

impl Run {
    pub(super) fn start(definition: Definition) -> Self {
        Self::start_with(definition, json!({}))
    }

    pub(super) fn start_with(definition: Definition, input: Value) -> Self {
        let state = InstanceState::new(instance_id(3, &definition.name, "k", 1), &definition);
        let mut run = Self { definition, state, now_ms: 1_000, history: Vec::new(), commands: Vec::new(), next: None };
        run.input(Input::Start {
            parent: None,
            key: "k".to_owned(),
            generation: 1,
            input: input.into(),
            cluster: Uuid::nil(),
            trace: None,
        })
        .expect("a fresh instance starts");
        run
    }

    /// Decides and applies; what is to be done is in `commands`, of this input only.
    pub(super) fn input(&mut self, input: Input) -> Result<bool, Rejection> {
        let Decision { events, commands, state, duplicate, forced, next } =
            decide(&self.definition, &self.state, input, self.now_ms, &mut || 1.0)?;
        for event in &events {
            self.state.apply(&event.event, event.at_ms).expect("decided events are legal");
            self.state.check().expect("and no state between them is impossible");
        }
        assert!(forced, "nobody hears of what a saga may forget");
        assert_eq!(self.state, state, "the decision's state is the fold of its events");
        self.history.extend(events);
        self.commands = commands;
        self.next = next;
        Ok(duplicate)
    }

    pub(super) fn reply_to(&mut self, step: &str, operation: Operation, epoch: u32, outcome: CallOutcome) -> Result<bool, Rejection> {
        self.input(Input::Reply { attempt: self.attempt(step, operation, epoch), outcome, note: None, branch_address: None })
    }

    /// What is said of an attempt of an item.
    pub(super) fn item_reply_to(
        &mut self,
        step: &str,
        item: u32,
        operation: Operation,
        epoch: u32,
        outcome: CallOutcome,
    ) -> Result<bool, Rejection> {
        let attempt = self.state.named(&StepAttempt { step: id(step), item: Some(ItemIndex(item)), operation, epoch });
        self.input(Input::Reply { attempt, outcome, note: None, branch_address: None })
    }

    /// A reply to the current attempt of the action of an item.
    pub(super) fn item_reply(&mut self, step: &str, item: u32, outcome: CallOutcome) {
        let epoch = self.item(step, item).action.epoch;
        self.item_reply_to(step, item, Operation::Action, epoch, outcome).expect("the current attempt");
    }

    /// A reply to the current attempt of the compensation of an item.
    pub(super) fn item_undo_reply(&mut self, step: &str, item: u32, outcome: CallOutcome) {
        let epoch = self.item(step, item).compensation.epoch;
        self.item_reply_to(step, item, Operation::Compensation, epoch, outcome).expect("the current attempt");
    }

    pub(super) fn item(&self, step: &str, item: u32) -> &StepStatus {
        self.step(step).fan.as_ref().expect("it has fanned out").get(item as usize)
    }

    /// What the last input calls, with arguments: for example `b[1] {"item":7,"index":1}`, or `undo b[1] ...`.
    pub(super) fn calls(&self) -> Vec<String> {
        let calls = self.commands.iter().filter_map(|command| match command {
            Command::Call(command) => Some(&command.call),
            _ => None,
        });
        let shown = |call: &sagamq_api::saga::Call| {
            let undo = if call.attempt.operation == Operation::Compensation { "undo " } else { "" };
            let item = call.attempt.item.map(|item| format!("[{item}]")).unwrap_or_default();
            format!("{undo}{}{item} {}", call.attempt.step, call.arguments)
        };
        calls.map(shown).collect()
    }

    /// As those outside name it.
    pub(super) fn attempt(&self, step: &str, operation: Operation, epoch: u32) -> AttemptId {
        self.state.named(&StepAttempt { step: id(step), item: None, operation, epoch })
    }

    /// Has it rerun; gives the rerun, which is started.
    pub(super) fn rerun(&mut self, from: &str) -> Result<Self, Rejection> {
        self.operate(SagaVerb::Rerun { from: id(from), input: None })?;
        Ok(self.take_next())
    }

    /// The rerun that the last input started. Its events are folded as they are decided.
    pub(super) fn take_next(&mut self) -> Self {
        let Decision { events, commands, state: decided, .. } = *self.next.take().expect("a rerun");
        let mut state = InstanceState::new(decided.head.id, &self.definition);
        for event in &events {
            state.apply(&event.event, event.at_ms).expect("decided events are legal");
            state.check().expect("and no state between them is impossible");
        }
        assert_eq!(state, decided, "the decision's state is the fold of its events");
        let (definition, now_ms) = (self.definition.clone(), self.now_ms);
        Self { definition, state, now_ms, history: events, commands, next: None }
    }

    /// A reply to the current attempt of the action.
    pub(super) fn reply(&mut self, step: &str, outcome: CallOutcome) {
        let epoch = self.step(step).action.epoch;
        self.reply_to(step, Operation::Action, epoch, outcome).expect("the current attempt");
    }

    /// A reply to the current attempt of the compensation.
    pub(super) fn undo_reply(&mut self, step: &str, outcome: CallOutcome) {
        let epoch = self.step(step).compensation.epoch;
        self.reply_to(step, Operation::Compensation, epoch, outcome).expect("the current attempt");
    }

    /// Moves the time to the next timer and lets it fire.
    pub(super) fn tick(&mut self) {
        self.now_ms = self.state.next_due_ms().expect("a timer is set").max(self.now_ms);
        self.look(HandOut::Unknown);
    }

    /// Lets the timer fire; all calls in progress that are not known to be handed out are as said.
    pub(super) fn look(&mut self, hand_out: HandOut) {
        let hand_outs = self.state.unseen_calls().into_iter().map(|call| (call, hand_out)).collect();
        self.input(Input::Timer { hand_outs }).expect("time always passes");
    }

    /// Somebody sends a signal.
    pub(super) fn signal(&mut self, name: &str, id: Option<&str>, payload: Value) -> Result<bool, Rejection> {
        let (name, id, payload) = (name.parse().expect("legal"), id.map(str::to_owned), payload.into());
        let by = By { actor: Some("ann".to_owned()), reason: Some("she looked".to_owned()) };
        self.input(Input::Signal(Box::new(Signal { name, id, payload, by })))
    }

    /// An operator's verb.
    pub(super) fn operate(&mut self, verb: SagaVerb) -> Result<bool, Rejection> {
        self.input(Input::Operate {
            verb: Verb::Saga(verb),
            by: By { actor: Some("ann".to_owned()), reason: Some("she looked".to_owned()) },
        })
    }

    /// The step's last failure.
    pub(super) fn last_failure(&self) -> &str {
        self.state.failures.last().map_or("", |failed| failed.failure.code.as_str())
    }

    pub(super) fn step(&self, name: &str) -> &StepStatus {
        &self.state.steps[self.state.step_index(&id(name)).expect("a step of the test")]
    }

    pub(super) fn step_state(&self, name: &str) -> StepState {
        self.step(name).state
    }

    pub(super) fn saga_state(&self) -> SagaState {
        self.state.saga_state()
    }

    /// Names of what the last input calls, for example `a` or `undo_a`.
    pub(super) fn called(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for command in &self.commands {
            if let Command::Call(command) = command {
                names.push(command.call.call.as_str());
            }
        }
        names
    }

    pub(super) fn count(&self, matches: impl Fn(&SagaEvent) -> bool) -> usize {
        self.history.iter().filter(|recorded| matches(&recorded.event)).count()
    }
}
