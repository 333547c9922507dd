//! Random definitions, within the rules of the linter.

use super::super::fixture::*;
use crate::definition::{Action, Definition, ForEach, OnTimeout, Sleep, StepKind, WaitFor};
use crate::expression::Template;
use core::time::Duration;
use sagamq_api::saga::Operation;
use sagamq_broker::env::Random;
use serde_json::json;

/// Two names, so that some steps want the same.
pub(super) const SIGNALS: [&str; 2] = ["go", "on"];

pub(super) fn random_definition(steps: usize, has_pivot: bool, random: &mut Random) -> Definition {
    let below = |random: &mut Random, bound: usize| usize::try_from(random.next_u64() % bound as u64).expect("below the bound");
    let pivot = has_pivot.then(|| below(random, steps));
    let mut kinds: Vec<StepKind> = Vec::new();
    let mut list = Vec::new();
    for index in 0..steps {
        let after: Vec<usize> = (0..index).filter(|_| random.fraction() < 0.4).collect();
        let is_behind = after.iter().any(|&before| kinds[before] != StepKind::Compensatable);
        let kind = match pivot {
            Some(pivot) if pivot == index => StepKind::Pivot,
            Some(_) if is_behind => StepKind::Retriable,
            _ => StepKind::Compensatable,
        };
        kinds.push(kind);
        let mut step = step(&format!("s{index}"), &after, kind);
        let arguments = || Template::compile(&json!("${ input.?edited.orValue(0) }")).expect("legal");
        step.call_mut(Operation::Action).arguments = arguments();
        step.compensation.iter_mut().for_each(|compensation| compensation.arguments = arguments());
        if random.fraction() < 0.1 {
            step.compensation = None;
        }
        if kind != StepKind::Pivot && random.fraction() < 0.15 {
            step.action = Action::Sleep(Sleep::For(Duration::from_millis(random.next_u64() % 20_000)));
            step.compensation = None;
        } else if kind != StepKind::Pivot && random.fraction() < 0.15 {
            step.action = Action::WaitFor(random_wait(kind, random));
            step.compensation = None;
        }
        // The linter lets no step be optional that calls nobody.
        step.optional = kind != StepKind::Pivot && step.action.call().is_some() && random.fraction() < 0.2;
        // The linter lets no pivot fan out.
        if kind != StepKind::Pivot && step.action.call().is_some() && random.fraction() < 0.3 {
            step.for_each = Some(random_list(random));
            let arguments = || Template::compile(&json!(["${ input.?edited.orValue(0) }", "${ item }"])).expect("legal");
            step.call_mut(Operation::Action).arguments = arguments();
            step.compensation.iter_mut().for_each(|compensation| compensation.arguments = arguments());
        }
        if kind != StepKind::Pivot && random.fraction() < 0.2 {
            step.when = Some(random_condition(&after, random));
        }
        list.push(step);
    }
    let mut definition = definition(list);
    // The linter lets no step stand beside a pivot. Others are called on behind it; what is optional could be undone there.
    if let Some(pivot) = pivot {
        for index in (0..steps).filter(|&index| kinds[index] == StepKind::Compensatable) {
            definition.steps[index].optional &= dependents(&definition, index).contains(&pivot);
        }
    }
    definition
}

/// Most items of a list.
pub(super) const ITEMS_MAX: usize = 3;

/// Of none to a few items, which an operator's input may change; now and then without a value, or with an item that no call can be made of.
fn random_list(random: &mut Random) -> ForEach {
    let text = match random.next_u64() % 12 {
        0 => "${ input.missing }",
        1 => "${ [] }",
        2 => "${ input.?edited.orValue(0) % 2 == 0 ? [1, 2] : [3, 4, 5] }",
        3..=5 => "${ [7, 8] }",
        _ => "${ [1, 2, 3] }",
    };
    let max_parallel = 1 + (random.next_u64() % 3) as u32;
    ForEach { items: Template::text(text).expect("legal"), max_parallel }
}

/// Over the input, which operators change, or over what came before; now and then without a value.
fn random_condition(after: &[usize], random: &mut Random) -> Template {
    let before = after.first().map_or_else(|| "input.?gone".to_owned(), |before| format!("steps.s{before}.?output"));
    let text = match random.next_u64() % 10 {
        0 => "${ input.missing }".to_owned(),
        1..=5 => "${ input.?edited.orValue(0) % 2 == 0 }".to_owned(),
        _ => format!("${{ {before}.hasValue() }}"),
    };
    Template::text(&text).expect("legal")
}

fn random_wait(kind: StepKind, random: &mut Random) -> WaitFor {
    let signal = SIGNALS[usize::from(random.fraction() < 0.3)].parse().expect("legal");
    let timeout = (random.fraction() < 0.6).then(|| Duration::from_millis(random.next_u64() % 20_000));
    let may_fail = kind != StepKind::Retriable && random.fraction() < 0.5;
    WaitFor { signal, timeout, on_timeout: if may_fail { OnTimeout::Fail } else { OnTimeout::Continue } }
}

/// The steps that depend on this one, however far behind it.
pub(super) fn dependents(definition: &Definition, index: usize) -> Vec<usize> {
    let mut found = vec![index];
    for (later, step) in definition.steps.iter().enumerate().skip(index + 1) {
        if step.after.iter().any(|before| found.contains(before)) {
            found.push(later);
        }
    }
    found.split_off(1)
}
