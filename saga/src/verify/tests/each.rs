//! Steps that fan out: over two items, one and none, with a bug that is planted around them.

use super::super::{Bounds, Decides, Report, Shipped, Subject, samples, trials, verify};
use super::shown;
use crate::definition::Definition;
use crate::dsl::{self, Compiled};
use crate::protocol::saga::{InstanceState, SagaEvent};
use crate::protocol::{Command, Decision, Input, Rejection};
use sagamq_api::JsonText;
use sagamq_api::saga::{CallOutcome, Operation, SagaState};
use std::collections::BTreeMap;

const TWO: Bounds = Bounds { faults: 2, attempts: 2, states: 1_000_000, threads: 1, reduce: true };

const PICKS: &str = "saga: s\nversion: 1\nkey: ${ input.k }\nservices: { a: { http: \"http://a\" }, b: { topic: b } }\nVERIFYsteps:\n  \
    - { id: pick, call: b.pick, for_each: \"${ input.lines }\", max_parallel: PARALLEL, with: { sku: \"${ item.sku }\", at: \"${ index }\" }, \
        compensate: { call: b.put_back, with: { box: \"${ steps.pick.?output.box.orValue('none') }\" } } }\n  \
    - { id: pay, call: a.pay, with: { boxes: \"${ size(steps.pick.output) }\" }, pivot: true }\n  \
    - { id: label, call: a.label, for_each: \"${ input.lines }\", with: { sku: \"${ item.sku }\" } }\n";

fn picks(parallel: u32, asked: &str) -> Compiled {
    let text = PICKS.replace("VERIFY", asked).replace("PARALLEL", &parallel.to_string());
    dsl::compile(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"))
}

/// One report for each sample: two items, one, none.
fn run(compiled: &Compiled, decides: &dyn Decides, bounds: Bounds) -> Vec<Report> {
    let made = samples(&compiled.definition, None, &BTreeMap::new()).expect("data");
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    let subject = |sample| Subject { decides, ..Subject::new(&compiled.definition, &compiled.invariants, sample) };
    made.samples.iter().map(|sample| verify(subject(sample), bounds, None)).collect()
}

#[test]
fn lists_are_made_up_with_two_items_one_and_none() {
    let made = samples(&picks(2, "").definition, None, &BTreeMap::new()).expect("data");
    let inputs: Vec<&str> = made.samples.iter().map(|sample| sample.input.as_str()).collect();
    assert_eq!(
        inputs,
        [
            r#"{"k":"k-1","lines":[{"sku":"sku-1"},{"sku":"sku-1"}]}"#,
            r#"{"k":"k-1","lines":[{"sku":"sku-1"}]}"#,
            r#"{"k":"k-1","lines":[]}"#
        ]
    );
}

#[test]
fn whatever_goes_wrong_with_items_what_is_done_stays_whole_or_is_undone() {
    let asked = "verify: [ \"saga.completed implies steps.pick.done && steps.label.done\", \"saga.compensated implies !steps.pick.done\", \
        { always: \"steps.label.called implies steps.pick.done\" } ]\n";
    for parallel in [1, 2] {
        let reports = run(&picks(parallel, asked), &Shipped, TWO);
        assert_eq!(reports.len(), 3);
        for report in &reports {
            assert!(report.complete && !report.is_broken(), "{}", shown(report));
        }
        let ends: Vec<&str> = reports[0].ends.keys().map(String::as_str).collect();
        assert_eq!(ends, ["BLOCKED", "COMPENSATED", "COMPLETED", "FAILED"], "{}", shown(&reports[0]));
        let states: Vec<usize> = reports.iter().map(|report| report.states).collect();
        assert!(states[0] < 300_000, "no more states than can be looked at: {states:?}");
    }
}

#[test]
fn done_is_what_is_true_of_all_items() {
    let asked = "verify: [ { always: \"!steps.pick.done\" } ]\n";
    let broken = run(&picks(1, asked), &Shipped, Bounds { faults: 0, ..TWO });
    let found = &broken[0].violations[0];
    assert_eq!(found.property, "invariant-1");
    assert!(found.timeline.contains("pick[0]") && found.timeline.contains("pick[1]"), "both are done by then: {}", found.timeline);
}

/// The compensation of the first item is not called, and taken for done.
#[derive(Clone, Copy, Debug)]
struct ItemForgotten;

impl Decides for ItemForgotten {
    fn decide(
        &self,
        definition: &Definition,
        state: &InstanceState,
        input: Input,
        now_ms: u64,
    ) -> Result<Decision<InstanceState, SagaEvent>, Rejection> {
        let mut decision = Shipped.decide(definition, state, input, now_ms)?;
        let is_it = |command: &Command| match command {
            Command::Call(command) => {
                let attempt = &command.call.attempt;
                attempt.operation == Operation::Compensation && attempt.item.is_some_and(|item| item.0 == 0)
            }
            _ => false,
        };
        if let Some(at) = decision.commands.iter().position(is_it) {
            let Command::Call(command) = decision.commands.remove(at) else { unreachable!("it is a call") };
            let outcome = CallOutcome::Succeeded { output: JsonText::null() };
            let input = Input::Reply { attempt: command.call.attempt, outcome, note: None, branch_address: None };
            let next = Shipped.decide(definition, &decision.state, input, now_ms)?;
            decision.events.extend(next.events);
            decision.commands.extend(next.commands);
            decision.state = next.state;
        }
        Ok(decision)
    }
}

#[test]
fn an_item_that_is_forgotten_is_found_by_its_name() {
    let reports = run(&picks(2, ""), &ItemForgotten, Bounds { faults: 1, ..TWO });
    let found = reports[0].violations.first().expect("a violation");
    assert!(found.what.contains("`pick[0]`"), "{}", shown(&reports[0]));
}

#[test]
fn trials_fail_the_first_item() {
    let compiled = picks(2, "");
    let made = samples(&compiled.definition, None, &BTreeMap::new()).expect("data");
    let tried = trials(&compiled.definition, &made.samples[0]);
    let refused = tried.iter().find(|trial| trial.fault.as_deref() == Some("refuse pick[0]/action")).expect("it is tried");
    assert_eq!(refused.end, SagaState::Failed, "the other item lay in its queue, and was taken out of it: {refused:?}");
    assert!(refused.standing.is_empty() && refused.undone.is_empty(), "{refused:?}");
    let silent = tried.iter().find(|trial| trial.fault.as_deref() == Some("silent and done pick[0]/action")).expect("it is tried");
    assert_eq!((silent.end, silent.undone.len()), (SagaState::Compensated, 1), "{silent:?}");
}
