//! Whether the saga's time is enough for what its steps ask for, one after the other.

use super::check::kind;
use super::draft::{Draft, Idle, Step};
use super::graph::Graph;
use super::report::Report;
use super::rule::Rule;
use super::span::At;
use crate::definition::StepKind;
use core::time::Duration;

/// Most steps of a way that a message names.
const NAMED_MAX: usize = 6;

/// Times that somebody wrote, up to the pivot; behind it no timeout counts. A time that is too long by itself is another fault.
pub(crate) fn check(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    let Some(budget) = &draft.timeout else { return };
    let times: Vec<_> = (0..draft.steps.len()).map(|at| written(draft, graph, at)).collect();
    if !graph.is_sound() || times.iter().flatten().any(|time| *time > budget.value) {
        return;
    }
    for (step, time) in draft.steps.iter().zip(&times) {
        let (Some(time), Some(attempts)) = (time, &step.retry.attempts) else { continue };
        let all = time.saturating_mul(attempts.value);
        if all > budget.value {
            let message =
                format!("{} attempts of {time:?} may take {all:?}, but the whole saga times out after {:?}", attempts.value, budget.value);
            report.add_with_help(
                Rule::BudgetTooSmall,
                attempts.span,
                message,
                "fewer attempts, a shorter timeout, or a longer one of the saga",
            );
        }
    }
    let way = longest_way(graph, &times);
    let sum: Duration = way.iter().filter_map(|&at| times[at]).sum();
    if sum > budget.value {
        let names: Vec<_> = way.iter().filter(|&&at| times[at].is_some()).map(|&at| name(&draft.steps[at])).collect();
        let (shown, more) = (names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(" -> "), names.len() > NAMED_MAX);
        let message = format!(
            "{shown}{}, with one attempt each, may take {sum:?} together, but the whole saga times out after {:?}",
            if more { " and so on" } else { "" },
            budget.value
        );
        report.add_with_help(Rule::BudgetTooSmall, budget.span, message, "lengthen this timeout, or shorten those of the steps");
    }
}

/// How long one attempt of the step may take, or the step if it calls nobody, if somebody said so and it counts.
fn written(draft: &Draft, graph: &Graph, at: usize) -> Option<Duration> {
    let step = &draft.steps[at];
    let time = match &step.idle {
        None if step.saga.is_some() => None,
        None => step.timeout.as_ref().or(draft.defaults.timeout.as_ref()).map(|timeout| timeout.value),
        Some(At { value: Some(Idle::For(time)), .. }) => Some(*time),
        Some(At { value: Some(Idle::WaitFor(wait)), .. }) => wait.timeout.as_ref().map(|timeout| timeout.value),
        Some(_) => None,
    };
    time.filter(|_| kind(draft, graph, at) != StepKind::Retriable)
}

/// The steps of the way that takes longest, in their order.
fn longest_way(graph: &Graph, times: &[Option<Duration>]) -> Vec<usize> {
    let mut until = vec![Duration::ZERO; times.len()];
    let mut came_from = vec![None; times.len()];
    for at in graph.topological_order() {
        let before = graph.after[at].iter().copied().max_by_key(|&before| until[before]);
        until[at] = before.map_or(Duration::ZERO, |before| until[before]) + times[at].unwrap_or_default();
        came_from[at] = before;
    }
    let last = (0..times.len()).max_by_key(|&at| until[at]);
    let mut way: Vec<_> = core::iter::successors(last, |&at| came_from[at]).collect();
    way.reverse();
    way
}

fn name(step: &Step) -> &str {
    step.id.as_ref().map_or("?", |id| id.as_str())
}
