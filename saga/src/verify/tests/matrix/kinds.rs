//! The kinds of steps, each as the step in the middle of a saga of three or four.

use crate::definition::Definition;
use crate::dsl;

/// Where the step stands, and with it what stands before and behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A step that can be undone before it, the pivot behind it.
    UpToPivot,
    /// A step that can be undone before it, one that must succeed behind it.
    Pivot,
    /// A step that can be undone and the pivot before it, one that must succeed behind it.
    BehindPivot,
}

/// A kind of step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Its name in the tables.
    pub(super) name: &'static str,
    pub(super) frame: Frame,
    /// What stands in the definition, with `S` for the service, and `E` and `U` for what it tells when it is done and undone.
    yaml: &'static str,
}

/// How the services of a saga are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Http,
    Topic,
}

impl Reached {
    pub(super) const BOTH: [Self; 2] = [Self::Http, Self::Topic];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "over HTTP",
            Self::Topic => "over a topic",
        }
    }
}

const fn kind(name: &'static str, frame: Frame, yaml: &'static str) -> Kind {
    Kind { name, frame, yaml }
}

/// Steps that call a participant.
pub(super) const CALLS: [Kind; 11] = [
    kind("compensatable", Frame::UpToPivot, "call: S.do, emit: E, compensate: { call: S.undo, emit: U }, queue_timeout: 10m"),
    kind(
        "`when` holds",
        Frame::UpToPivot,
        "call: S.do, emit: E, compensate: { call: S.undo, emit: U }, queue_timeout: 10m, when: \"${ input.yes }\"",
    ),
    kind(
        "`when` does not hold",
        Frame::UpToPivot,
        "call: S.do, emit: E, compensate: { call: S.undo, emit: U }, queue_timeout: 10m, when: \"${ input.no }\"",
    ),
    kind("`compensate: none`", Frame::UpToPivot, "call: S.do, emit: E, compensate: none, queue_timeout: 10m"),
    kind("optional", Frame::UpToPivot, "call: S.do, emit: E, compensate: { call: S.undo, emit: U }, queue_timeout: 10m, optional: true"),
    kind("optional, `compensate: none`", Frame::UpToPivot, "call: S.do, emit: E, compensate: none, queue_timeout: 10m, optional: true"),
    kind("pivot", Frame::Pivot, "call: S.do, emit: E, pivot: true, queue_timeout: 10m"),
    kind("retriable", Frame::BehindPivot, "call: S.do, emit: E"),
    kind("retriable, `when` holds", Frame::BehindPivot, "call: S.do, emit: E, when: \"${ input.yes }\""),
    kind("retriable, `when` does not hold", Frame::BehindPivot, "call: S.do, emit: E, when: \"${ input.no }\""),
    kind("optional behind the pivot", Frame::BehindPivot, "call: S.do, emit: E, optional: true, queue_timeout: 10m"),
];

/// Steps that call nobody.
pub(super) const WAITS: [Kind; 7] = [
    kind("`sleep`", Frame::UpToPivot, "sleep: \"${ input.pause }\""),
    kind("`sleep` behind the pivot", Frame::BehindPivot, "sleep: \"${ input.pause }\""),
    kind("`wait_for`", Frame::UpToPivot, "wait_for: go"),
    kind("`wait_for`, `on_timeout: fail`", Frame::UpToPivot, "wait_for: { signal: go, timeout: 10m }"),
    kind("`wait_for`, `on_timeout: continue`", Frame::UpToPivot, "wait_for: { signal: go, timeout: 10m, on_timeout: continue }"),
    kind("`wait_for` behind the pivot", Frame::BehindPivot, "wait_for: go"),
    kind(
        "`wait_for` behind the pivot, `on_timeout: continue`",
        Frame::BehindPivot,
        "wait_for: { signal: go, timeout: 10m, on_timeout: continue }",
    ),
];

/// Steps that fan out, over two items at a time.
pub(super) const FAN_OUTS: [Kind; 4] = [
    kind(
        "item of a `for_each`",
        Frame::UpToPivot,
        "call: S.do, for_each: \"${ input.lines }\", emit: E, compensate: { call: S.undo, emit: U }",
    ),
    kind("item, `compensate: none`", Frame::UpToPivot, "call: S.do, for_each: \"${ input.lines }\", emit: E, compensate: none"),
    kind(
        "item of an optional step",
        Frame::UpToPivot,
        "call: S.do, for_each: \"${ input.lines }\", optional: true, emit: E, compensate: { call: S.undo, emit: U }",
    ),
    kind("item behind the pivot", Frame::BehindPivot, "call: S.do, for_each: \"${ input.lines }\", emit: E"),
];

/// Steps that start another saga.
pub(super) const SUB_SAGAS: [Kind; 6] = [
    kind("sub-saga", Frame::UpToPivot, "saga: packing, emit: E"),
    kind("sub-saga, `compensate: none`", Frame::UpToPivot, "saga: packing, emit: E, compensate: none"),
    kind("optional sub-saga", Frame::UpToPivot, "saga: packing, emit: E, optional: true"),
    kind("sub-saga as the pivot", Frame::Pivot, "saga: packing, emit: E, pivot: true"),
    kind("sub-saga behind the pivot", Frame::BehindPivot, "saga: packing, emit: E"),
    kind("optional sub-saga behind the pivot", Frame::BehindPivot, "saga: packing, emit: E, optional: true"),
];

impl Kind {
    /// A saga with such a step, called `step`; with its time in the queue only if that is asked for, because it is shorter than the saga's. Under a
    /// lock if that is asked for: behind the pivot it is one that the pivot has asked for.
    pub(super) fn definition(&self, reached: Reached, is_queue_bounded: bool, is_locked: bool) -> Definition {
        let service = if reached == Reached::Http { "s: { http: \"http://s\" }" } else { "s: { topic: s }" };
        let mut steps = vec!["id: before, call: S.before, compensate: S.undo_before".to_owned()];
        let yaml = if is_queue_bounded { self.yaml.to_owned() } else { self.yaml.replace(", queue_timeout: 10m", "") };
        let lock = if is_locked { ", lock: \"shelf/${ input.k }\"" } else { "" };
        let own = format!(
            "id: step, {}{lock}",
            yaml.replace("emit: E", "emit: { topic: told, value: done }")
                .replace("emit: U", "emit: { topic: told, value: \"${ failure.code }\" }")
        );
        match self.frame {
            Frame::UpToPivot => steps.extend([own, "id: behind, call: S.behind, pivot: true".to_owned()]),
            Frame::Pivot => steps.extend([own, "id: behind, call: S.behind".to_owned()]),
            Frame::BehindPivot => {
                steps.extend([format!("id: pivot, call: S.pivot, pivot: true{lock}"), own, "id: behind, call: S.behind".to_owned()]);
            }
        }
        let steps: String = steps.iter().map(|step| format!("  - {{ {} }}\n", step.replace("S.", "s."))).collect();
        let text = format!("saga: s\nversion: 1\nkey: ${{ input.k }}\ntimeout: 1h\nservices: {{ {service} }}\nsteps:\n{steps}");
        match dsl::compile(&text) {
            Ok(compiled) => compiled.definition,
            Err(faults) => panic!("{}", dsl::render("matrix", &text, &faults)),
        }
    }
}
