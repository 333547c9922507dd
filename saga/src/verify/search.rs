//! The search: every state that can be reached within the bounds, the nearest first, so that the first way that is found to something wrong
//! is a shortest one.
//!
//! Level by level: the states of a level are looked at side by side, and what they lead to is put together in their order. So the result does
//! not depend on the number of threads. A state that is reached again with no more having gone wrong before leads to nothing new; one that
//! leads to the same with less is looked at once more, because more may still go wrong behind it.

use super::check::check;
use super::key::{Key, Scratch, key};
use super::model::Model;
use super::moves::Move;
use super::property::{Property, Tried, Wrong};
use super::turn::{After, after, start};
use super::world::World;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::Ordering;

/// States of a level that one thread looks at alone.
const ALONE: usize = 48;

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Different states.
    pub(super) states: usize,
    /// Moves between them.
    pub(super) steps: u64,
    /// Most moves from the start to a state, on the shortest way to it.
    pub(super) depth: usize,
    /// Whether every state within the bounds was looked at.
    pub(super) is_whole: bool,
    /// Of each property the shortest way that breaks it.
    pub(super) wrong: BTreeMap<Property, (Wrong, Vec<Move>)>,
    /// How often each property was put to the test.
    pub(super) tried: Tried,
    /// Ends that were seen, by the name of the state.
    pub(super) ends: BTreeMap<String, u64>,
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // The number of a key comes through here as its bytes.
        let mut first = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        self.0 = u64::from_le_bytes(first);
    }
}

type Known<T> = HashMap<Key, T, BuildHasherDefault<AsItIs>>;

/// How a state was reached.
#[derive(Debug)]
struct Node {
    from: u32,
    by: Move,
    /// What it leads to if nothing more goes wrong; `None`: it is at rest.
    quiet: Option<Key>,
}

/// How a state is known: its latest node, and how much went wrong on the way there.
#[derive(Clone, Copy, Debug)]
struct Seen {
    node: u32,
    faults: u8,
}

/// A state that one of the level leads to.
struct Next {
    from: u32,
    by: Move,
    key: Key,
    world: World,
}

/// What a part of a level leads to.
struct Part {
    next: Vec<Next>,
    quiet: Vec<(u32, Option<Key>)>,
    wrong: Vec<(u32, Option<Move>, Wrong)>,
    ends: BTreeMap<String, u64>,
    tried: Tried,
    steps: u64,
}

/// Looks at every state within the bounds.
pub(super) fn search(model: &Model<'_>) -> Found {
    let invariants = model.subject.invariants.len();
    let mut tried = Tried::new(invariants);
    let After { world, mut wrong } = start(model, model.empty(None), &mut tried);
    check(model, &world, &mut tried, &mut wrong);
    let mut found = Found { states: 1, steps: 0, depth: 0, is_whole: true, wrong: BTreeMap::new(), tried, ends: BTreeMap::new() };
    for wrong in wrong {
        found.wrong.entry(wrong.property).or_insert((wrong, Vec::new()));
    }
    let first = key(model, &world, &mut Scratch::default());
    let mut nodes = vec![Node { from: 0, by: Move::Look, quiet: None }];
    let mut known: Known<Seen> = Known::default();
    known.insert(first, Seen { node: 0, faults: 0 });
    let mut level = vec![(0, world, first)];
    let mut depth = 0;
    while !level.is_empty() {
        found.depth = depth;
        let parts = look_at(model, &level, &known, invariants);
        let mut next_level = Vec::new();
        for part in parts {
            found.steps += part.steps;
            found.tried.add(&part.tried);
            part.ends.into_iter().for_each(|(state, count)| *found.ends.entry(state).or_default() += count);
            part.quiet.into_iter().for_each(|(node, to)| nodes[node as usize].quiet = to);
            for (node, by, wrong) in part.wrong {
                found.wrong.entry(wrong.property).or_insert_with(|| {
                    let mut way = way(&nodes, node);
                    way.extend(by);
                    (wrong, way)
                });
            }
            for Next { from, by, key, world } in part.next {
                let node = u32::try_from(nodes.len()).expect("fewer states than the bound allows");
                let seen = Seen { node, faults: world.faults };
                if known.get(&key).is_some_and(|before| before.faults <= seen.faults) {
                    continue;
                }
                known.insert(key, seen);
                nodes.push(Node { from, by, quiet: None });
                next_level.push((node, world, key));
            }
        }
        found.states = known.len();
        let is_stopped = model.subject.stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
        if (known.len() > model.bounds.states && !next_level.is_empty()) || is_stopped {
            found.is_whole = false;
            break;
        }
        level = next_level;
        depth += 1;
    }
    // Beyond a bound nobody knows what follows.
    if found.is_whole {
        circles(&nodes, &known, &mut found);
    }
    found
}

fn look_at(model: &Model<'_>, level: &[(u32, World, Key)], known: &Known<Seen>, invariants: usize) -> Vec<Part> {
    let threads = model.bounds.threads.max(1).min(level.len().div_ceil(ALONE));
    if threads == 1 {
        return vec![look_at_part(model, level, known, invariants)];
    }
    let chunk = level.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let parts: Vec<_> = level.chunks(chunk).map(|part| scope.spawn(move || look_at_part(model, part, known, invariants))).collect();
        parts.into_iter().map(|part| part.join().expect("decisions do not panic")).collect()
    })
}

fn look_at_part(model: &Model<'_>, part: &[(u32, World, Key)], known: &Known<Seen>, invariants: usize) -> Part {
    let tried = Tried::new(invariants);
    let mut found =
        Part { next: Vec::new(), quiet: Vec::with_capacity(part.len()), wrong: Vec::new(), ends: BTreeMap::new(), tried, steps: 0 };
    let (mut scratch, mut moves, mut own) = (Scratch::default(), Vec::new(), Known::<u8>::default());
    for (node, world, place) in part {
        if model.subject.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            break;
        }
        moves.clear();
        let alone = model.alone(world);
        match alone {
            Some(only) => moves.push(only),
            None => model.goes_on(world, &mut moves),
        }
        let by_itself = moves.len();
        if alone.is_none() {
            Model::arrives(world, &mut moves);
            model.faults(world, &mut moves);
        }
        let mut quiet = None;
        for (at, by) in moves.iter().enumerate() {
            let Some(After { world: next, mut wrong }) = after(model, world, *by, &mut found.tried) else { continue };
            found.steps += 1;
            let there = key(model, &next, &mut scratch);
            if there != *place {
                check(model, &next, &mut found.tried, &mut wrong);
            }
            if at < by_itself && quiet.is_none() && there != *place {
                quiet = Some(there);
            }
            let is_wrong = !wrong.is_empty();
            found.wrong.extend(wrong.into_iter().map(|wrong| (*node, Some(*by), wrong)));
            if is_wrong || there == *place {
                continue;
            }
            let is_known = known.get(&there).is_some_and(|seen| seen.faults <= next.faults)
                || own.get(&there).is_some_and(|faults| *faults <= next.faults);
            if !is_known {
                own.insert(there, next.faults);
                if next.state.phase.is_at_rest() {
                    *found.ends.entry(next.state.saga_state().to_string()).or_default() += 1;
                }
                found.next.push(Next { from: *node, by: *by, key: there, world: next });
            }
        }
        if quiet.is_none() && !world.state.phase.is_at_rest() {
            let what = format!("nothing goes on, and the saga is {}", world.state.saga_state());
            found.wrong.push((*node, None, Wrong { property: Property::Ends, what }));
        }
        found.quiet.push((*node, quiet));
    }
    found
}

/// The moves that lead to a node.
fn way(nodes: &[Node], mut node: u32) -> Vec<Move> {
    let mut way = Vec::new();
    while node != 0 {
        let Node { from, by, .. } = &nodes[node as usize];
        way.push(*by);
        node = *from;
    }
    way.reverse();
    way
}

/// From each state the instance comes to rest, once nothing more goes wrong.
fn circles(nodes: &[Node], known: &Known<Seen>, found: &mut Found) {
    /// What is known of a node: nothing, that it is on the way that is being gone, or that its way ends.
    const NOTHING: u8 = 0;
    const ON_THE_WAY: u8 = 1;
    const ENDS: u8 = 2;
    let mut marks = vec![NOTHING; nodes.len()];
    for begin in 0..nodes.len() {
        let (mut at, mut gone) = (begin, Vec::new());
        let goes_round = loop {
            match marks[at] {
                ENDS => break false,
                ON_THE_WAY => break true,
                _ => {}
            }
            marks[at] = ON_THE_WAY;
            gone.push(at);
            match nodes[at].quiet.and_then(|quiet| known.get(&quiet)) {
                Some(seen) => at = seen.node as usize,
                None => break false,
            }
        };
        gone.into_iter().for_each(|at| marks[at] = ENDS);
        if goes_round {
            let what = "the saga goes round in circles when nothing more goes wrong".to_owned();
            let wrong = Wrong { property: Property::Ends, what };
            let way = way(nodes, u32::try_from(begin).expect("fewer states than the bound allows"));
            found.wrong.entry(Property::Ends).or_insert((wrong, way));
        }
    }
}
