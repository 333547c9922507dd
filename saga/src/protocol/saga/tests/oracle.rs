//! As many whole runs as are asked for (`make oracle`), all from one seed: random graphs of every kind of step, participants that do everything
//! wrong, restarts, and in half of the runs operators and reruns. The oracle is the participants' books, as in `properties/`.

use super::properties::World;
use crate::protocol::saga::Phase;
use sagamq_broker::env::Random;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run was, so that it can be made again.
#[derive(Clone, Copy, Debug)]
struct Shape {
    steps: usize,
    has_pivot: bool,
    chaos: f64,
    meddling: f64,
    seed: u64,
}

impl Shape {
    fn draw(seed: u64, run: u64) -> Self {
        let mut random = Random::from_seed(seed.wrapping_add(run.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        Self {
            steps: 1 + usize::try_from(random.next_u64() % 8).expect("a few"),
            has_pivot: random.fraction() < 0.5,
            chaos: random.fraction() * 0.9,
            meddling: if random.fraction() < 0.5 { 0.1 } else { 0.0 },
            seed: random.next_u64(),
        }
    }

    /// Where the last instance came to rest.
    fn run(self) -> Phase {
        let Self { steps, has_pivot, chaos, meddling, seed } = self;
        let mut world = World::new(steps, has_pivot, chaos, meddling, seed);
        if meddling > 0.0 {
            world.run_through_reruns();
        } else {
            world.run_to_the_end();
        }
        world.phase()
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn every_run_of_a_seed_ends_and_the_books_fit() {
    let (runs, seed) = (number("SAGAMQ_ORACLE_RUNS", 400), number("SAGAMQ_ORACLE_SEED", 7));
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let of_thread = |thread: u64| {
        let mut ends: BTreeMap<String, u64> = BTreeMap::new();
        for run in (thread..runs).step_by(usize::try_from(threads).expect("a few")) {
            let shape = Shape::draw(seed, run);
            match catch_unwind(AssertUnwindSafe(|| shape.run())) {
                Ok(phase) => *ends.entry(format!("{phase:?}")).or_default() += 1,
                Err(_) => panic!("run {run} of seed {seed} is wrong: {shape:?}"),
            }
        }
        ends
    };
    let mut ends: BTreeMap<String, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        for of in running {
            for (end, count) in of.join().expect("no run is wrong") {
                *ends.entry(end).or_default() += count;
            }
        }
    });
    println!("{runs} runs from seed {seed}: all end, and the books fit. {ends:?}");
    assert!(ends.len() >= 4, "runs end in more than one way: {ends:?}");
}

/// An item that a rerun took over was undone with an input that an operator gave while it was undone.
#[test]
fn runs_that_were_wrong_once_are_right() {
    for (steps, chaos, seed) in
        [(4, 0.782_672_193_546_077, 14_574_851_567_114_252_055), (6, 0.633_053_281_196_400_4, 14_121_585_853_151_460_470)]
    {
        Shape { steps, has_pivot: false, chaos, meddling: 0.1, seed }.run();
    }
}
