//! Members that join, hand back, commit, lose answers, leave and die at random, against what must hold: a partition has one holder that may
//! commit, every partition gets one once the churn ends, epochs rise, and what was stored is what there is.

use super::coordinator::{Answer, Coordinator, Heartbeat, Join, Leave, Terms};
use super::error::HeartbeatError;
use super::member::TopicPartition;
use super::row::{RowChange, StoredStream, StreamRow};
use crate::ids::TopicId;
use proptest::prelude::*;
use sagamq_api::{InstanceId, MemberId, Offset, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

const TERMS: Terms = Terms { members_max: 6, rebalance_ms: 3_000 };
const SESSION_MS: u64 = 1_000;

/// A member as a program has it.
#[derive(Clone, Debug, Default)]
struct Client {
    /// Number of the process: a new one has a new member id.
    process: u32,
    epoch: u64,
    /// What it works on, and under which epoch it was given.
    owned: BTreeMap<TopicPartition, u64>,
    is_static: bool,
    /// Hands nothing back.
    is_stubborn: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// A heartbeat. `is_lost`: its answer does not arrive.
    Beat {
        client: usize,
        is_lost: bool,
    },
    /// The member commits for everything it works on.
    Commit {
        client: usize,
    },
    /// Somebody commits with what was known some time ago.
    OldCommit {
        back: usize,
    },
    Leave {
        client: usize,
        returns: bool,
    },
    /// The process dies, and another one of the same program comes later.
    Die {
        client: usize,
    },
    Stubborn {
        client: usize,
        is: bool,
    },
    Pass {
        ms: u64,
    },
    Seek {
        partition: u32,
    },
    Partitions {
        count: u32,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..5_usize;
    prop_oneof![
        12 => (client.clone(), prop::bool::weighted(0.15)).prop_map(|(client, is_lost)| Step::Beat { client, is_lost }),
        4 => client.clone().prop_map(|client| Step::Commit { client }),
        4 => (0..40_usize).prop_map(|back| Step::OldCommit { back }),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, returns)| Step::Leave { client, returns }),
        1 => client.clone().prop_map(|client| Step::Die { client }),
        1 => (client, any::<bool>()).prop_map(|(client, is)| Step::Stubborn { client, is }),
        3 => (1..700_u64).prop_map(|ms| Step::Pass { ms }),
        1 => (0..6_u32).prop_map(|partition| Step::Seek { partition }),
        1 => (1..8_u32).prop_map(|count| Step::Partitions { count }),
        1 => Just(Step::Restart),
    ]
}

/// What a member was told: who, under which epoch, what.
type Told = (MemberId, u64, Vec<(TopicPartition, u64)>);

struct World {
    group: Coordinator,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    clients: Vec<Client>,
    topics: BTreeMap<TopicId, u32>,
    now_ms: u64,
    /// What members were told, in order.
    told: Vec<Told>,
    /// The last epoch under which a partition was given to somebody, and to whom.
    given: BTreeMap<TopicPartition, (u64, MemberId)>,
    highest: u64,
}

impl World {
    fn new() -> Self {
        let clients = (0..5).map(|n| Client { is_static: n < 2, ..Client::default() }).collect();
        Self {
            group: Coordinator::new(TERMS),
            rows: BTreeMap::new(),
            clients,
            topics: [(TopicId(1), 4), (TopicId(2), 3)].into(),
            now_ms: 1_000,
            told: Vec::new(),
            given: BTreeMap::new(),
            highest: 0,
        }
    }

    fn id(&self, client: usize) -> MemberId {
        format!("c{client}-{}", self.clients[client].process).parse().expect("legal")
    }

    /// A commit: the rows that changed are written, and give the state back.
    fn store(&mut self) {
        for RowChange { row, value } in self.group.take_changes() {
            match value {
                Some(value) => drop(self.rows.insert(row.encode(), value)),
                None => drop(self.rows.remove(&row.encode())),
            }
        }
        assert!(self.group.take_changes().is_empty(), "what is written is written once");
        assert_eq!(self.load().state(), self.group.state(), "the rows say what there is");
    }

    fn load(&self) -> Coordinator {
        let mut stored = StoredStream::default();
        for (key, value) in &self.rows {
            stored.add(StreamRow::of(key).expect("a key that was written"), value).expect("a row that was written");
        }
        stored.check().expect("they go together");
        Coordinator::of(stored, TERMS, self.now_ms)
    }

    fn join(&self, client: usize) -> Heartbeat {
        let instance = self.clients[client].is_static.then(|| format!("i{client}").parse::<InstanceId>().expect("legal"));
        // The last one reads one topic only.
        let topics = self.topics.keys().copied().filter(|topic| client != 4 || topic.0 == 1).collect();
        Heartbeat::Join(Join { topics, instance, session_ms: SESSION_MS })
    }

    fn beat(&mut self, client: usize, is_lost: bool) {
        let (id, of) = (self.id(client), self.clients[client].clone());
        let owned = of.owned.keys().copied().collect();
        let heartbeat = if of.epoch == 0 { self.join(client) } else { Heartbeat::Stay { epoch: of.epoch, owned, topics: None } };
        let result = self.group.heartbeat(&id, &heartbeat, &self.topics, self.now_ms);
        self.store();
        match result {
            Ok(answer) => self.hear(client, &id, &answer, is_lost),
            Err(HeartbeatError::Fenced(_)) => {
                assert!(of.epoch > 0, "who joins is not fenced");
                let client = &mut self.clients[client];
                (client.epoch, client.owned) = (0, BTreeMap::new());
            }
            Err(HeartbeatError::NoInstance(_)) => unreachable!("nobody leaves with this call"),
            Err(HeartbeatError::MembersMax(max)) => assert_eq!(self.group.state().members().len(), max),
        }
    }

    fn hear(&mut self, client: usize, id: &MemberId, answer: &Answer, is_lost: bool) {
        assert!(answer.epoch >= self.clients[client].epoch, "epochs rise");
        assert_eq!(answer.epoch, self.group.state().members()[id].epoch());
        for assigned in &answer.assigned {
            let before = self.given.insert(assigned.partition, (assigned.epoch, id.clone()));
            if let Some((epoch, holder)) = before {
                assert!(assigned.epoch > epoch || (assigned.epoch == epoch && holder == *id), "given anew under a later epoch");
            }
        }
        let told: Vec<_> = answer.assigned.iter().map(|assigned| (assigned.partition, assigned.epoch)).collect();
        self.told.push((id.clone(), answer.epoch, told.clone()));
        if is_lost {
            return;
        }
        let of = &mut self.clients[client];
        of.epoch = answer.epoch;
        let told: BTreeMap<_, _> = told.into_iter().collect();
        if of.is_stubborn {
            of.owned.extend(told);
        } else {
            of.owned = told;
        }
    }

    fn commit(&mut self, id: &MemberId, epoch: u64, partitions: &[TopicPartition]) -> bool {
        let offsets: Vec<_> = partitions.iter().map(|of| (*of, Offset(self.now_ms))).collect();
        let is_taken = self.group.commit(id, epoch, &offsets, self.now_ms).is_ok();
        self.store();
        if is_taken {
            for (partition, _) in offsets {
                assert_eq!(self.group.state().holder(partition), Some(id), "only the holder commits");
                let (given, to) = self.given.get(&partition).cloned().expect("it was given");
                assert!(to != *id || epoch >= given, "nothing is committed of before it was given");
            }
        }
        is_taken
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Beat { client, is_lost } => self.beat(client, is_lost),
            Step::Commit { client } => {
                let of = self.clients[client].clone();
                let id = self.id(client);
                let held: Vec<_> = of.owned.keys().copied().collect();
                let taken = self.commit(&id, of.epoch, &held);
                let still = |(of, given): (&TopicPartition, &u64)| {
                    self.group.state().holder(*of) == Some(&id) && self.group.state().members()[&id].held[of] == *given
                };
                let is_member = self.group.state().members().contains_key(&id);
                let all_hold = is_member && of.epoch > 0 && of.owned.iter().all(still);
                let is_away = self.group.state().members().get(&id).is_some_and(super::Member::is_away);
                assert!(taken || !all_hold || is_away, "who holds it commits");
            }
            Step::OldCommit { back } => {
                let Some((id, epoch, told)) = self.told.iter().rev().nth(back).cloned() else { return };
                for (partition, given) in told {
                    let is_current = self.group.state().holder(partition) == Some(&id)
                        && self.group.state().members().get(&id).is_some_and(|member| member.held[&partition] <= epoch);
                    let taken = self.commit(&id, epoch, &[partition]);
                    assert!(!taken || is_current, "{id} committed {partition} under {epoch}, given under {given}");
                }
            }
            Step::Leave { client, returns } => {
                let (id, epoch) = (self.id(client), self.clients[client].epoch);
                let leave = if returns { Leave::ToReturn } else { Leave::ForGood };
                if epoch > 0 {
                    let _ = self.group.heartbeat(&id, &Heartbeat::Leave { epoch, leave }, &self.topics, self.now_ms);
                    self.store();
                }
                self.begin_anew(client);
            }
            Step::Die { client } => self.begin_anew(client),
            Step::Stubborn { client, is } => self.clients[client].is_stubborn = is,
            Step::Pass { ms } => self.pass(ms),
            Step::Seek { partition } => {
                let of = TopicPartition { topic: TopicId(1), partition: PartitionId(partition) };
                if partition < self.topics[&TopicId(1)] {
                    self.group.seek(&[(of, Offset(5))], self.now_ms);
                    self.store();
                    assert_eq!(self.group.state().committed(of).map(|committed| committed.offset), Some(Offset(5)));
                }
            }
            Step::Partitions { count } => {
                // Never fewer, but the second topic may be gone, and another comes in its place.
                let of = self.topics.get_mut(&TopicId(1)).expect("it stays");
                *of = (*of).max(count);
                if count == 1 {
                    let last = *self.topics.last_key_value().expect("two").0;
                    self.topics.remove(&last);
                    self.topics.insert(TopicId(last.0 + 1), 2);
                }
            }
            Step::Restart => {
                self.group = self.load();
            }
        }
        let epochs = self.group.state().members().values().map(super::Member::epoch).max().unwrap_or(0).max(self.group.state().assigned());
        assert!(epochs <= self.group.state().epoch);
        assert!(self.group.state().epoch >= self.highest, "epochs rise, over restarts too");
        self.highest = self.group.state().epoch;
    }

    fn begin_anew(&mut self, client: usize) {
        let of = &mut self.clients[client];
        *of = Client { process: of.process + 1, is_static: of.is_static, ..Client::default() };
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let due = self.group.next_due_ms();
        let over = self.group.expire(self.now_ms);
        assert_eq!(over.is_empty(), due.is_none_or(|due_ms| due_ms > self.now_ms), "time is up when it was said");
        self.store();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn one_holder_at_a_time_and_all_held_in_the_end(steps in proptest::collection::vec(step(), 1..140)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        // The churn ends: whoever is there goes on, and the dead are given up.
        for _ in 0..12 {
            for client in 0..5 {
                world.clients[client].is_stubborn = false;
                world.beat(client, false);
            }
            world.pass(SESSION_MS / 3);
        }
        let state = world.group.state();
        for (&topic, &count) in state.topics() {
            for partition in (0..count).map(|partition| TopicPartition { topic, partition: PartitionId(partition) }) {
                // A topic that came later is read by nobody who joined before.
                let is_read = state.members().values().any(|member| member.topics().contains(&topic));
                prop_assert_eq!(state.holder(partition).is_some(), is_read, "{}", partition);
            }
        }
        let owned: Vec<_> = world.clients.iter().flat_map(|client| client.owned.keys()).collect();
        let unique: BTreeSet<_> = owned.iter().collect();
        prop_assert_eq!(owned.len(), unique.len(), "two work on one partition");
        prop_assert_eq!(unique.len(), state.holders.len(), "what is given is worked on");
    }
}

#[test]
fn a_partition_waits_for_its_holder_to_hand_it_back() {
    let mut world = World::new();
    world.topics = [(TopicId(1), 2)].into();
    world.beat(2, false);
    assert_eq!(world.clients[2].owned.len(), 2);
    world.beat(3, false);
    assert!(world.clients[3].owned.is_empty(), "nothing is free yet");
    // It hears that it is to hand one back, commits, and hands it back with the next heartbeat.
    let before = world.clients[2].clone();
    world.beat(2, false);
    assert_eq!(world.clients[2].owned.len(), 1);
    world.beat(3, false);
    assert!(world.clients[3].owned.is_empty(), "not handed back yet");
    let id = world.id(2);
    let all: Vec<_> = before.owned.keys().copied().collect();
    assert!(world.commit(&id, before.epoch, &all), "who hands back may still commit");
    world.beat(2, false);
    assert!(!world.commit(&id, before.epoch, &all), "and not after that");
    world.beat(3, false);
    assert_eq!(world.clients[3].owned.len(), 1);
}

#[test]
fn who_does_not_hand_back_in_time_is_fenced() {
    let mut world = World::new();
    world.topics = [(TopicId(1), 2)].into();
    world.beat(2, false);
    world.beat(3, false);
    world.clients[2].is_stubborn = true;
    for _ in 0..7 {
        world.pass(TERMS.rebalance_ms / 6);
        world.beat(2, false);
        world.beat(3, false);
    }
    assert!(!world.clients[3].owned.is_empty(), "it waited long enough");
}

#[test]
fn a_static_member_comes_back_to_its_partitions_and_its_old_process_is_fenced() {
    let mut world = World::new();
    world.topics = [(TopicId(1), 4)].into();
    for _ in 0..4 {
        world.beat(0, false);
        world.beat(1, false);
    }
    let (old, before) = (world.id(0), world.clients[0].clone());
    let neighbour = world.clients[1].owned.clone();
    let assigned = world.group.state().assigned();
    world.begin_anew(0);
    world.beat(0, false);
    assert_eq!(world.clients[0].owned.keys().collect::<Vec<_>>(), before.owned.keys().collect::<Vec<_>>());
    assert_eq!(world.group.state().assigned(), assigned, "nobody else is disturbed");
    world.beat(1, false);
    assert_eq!(world.clients[1].owned, neighbour);
    let all: Vec<_> = before.owned.keys().copied().collect();
    assert!(!world.commit(&old, before.epoch, &all), "the process before is fenced");
    // It leaves to come back: its partitions wait for it, and then go to others.
    let (id, epoch) = (world.id(0), world.clients[0].epoch);
    let leave = Heartbeat::Leave { epoch, leave: Leave::ToReturn };
    world.group.heartbeat(&id, &leave, &world.topics, world.now_ms).expect("left");
    world.store();
    world.beat(1, false);
    assert_eq!(world.clients[1].owned.len(), 2);
    world.pass(SESSION_MS - 1);
    world.beat(1, false);
    world.pass(1);
    world.beat(1, false);
    assert_eq!(world.clients[1].owned.len(), 4, "it did not come back in time");
}

/// Nobody is there to hand anything back, and the time for that is no session.
#[test]
fn whoever_left_to_return_keeps_its_place_when_another_joins() {
    let mut world = World::new();
    world.topics = [(TopicId(1), 4)].into();
    world.beat(0, false);
    world.beat(0, false);
    assert_eq!(world.clients[0].owned.len(), 4);
    let (id, epoch) = (world.id(0), world.clients[0].epoch);
    let leave = Heartbeat::Leave { epoch, leave: Leave::ToReturn };
    world.group.heartbeat(&id, &leave, &world.topics, world.now_ms).expect("left");
    world.store();
    world.beat(1, false);
    assert_eq!(world.clients[1].owned.len(), 2, "half of them, at once");
    world.pass(SESSION_MS - 1);
    assert!(world.group.state().members().contains_key(&id), "its session goes on");
    world.beat(1, false);
    assert_eq!(world.clients[1].owned.len(), 2);
}

#[test]
fn a_restart_gives_everybody_one_full_session_again() {
    let mut world = World::new();
    world.beat(2, false);
    world.pass(SESSION_MS - 1);
    world.group = world.load();
    world.pass(SESSION_MS - 1);
    assert_eq!(world.group.state().members().len(), 1);
    world.pass(1);
    assert!(world.group.state().members().is_empty());
}
