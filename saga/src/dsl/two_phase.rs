//! The rules of two-phase commit: who cannot take part, and what has no effect in this mode.

use super::draft::{Compensate, Draft, Idle, Retry, Step};
use super::graph::Graph;
use super::report::Report;
use super::rule::Rule;
use super::span::Span;
use crate::definition::{
    BRANCH_BYTES_MAX, LOCKS_WOULD_LAST, LOCKS_WOULD_SLEEP, LOCKS_WOULD_WAIT, Target, long_service_name, only_in_sagas, service_with_topic,
};

/// Checks a definition that is meant for two phases.
pub(super) fn check(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    services(draft, report);
    if graph.is_sound() {
        order(draft, graph, report);
    }
    for step in &draft.steps {
        only_sagas(step, report);
        idle(step, report);
        if let Some(saga) = &step.saga {
            let id = step.id.as_ref().map_or("this step", |id| id.as_str());
            let message = format!("`{id}` starts a saga in two phases: {LOCKS_WOULD_LAST}");
            report.add_with_help(Rule::OnlyInSagas, saga.span, message, "start it before the transaction, or run it with `mode: saga`");
        }
        if let Some(idle) = &step.idle {
            let id = step.id.as_ref().map_or("this step", |id| id.as_str());
            let does = if matches!(idle.value, Some(Idle::WaitFor(_))) { "waits for a signal" } else { "sleeps" };
            let message = format!("`{id}` {does} in two phases: {LOCKS_WOULD_SLEEP}");
            report.add_with_help(Rule::SleepsWithLocks, idle.span, message, "do it before the transaction starts, or run it as a saga");
        }
    }
    attempts(&draft.defaults.retry, report);
}

/// Whoever is called by an action holds locks from then on.
fn services(draft: &Draft, report: &mut Report<'_>) {
    for service in &draft.services {
        let name = &service.name;
        if !draft.steps.iter().filter_map(|step| step.call.as_ref()).any(|call| call.service.value == name.value) {
            continue;
        }
        if let Some(target) = service.target.as_ref().filter(|target| matches!(target.value, Target::Topic(_))) {
            let message = format!("{}: {LOCKS_WOULD_WAIT}", service_with_topic(&name.value));
            report.add_with_help(Rule::QueuedService, target.span, message, "give it a URL: `{ http: \"http://payments:8080\" }`");
        }
        if name.value.len() > BRANCH_BYTES_MAX {
            let help = "shorten it: it is a part of the name of a prepared transaction, which PostgreSQL bounds";
            report.add_with_help(Rule::LongServiceName, name.span, long_service_name(&name.value), help);
        }
    }
}

/// Steps at two services should come one after the other. Told once a step, of the first step above it that it has no order with.
fn order(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    let service = |at: usize| draft.steps[at].call.as_ref().map(|call| call.service.value.as_str());
    for (at, step) in draft.steps.iter().enumerate() {
        let (Some(id), Some(here)) = (&step.id, service(at)) else { continue };
        let beside = (0..at).find_map(|other| {
            let there = service(other).filter(|there| *there != here)?;
            let is_ordered = graph.is_ancestor(other, at) || graph.is_ancestor(at, other);
            Some((draft.steps[other].id.as_ref().filter(|_| !is_ordered)?, there))
        });
        let Some((other, there)) = beside else { continue };
        let message = format!(
            "`{other}` and `{id}` have no order: of two transactions that want the same rows, one may lock them first at `{there}` and the \
             other first at `{here}`, and then each waits for the other until the lock timeout"
        );
        let help = format!(
            "add `{other}` to the `after` of `{id}`, and keep the services in one order in all definitions; leave it so if no two transactions \
             want the same rows at both"
        );
        report.add_with_help(Rule::UnorderedBranches, step.span, message, help);
    }
}

/// What would be done without: a branch whose actions were left out, or whose refusal does not count, is not the whole any more.
fn only_sagas(step: &Step, report: &mut Report<'_>) {
    let name = step.id.as_ref().map_or("", |id| id.as_str());
    for (keyword, span) in [
        ("when", step.when.as_ref().map(|when| when.span)),
        ("for_each", step.each.items.as_ref().map(|items| items.span)),
        ("optional", step.optional),
        ("emit", step.emit.as_ref().map(|emit| emit.span)),
        ("lock", step.lock.as_ref().map(|lock| lock.span)),
    ] {
        if let Some(span) = span {
            let help = "let the participant decide, and answer that nothing was to do; or run it with `mode: saga`";
            report.add_with_help(Rule::OnlyInSagas, span, only_in_sagas(name, keyword), help);
        }
    }
}

/// What of a step has no effect.
fn idle(step: &Step, report: &mut Report<'_>) {
    if let Compensate::Call(compensation) = &step.compensate {
        warn(compensation.span, "`compensate`", "nothing is compensated: what was done is rolled back", report);
    }
    if let Some(span) = step.pivot {
        warn(span, "`pivot`", "all steps take effect at one moment", report);
    }
    if let Some(timeout) = &step.queue_timeout {
        warn(timeout.span, "`queue_timeout`", "no call waits in a queue", report);
    }
    attempts(&step.retry, report);
}

fn attempts(retry: &Retry, report: &mut Report<'_>) {
    const ONCE: &str = "an action is called once: if its outcome is not known, the transaction is rolled back";
    if let Some(attempts) = &retry.attempts {
        warn(attempts.span, "`attempts`", ONCE, report);
    }
    if let Some(codes) = retry.never_on.as_ref().filter(|codes| !codes.value.is_empty()) {
        warn(codes.span, "`never_on`", ONCE, report);
    }
}

fn warn(span: Span, what: &str, why: &str, report: &mut Report<'_>) {
    let message = format!("{what} has no effect in two phases: {why}");
    report.add_with_help(Rule::NotInTwoPhases, span, message, "remove it, or keep it for starts with the mode `saga`");
}
