//! Definitions by hand and a transaction to drive: no YAML, no clock, jitter that always draws the longest wait.

use crate::definition::{Call, Definition, HttpTarget, RetryPolicy, Step, StepKind, Target};
use crate::expression::Template;
use crate::protocol::twopc::{Branch, BranchState, TransactionEvent, TransactionState, decide};
use crate::protocol::{By, Command, Decision, Input, Recorded, Rejection, ResolvedOutcome, Verb, instance_id};
use core::time::Duration;
use sagamq_api::saga::{AttemptId, CallOutcome, Failure, Mode, Operation, SagaState, SagaVerb};
use serde_json::{Value, json};
use uuid::Uuid;

pub(super) const CLUSTER: Uuid = Uuid::from_u128(7);

fn policy(attempts: u32) -> RetryPolicy {
    let (initial, max) = (Duration::from_millis(100), Duration::from_millis(400));
    RetryPolicy { initial, factor: 2.0, max, attempts, never_on: Vec::new() }
}

/// Ann, and why.
pub(super) fn by(reason: &str) -> By {
    By { actor: Some("ann".to_owned()), reason: Some(reason.to_owned()) }
}

/// A step at a service; `after` are indices.
pub(super) fn step(name: &str, service: &str, after: &[usize]) -> Step {
    let action = Call {
        service: service.to_owned(),
        target: Target::Http(HttpTarget::Service { name: service.to_owned(), default: Some(format!("http://{service}")) }),
        name: format!("do_{name}"),
        arguments: Template::compile(&json!({})).expect("legal expressions"),
        timeout: Duration::from_millis(1_000),
        retry: policy(3),
    };
    Step {
        id: name.parse().expect("legal"),
        after: after.to_vec(),
        kind: StepKind::Compensatable,
        action: action.into(),
        compensation: None,
        queue_timeout: None,
        when: None,
        for_each: None,
        optional: false,
        emit: None,
        emit_undone: None,
        lock: None,
    }
}

pub(super) fn definition(steps: Vec<Step>) -> Definition {
    Definition {
        name: "test".parse().expect("legal"),
        version: 1,
        input: None,
        key: Template::literal(json!("k")),
        timeout: Some(Duration::from_secs(60)),
        steps,
        output: None,
        mode: Mode::TwoPhase,
        no_saga: None,
        decision_retry: policy(3),
    }
}

/// Two branches, x with the steps a and b, y with c between them.
pub(super) fn two() -> Definition {
    definition(vec![step("a", "x", &[]), step("c", "y", &[0]), step("b", "x", &[1])])
}

/// One branch.
pub(super) fn one() -> Definition {
    definition(vec![step("a", "x", &[]), step("b", "x", &[0])])
}

pub(super) fn failure(code: &str) -> Failure {
    Failure { code: code.to_owned(), message: String::new() }
}

pub(super) fn done() -> CallOutcome {
    CallOutcome::Succeeded { output: json!({"ok": true}).into() }
}

pub(super) fn vote(vote: &str) -> CallOutcome {
    CallOutcome::Succeeded { output: json!({"vote": vote}).into() }
}

pub(super) fn refused(code: &str) -> CallOutcome {
    CallOutcome::Refused { failure: failure(code) }
}

pub(super) fn unknown() -> CallOutcome {
    CallOutcome::Unknown { failure: failure("LOST"), retry_after_ms: None }
}

/// A transaction that is driven by hand. Every decision is replayed: the fold of all events must be the live state.
pub(super) struct Run {
    pub(super) definition: Definition,
    pub(super) state: TransactionState,
    pub(super) now_ms: u64,
    pub(super) history: Vec<Recorded<TransactionEvent>>,
    pub(super) commands: Vec<Command>,
    pub(super) forced: bool,
}

impl Run {
    pub(super) fn start(definition: Definition) -> Self {
        let state = TransactionState::new(instance_id(3, &definition.name, "k", 1), &definition);
        let mut run = Self { definition, state, now_ms: 1_000, history: Vec::new(), commands: Vec::new(), forced: false };
        run.input(Input::Start {
            parent: None,
            key: "k".to_owned(),
            generation: 1,
            input: json!({}).into(),
            cluster: CLUSTER,
            trace: None,
        })
        .expect("a fresh instance starts");
        run
    }

    /// Every action is done.
    pub(super) fn acted(definition: Definition) -> Self {
        let mut run = Self::start(definition);
        while let Some(attempt) = run.state.open_attempts().into_iter().find(|attempt| attempt.operation == Operation::Action) {
            run.reply(attempt.step.as_ref(), Operation::Action, 1, done()).expect("it is called");
        }
        run
    }

    /// Every branch has voted yes.
    pub(super) fn committing(definition: Definition) -> Self {
        let mut run = Self::acted(definition);
        for attempt in run.state.open_attempts() {
            run.reply(attempt.step.as_ref(), Operation::Prepare, 1, vote("yes")).expect("it is asked");
        }
        run
    }

    /// Decides and applies; what is to be done is in `commands`, of this input only.
    pub(super) fn input(&mut self, input: Input) -> Result<bool, Rejection> {
        let Decision { events, commands, state, duplicate, forced, next: _ } =
            decide(&self.definition, &self.state, input, self.now_ms, &mut || 1.0)?;
        for event in &events {
            self.state.apply(&event.event, event.at_ms).expect("decided events are legal");
        }
        assert_eq!(self.state, state, "the decision's state is the fold of its events");
        self.history.extend(events);
        (self.commands, self.forced) = (commands, forced);
        Ok(duplicate)
    }

    pub(super) fn reply(&mut self, step: &str, operation: Operation, epoch: u32, outcome: CallOutcome) -> Result<bool, Rejection> {
        self.input(Input::Reply { attempt: self.attempt(step, operation, epoch), outcome, note: None, branch_address: None })
    }

    pub(super) fn attempt(&self, step: &str, operation: Operation, epoch: u32) -> AttemptId {
        AttemptId { instance: self.state.head.id, step: step.parse().expect("legal"), item: None, operation, epoch }
    }

    /// Moves the time to the next timer and lets it fire.
    pub(super) fn tick(&mut self) {
        self.now_ms = self.state.next_look_ms(self.now_ms).expect("a timer is set").max(self.now_ms);
        let before = self.history.len();
        self.input(Input::Timer { hand_outs: Vec::new() }).expect("time always passes");
        assert!(self.history.len() > before, "what is due changes something");
    }

    pub(super) fn cancel(&mut self) -> Result<bool, Rejection> {
        self.input(Input::Operate { verb: Verb::Saga(SagaVerb::Cancel), by: by("enough") })
    }

    pub(super) fn resolve(&mut self, branch: &str, outcome: ResolvedOutcome) -> Result<bool, Rejection> {
        let verb = Verb::ResolveBranch { branch: branch.to_owned(), outcome };
        self.input(Input::Operate { verb, by: by("looked") })
    }

    pub(super) fn branch(&self, name: &str) -> &Branch {
        &self.state.branches[self.state.branch_index(name).expect("a branch of the test")]
    }

    pub(super) fn branch_state(&self, name: &str) -> BranchState {
        self.branch(name).state
    }

    pub(super) fn saga_state(&self) -> SagaState {
        self.state.saga_state()
    }

    pub(super) fn why(&self) -> &str {
        self.state.failure.as_ref().map_or("", |failure| failure.code.as_str())
    }

    /// What the last input calls: where, and the path.
    pub(super) fn called(&self) -> Vec<(String, Value)> {
        let mut calls = Vec::new();
        for command in &self.commands {
            if let Command::Call(command) = command {
                let base = match &command.target {
                    Target::Http(HttpTarget::Worker { base, .. } | HttpTarget::Service { default: Some(base), .. }) => base,
                    other => panic!("nobody is at {other:?}"),
                };
                let transaction = command.call.transaction.as_ref().expect("it is of a branch");
                assert_eq!(transaction.cluster, CLUSTER);
                calls.push((format!("{base}/{}", command.call.call), json!([transaction.branch, transaction.actions_done])));
            }
        }
        calls
    }

    /// The URLs that the last input calls.
    pub(super) fn urls(&self) -> Vec<String> {
        self.called().into_iter().map(|(url, _)| url).collect()
    }

    pub(super) fn count(&self, matches: impl Fn(&TransactionEvent) -> bool) -> usize {
        self.history.iter().filter(|recorded| matches(&recorded.event)).count()
    }
}
