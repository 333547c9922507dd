//! From a draft without faults to the definition the protocol works on: every default is filled in.

use super::check::{self, kind};
use super::draft::{self, CallName, Compensate, Compensation, Defaults, Draft, Emit, Idle, Retry, Step, Values};
use super::graph::Graph;
use super::report::Report;
use super::rule::Rule;
use crate::definition::Step as Lowered;
use crate::definition::{
    Action, CALL_TIMEOUT_DEFAULT, Call, Definition, Emission, ForEach, Lock, MAX_PARALLEL_DEFAULT, RetryPolicy, Sleep, StepKind, SubSaga,
    Target, WaitFor,
};
use crate::expression::Template;
use core::time::Duration;
use serde_json::{Map, Value};

/// The definition; `None` when a part is missing, which the report says already.
pub(crate) fn definition(draft: &Draft, graph: &Graph) -> Option<Definition> {
    let order = graph.topological_order();
    let mut place = vec![0; draft.steps.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new;
    }
    let steps = order.iter().map(|&at| {
        let mut after: Vec<_> = graph.after[at].iter().map(|&before| place[before]).collect();
        after.sort_unstable();
        step(draft, graph, at, after)
    });
    Some(Definition {
        name: draft.name.clone()?,
        version: draft.version?,
        mode: draft.mode?,
        no_saga: check::no_saga(draft, graph),
        input: draft.input.clone(),
        key: draft.key.as_ref()?.template.clone(),
        timeout: draft.timeout.as_ref().map(|timeout| timeout.value),
        steps: steps.collect::<Option<_>>()?,
        output: draft.output.as_ref().map(|output| output.template.clone()),
        decision_retry: merged(RetryPolicy::decision(), &draft.defaults.compensate_retry),
    })
}

fn step(draft: &Draft, graph: &Graph, at: usize, after: Vec<usize>) -> Option<Lowered> {
    let step = &draft.steps[at];
    let kind = kind(draft, graph, at);
    let compensation = match &step.compensate {
        Compensate::Call(compensation) => Some(undo(draft, step, compensation)?),
        Compensate::Unsaid if kind == StepKind::Compensatable && step.saga.is_some() => Some(undo_saga(step)?),
        Compensate::Unsaid | Compensate::Nothing => None,
    };
    let action = match &step.idle {
        Some(idle) => match idle.value.as_ref()? {
            Idle::For(duration) => Action::Sleep(Sleep::For(*duration)),
            Idle::Given(value) => Action::Sleep(Sleep::Given(value.template.clone())),
            Idle::Until(value) => Action::Sleep(Sleep::Until(value.template.clone())),
            Idle::WaitFor(wait) => Action::WaitFor(WaitFor {
                signal: wait.signal.clone(),
                timeout: wait.timeout.as_ref().map(|timeout| timeout.value),
                on_timeout: wait.on_timeout,
            }),
        },
        None if step.saga.is_some() => {
            let policy = if check::must_succeed(step, kind) { action_policy(draft, step, kind) } else { RetryPolicy::once() };
            start(step, policy)?.into()
        }
        None => {
            let (timeout, policy) = (call_timeout(draft, step), action_policy(draft, step, kind));
            call(draft, step.call.as_ref()?, step.with.as_ref(), timeout, policy)?.into()
        }
    };
    Some(Lowered {
        id: step.id.clone()?,
        after,
        kind,
        action,
        compensation,
        queue_timeout: step.queue_timeout.as_ref().map(|timeout| timeout.value),
        emit: told(step.emit.as_ref()),
        emit_undone: match &step.compensate {
            Compensate::Call(compensation) => told(compensation.emit.as_ref()),
            Compensate::Unsaid | Compensate::Nothing => None,
        },
        when: step.when.as_ref().map(|when| when.value.template.clone()),
        for_each: step.each.values().map(|items| ForEach {
            items: items.template.clone(),
            max_parallel: step.each.max_parallel.as_ref().and_then(|most| most.value).unwrap_or(MAX_PARALLEL_DEFAULT),
        }),
        optional: step.optional.is_some(),
        lock: match &step.lock {
            Some(lock) => {
                Some(Lock { key: lock.key.as_ref()?.template.clone(), timeout: lock.timeout.as_ref().map(|timeout| timeout.value) })
            }
            None => None,
        },
    })
}

fn told(emit: Option<&Emit>) -> Option<Emission> {
    let Emit { topic, key, value, headers, .. } = emit?;
    Some(Emission {
        topic: topic.as_ref()?.value.clone(),
        key: key.as_ref().map(|key| key.template.clone()),
        value: value.as_ref()?.template.clone(),
        headers: headers.iter().map(|(name, value)| (name.clone(), value.template.clone())).collect(),
    })
}

fn undo(draft: &Draft, step: &Step, compensation: &Compensation) -> Option<Call> {
    let with = compensation.with.as_ref().or(step.with.as_ref());
    let timeout = compensation.timeout.as_ref().map_or_else(|| call_timeout(draft, step), |timeout| timeout.value);
    call(draft, compensation.call.as_ref()?, with, timeout, compensation_policy(draft, compensation))
}

fn sub_saga(step: &Step) -> Option<SubSaga> {
    let draft::SubSaga { name, version } = step.saga.as_ref()?.value.as_ref()?;
    Some(SubSaga { name: name.value.clone(), version: *version })
}

/// A saga is started as a participant is called; its own time is its own affair.
fn start(step: &Step, retry: RetryPolicy) -> Option<Call> {
    let arguments = step.with.as_ref().map_or_else(nothing, |with| with.template.clone());
    Some(of_saga(sub_saga(step)?, "start", arguments, retry))
}

/// A saga that was started is undone as a whole, if nothing else undoes it.
fn undo_saga(step: &Step) -> Option<Call> {
    Some(of_saga(sub_saga(step)?, "undo", nothing(), RetryPolicy::once()))
}

fn of_saga(saga: SubSaga, name: &str, arguments: Template, retry: RetryPolicy) -> Call {
    let (service, timeout) = (saga.name.to_string(), CALL_TIMEOUT_DEFAULT);
    Call { service, target: Target::Saga(saga), name: name.to_owned(), arguments, timeout, retry }
}

fn nothing() -> Template {
    Template::literal(Value::Object(Map::new()))
}

fn call(draft: &Draft, name: &CallName, with: Option<&Values>, timeout: Duration, retry: RetryPolicy) -> Option<Call> {
    let service = draft.services.iter().find(|service| service.name.value == name.service.value)?;
    let arguments = with.map_or_else(nothing, |with| with.template.clone());
    let target: Target = service.target.as_ref()?.value.clone();
    Some(Call { service: name.service.value.clone(), target, name: name.operation.clone(), arguments, timeout, retry })
}

/// The step's own timeout, else the default of the definition, else the general one; that one never passes the saga's.
fn call_timeout(draft: &Draft, step: &Step) -> Duration {
    let given = step.timeout.as_ref().or(draft.defaults.timeout.as_ref());
    let longest = draft.timeout.as_ref().map_or(CALL_TIMEOUT_DEFAULT, |timeout| timeout.value);
    given.map_or(CALL_TIMEOUT_DEFAULT.min(longest), |timeout| timeout.value)
}

/// Behind the pivot there is no way back, so a step is as stubborn as a compensation, unless the saga goes on without it.
fn action_policy(draft: &Draft, step: &Step, kind: StepKind) -> RetryPolicy {
    let base = if check::must_succeed(step, kind) {
        merged(RetryPolicy::compensation(), &draft.defaults.compensate_retry)
    } else {
        merged(RetryPolicy::action(), &draft.defaults.retry)
    };
    merged(base, &step.retry)
}

fn compensation_policy(draft: &Draft, compensation: &Compensation) -> RetryPolicy {
    merged(merged(RetryPolicy::compensation(), &draft.defaults.compensate_retry), &compensation.retry)
}

fn merged(base: RetryPolicy, given: &Retry) -> RetryPolicy {
    RetryPolicy {
        initial: given.initial.as_ref().map_or(base.initial, |initial| initial.value),
        factor: given.factor.unwrap_or(base.factor),
        max: given.max.as_ref().map_or(base.max, |max| max.value),
        attempts: given.attempts.as_ref().map_or(base.attempts, |attempts| attempts.value),
        never_on: given.never_on.as_ref().map_or(base.never_on, |codes| codes.value.clone()),
    }
}

/// A longest backoff below the first one is a slip: the first would never be used. Either may be one that nobody wrote.
pub(crate) fn check_policies(draft: &Draft, graph: &Graph, report: &mut Report<'_>) {
    let Defaults { retry, compensate_retry, .. } = &draft.defaults;
    for (at, step) in draft.steps.iter().enumerate().filter(|(_, step)| step.idle.is_none()) {
        let kind = kind(draft, graph, at);
        let inherited = if check::must_succeed(step, kind) { compensate_retry } else { retry };
        check_policy(&action_policy(draft, step, kind), &[&step.retry, inherited], report);
        if let Compensate::Call(compensation) = &step.compensate {
            check_policy(&compensation_policy(draft, compensation), &[&compensation.retry, compensate_retry], report);
        }
    }
}

fn check_policy(policy: &RetryPolicy, from: &[&Retry], report: &mut Report<'_>) {
    if policy.max >= policy.initial {
        return;
    }
    let max = from.iter().find_map(|retry| retry.max.as_ref());
    let initial = from.iter().find_map(|retry| retry.initial.as_ref());
    if let Some(max) = max {
        let message = format!("the longest backoff {:?} is shorter than the first one, {:?}", policy.max, policy.initial);
        report.add_with_help(Rule::BadDuration, max.span, message, "set `initial` as well, or lengthen `max`");
    } else if let Some(initial) = initial {
        let message = format!("the first backoff {:?} is longer than the longest one, {:?} by default", policy.initial, policy.max);
        report.add_with_help(Rule::BadDuration, initial.span, message, "set `max` as well, or shorten `initial`");
    }
}
