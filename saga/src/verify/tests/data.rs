//! Inputs made from a schema: what is wrong with one that it allows is found, and no more of them are run than differ.

use super::super::{Bounds, Report, Samples, Subject, samples, verify};
use super::shown;
use crate::dsl::{self, Compiled};
use sagamq_api::JsonText;
use serde_json::json;
use std::collections::BTreeMap;

const ONE: Bounds = Bounds { faults: 1, attempts: 2, states: 1_000_000, threads: 1, reduce: true };

/// A saga with such fields in its input and such steps.
fn compiled(required: &str, fields: &str, steps: &str) -> Compiled {
    let text = format!(
        "saga: s\nversion: 1\nkey: ${{ input.k }}\nservices: {{ a: {{ http: \"http://a\" }} }}\n\
         input:\n  schema:\n    type: object\n    required: [k{required}]\n    additionalProperties: false\n    properties:\n      k: {{ type: string, minLength: 1 }}\n{fields}\
         steps:\n{steps}"
    );
    dsl::compile(&text).unwrap_or_else(|faults| panic!("{}", dsl::render("s", &text, &faults)))
}

fn run(compiled: &Compiled) -> (Samples, Vec<Report>) {
    let made = samples(&compiled.definition, None, &BTreeMap::new()).expect("data");
    let reports = made.samples.iter().map(|sample| verify(Subject::new(&compiled.definition, &compiled.invariants, sample), ONE, None));
    let reports = reports.collect();
    (made, reports)
}

/// The inputs with which an expression has no value.
fn broken(compiled: &Compiled) -> Vec<serde_json::Value> {
    let (made, reports) = run(compiled);
    let of = |report: &Report| report.violations.iter().map(|found| found.property.clone()).collect::<Vec<_>>();
    let is_broken = |report: &&(&super::super::Sample, &Report)| of(report.1) == ["expressions"];
    let other = reports.iter().find(|report| !of(report).is_empty() && of(report) != ["expressions"]);
    assert!(other.is_none(), "{}", other.map(shown).unwrap_or_default());
    let pairs: Vec<_> = made.samples.iter().zip(&reports).collect();
    pairs.iter().filter(is_broken).map(|(sample, _)| sample.input.to_value()).collect()
}

#[test]
fn a_field_that_need_not_be_there_is_left_out_and_who_reads_it_unguarded_is_found() {
    let step = |coupon: &str| format!("  - {{ id: pay, call: a.pay, with: {{ coupon: \"${{ {coupon} }}\" }}, compensate: a.refund }}\n");
    let fields = "      coupon: { type: string }\n";
    let found = broken(&compiled("", fields, &step("input.coupon")));
    assert_eq!(found, [json!({ "k": "value" })]);
    assert_eq!(broken(&compiled("", fields, &step("input.?coupon.orValue('none')"))), Vec::<serde_json::Value>::new());
}

#[test]
fn what_is_told_must_have_a_value_for_every_input_that_is_allowed() {
    let step = |value: &str, undone: &str| {
        format!(
            "  - id: pay\n    call: a.pay\n    emit: {{ topic: told, value: \"${{ {value} }}\" }}\n    \
             compensate: {{ call: a.refund, emit: {{ topic: told, value: \"${{ {undone} }}\" }} }}\n  - {{ id: ship, call: a.ship, compensate: none }}\n"
        )
    };
    let fields = "      lines: { type: array, items: { type: string } }\n";
    for (value, undone) in [("input.lines[0]", "saga.key"), ("saga.key", "input.lines[0]")] {
        let (made, reports) = run(&compiled(", lines", fields, &step(value, undone)));
        let at = made.samples.iter().position(|sample| sample.input.to_value()["lines"] == json!([])).expect("an empty list is allowed");
        let found = &reports[at].violations;
        assert_eq!(found.len(), 1, "{}", shown(&reports[at]));
        assert!(found[0].property == "expressions" && found[0].what.contains("tells has no value"), "{}", found[0].what);
        assert!(reports.iter().enumerate().all(|(other, report)| other == at || !report.is_broken()));
    }
    assert!(broken(&compiled(", lines", fields, &step("size(input.lines)", "failure.code"))).is_empty());
}

#[test]
fn a_bound_at_which_nothing_can_be_computed_is_found() {
    let step = "  - { id: pay, call: a.pay, with: { each: \"${ 100 / input.count }\" }, compensate: a.refund }\n";
    let found = broken(&compiled(", count", "      count: { type: integer, minimum: 0 }\n", step));
    assert_eq!(found, [json!({ "k": "value", "count": 0 })]);
    assert!(broken(&compiled(", count", "      count: { type: integer, minimum: 1 }\n", step)).is_empty());
}

#[test]
fn a_condition_comes_out_both_ways_by_the_choices_of_the_schema() {
    let step = "  - { id: pay, call: a.pay, compensate: a.refund }\n  \
        - { id: wrap, call: a.wrap, when: \"${ input.kind == 'gift' }\", compensate: a.unwrap }\n";
    let (made, reports) = run(&compiled(", kind", "      kind: { enum: [plain, gift, large] }\n", step));
    let kinds: Vec<_> = made.samples.iter().map(|sample| sample.input.to_value()["kind"].clone()).collect();
    assert_eq!((kinds, made.warnings), (vec![json!("plain"), json!("gift")], Vec::new()), "what makes no difference is run once");
    assert!(reports.iter().all(|report| !report.is_broken()));
    let (made, _) = run(&compiled(
        ", kind",
        "      kind: { enum: [plain, large, gift] }\n",
        &step.replace("input.kind == 'gift'", "size(input.kind) > 0"),
    ));
    assert_eq!(made.samples.len(), 1);
    assert!(made.warnings.len() == 1 && made.warnings[0].contains("the condition of `wrap`"), "{:?}", made.warnings);
}

#[test]
fn no_more_are_run_than_the_bound_says_and_that_is_told() {
    let fields: String = (0..5).map(|number| format!("      f{number}: {{ enum: [a, b, c, d] }}\n")).collect();
    let wraps: String = (0..20)
        .map(|number| {
            let (field, choice) = (number % 5, ["a", "b", "c", "d"][number / 5]);
            format!("  - {{ id: w{number}, call: a.wrap, when: \"${{ input.?f{field}.orValue('') == '{choice}' }}\", compensate: none }}\n")
        })
        .collect();
    let compiled = compiled("", &fields, &wraps);
    let made = samples(&compiled.definition, None, &BTreeMap::new()).expect("data");
    assert!(made.warnings.iter().any(|warning| warning.contains("are not looked at, because 12 are")), "{:?}", made.warnings);
}

#[test]
fn what_is_given_is_taken_as_it_is_and_a_schema_that_takes_nothing_is_said() {
    let step = "  - { id: pay, call: a.pay, compensate: a.refund }\n";
    let (given, none) = (JsonText::from(json!({ "k": "mine" })), BTreeMap::new());
    let compiled_one = compiled("", "", step);
    let made = samples(&compiled_one.definition, Some(&given), &none).expect("data");
    assert_eq!(made.samples.iter().map(|sample| &sample.input).collect::<Vec<_>>(), [&given]);
    let nothing = compiled(", n", "      n: { type: integer, minimum: 2, maximum: 1 }\n", step);
    let refused = samples(&nothing.definition, None, &none).expect_err("nothing fits").to_string();
    assert!(refused.contains("fits its schema") && refused.contains("--input"), "{refused}");
}
