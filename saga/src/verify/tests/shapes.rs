//! Definitions that hold, and what the search must not depend on.

use super::super::{Bounds, Random, Subject, mutants, play, verify};
use super::{data, linear, run, shape, shown};

const ONE: Bounds = Bounds { faults: 1, attempts: 2, states: 1_000_000, threads: 1, reduce: true };
const TWO: Bounds = Bounds { faults: 2, ..ONE };

#[test]
fn what_is_shipped_holds_whatever_goes_wrong() {
    let diamond: &[&[usize]] = &[&[], &[0], &[0], &[1, 2]];
    for (name, compiled, bounds) in [
        ("one step", linear(1, None), TWO),
        ("three in a line", linear(3, None), TWO),
        ("three with a pivot", linear(3, Some(1)), TWO),
        ("four with a pivot at the end", linear(4, Some(3)), TWO),
        ("a diamond", shape(diamond, None, ""), TWO),
        ("a diamond with a pivot", shape(diamond, Some(3), ""), TWO),
        ("three beside each other", shape(&[&[], &[], &[]], None, ""), TWO),
        ("three beside each other before a pivot", shape(&[&[], &[], &[], &[0, 1, 2]], Some(3), ""), ONE),
        ("a line with three faults", linear(2, None), Bounds { faults: 3, ..ONE }),
    ] {
        let report = run(&compiled, bounds);
        println!("{name}: {}", shown(&report));
        assert!(report.complete && !report.is_broken(), "{name}: {}", shown(&report));
    }
}

#[test]
fn every_way_to_come_to_rest_is_seen() {
    let report = run(&linear(3, Some(2)), TWO);
    let ends: Vec<&str> = report.ends.keys().map(String::as_str).collect();
    assert_eq!(ends, ["BLOCKED", "COMPENSATED", "COMPLETED", "FAILED"]);
    let tried = |name: &str| report.properties.iter().find(|property| property.name == name).expect("a property").tried;
    for name in ["ends", "effects", "order", "pivot", "arguments", "expressions", "timeout", "restart"] {
        assert!(tried(name) > 0, "{name} was never put to the test");
    }
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

#[test]
fn neither_threads_nor_reductions_change_what_is_found() {
    let fan: &[&[usize]] = &[&[], &[], &[], &[0, 1, 2]];
    let diamond: &[&[usize]] = &[&[], &[0], &[0], &[1, 2]];
    let asked = "verify: [ \"saga.completed implies steps.s3.done\", \"!steps.s3.undone\", \"steps.s1.done implies !saga.failed\" ]\n";
    for (after, bounds) in [(fan, ONE), (diamond, ONE), (diamond, TWO)] {
        let compiled = shape(after, None, asked);
        let plain = run(&compiled, Bounds { reduce: false, ..bounds });
        let side_by_side = run(&compiled, Bounds { reduce: false, threads: 4, ..bounds });
        assert_eq!((plain.states, plain.steps, plain.depth), (side_by_side.states, side_by_side.steps, side_by_side.depth));
        let reduced = run(&compiled, bounds);
        assert!(reduced.states <= plain.states, "{} and {}", reduced.states, plain.states);
        let wrong = |report: &super::Report| -> Vec<(String, usize)> {
            report.violations.iter().map(|violation| (violation.property.clone(), violation.script.moves.len())).collect()
        };
        assert_eq!(wrong(&plain), wrong(&reduced));
        assert_eq!(wrong(&plain).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["invariant-2"], "{}", shown(&plain));
        assert_eq!(plain.ends.keys().collect::<Vec<_>>(), reduced.ends.keys().collect::<Vec<_>>());
    }
    let alike = shape(&[&[], &[], &[]], None, "");
    let (plain, reduced) = (run(&alike, Bounds { reduce: false, ..TWO }), run(&alike, TWO));
    println!("three beside each other: {} states, reduced {}", plain.states, reduced.states);
    assert!(2 * reduced.states < plain.states, "{} and {}", reduced.states, plain.states);
    assert!(!plain.is_broken() && plain.ends.keys().eq(reduced.ends.keys()));
}

#[test]
fn a_bound_that_is_hit_proves_nothing() {
    let report = run(&linear(4, None), Bounds { states: 100, ..TWO });
    assert!(!report.complete);
    assert!(report.states > 100);
}

#[test]
fn an_invariant_that_could_not_fail_is_told_of() {
    let report = run(&linear_with("verify: [ \"steps.s0.skipped implies false\", \"saga.completed implies steps.s1.done\" ]\n"), ONE);
    assert!(!report.is_broken(), "{}", shown(&report));
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(report.warnings[0].contains("steps.s0.skipped"), "{:?}", report.warnings);
}

#[test]
fn what_is_taken_out_is_noticed_by_whoever_asks_for_it() {
    let compiled = linear_with("verify: [ \"steps.s0.done implies saga.completed || saga.blocked\" ]\n");
    let data = data(&compiled);
    let found = mutants(Subject::new(&compiled.definition, &compiled.invariants, &data), TWO);
    let noticed = |what: &str| found.iter().find(|mutant| mutant.what == what).expect("it is taken out").noticed_by.as_deref();
    assert_eq!(noticed("`compensate` of `s0`"), Some("invariant-1"));
    assert_eq!(noticed("`compensate` of `s1`"), None, "nobody asks for it");
}

#[test]
fn what_is_wrong_is_wrong_again_when_its_script_is_played() {
    let compiled = linear_with("verify: [ \"!saga.blocked\", \"!steps.s1.refused\", { always: \"!steps.s1.done\" } ]\n");
    let report = run(&compiled, TWO);
    assert_eq!(report.violations.len(), 3, "{}", shown(&report));
    for violation in &report.violations {
        let played = play(&compiled.definition, &compiled.invariants, &violation.script).expect("it can be played");
        assert_eq!(played.end, violation.script.ends, "{}", violation.timeline);
        let mut other = violation.script.clone();
        other.moves.pop();
        let shorter = play(&compiled.definition, &compiled.invariants, &other).expect("it can be played");
        assert_eq!(shorter.end.breaks, None, "the way is a shortest one");
    }
}

#[test]
fn a_seed_draws_the_same_ways_again() {
    let compiled = linear_with("verify: [ \"!saga.blocked\" ]\n");
    let data = data(&compiled);
    let draw = |seed| {
        let subject = Subject::new(&compiled.definition, &compiled.invariants, &data);
        verify(subject, Bounds { states: 1, ..TWO }, Some(Random { seed, ways: 3_000 }))
    };
    let (first, again, other) = (draw(7), draw(7), draw(8));
    let drawn = |report: &super::Report| report.drawn.map(|drawn| (drawn.steps, drawn.depth, drawn.unended));
    assert_eq!(drawn(&first), drawn(&again));
    assert_ne!(drawn(&first), drawn(&other));
    assert_eq!(first.violations[0].script, again.violations[0].script);
    assert_eq!((first.violations[0].property.as_str(), first.violations[0].shortest), ("invariant-1", false));
}

#[test]
fn a_way_that_was_drawn_loses_what_it_does_not_need() {
    let compiled = linear_with("verify: [ \"!saga.blocked\", \"saga.completed implies !steps.s1.done\" ]\n");
    let data = data(&compiled);
    let subject = Subject::new(&compiled.definition, &compiled.invariants, &data);
    let shortest = verify(subject, TWO, None);
    for seed in 0..6 {
        let drawn = verify(subject, Bounds { states: 1, ..TWO }, Some(Random { seed, ways: 2_000 }));
        for found in drawn.violations {
            let best = shortest.violations.iter().find(|best| best.property == found.property).expect("the search finds it as well");
            let (length, least) = (found.script.moves.len(), best.script.moves.len());
            println!("{seed}: {}: {length} moves, the shortest has {least}", found.property);
            assert!(length <= least + 4, "{}: {:#?}", found.property, found.script.moves);
            let played = play(&compiled.definition, &compiled.invariants, &found.script).expect("it can be played");
            assert_eq!(played.end, found.script.ends);
            for left_out in 0..length {
                let mut shorter = found.script.clone();
                shorter.moves.remove(left_out);
                let again = play(&compiled.definition, &compiled.invariants, &shorter).map(|played| played.end.breaks);
                assert_ne!(again, Ok(Some(found.property.clone())), "move {left_out} could be spared: {:#?}", found.script.moves);
            }
        }
    }
}

fn linear_with(more: &str) -> crate::dsl::Compiled {
    shape(&[&[], &[0]], None, more)
}
