//! The rules that look at more than one field: services and calls, pivots and compensations, time budgets.

use super::draft::{CallName, Compensate, Draft, Service, Step};
use super::fields::nearest;
use super::graph::Graph;
use super::report::Report;
use super::rule::Rule;
use crate::definition::{StepKind, Target};
use sagamq_api::saga::Mode;

/// Every service that is called must be declared, and the other way round.
pub(crate) fn services(draft: &Draft, report: &mut Report<'_>) {
    for call in calls(draft) {
        let name = &call.service;
        if !draft.services.iter().any(|service| service.name.value == name.value) {
            let known = || draft.services.iter().map(|service| service.name.value.as_str());
            let help = match nearest(&name.value, known()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("declare it under `services`; known services: {}", known().collect::<Vec<_>>().join(", ")),
            };
            report.add_with_help(Rule::UnknownService, name.span, format!("there is no service `{}`", name.value), help);
        }
    }
    if has_unreadable_call(draft) {
        return;
    }
    for Service { name, .. } in &draft.services {
        if !calls(draft).any(|call| call.service.value == name.value) {
            report.add_with_help(Rule::UnusedService, name.span, format!("the service `{}` is never called", name.value), "remove it");
        }
    }
}

/// Whether a call is a gap: it may be the one that a service seems to lack.
fn has_unreadable_call(draft: &Draft) -> bool {
    draft.steps.iter().any(|step| {
        let undo = match &step.compensate {
            Compensate::Call(compensation) => compensation.call.is_none(),
            Compensate::Unsaid | Compensate::Nothing => false,
        };
        (step.call.is_none() && step.calls()) || undo
    })
}

fn calls(draft: &Draft) -> impl Iterator<Item = &CallName> {
    draft.steps.iter().flat_map(|step| {
        let undo = match &step.compensate {
            Compensate::Call(compensation) => compensation.call.as_ref(),
            Compensate::Unsaid | Compensate::Nothing => None,
        };
        step.call.iter().chain(undo)
    })
}

/// What steps tell must not be taken for commands.
pub(crate) fn emissions(draft: &Draft, report: &mut Report<'_>) {
    let told = draft.steps.iter().flat_map(|step| {
        let undone = match &step.compensate {
            Compensate::Call(compensation) => compensation.emit.as_ref(),
            Compensate::Unsaid | Compensate::Nothing => None,
        };
        step.emit.iter().chain(undone)
    });
    for topic in told.filter_map(|emit| emit.topic.as_ref()) {
        let takes_commands =
            |service: &&Service| service.target.as_ref().is_some_and(|target| target.value == Target::Topic(topic.value.clone()));
        if let Some(service) = draft.services.iter().find(takes_commands) {
            let message = format!(
                "`{}` is the command topic of `{}`: its workers would take what is told for calls",
                topic.value, service.name.value
            );
            report.add_with_help(Rule::BadEmit, topic.span, message, "name a topic of its own: `orders.events`");
        }
    }
}

/// Where the step stands relative to the pivot.
pub(crate) fn kind(draft: &Draft, graph: &Graph, at: usize) -> StepKind {
    let is_behind = (0..draft.steps.len()).any(|other| draft.steps[other].pivot.is_some() && graph.is_ancestor(other, at));
    match (draft.steps[at].pivot.is_some(), is_behind) {
        (true, _) => StepKind::Pivot,
        (false, true) => StepKind::Retriable,
        (false, false) => StepKind::Compensatable,
    }
}

/// Whether the step is called until it succeeds: behind the pivot, unless the saga goes on without it.
pub(crate) fn must_succeed(step: &Step, kind: StepKind) -> bool {
    kind == StepKind::Retriable && step.optional.is_none()
}

/// Why a definition that is meant for two phases cannot be run as a saga. What would be a warning for a saga counts as well: its author was
/// never warned.
pub(crate) fn no_saga(draft: &Draft, graph: &Graph) -> Option<String> {
    if draft.mode != Some(Mode::TwoPhase) {
        return None;
    }
    let mut report = Report::new("");
    pivots(draft, graph, &mut report);
    report.finish().into_iter().next().map(|fault| fault.message)
}

/// At most one pivot on a path, nothing beside it, no undo from there on, and an undo for everything before it.
pub(crate) fn pivots(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    for (at, step) in draft.steps.iter().enumerate() {
        let pivots = || draft.steps.iter().enumerate().filter(|(other, step)| step.pivot.is_some() && *other != at);
        if step.pivot.is_some()
            && let Some((_, first)) = pivots().find(|(other, _)| graph.is_ancestor(*other, at))
        {
            let message = format!("`{}` comes behind the pivot `{}` and is a pivot itself", name(step), name(first));
            report.add_with_help(Rule::TwoPivots, step.span, message, "a saga has one point of no return: remove one `pivot: true`");
        }
        let beside = pivots().find(|(other, _)| !graph.is_ancestor(*other, at) && !graph.is_ancestor(at, *other));
        if graph.is_sound()
            && let Some((_, pivot)) = beside
        {
            let (step_name, pivot) = (name(step), name(pivot));
            let message = format!(
                "`{step_name}` is neither before nor behind the pivot `{pivot}`: if it is refused after `{pivot}` succeeded, the saga can go neither on nor back"
            );
            let help = format!("add `{step_name}` to the `after` of `{pivot}`, or `{pivot}` to the `after` of `{step_name}`");
            report.add_with_help(Rule::BesidePivot, step.span, message, help);
        }
        conditional_pivot(step, report);
        compensation(draft, graph, at, report);
    }
}

fn conditional_pivot(step: &Step, report: &mut Report<'_>) {
    let keywords = [("when", step.when.as_ref().map(|when| when.span)), ("optional", step.optional)];
    for (keyword, span) in keywords.into_iter().filter_map(|(keyword, span)| Some((keyword, span?))) {
        if step.pivot.is_some() {
            let message =
                format!("`{}` is the pivot and has `{keyword}`: without it nothing says whether the saga may still be undone", name(step));
            let help = format!("remove `{keyword}`, or make another step the pivot that is called in every case");
            report.add_with_help(Rule::ConditionalPivot, span, message, help);
        }
    }
}

fn compensation(draft: &Draft, graph: &Graph, at: usize, report: &mut Report<'_>) {
    let step = &draft.steps[at];
    if step.idle.is_some() {
        return;
    }
    let has_pivot = draft.steps.iter().any(|step| step.pivot.is_some());
    match (kind(draft, graph, at), &step.compensate) {
        // A saga that was started is undone as a whole.
        (StepKind::Compensatable, Compensate::Unsaid) if step.saga.is_some() => {}
        (StepKind::Compensatable, Compensate::Unsaid) => {
            let (rule, message) = if has_pivot {
                (Rule::MissingCompensation, format!("`{}` stands before the pivot and does not say how it is undone", name(step)))
            } else {
                (Rule::NoCompensation, format!("`{}` does not say how it is undone", name(step)))
            };
            report.add_with_help(
                rule,
                step.span,
                message,
                "add `compensate: service.operation`, or `compensate: none` if there is nothing to undo",
            );
        }
        (StepKind::Pivot, Compensate::Call(compensation)) => {
            let message = format!("`{}` is the pivot: once it succeeded it is never undone", name(step));
            report.add_with_help(Rule::CompensationAfterPivot, compensation.span, message, "remove `compensate`, or `pivot: true`");
        }
        (StepKind::Retriable, Compensate::Call(compensation)) => {
            let message = format!("`{}` comes behind the pivot, where nothing is undone", name(step));
            report.add_with_help(Rule::CompensationAfterPivot, compensation.span, message, "remove `compensate`");
        }
        (StepKind::Compensatable | StepKind::Pivot | StepKind::Retriable, _) => {}
    }
}

/// Codes that end the attempts do not count from the pivot on: nothing but a success ends them there.
pub(crate) fn never_on(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    for (at, step) in draft.steps.iter().enumerate() {
        let Some(codes) = step.retry.never_on.as_ref().filter(|codes| !codes.value.is_empty()) else { continue };
        let reason = match kind(draft, graph, at) {
            StepKind::Compensatable => continue,
            StepKind::Pivot => "is the pivot: an unknown outcome is asked for until it is known, whatever the code",
            StepKind::Retriable if !must_succeed(step, StepKind::Retriable) => continue,
            StepKind::Retriable => "comes behind the pivot: it is called until it succeeds, whatever the code",
        };
        report.add_with_help(Rule::IgnoredNeverOn, codes.span, format!("`{}` {reason}", name(step)), "remove `never_on`");
    }
}

/// The saga must not time out before one attempt of a step may. Behind the pivot no timeout counts.
pub(crate) fn timeouts(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    let Some(budget) = &draft.timeout else { return };
    for (at, step) in draft.steps.iter().enumerate().filter(|(_, step)| step.calls()) {
        let timeout = step.timeout.as_ref().or(draft.defaults.timeout.as_ref());
        let Some(timeout) = timeout.filter(|timeout| timeout.value > budget.value) else { continue };
        if kind(draft, graph, at) == StepKind::Retriable {
            continue;
        }
        let message = format!("one attempt of a step may take {:?}, but the whole saga times out after {:?}", timeout.value, budget.value);
        report.add_with_help(Rule::TimeoutTooShort, timeout.span, message, "shorten this timeout, or lengthen the saga's");
    }
}

fn name(step: &Step) -> &str {
    step.id.as_ref().map_or("this step", |id| id.as_str())
}
