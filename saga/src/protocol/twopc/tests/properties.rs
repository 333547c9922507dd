//! Whole runs: random graphs over random services, participants that refuse, lose what they have open, answer late and twice, are away,
//! for good too, and a coordinator that is started again and may have lost what was not forced.
//!
//! The oracle is the participants' own books: all of them committed or none, as the transaction says; and nobody is left with a lock.

use super::fixture::*;
use crate::definition::{Definition, HttpTarget, Target};
use crate::protocol::twopc::{Phase, TransactionState, decide, open_calls};
use crate::protocol::{CallCommand, Command, Input, Recorded, Rejection};
use proptest::prelude::*;
use sagamq_api::JsonText;
use sagamq_api::saga::{Call, CallOutcome, Operation, SagaState};
use sagamq_api::transaction::Outcome;
use sagamq_broker::env::Random;
use serde_json::json;

/// What a service has of the branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Has {
    #[default]
    Nothing,
    /// So many actions; lost in a crash.
    Open(u32),
    Prepared,
}

/// One service: what it has of the branch, and the row that the branch's own transaction wrote.
#[derive(Clone, Debug, Default)]
struct Service {
    name: String,
    has: Has,
    row: Option<Outcome>,
    is_read_only: bool,
    refuses_action: bool,
    refuses_vote: bool,
    /// Where the worker is that has the branch open, if it says so.
    worker: Option<String>,
    /// Whether nobody is there just now.
    is_away: bool,
    /// Whether the other workers of the service have the same database.
    is_shared: bool,
}

impl Service {
    /// Another worker of the service is told the end of a branch that is at the one that is away.
    fn serve_elsewhere(&mut self, call: &Call) -> CallOutcome {
        if self.is_shared && call.attempt.operation == Operation::Commit { self.serve(call) } else { refused("BRANCH_UNKNOWN") }
    }

    /// Its worker goes, with what it had in memory.
    fn go_away(&mut self) {
        if self.worker.is_some() {
            self.is_away = true;
            if matches!(self.has, Has::Open(_)) {
                self.has = Has::Nothing;
            }
        }
    }

    fn serve(&mut self, call: &Call) -> CallOutcome {
        let before = call.transaction.as_ref().expect("it is of a branch").actions_done;
        match call.attempt.operation {
            Operation::Action if self.row.is_some() || self.has == Has::Prepared => refused("BRANCH_PREPARED"),
            Operation::Action if self.refuses_action => refused("NO"),
            Operation::Action if before == 0 && self.has == Has::Nothing => self.open(1),
            Operation::Action if self.has == Has::Open(before) => self.open(before + 1),
            Operation::Action => refused("BRANCH_UNKNOWN"),
            Operation::Prepare => self.vote(before),
            Operation::Commit => match (self.has, self.row) {
                (Has::Prepared, _) => self.end(Outcome::Committed),
                (_, Some(Outcome::Committed)) => done(),
                _ => refused("BRANCH_UNKNOWN"),
            },
            Operation::Rollback if self.row == Some(Outcome::Committed) => refused("BRANCH_COMMITTED"),
            Operation::Rollback => {
                self.has = Has::Nothing;
                done()
            }
            Operation::CommitOnePhase => match self.row {
                Some(Outcome::Committed) => done(),
                None if self.has == Has::Open(before) && !self.refuses_vote => self.end(Outcome::Committed),
                _ => {
                    // Forced: an older call for the same that comes late must not commit.
                    self.end(Outcome::RolledBack);
                    refused("BRANCH_UNKNOWN")
                }
            },
            Operation::Compensation => unreachable!("nothing is compensated"),
        }
    }

    fn open(&mut self, actions: u32) -> CallOutcome {
        self.has = Has::Open(actions);
        done()
    }

    fn vote(&mut self, before: u32) -> CallOutcome {
        match self.has {
            Has::Prepared => vote("yes"),
            Has::Open(actions) if actions == before && !self.refuses_vote => {
                self.has = if self.is_read_only { Has::Nothing } else { Has::Prepared };
                vote(if self.is_read_only { "read_only" } else { "yes" })
            }
            Has::Open(_) | Has::Nothing => {
                self.has = Has::Nothing;
                refused("NO")
            }
        }
    }

    fn end(&mut self, row: Outcome) -> CallOutcome {
        (self.has, self.row) = (Has::Nothing, Some(row));
        done()
    }
}

enum Message {
    Call(Box<CallCommand>),
    Reply(Box<Call>, CallOutcome),
}

struct World {
    run: Run,
    services: Vec<Service>,
    messages: Vec<Message>,
    random: Random,
    chaos: f64,
    /// Events up to here survive a power cut.
    synced: usize,
    /// What the world has been told of the decision.
    told: Option<Outcome>,
}

fn random_definition(steps: usize, services: usize, random: &mut Random) -> Definition {
    let list = (0..steps).map(|index| {
        let after: Vec<usize> = (0..index).filter(|_| random.fraction() < 0.4).collect();
        step(&format!("s{index}"), &format!("v{}", random.next_u64() % services as u64), &after)
    });
    definition(list.collect())
}

fn is_at(target: &Target, worker: &str) -> bool {
    matches!(target, Target::Http(HttpTarget::Worker { base, .. }) if base == worker)
}

impl World {
    fn new(steps: usize, services: usize, chaos: f64, seed: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let run = Run::start(random_definition(steps, services, &mut random));
        let mut happens = |share: f64| random.fraction() < share;
        let services = run.state.branches.iter().map(|branch| Service {
            name: branch.name.clone(),
            is_read_only: happens(0.3) && run.state.branches.len() > 1,
            refuses_action: happens(0.05),
            refuses_vote: happens(0.1),
            worker: happens(0.4).then(|| format!("http://worker-of-{}", branch.name)),
            is_shared: happens(0.5),
            ..Service::default()
        });
        let services = services.collect();
        let mut world = Self { run, services, messages: Vec::new(), random, chaos, synced: 1, told: None };
        world.take_commands();
        world
    }

    /// What was decided goes out, once it is on disk if it must be.
    fn take_commands(&mut self) {
        if self.run.forced {
            self.synced = self.run.history.len();
        }
        for command in core::mem::take(&mut self.run.commands) {
            if let Command::Call(command) = command {
                self.messages.push(Message::Call(command));
            }
        }
        let outcome = self.run.state.outcome();
        if outcome != Outcome::Undecided {
            // It may be forgotten for a while: the word of a branch that had the decision is asked for again.
            assert_eq!(*self.told.get_or_insert(outcome), outcome, "a decision that was heard of never changes");
        }
    }

    fn input(&mut self, input: Input) {
        match self.run.input(input) {
            Ok(_) => self.take_commands(),
            Err(Rejection::Fenced { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn happens(&mut self, share: f64) -> bool {
        self.random.fraction() < share * self.chaos
    }

    fn happen(&mut self) {
        if self.happens(0.02) {
            self.restart();
        }
        for index in 0..self.services.len() {
            if self.happens(0.02) && matches!(self.services[index].has, Has::Open(_)) {
                self.services[index].has = Has::Nothing;
            }
            if self.happens(0.05) {
                self.ask(index);
            }
            if self.happens(0.03) {
                self.services[index].go_away();
            }
            if self.happens(0.1) {
                self.services[index].is_away = false;
            }
        }
        if self.happens(0.01) && self.run.cancel().is_ok() {
            self.take_commands();
        }
        if self.messages.is_empty() || self.happens(0.2) {
            if let Some(look_ms) = self.run.state.next_look_ms(self.run.now_ms) {
                self.run.now_ms = look_ms.max(self.run.now_ms);
                self.input(Input::Timer { hand_outs: Vec::new() });
            }
            return;
        }
        let at = usize::try_from(self.random.next_u64() % self.messages.len() as u64).expect("an index");
        let message = self.messages.swap_remove(at);
        let (is_lost, is_doubled) = (self.happens(0.2), self.happens(0.2));
        match message {
            _ if is_lost => {}
            Message::Call(command) => {
                let (call, target) = (&command.call, &command.target);
                let name = &call.transaction.as_ref().expect("it is of a branch").branch;
                let service = self.services.iter_mut().find(|other| other.name == *name).expect("a service of the definition");
                let is_at_worker = service.worker.as_ref().is_some_and(|worker| is_at(target, worker));
                if is_at_worker && service.is_away {
                    return self.input(Input::NotSent {
                        attempt: call.attempt.clone(),
                        failure: failure("NOT_SENT"),
                        was_never_sent: false,
                    });
                }
                let is_elsewhere = service.worker.is_some() && !is_at_worker && call.attempt.operation != Operation::Action;
                let outcome = if is_elsewhere { service.serve_elsewhere(call) } else { service.serve(call) };
                self.messages.push(Message::Reply(Box::new(call.clone()), outcome));
                if is_doubled {
                    self.messages.push(Message::Call(command));
                }
            }
            Message::Reply(call, outcome) => {
                let attempt = call.attempt.clone();
                let name = &call.transaction.as_ref().expect("it is of a branch").branch;
                let worker = self.services.iter().find(|other| other.name == *name).and_then(|service| service.worker.clone());
                let branch_address = worker.as_deref().filter(|_| attempt.operation == Operation::Action).map(Into::into);
                self.input(Input::Reply { attempt, outcome: outcome.clone(), note: None, branch_address });
                if is_doubled {
                    self.messages.push(Message::Reply(call, outcome));
                }
            }
        }
    }

    /// A participant that has prepared asks.
    fn ask(&mut self, index: usize) {
        let outcome = self.run.state.outcome();
        if self.services[index].has == Has::Prepared && outcome != Outcome::Undecided {
            self.services[index].has = Has::Nothing;
            if outcome == Outcome::Committed {
                self.services[index].row = Some(Outcome::Committed);
            }
        }
    }

    /// The process dies, and perhaps the power too: what was not forced may be gone.
    fn restart(&mut self) {
        let history = &self.run.history;
        let kept = if self.random.fraction() < 0.5 { history.len() } else { self.synced };
        let kept: Vec<Recorded<_>> = history[..kept].to_vec();
        let mut state = TransactionState::new(self.run.state.head.id, &self.run.definition);
        for recorded in &kept {
            state.apply(&recorded.event, recorded.at_ms).expect("the log is legal");
        }
        (self.run.state, self.run.history) = (state, kept);
        self.synced = self.run.history.len();
        let again = open_calls(&self.run.definition, &self.run.state);
        self.input(Input::Recovered);
        let is_open = |command: &CallCommand| self.run.state.open_attempts().contains(&command.call.attempt);
        let again: Vec<_> = again.into_iter().filter(is_open).map(|command| Message::Call(Box::new(command))).collect();
        self.messages.extend(again);
    }

    fn run_to_the_end(mut self) {
        for _ in 0..400 {
            self.happen();
        }
        // All is up and quiet. A worker that is gone for good is not needed for a commit that others of its service can do; the others are back.
        self.chaos = 0.0;
        for service in &mut self.services {
            service.is_away &= service.is_shared && self.run.state.phase != Phase::OnePhase;
        }
        for _ in 0..10_000 {
            if self.messages.is_empty() && self.run.state.next_look_ms(self.run.now_ms).is_none() {
                break;
            }
            self.happen();
        }
        let state = &self.run.state;
        assert!(matches!(state.saga_state(), SagaState::Completed | SagaState::Failed), "{state:?}");
        for index in 0..self.services.len() {
            self.ask(index);
        }
        let is_committed = self.run.state.outcome() == Outcome::Committed;
        for service in &self.services {
            assert_ne!(service.has, Has::Prepared, "nobody stays prepared");
            let has_row = service.row == Some(Outcome::Committed);
            assert_eq!(has_row, is_committed && !service.is_read_only, "{service:?} in {:?}", self.run.history);
            assert!(!is_committed || !service.refuses_vote && !service.refuses_action, "nobody commits what somebody refused");
        }
        let mut folded = TransactionState::new(self.run.state.head.id, &self.run.definition);
        for recorded in &self.run.history {
            folded.apply(&recorded.event, recorded.at_ms).expect("the log is legal");
        }
        assert_eq!(folded, self.run.state);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn whatever_happens_all_commit_or_none(steps in 1usize..6, services in 1usize..4, calm: bool, seed: u64) {
        World::new(steps, services, if calm { 0.1 } else { 1.0 }, seed).run_to_the_end();
    }

    #[test]
    fn the_same_input_gives_the_same_decision(steps in 1usize..6, services in 1usize..4, seed: u64) {
        let definition = random_definition(steps, services, &mut Random::from_seed(seed));
        let state = TransactionState::new(uuid::Uuid::from_u128(1), &definition);
        let start = || Input::Start { parent: None, key: "k".to_owned(), generation: 1, input: JsonText::from(json!({})), cluster: CLUSTER, trace: None };
        let decided = || decide(&definition, &state, start(), 5, &mut || 0.5);
        prop_assert_eq!(decided(), decided());
    }
}
