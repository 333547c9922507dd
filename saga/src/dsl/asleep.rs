//! Reads steps that call nobody, and the rules about their time.

use super::check::kind;
use super::draft::{Draft, Idle, Step, Values, WaitFor};
use super::fields::Fields;
use super::graph::Graph;
use super::node::{Node, Value};
use super::report::Report;
use super::rule::Rule;
use super::span::At;
use super::{scalar, values};
use crate::definition::{OnTimeout, StepKind};
use core::time::Duration;
use jiff::Timestamp;

/// What belongs to a call, and has no meaning where there is none. That the saga goes on without a wait is said by its `on_timeout`.
const OF_CALLS: [&str; 13] = [
    "call",
    "saga",
    "with",
    "timeout",
    "queue_timeout",
    "retry",
    "compensate",
    "pivot",
    "optional",
    "emit",
    "for_each",
    "max_parallel",
    "lock",
];

/// What a step does if it calls nobody, and where it says so.
pub(super) fn idle(fields: &mut Fields<'_>, report: &mut Report<'_>) -> Option<At<Option<Idle>>> {
    let sleep = fields.take_entry("sleep");
    let wait = fields.take_entry("wait_for");
    if let (Some(_), Some((span, _))) = (&sleep, &wait) {
        let help = "make two steps of it, or give `wait_for` a `timeout`";
        report.add_with_help(Rule::CallsNobody, *span, "a step sleeps or waits for a signal, not both", help);
    }
    if let Some((span, node)) = sleep {
        refuse_calls(fields, "sleep", report);
        return Some(At::new(self::sleep(node, report), span));
    }
    let (span, node) = wait?;
    refuse_calls(fields, "wait_for", report);
    Some(At::new(wait_for(node, report), span))
}

/// What a step says about a call, though it has this keyword and makes none.
fn refuse_calls(fields: &mut Fields<'_>, keyword: &str, report: &mut Report<'_>) {
    for name in OF_CALLS {
        let Some((span, node)) = fields.take_entry(name) else { continue };
        // That there is nothing to undo is true.
        if name == "compensate" && node.text().is_some_and(|text| text.value == "none") {
            continue;
        }
        let message = format!("a step with `{keyword}` calls nobody, so `{name}` has no meaning in it");
        report.add_with_help(Rule::CallsNobody, span, message, format!("remove `{name}`, or make two steps of it"));
    }
}

/// `sleep`: a duration, an expression that gives one, or `{ until: … }`.
fn sleep(node: &Node, report: &mut Report<'_>) -> Option<Idle> {
    if let Value::Map(_) = &node.value {
        let mut fields = Fields::open(node, "`sleep`", report)?;
        let until = fields.require("until", "write `sleep: { until: \"${ input.opens_at }\" }`, or a duration: `sleep: 15m`", report);
        fields.finish(report);
        return until.and_then(|node| time(node, report)).map(Idle::Until);
    }
    if node.text().is_some_and(|text| text.value.contains("${")) {
        return values::read(node, report).map(Idle::Given);
    }
    scalar::duration(node, "the sleep", report).map(|duration| Idle::For(duration.value))
}

/// A time: an expression, or text as RFC 3339 writes it.
fn time(node: &Node, report: &mut Report<'_>) -> Option<Values> {
    const HELP: &str = "write an expression, or `\"2026-12-24T18:00:00Z\"`";
    match &node.value {
        Value::Text(text) if !text.contains("${") && text.parse::<Timestamp>().is_err() => {
            report.add_with_help(Rule::BadDuration, node.span, format!("`{text}` is no time"), HELP);
            None
        }
        Value::Text(_) => values::read(node, report),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
            report.add_with_help(Rule::WrongType, node.span, format!("`until` is a time, but this is {}", node.kind()), HELP);
            None
        }
    }
}

/// `wait_for`: the name of a signal, or a mapping.
fn wait_for(node: &Node, report: &mut Report<'_>) -> Option<Idle> {
    let Value::Map(_) = &node.value else {
        let signal = scalar::name(node, "the signal", report)?;
        return Some(Idle::WaitFor(WaitFor { signal: signal.value, timeout: None, on_timeout: OnTimeout::Fail }));
    };
    let mut fields = Fields::open(node, "`wait_for`", report)?;
    let signal = fields.require("signal", "name the signal: `wait_for: { signal: reviewed, timeout: 2h }`", report);
    let signal = signal.and_then(|node| scalar::name(node, "the signal", report));
    let timeout = fields.take("timeout").map(|node| scalar::duration(node, "the timeout", report));
    let on_timeout = fields.take("on_timeout").map(|node| on_timeout(node, report));
    let span = fields.span();
    fields.finish(report);
    if timeout.is_none() && on_timeout.is_some() {
        report.add_with_help(
            Rule::MissingField,
            span,
            "`wait_for` has `on_timeout` and no `timeout`",
            "say how long it waits: `timeout: 2h`",
        );
    }
    let on_timeout = on_timeout.unwrap_or(Some(OnTimeout::Fail))?;
    Some(Idle::WaitFor(WaitFor { signal: signal?.value, timeout: timeout.flatten(), on_timeout }))
}

fn on_timeout(node: &Node, report: &mut Report<'_>) -> Option<OnTimeout> {
    let text = scalar::text(node, "`on_timeout`", report)?;
    match text.value {
        "fail" => Some(OnTimeout::Fail),
        "continue" => Some(OnTimeout::Continue),
        other => {
            let message = format!("`{other}` is nothing that a wait can do when its time is over");
            report.add_with_help(Rule::WrongType, text.span, message, "write `fail`, so that the saga is undone, or `continue`");
            None
        }
    }
}

/// How waits for signals end: in time, and by something.
pub(super) fn waits(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    for (at, step) in draft.steps.iter().enumerate() {
        let Some(At { value: Some(Idle::WaitFor(wait)), span }) = &step.idle else { continue };
        let is_behind = kind(draft, graph, at) == StepKind::Retriable;
        let budget = draft.timeout.as_ref().filter(|_| !is_behind);
        match (&wait.timeout, budget) {
            (Some(timeout), _) if is_behind && wait.on_timeout == OnTimeout::Fail => {
                let message =
                    format!("`{}` comes behind the pivot, where nothing is undone: it cannot fail when its time is over", name(step));
                report.add_with_help(Rule::FailsBehindPivot, timeout.span, message, "add `on_timeout: continue`, or remove `timeout`");
            }
            (Some(timeout), Some(budget)) if timeout.value >= budget.value => {
                let message = format!("the wait may take {:?}, but the whole saga times out after {:?}", timeout.value, budget.value);
                report.add_with_help(Rule::TimeoutTooShort, timeout.span, message, "shorten this timeout, or lengthen the saga's");
            }
            (None, None) => {
                let message = format!("nothing ends the wait of `{}` but the signal: without it the saga stays for ever", name(step));
                let help =
                    if is_behind { "add `timeout` with `on_timeout: continue`" } else { "add `timeout` to `wait_for`, or to the saga" };
                report.add_with_help(Rule::EndlessWait, *span, message, help);
            }
            _ => {}
        }
    }
}

fn name(step: &Step) -> &str {
    step.id.as_ref().map_or("this step", |id| id.as_str())
}

/// The saga must not time out before it has slept. Behind the pivot no timeout counts.
pub(super) fn sleeps(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    let Some(budget) = draft.timeout.as_ref().filter(|_| graph.is_sound()) else { return };
    // How long the way to the end of each step has slept at least.
    let mut slept = vec![Duration::ZERO; draft.steps.len()];
    for at in graph.topological_order() {
        let before = graph.after[at].iter().map(|&before| slept[before]).max().unwrap_or_default();
        slept[at] = before;
        let Some(sleep) = &draft.steps[at].idle else { continue };
        let Some(Idle::For(duration)) = &sleep.value else { continue };
        slept[at] = before.saturating_add(*duration);
        if slept[at] < budget.value || before >= budget.value || kind(draft, graph, at) == StepKind::Retriable {
            continue;
        }
        let whole = slept[at];
        let message = format!("the way to the end of this step sleeps {whole:?}, but the whole saga times out after {:?}", budget.value);
        report.add_with_help(Rule::TimeoutTooShort, sleep.span, message, "shorten the sleep, or lengthen the saga's timeout");
    }
}
