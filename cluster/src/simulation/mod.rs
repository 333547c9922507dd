//! Many nodes over one shard's log that misbehaves, from a seed: all folds are equal, and every answer is true.
//!
//! Time is turns: whose turn it is, how long a call takes, and what goes wrong are drawn from the seed, so a run that fails is run again by its
//! number. Each rule of the protocol is also turned off, and the runs must find it.

mod node;
mod turns;
mod world;

use crate::fold::{Rule, Rules};
use node::Node;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::cell::RefCell;
use std::rc::Rc;
use world::{Counts, World};

/// More turns than any run needs.
const TURNS_MAX: u64 = 400_000;

/// Whether a run ends with entries that no owner would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgeries {
    Tried,
    LeftOut,
}

/// One run: what happened, or what was wrong.
fn run(seed: u64, number: u64, rules: Rules, forgeries: Forgeries) -> Result<Counts, String> {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number));
    let world = Rc::new(RefCell::new(World::draw(&mut random, rules)));
    let nodes: Vec<_> =
        (1..=random.random_range(2..=4)).map(|id| Rc::new(RefCell::new(Node::new(id, &world, random.random(), rules)))).collect();
    let tasks = nodes.iter().map(|node| node::lives(Rc::clone(node))).collect();
    if !turns::take(tasks, &mut random, TURNS_MAX) {
        return Err("it does not come to an end".to_owned());
    }
    world.borrow().calm_down();
    // Whoever is asked first must get the shard and commit: no run leaves it stuck.
    let first = random.random_range(0..nodes.len());
    for at in 0..nodes.len() {
        let node = Rc::clone(&nodes[(first + at) % nodes.len()]);
        if !turns::take(vec![node::last_deeds(node, at == 0)], &mut random, TURNS_MAX) {
            return Err("a node is stuck at the end".to_owned());
        }
    }
    let mut world = world.borrow_mut();
    world.judge();
    if forgeries == Forgeries::Tried {
        world.judge_forgeries();
    }
    for node in &nodes {
        world.judge_disk(node.borrow().disk());
    }
    world.result()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn all_folds_are_equal_and_every_answer_is_true() {
    let (runs, seed) = (number("SAGAMQ_FOLDS_RUNS", 1000), number("SAGAMQ_FOLDS_SEED", 7));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let of_thread = |thread: u64| {
        let mut counts = Counts::default();
        for number in (thread..runs).step_by(usize::try_from(threads).expect("a few")) {
            match run(seed, number, Rules::default(), Forgeries::Tried) {
                Ok(of_run) => counts.add(&of_run),
                Err(wrong) => panic!("run {number} of seed {seed} is wrong: {wrong}"),
            }
        }
        counts
    };
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        for of in running {
            counts.add(&of.join().expect("no run is wrong"));
        }
    });
    println!("{runs} runs from seed {seed}: all folds are equal, and every answer is true. {counts:?}");
    counts.assert_that_all_happened();
}

#[test]
fn a_run_repeats_itself() {
    for number in 0..20 {
        assert_eq!(run(3, number, Rules::default(), Forgeries::Tried), run(3, number, Rules::default(), Forgeries::Tried));
    }
}

/// Rules that others make up for as long as every entry was made by an owner: the digest is made of number and part, and the digest itself
/// only differs where a log lost something. They are found by forgeries.
const ONLY_BY_FORGERIES: [Rule; 4] = [Rule::CommitNumber, Rule::CommitDigest, Rule::PartOrder, Rule::ResignEnds];

/// A bug is planted in each rule, and runs that are right without it find it.
#[test]
fn a_bug_in_any_rule_is_found() {
    let (runs, seed) = (1000, 7);
    let mut missed = Vec::new();
    for rule in Rule::ALL {
        let forgeries = if ONLY_BY_FORGERIES.contains(&rule) { Forgeries::Tried } else { Forgeries::LeftOut };
        let found = (0..runs).find_map(|number| run(seed, number, Rules::without(rule), forgeries).err().map(|wrong| (number, wrong)));
        let Some((number, wrong)) = found else {
            missed.push(rule);
            continue;
        };
        println!("without {rule:?}: found by run {number}: {wrong}");
        assert!(run(seed, number, Rules::default(), forgeries).is_ok(), "run {number} is right with all rules");
    }
    assert!(missed.is_empty(), "nothing misses these rules: {missed:?}");
}
