//! What must hold of the items of a step that fans out: they begin in their order, no more at a time than the definition says, each succeeds once, and the
//! step tells of them as a whole.

use super::audit::{Occurred, number, text};
use sagamq_sdk::api::saga::{HistoryEvent, Operation, StepDescription, StepState};
use std::collections::BTreeSet;

/// The steps that fan out, and how many of their items may be called at a time.
const FAN_OUTS: [(&str, usize); 4] = [("pick", 2), ("invite", 3), ("tally", 2), ("label", 10)];

/// How many items of the step may be called at a time, if it fans out.
pub(super) fn max_parallel(step: &str) -> Option<usize> {
    FAN_OUTS.iter().find(|(id, _)| *id == step).map(|(_, most)| *most)
}

/// How often the step had to tell that it is done, or undone: when all of its items were.
pub(super) fn to_be_told(step: &StepDescription, operation: Operation, history: &[HistoryEvent]) -> u32 {
    let id = step.id.as_str();
    if operation == Operation::Compensation {
        return u32::from(step.state == StepState::Compensated);
    }
    let of_it = |kind: &'static str| history.iter().filter(move |event| event.r#type == kind && text(event, "step").as_deref() == Some(id));
    let Some(fanned) = of_it("step_fanned_out").next() else { return 0 };
    let items = fanned.data.to_value()["items"].as_array().map_or(0, Vec::len);
    let done: BTreeSet<u64> = of_it("step_succeeded").filter_map(|event| number(event, "item")).collect();
    u32::from(done.len() == items)
}

/// Looks at how the items of a step were called, one after the other and side by side.
pub(super) fn look(id: &str, most: usize, history: &[HistoryEvent], say: &mut impl FnMut(String), occurred: &mut Occurred) {
    let (mut open, mut begun, mut done) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    let is_of_it = |event: &&HistoryEvent| {
        text(event, "step").as_deref() == Some(id) && text(event, "operation").as_deref() == Some(Operation::Action.as_str())
    };
    for event in history.iter().filter(is_of_it) {
        let Some(item) = number(event, "item") else {
            let is_empty = event.data.to_value()["items"].as_array().is_some_and(Vec::is_empty);
            *occurred.entry("list of none".to_owned()).or_default() += u64::from(is_empty);
            continue;
        };
        match event.r#type.as_str() {
            "step_called" => {
                if !begun.contains(&item) {
                    begun.push(item);
                }
                open.insert(item);
                if open.len() > most {
                    say(format!("{} items of `{id}` were called at a time, and {most} may be: {open:?}", open.len()));
                }
                if open.len() > 1 {
                    *occurred.entry("items side by side".to_owned()).or_default() += 1;
                }
            }
            "step_succeeded" => {
                open.remove(&item);
                if !done.insert(item) {
                    say(format!("`{id}[{item}]` succeeded twice in the history"));
                }
            }
            "step_failed" | "step_unknown" => {
                open.remove(&item);
            }
            _ => {}
        }
    }
    if !begun.is_sorted() {
        say(format!("the items of `{id}` began in the order {begun:?}"));
    }
}
