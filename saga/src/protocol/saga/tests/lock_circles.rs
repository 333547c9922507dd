//! Many sagas that want each other's locks, with the protocols as they are shipped: instances, the homes of locks, and messages between lanes that
//! keep the order of each pair and nothing else.

use super::fixture::*;
use crate::definition::{Definition, Lock, StepKind};
use crate::expression::Template;
use crate::protocol::lock::{Circle, Claimant, Hop, LockDecision, LockMessage, LockSaid, Locks, Next, Probe, lane_of_lock};
use crate::protocol::saga::{InstanceState, Phase, decide};
use crate::protocol::{By, Command, Decision, Input, Verb, instance_id, lane_of};
use core::time::Duration;
use proptest::prelude::*;
use sagamq_api::JsonText;
use sagamq_api::saga::{Call, Operation, SagaVerb, StepFailure};
use sagamq_broker::env::Random;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

const LANES: u16 = 3;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

struct Member {
    definition: Definition,
    state: InstanceState,
    calls: Vec<Call>,
}

/// A node in which things happen in any order.
struct Node {
    random: Random,
    now_ms: u64,
    members: BTreeMap<Uuid, Member>,
    homes: Vec<Locks>,
    ways: BTreeMap<(u16, u16), VecDeque<LockMessage>>,
    /// Who is between a call under a lock and its end, by key.
    inside: BTreeMap<String, (Uuid, u64)>,
    /// Circles that were found, by who gives way and by which claim.
    circles: BTreeMap<(Claimant, String), usize>,
    /// The largest token that was given for a key.
    tokens: BTreeMap<String, u64>,
    probes: u64,
    /// Which instance was looked at by which probe: as lanes remember it.
    looks: BTreeSet<(u64, Uuid)>,
    /// Keys at which a circle was found since it was looked for another one.
    found_at: BTreeSet<String>,
    /// Probes that came back once, and whether what they followed was a circle at that moment.
    came_back: BTreeMap<u64, bool>,
}

/// A key, drawn at random.
fn draw(random: &mut Random) -> &'static str {
    KEYS[usize::try_from(random.next_u64() % 4).expect("small")]
}

/// What each step works on, and locks.
fn things(random: &mut Random) -> JsonText {
    json!({"s0": draw(random), "s1": draw(random), "s2": draw(random), "s3": draw(random)}).into()
}

/// A saga of steps in a row or side by side, each under the lock of what it works on or none; the last one may be the pivot.
fn saga(random: &mut Random, steps: usize) -> Definition {
    let is_chain = random.fraction() < 0.7;
    let has_pivot = is_chain && random.fraction() < 0.4;
    let steps = (0..steps).map(|at| {
        let after: Vec<usize> = at.checked_sub(1).filter(|_| is_chain).into_iter().collect();
        let kind = if has_pivot && at + 1 == steps { StepKind::Pivot } else { StepKind::Compensatable };
        let timeout = (random.fraction() < 0.1).then(|| Duration::from_millis(20));
        let worked_on = Template::compile(&json!(format!("${{ input.s{at} }}"))).expect("legal");
        let lock = (random.fraction() < 0.85).then(|| Lock { key: worked_on.clone(), timeout });
        let mut step = crate::definition::Step { lock, ..step(&format!("s{at}"), &after, kind) };
        for operation in [Operation::Action, Operation::Compensation] {
            if operation == Operation::Action || step.compensation.is_some() {
                step.call_mut(operation).arguments = worked_on.clone();
            }
        }
        step
    });
    Definition { timeout: None, ..definition(steps.collect()) }
}

impl Node {
    fn new(seed: u64, sagas: usize) -> Self {
        let mut random = Random::from_seed(seed);
        let mut members = BTreeMap::new();
        for number in 0..sagas {
            let length = 1 + usize::try_from(random.next_u64() % 4).expect("small");
            let definition = saga(&mut random, length);
            let lane = u16::try_from(random.next_u64() % u64::from(LANES)).expect("small");
            let id = instance_id(lane, &definition.name, &number.to_string(), 1);
            let state = InstanceState::new(id, &definition);
            members.insert(id, Member { definition, state, calls: Vec::new() });
        }
        let homes = (0..LANES).map(|_| Locks::default()).collect();
        let (inside, circles, tokens) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            random,
            now_ms: 1_000,
            members,
            homes,
            ways: BTreeMap::new(),
            inside,
            circles,
            tokens,
            probes: 0,
            looks: BTreeSet::new(),
            found_at: BTreeSet::new(),
            came_back: BTreeMap::new(),
        }
    }

    fn send(&mut self, from: u16, to: u16, message: LockMessage) {
        self.ways.entry((from, to)).or_default().push_back(message);
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.random.next_u64() % u64::try_from(count).expect("few")).expect("an index")
    }

    /// Tells an instance something, and sends what it orders.
    fn tell(&mut self, id: Uuid, input: Input) {
        let (now_ms, lane) = (self.now_ms, lane_of(id));
        let member = self.members.get_mut(&id).expect("a member");
        let Ok(Decision { events, commands, state, .. }) = decide(&member.definition, &member.state, input, now_ms, &mut || 1.0) else {
            return;
        };
        for event in &events {
            member.state.apply(&event.event, event.at_ms).expect("decided events are legal");
            member.state.check().expect("and no state between them is impossible");
        }
        assert_eq!(member.state, state, "the state is the fold of the events");
        let mut messages = Vec::new();
        for command in commands {
            match command {
                Command::Call(command) => {
                    if let Some(lock) = &command.call.lock {
                        let inside = self.inside.entry(lock.key.clone()).or_insert((id, lock.token));
                        assert_eq!(*inside, (id, lock.token), "one saga at a time works under `{}`", lock.key);
                        let worked_on = command.call.arguments.to_value();
                        assert!(worked_on == json!(lock.key) || worked_on == json!({}), "{worked_on} is worked on under `{}`", lock.key);
                    }
                    member.calls.push(command.call);
                }
                Command::Settle { attempt, .. } => member.calls.retain(|call| call.attempt != attempt),
                Command::Lock { key, by, wants, must } => {
                    let message =
                        if wants { LockMessage::Ask { key: key.clone(), by, must } } else { LockMessage::Leave { key: key.clone(), by } };
                    messages.push((lane_of_lock(&key, LANES), message));
                }
                Command::Postpone { .. } | Command::Tell(_) | Command::Relate(_) => {}
            }
        }
        let is_over = member.state.phase.is_final();
        if is_over {
            self.inside.retain(|_, (inside, _)| *inside != id);
        }
        for (to, message) in messages {
            self.send(lane, to, message);
        }
    }

    /// A home has decided.
    fn home(&mut self, lane: u16, decision: &LockDecision) {
        let home = &mut self.homes[usize::from(lane)];
        home.apply(decision);
        for (to, said) in &decision.said {
            if let LockSaid::Granted { token } = said {
                let before = self.tokens.insert(decision.key.clone(), *token);
                assert!(before.is_none_or(|before| before <= *token), "tokens grow");
            }
            let message = LockMessage::Said { key: decision.key.clone(), to: *to, said: said.clone() };
            self.send(lane, lane_of(to.instance), message);
        }
        if let Some(instance) = decision.look_at {
            self.probe(lane, instance);
        }
    }

    /// A home sends a probe out.
    fn probe(&mut self, lane: u16, instance: Uuid) {
        self.probes += 1;
        let probe = Probe::new(self.probes, instance);
        self.send(lane, lane_of(instance), LockMessage::LookAtInstance { instance, probe });
    }

    fn receive(&mut self, lane: u16, message: LockMessage) {
        let home = &self.homes[usize::from(lane)];
        match message {
            LockMessage::Ask { key, by, must } => self.home(lane, &home.ask(&key, by, must, self.now_ms)),
            LockMessage::Leave { key, by } => self.home(lane, &home.leave(&key, by, self.now_ms)),
            LockMessage::Said { key, to, said } => self.tell(to.instance, Input::Lock { key, number: to.number, said }),
            LockMessage::LookAtKey { probe } => match probe.clone().at_key(home) {
                None => {}
                Some(Next::LookAt(instance, probe)) => self.send(lane, lane_of(instance), LockMessage::LookAtInstance { instance, probe }),
                Some(Next::Anew(from)) => self.probe(lane, from),
                Some(Next::Confirm(confirming)) => {
                    let is_real = self.is_circle(&confirming.confirms);
                    self.came_back.insert(confirming.id, is_real);
                    let instance = confirming.from;
                    self.send(lane, lane_of(instance), LockMessage::LookAtInstance { instance, probe: confirming });
                }
                Some(Next::Circle(Circle { gives_way, failure })) => {
                    assert!(self.came_back[&probe.id], "nobody gives way but to what was a circle: {probe:?}");
                    self.found_at.insert(probe.path.last().expect("it came from a wait").key.clone());
                    let (victim, key) = gives_way.expect("none of these sagas is past its pivot while it waits");
                    *self.circles.entry((victim, key.clone())).or_default() += 1;
                    let message = LockMessage::Said { key, to: victim, said: LockSaid::Refused { failure } };
                    self.send(lane, lane_of(victim.instance), message);
                }
            },
            LockMessage::LookAtInstance { instance, probe } => {
                if !self.looks.insert((probe.look(), instance)) {
                    return;
                }
                let state = &self.members[&instance].state;
                let (started_at_ms, waits) = (state.head.started_at_ms, state.lock_waits());
                if probe.is_outdated_by(instance, &waits) {
                    self.probe(lane, probe.from);
                }
                for (key, probe) in probe.follow(instance, started_at_ms, &waits) {
                    self.send(lane, lane_of_lock(&key, LANES), LockMessage::LookAtKey { probe });
                }
            }
        }
    }

    /// Whether each of these waits for its lock, which the next one holds, at this moment.
    fn is_circle(&self, path: &[Hop]) -> bool {
        path.iter().enumerate().all(|(at, Hop { by, key, .. })| {
            let next = &path[(at + 1) % path.len()];
            let lock = self.homes[usize::from(lane_of_lock(key, LANES))].get(key);
            let is_queued =
                lock.is_some_and(|lock| lock.holder.by.instance == next.by.instance && lock.queue.iter().any(|waiter| waiter.by == *by));
            is_queued && self.members[&by.instance].state.lock_waits().iter().any(|wait| wait.key == *key && wait.number == by.number)
        })
    }

    /// One thing happens. `false`: nothing can.
    fn happen(&mut self) -> bool {
        self.now_ms += 1;
        let fresh: Vec<Uuid> = self.of(|member| member.state.phase == Phase::New);
        let busy: Vec<Uuid> = self.of(|member| !member.calls.is_empty());
        let ways: Vec<(u16, u16)> = self.ways.iter().filter(|(_, way)| !way.is_empty()).map(|(way, _)| *way).collect();
        let choices = fresh.len() + busy.len() + 2 * ways.len();
        if choices == 0 {
            if let Some(paused) = self.of(|member| member.state.is_paused()).first() {
                self.operate(*paused, SagaVerb::Resume);
                return true;
            }
            if let Some(key) = self.found_at.pop_first() {
                let lane = lane_of_lock(&key, LANES);
                let holder = self.homes[usize::from(lane)].get(&key).map(|lock| lock.holder.by.instance);
                holder.into_iter().for_each(|holder| self.probe(lane, holder));
                return true;
            }
            // Waits that are bounded end.
            let due = self.members.values().filter_map(|member| member.state.next_look_ms(self.now_ms)).min();
            let Some(due_ms) = due else { return false };
            self.now_ms = self.now_ms.max(due_ms);
            self.look();
            return true;
        }
        let at = self.pick(choices);
        if let Some(id) = fresh.get(at) {
            let input = things(&mut self.random);
            self.tell(*id, Input::Start { parent: None, key: "k".to_owned(), generation: 1, input, cluster: Uuid::nil(), trace: None });
        } else if let Some(id) = busy.get(at.saturating_sub(fresh.len())).filter(|_| at >= fresh.len()) {
            let count = self.members[id].calls.len();
            let at = self.pick(count);
            let call = self.members.get_mut(id).expect("a member").calls.swap_remove(at);
            let is_undo = call.attempt.operation == Operation::Compensation;
            let outcome = if !is_undo && self.random.fraction() < 0.05 { refused() } else { done() };
            self.tell(*id, Input::Reply { attempt: call.attempt, outcome, note: None, branch_address: None });
        } else {
            let at = self.pick(ways.len());
            let (from, to) = ways[at];
            let message = self.ways.get_mut(&(from, to)).and_then(VecDeque::pop_front).expect("one waits");
            self.receive(to, message);
        }
        if self.random.fraction() < 0.05 {
            self.look();
        }
        let chance = self.random.fraction();
        let verb = match chance {
            _ if chance < 0.01 => SagaVerb::Cancel,
            _ if chance < 0.03 => SagaVerb::EditInput { input: things(&mut self.random) },
            _ if chance < 0.04 => SagaVerb::Pause,
            _ if chance < 0.06 => SagaVerb::Resume,
            _ => return true,
        };
        let ids = self.of(|_| true);
        let at = self.pick(ids.len());
        self.operate(ids[at], verb);
        true
    }

    fn operate(&mut self, id: Uuid, verb: SagaVerb) {
        self.tell(id, Input::Operate { verb: Verb::Saga(verb), by: By::default() });
    }

    /// Time is looked at. Calls that nobody has answered yet are waited for.
    fn look(&mut self) {
        for id in self.of(|member| member.calls.is_empty()) {
            self.tell(id, Input::Timer { hand_outs: Vec::new() });
        }
    }

    fn of(&self, wanted: impl Fn(&Member) -> bool) -> Vec<Uuid> {
        self.members.iter().filter(|(_, member)| wanted(member)).map(|(id, _)| *id).collect()
    }

    fn failures(&self) -> impl Iterator<Item = (&Uuid, &StepFailure)> {
        self.members.iter().flat_map(|(id, member)| member.state.failures.iter().map(move |failed| (id, failed.as_ref())))
    }

    fn run(&mut self) {
        let mut steps = 0;
        while self.happen() {
            steps += 1;
            assert!(steps < 100_000, "it comes to its end");
        }
        for (id, member) in &self.members {
            assert!(member.state.phase.is_final(), "every wait ends: {id} {:?} {:?}", member.state.phase, member.state.claims);
        }
        assert!(self.homes.iter().all(|home| home.counts() == (0, 0)), "and everything is let go");
        assert!(self.inside.is_empty());
        // Nobody gives way without a circle, and in each of them one does.
        for (id, failed) in self.failures().filter(|(_, failed)| failed.failure.code == "LOCK_DEADLOCK") {
            assert!(self.circles.keys().any(|(victim, _)| victim.instance == *id), "{failed:?}");
        }
    }

    fn victims(&self) -> usize {
        let mut victims: Vec<&Uuid> =
            self.failures().filter(|(_, failed)| failed.failure.code == "LOCK_DEADLOCK").map(|(id, _)| id).collect();
        victims.sort_unstable();
        victims.dedup();
        victims.len()
    }
}

/// Two sagas that take two locks in opposite orders, started one after the other.
fn crossed(seed: u64) -> Node {
    let mut node = Node::new(seed, 2);
    for (member, keys) in node.members.values_mut().zip([["a", "b"], ["b", "a"]]) {
        let lock = |key: &str| Some(Lock { key: Template::literal(json!(key)), timeout: None });
        let steps = keys.iter().enumerate().map(|(at, key)| {
            let after: Vec<usize> = at.checked_sub(1).into_iter().collect();
            crate::definition::Step { lock: lock(key), ..step(&format!("s{at}"), &after, StepKind::Compensatable) }
        });
        member.definition = Definition { timeout: None, ..definition(steps.collect()) };
        member.state = InstanceState::new(member.state.head.id, &member.definition);
    }
    node
}

#[test]
fn of_two_that_cross_one_gives_way_and_it_is_the_younger() {
    let mut seen = 0;
    for seed in 0..400 {
        let mut node = crossed(seed);
        node.run();
        let victims = node.victims();
        assert!(victims <= 1, "one circle has one who gives way");
        if victims == 0 {
            continue;
        }
        seen += 1;
        let started = |id: &Uuid| node.members[id].state.head.started_at_ms;
        let (victim, _) = node.failures().find(|(_, failed)| failed.failure.code == "LOCK_DEADLOCK").expect("it was counted");
        let other = node.members.keys().find(|id| *id != victim).expect("there are two");
        assert!((started(victim), *victim) > (started(other), *other), "the younger one");
    }
    assert!(seen > 50, "only {seen} circles came up");
}

/// Else the property says nothing.
#[test]
fn random_sagas_wait_for_each_other_in_circles() {
    let (mut circles, mut timeouts, mut waits, mut phantoms) = (0, 0, 0, 0);
    for seed in 0..400 {
        let mut node = Node::new(seed, 6);
        node.run();
        circles += node.victims();
        timeouts += node.failures().filter(|(_, failed)| failed.failure.code == "LOCK_TIMEOUT").count();
        waits += usize::try_from(node.probes).expect("few");
        phantoms += node.came_back.values().filter(|is_real| !**is_real).count();
    }
    let seen = format!("{circles} gave way, {timeouts} timeouts, {waits} waits, {phantoms} that were none when they were found");
    assert!(circles > 50 && timeouts > 0 && waits > 500 && phantoms > 0, "{seen}");
}

/// Runs that went wrong once: a lock passes on between the two rounds of a probe, so that the second one closes by another way than the first, and
/// circles beside which a wait ends that the probe had come by.
#[test]
fn a_circle_closes_twice_by_the_same_way() {
    for (seed, sagas) in [(15_706_205_925_042_715_366, 5), (11_635_629_876_557_506_372, 7), (3_514_503_877_128_955_587, 3)] {
        Node::new(seed, sagas).run();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_work_under_one_lock_every_wait_ends_and_tokens_grow(sagas in 1_usize..9, seed: u64) {
        Node::new(seed, sagas).run();
    }
}
