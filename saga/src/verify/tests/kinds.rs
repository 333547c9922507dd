//! Steps that are left out, that the saga goes on without, that sleep, and that wait for a signal.

use super::super::{Bounds, Report, Script, ScriptEnd, ScriptError, Subject, play, samples, trials, verify};
use super::shown;
use crate::dsl::{self, Compiled};
use sagamq_api::saga::SagaState;
use std::collections::BTreeMap;

const TWO: Bounds = Bounds { faults: 2, attempts: 2, states: 1_000_000, threads: 1, reduce: true };

fn compiled(steps: &str, verify: &str) -> Compiled {
    let head = "saga: s\nversion: 1\nkey: ${ input.k }\nservices: { a: { http: \"http://a\" } }\n";
    let text = format!("{head}{verify}steps:\n{steps}");
    dsl::compile(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"))
}

/// One report for each sample.
fn run(compiled: &Compiled, bounds: Bounds) -> Vec<Report> {
    let made = samples(&compiled.definition, None, &BTreeMap::new()).expect("data");
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    made.samples.iter().map(|sample| verify(Subject::new(&compiled.definition, &compiled.invariants, sample), bounds, None)).collect()
}

fn holds(reports: &[Report]) {
    for report in reports {
        assert!(report.complete && !report.is_broken(), "{}", shown(report));
    }
}

#[test]
fn a_condition_is_looked_at_both_ways() {
    let steps = "  - { id: pay, call: a.pay, compensate: a.refund }\n  \
        - { id: wrap, call: a.wrap, when: \"${ input.kind == 'gift' }\", compensate: a.unwrap }\n  \
        - { id: ship, call: a.ship, pivot: true }\n";
    let asked = "verify: [ \"saga.completed implies steps.wrap.done\", \"saga.completed implies steps.ship.done\" ]\n";
    let reports = run(&compiled(steps, asked), TWO);
    assert_eq!(reports.len(), 2, "one way and the other");
    let broken = |report: &Report| report.violations.iter().map(|found| found.property.clone()).collect::<Vec<_>>();
    assert_eq!((broken(&reports[0]), broken(&reports[1])), (Vec::new(), vec!["invariant-1".to_owned()]), "{}", shown(&reports[1]));
}

#[test]
fn a_saga_goes_on_without_what_is_optional() {
    let steps = "  - { id: pay, call: a.pay, compensate: a.refund }\n  \
        - { id: points, call: a.give, optional: true, compensate: a.take }\n  - { id: ship, call: a.ship, pivot: true }\n  \
        - { id: mail, call: a.mail, optional: true, compensate: none }\n";
    let asked =
        "verify: [ \"saga.failed || saga.compensated implies !steps.points.done\", \"saga.completed implies steps.points.done\" ]\n";
    let reports = run(&compiled(steps, asked), TWO);
    let broken: Vec<&str> = reports[0].violations.iter().map(|found| found.property.as_str()).collect();
    assert_eq!(broken, ["invariant-2"], "{}", shown(&reports[0]));
}

#[test]
fn a_saga_that_sleeps_and_waits_goes_on_and_is_undone_meanwhile() {
    let steps = "  - { id: pay, call: a.pay, compensate: a.refund }\n  - { id: rest, sleep: 15m }\n  \
        - { id: approved, wait_for: { signal: go, timeout: 1h } }\n  - { id: ship, call: a.ship, pivot: true }\n  - { id: seen, wait_for: seen }\n";
    let asked = "verify: [ \"steps.ship.done implies steps.approved.state == 'SUCCEEDED'\", \"steps.pay.done implies steps.ship.done || saga.blocked\" ]\n";
    let reports = run(&compiled(steps, asked), TWO);
    holds(&reports);
    let ends: Vec<&str> = reports[0].ends.keys().map(String::as_str).collect();
    assert_eq!(ends, ["BLOCKED", "COMPENSATED", "COMPLETED", "FAILED"]);
    let asked = "verify: [ \"steps.pay.done implies saga.completed || saga.blocked\", \"!saga.compensated\" ]\n";
    let found = run(&compiled(steps, asked), Bounds { faults: 0, ..TWO });
    let broken: Vec<&str> = found[0].violations.iter().map(|found| found.property.as_str()).collect();
    assert_eq!(broken, ["invariant-2"], "a signal that does not come is no fault: {}", shown(&found[0]));
}

#[test]
fn a_signal_may_come_before_its_step() {
    let steps = "  - { id: pay, call: a.pay, compensate: a.refund }\n  - { id: approved, wait_for: go }\n";
    let reports = run(&compiled(steps, ""), TWO);
    holds(&reports);
    let none = run(&compiled(steps, ""), Bounds { faults: 0, ..TWO });
    assert!(none[0].states < reports[0].states);
}

#[test]
fn a_sub_saga_refuses_or_is_ended_as_it_is_and_nothing_is_lost_on_its_way() {
    let steps = "  - { id: pay, call: a.pay, compensate: a.refund }\n  - { id: pack, saga: packing }\n  \
        - { id: ship, call: a.ship, compensate: a.recall }\n";
    let asked = "verify: [ \"saga.compensated || saga.failed implies !steps.pack.done\", \"steps.pack.unknown implies saga.blocked\" ]\n";
    let reports = run(&compiled(steps, asked), TWO);
    holds(&reports);
    let ends: Vec<&str> = reports[0].ends.keys().map(String::as_str).collect();
    assert_eq!(ends, ["BLOCKED", "COMPENSATED", "COMPLETED", "FAILED"]);
    // Alone, with one thing that goes wrong, it can be refused, ended as it is, or cancelled: it is never in doubt because of a message.
    let alone = |verify: &str| {
        let text = format!("saga: s\nversion: 1\nkey: ${{ input.k }}\nservices: {{}}\n{verify}steps:\n  - {{ id: pack, saga: packing }}\n");
        run(&dsl::compile(&text).unwrap_or_else(|faults| panic!("{faults:?}")), Bounds { faults: 1, ..TWO })
    };
    holds(&alone(""));
    let found = alone("verify: [ \"steps.pack.state != 'UNKNOWN' && steps.pack.state != 'COMPENSATION_FAILED'\" ]\n");
    let timeline = &found[0].violations[0].timeline;
    assert!(timeline.to_string().contains("ended by an operator"), "{timeline}");
}

#[test]
fn an_operator_takes_a_lock_away_and_the_next_step_asks_for_it_anew() {
    let each = "  - { id: pick, call: a.pick, for_each: \"${ [1, 2] }\", compensate: a.put, lock: shelf }\n";
    let steps =
        "  - { id: pay, call: a.pay, compensate: a.refund, lock: account }\n  - { id: ship, call: a.ship, pivot: true, lock: account }\n";
    let compiled = compiled(&format!("{each}{steps}"), "timeout: 1h\n");
    holds(&run(&compiled, TWO));
    let made = samples(&compiled.definition, None, &BTreeMap::new()).expect("data");
    let tried = trials(&compiled.definition, &made.samples[0]);
    let of_locks = tried.iter().filter_map(|trial| Some((trial.fault.as_deref().filter(|fault| fault.contains("lock"))?, trial.end)));
    // The pivot has the lock that was asked for before: it is neither asked for nor taken away in its name.
    assert_eq!(
        of_locks.collect::<Vec<_>>(),
        [
            ("no lock pick/action", SagaState::Failed),
            ("lock broken pick/action", SagaState::Completed),
            ("no lock pay/action", SagaState::Compensated),
            ("lock broken pay/action", SagaState::Completed)
        ]
    );
    let compiled = self::compiled(steps, "timeout: 1h\n");
    let script = |moves: &[&str]| Script {
        saga: "s".parse().expect("legal"),
        attempts: 2,
        input: made.samples[0].input.clone(),
        outputs: BTreeMap::new(),
        moves: moves.iter().map(|step| (*step).to_owned()).collect(),
        ends: ScriptEnd { state: SagaState::Compensating, breaks: None },
    };
    let played = |moves: &[&str]| play(&compiled.definition, &[], &script(moves)).map(|played| played.end.state);
    let lost = ["lock pay/action", "serve pay/action", "lock broken pay/action", "hear pay/action", "no lock ship/action"];
    assert_eq!(played(&lost), Ok(SagaState::Compensating), "what is asked for anew may not be got");
    let kept: Vec<&str> = lost.into_iter().filter(|step| !step.contains("broken")).collect();
    assert!(matches!(played(&kept), Err(ScriptError::NotPossible { number: 4, .. })));
    assert!(matches!(played(&["lock broken pay/action"]), Err(ScriptError::NotPossible { number: 1, .. })), "nobody has it");
}

#[test]
fn a_lock_is_free_or_is_not_got() {
    let steps = "  - { id: pay, call: a.pay, compensate: a.refund, lock: \"account/${ input.account }\" }\n  \
        - { id: pack, call: a.pack, optional: true, compensate: none, lock: { key: \"shelf/${ input.k }\", timeout: 5s } }\n  \
        - { id: ship, call: a.ship, pivot: true, lock: \"account/${ input.account }\" }\n  - { id: book, call: a.book, lock: \"account/${ input.account }\" }\n";
    let text = "timeout: 1h\n";
    let asked = "verify: [ \"steps.ship.done implies steps.pay.done\", \"saga.completed implies steps.pack.done\" ]\n";
    let reports = run(&compiled(steps, &format!("{text}{asked}")), TWO);
    let broken: Vec<&str> = reports[0].violations.iter().map(|found| found.property.as_str()).collect();
    assert_eq!(broken, ["invariant-2"], "{}", shown(&reports[0]));
    let none = run(&compiled(steps, &format!("{text}{asked}")), Bounds { faults: 0, ..TWO });
    holds(&none);
    assert_eq!(none[0].ends.keys().map(String::as_str).collect::<Vec<_>>(), ["COMPLETED"], "without a fault every lock is free");
    let first = "verify: [ \"!saga.failed\" ]\n";
    let denied = run(&compiled(steps, &format!("{text}{first}")), Bounds { faults: 1, ..TWO });
    let found = &denied[0].violations[0];
    assert!(found.property == "invariant-1", "{}", shown(&denied[0]));
}
