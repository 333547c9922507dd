//! Whole runs: random graphs, a random pivot, participants that refuse, stay silent, answer late, twice and out of order, and restarts.
//!
//! The oracle is the participants' own books. They keep the barrier's rules: an action runs once, a compensation that comes before its
//! action makes that action a no-op. Whatever the messages do, the books must fit the outcome that the saga claims.

mod books;
mod checks;
mod graph;
mod meddling;
mod world;

pub(super) use world::World;

use crate::protocol::saga::{InstanceState, Phase, decide};
use crate::protocol::{Input, instance_id};
use graph::random_definition;
use proptest::prelude::*;
use sagamq_api::saga::StepState;
use sagamq_broker::env::Random;
use serde_json::json;
use uuid::Uuid;

/// Else the property of reruns says nothing.
#[test]
fn random_runs_are_rerun_with_and_without_what_stands() {
    let (mut reruns, mut taken_over) = (0, 0);
    for seed in 0..400 {
        let mut world = World::new(4, seed % 2 == 0, 0.3, 0.1, seed);
        reruns += world.run_through_reruns();
        let past = world.past.iter().map(|(run, _)| run).chain([&world.run]);
        taken_over += past.flat_map(|run| &run.state.steps).filter(|step| step.origin.is_some()).count();
    }
    assert!(reruns > 200 && taken_over > 50, "{reruns} reruns took {taken_over} effects over");
}

/// Else the properties say nothing of steps that are left out and gone on without.
#[test]
fn random_runs_leave_steps_out_and_go_on_without_others() {
    let (mut left_out, mut refused, mut undone, mut in_doubt, mut without_value) = (0, 0, 0, 0, 0);
    for seed in 0..600 {
        let mut world = World::new(5, seed % 2 == 0, 0.6, 0.0, seed);
        world.run_to_the_end();
        let state = &world.run.state;
        without_value += state.failures.iter().filter(|failed| failed.failure.code == "CONDITION_FAILED").count();
        for step in state.steps.iter().filter(|_| state.phase == Phase::Completed) {
            left_out += usize::from(step.condition == Some(false));
            refused += usize::from(step.state == StepState::Failed);
            undone += usize::from(step.state == StepState::Compensated);
            in_doubt += usize::from(step.state == StepState::Unknown);
        }
    }
    let seen = [left_out, refused, undone, in_doubt, without_value];
    assert!(seen.iter().all(|&seen| seen > 0), "{seen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_the_books_fit_its_outcome(steps in 1_usize..8, has_pivot: bool, chaos in 0.0..0.9_f64, seed: u64) {
        World::new(steps, has_pivot, chaos, 0.0, seed).run_to_the_end();
    }

    #[test]
    fn whatever_operators_do_the_books_fit_the_outcome(steps in 1_usize..8, has_pivot: bool, chaos in 0.0..0.9_f64, seed: u64) {
        World::new(steps, has_pivot, chaos, 0.1, seed).run_to_the_end();
    }

    #[test]
    fn an_effect_is_kept_or_undone_or_left_standing_by_one_of_all_reruns(steps in 1_usize..8, has_pivot: bool, chaos in 0.0..0.9_f64, seed: u64) {
        World::new(steps, has_pivot, chaos, 0.1, seed).run_through_reruns();
    }

    #[test]
    fn the_same_input_gives_the_same_decision(steps in 1_usize..8, seed: u64) {
        let definition = random_definition(steps, true, &mut Random::from_seed(seed));
        let state = InstanceState::new(instance_id(1, &definition.name, "k", 1), &definition);
        let start = || Input::Start { parent: None, key: "k".to_owned(), generation: 1, input: json!({}).into(), cluster: Uuid::nil(), trace: None };
        let decided = |seed| decide(&definition, &state, start(), 5, &mut { let mut random = Random::from_seed(seed); move || random.fraction() });
        prop_assert_eq!(decided(seed), decided(seed));
    }
}
