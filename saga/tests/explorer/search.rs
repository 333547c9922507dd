//! The search: every state that a model can reach, the nearest first, so that the first trace that is found to something wrong is a
//! shortest one. A state is known again by a hash of 128 bits of its canonical form; what is not in that form must not matter.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::time::Instant;

/// What can be explored.
pub(crate) trait Model {
    /// A state of the world.
    type State: Clone;
    /// One thing that can happen.
    type Step: Clone + Debug;

    /// Where it begins.
    fn start(&self) -> Self::State;
    /// What can happen next. A step that changes nothing is harmless.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;
    /// What it leads to.
    fn after(&self, state: &Self::State, step: &Self::Step) -> Self::State;
    /// What tells the state from others.
    fn canonical(&self, state: &Self::State) -> Vec<u8>;
    /// What is wrong with the state, if anything is.
    fn wrong(&self, state: &Self::State) -> Option<String>;
    /// The next thing that happens when all are up and nothing is lost any more. `None`: nothing does.
    fn quiet(&self, state: &Self::State) -> Option<Self::Step>;
    /// What is wrong with a state in which nothing happens by itself any more.
    fn unended(&self, state: &Self::State) -> Option<String>;
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Report {
    /// Different states.
    pub(crate) states: usize,
    /// Steps between them.
    pub(crate) steps: usize,
    /// Most steps from the start to a state.
    pub(crate) depth: usize,
    /// Time.
    pub(crate) seconds: f64,
    /// What is wrong, with a shortest trace to it.
    pub(crate) found: Option<(String, Vec<String>)>,
}

type Hash = u128;

fn hash(form: &[u8]) -> Hash {
    let bytes = *blake3::hash(form).as_bytes();
    Hash::from_le_bytes(bytes[..16].try_into().expect("a hash has 32 bytes"))
}

/// Looks at every state, and if `ends` also at how each ends once nothing goes wrong any more.
#[expect(clippy::disallowed_methods, reason = "how long a search takes is shown, and decides nothing")]
pub(crate) fn explore<M: Model>(model: &M, ends: bool) -> Report {
    let began = Instant::now();
    let start = model.start();
    let first = hash(&model.canonical(&start));
    // Whence each state was reached first.
    let mut known: HashMap<Hash, Option<(Hash, M::Step)>> = HashMap::from([(first, None)]);
    let mut ended = HashSet::new();
    let mut open = VecDeque::from([(start, first, 0)]);
    let (mut steps, mut deepest, mut found) = (0, 0, None);
    while let Some((state, place, depth)) = open.pop_front() {
        deepest = deepest.max(depth);
        if let Some(wrong) = model.wrong(&state).or_else(|| ends.then(|| never_ends(model, &state, &mut ended)).flatten()) {
            found = Some((wrong, trace(&known, place)));
            break;
        }
        for step in model.steps(&state) {
            let next = model.after(&state, &step);
            let there = hash(&model.canonical(&next));
            steps += usize::from(there != place);
            if let Entry::Vacant(entry) = known.entry(there) {
                entry.insert(Some((place, step)));
                open.push_back((next, there, depth + 1));
            }
        }
    }
    Report { states: known.len(), steps, depth: deepest, seconds: began.elapsed().as_secs_f64(), found }
}

/// What is wrong with how the state ends if nothing more goes wrong. `ends` are states of which that is known.
fn never_ends<M: Model>(model: &M, state: &M::State, ends: &mut HashSet<Hash>) -> Option<String> {
    let (mut state, mut way) = (state.clone(), Vec::new());
    loop {
        let place = hash(&model.canonical(&state));
        if ends.contains(&place) {
            break;
        }
        if way.contains(&place) {
            return Some("it goes round in circles when all is quiet".to_owned());
        }
        way.push(place);
        let Some(step) = model.quiet(&state) else {
            if let Some(wrong) = model.unended(&state) {
                return Some(wrong);
            }
            break;
        };
        state = model.after(&state, &step);
    }
    ends.extend(way);
    None
}

fn trace<S: Clone + Debug>(known: &HashMap<Hash, Option<(Hash, S)>>, mut place: Hash) -> Vec<String> {
    let mut trace = Vec::new();
    while let Some(Some((before, step))) = known.get(&place) {
        trace.push(format!("{step:?}"));
        place = *before;
    }
    trace.reverse();
    trace
}
