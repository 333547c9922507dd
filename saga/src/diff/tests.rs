//! Two versions of a small saga, one change at a time.

use super::*;
use crate::dsl::compile;

const BASE: &str = "saga: order\nversion: 1\ninput: { schema: { required: [id], properties: { id: { type: string }, sum: { type: number } } } }\n\
    key: ${ input.id }\ntimeout: 5m\nservices: { a: { topic: a.commands }, b: { topic: b.commands } }\nsteps:\n  \
    - { id: one, call: a.do, with: { sum: 1, note: x }, compensate: a.undo }\n  - { id: two, call: b.do, pivot: true }\n";

fn definition(text: &str) -> Definition {
    compile(text).unwrap_or_else(|faults| panic!("{faults:?}")).definition
}

fn changed(old: &str, new: &str) -> Comparison {
    assert!(BASE.contains(old), "{old}");
    compare(&definition(BASE), &definition(&BASE.replacen(old, new, 1))).expect("one saga")
}

/// Who sees what of a step, and how it was and is.
fn told(comparison: &Comparison) -> Vec<String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let line = |change: &Change| {
        let step = change.step.as_ref().map(|step| format!("{step} ")).unwrap_or_default();
        format!("{:?} {step}{}: {} > {}", change.seen_by, change.what, text(&change.before), text(&change.after))
    };
    comparison.changes.iter().map(line).collect()
}

#[test]
fn the_same_text_under_another_version_changes_nothing() {
    let same = changed("version: 1", "version: 2");
    assert_eq!((same.before, same.after, same.takes_old_inputs, told(&same)), (1, 2, true, Vec::new()));
}

#[test]
fn calls_arguments_times_and_the_order_are_told() {
    for (old, new, expected) in [
        ("call: a.do", "call: a.other", vec!["Participants one action.name: do > other"]),
        ("sum: 1", "sum: 2", vec!["Participants one action.arguments.sum: 1 > 2", "Participants one compensation.arguments.sum: 1 > 2"]),
        (
            "note: x",
            "memo: \"${ input.id }\"",
            vec![
                "Participants one action.arguments.memo: - > ${ input.id }",
                "Participants one action.arguments.note: \"x\" > -",
                "Participants one compensation.arguments.memo: - > ${ input.id }",
                "Participants one compensation.arguments.note: \"x\" > -",
            ],
        ),
        ("timeout: 5m", "timeout: 6m", vec!["Operators timeout: 5m > 6m"]),
        ("call: b.do, pivot", "call: b.do, retry: { attempts: 3 }, pivot", vec!["Operators two action.retry.attempts: 10 > 3"]),
        ("key: ${ input.id }", "key: \"x-${ input.id }\"", vec!["Starters key: ${ input.id } > x-${ input.id }"]),
    ] {
        assert_eq!(told(&changed(old, new)), expected, "{new}");
    }
}

#[test]
fn steps_come_and_go() {
    let more = changed("  - { id: two", "  - { id: new, call: a.more, compensate: none }\n  - { id: two");
    assert_eq!(
        told(&more),
        ["Participants new step: - > a.more, compensatable, after [one]", "Operators two after: [one] > [new]"],
        "{more:?}"
    );
    let less = compare(&definition(&BASE.replace("  - { id: two", "  - { id: tow")), &definition(BASE)).expect("one saga");
    assert_eq!(told(&less), ["Participants two step: - > b.do, pivot, after [one]", "Participants tow step: b.do, pivot, after [one] > -"]);
}

#[test]
fn what_a_schema_refuses_now_is_told_and_what_it_takes_more_is_not() {
    for (old, new, narrows) in [
        ("required: [id]", "required: [id, sum]", true),
        ("required: [id], ", "", false),
        ("type: number", "type: integer", true),
        ("type: number", "type: [number, \"null\"]", false),
        ("type: number", "type: number, minimum: 0", true),
        ("type: string", "type: string, description: It", false),
        ("properties:", "additionalProperties: false, properties:", true),
        ("sum: { type: number }", "sum: { type: number }, more: { type: string }", true),
        ("sum: { type: number }", "sum: { type: number }, more: {}", false),
        ("type: string", "type: string, pattern: \"^o\"", true),
        ("type: string", "enum: [a, b]", true),
        ("properties:", "allOf: [{ minProperties: 1 }], properties:", true),
    ] {
        let comparison = changed(old, new);
        assert_eq!(comparison.takes_old_inputs, !narrows, "{new}: {comparison:?}");
        assert!(!comparison.changes.is_empty() || !narrows);
    }
    let without = compare(
        &definition(BASE),
        &definition(&BASE.replace(&BASE[BASE.find("input: {").unwrap_or(0)..BASE.find("key:").unwrap_or(0)], "")),
    );
    assert!(without.expect("one saga").takes_old_inputs, "any object is more than a schema takes");
}

#[test]
fn two_sagas_are_not_compared() {
    let other = definition(&BASE.replace("saga: order", "saga: other"));
    assert!(compare(&definition(BASE), &other).expect_err("two").to_string().contains("`order` and `other`"));
}
