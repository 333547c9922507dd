//! What was found, as tables of Markdown.

use super::super::super::call::Side;
use super::faults::{Act, At, Fault, OF_ACTIONS, OF_COMPENSATIONS, OF_ITEMS, OF_ITEMS_UNDONE, OF_SUB_SAGAS, OF_SUB_SAGAS_UNDONE, OF_WAITS};
use super::kinds::{CALLS, FAN_OUTS, Frame, Kind, Reached, SUB_SAGAS, WAITS};
use super::run::{Effect, Outcome, outcomes};
use sagamq_api::saga::StepState;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// How a kind of step ends under a fault, by name: the same over HTTP and over a topic, or each.
type Row = (String, BTreeSet<Outcome>);

/// What makes the saga undo the step: what stands behind it is refused.
const UNDONE_WITH_THE_SAGA: &[(&str, At, Act)] = &[("behind", At::Queued, Act::Refuse)];

/// What makes the saga undo an optional step alone: nobody knows whether it was done.
const UNDONE_ALONE: &[(&str, At, Act)] = &[("step", At::Answered, Act::LoseReply), ("step", At::Answered, Act::LoseReply)];

const HEAD: &str =
    "| step | saga | its state | its effect | before it | behind it | told | attempts |\n|---|---|---|---|---|---|---|---|\n";

/// All that is generated.
pub(super) fn page() -> String {
    let mut text = String::new();
    glance(&mut text);
    text.push_str("\n## The action\n");
    for fault in &OF_ACTIONS {
        section(&mut text, fault, "action", &rows(&CALLS, fault, Side::Action, &[]), |outcome| outcome.attempts.0.to_string());
    }
    text.push_str("\n## The compensation\n\nIt is called because the step behind it was refused; of an optional step also *alone*, because no attempt of its action was answered.\n");
    for fault in &OF_COMPENSATIONS {
        let undone: Vec<Kind> = CALLS.into_iter().filter(|kind| kind.frame == Frame::UpToPivot).collect();
        let mut found = rows(&undone, fault, Side::Undo, UNDONE_WITH_THE_SAGA);
        let optional: Vec<Kind> = undone.into_iter().filter(|kind| kind.name == "optional").collect();
        found.extend(
            rows(&optional, fault, Side::Undo, UNDONE_ALONE).into_iter().map(|(name, ends)| (format!("{name}, undone alone"), ends)),
        );
        if !fault.acts.is_empty() {
            found.retain(|(_, ends)| ends.iter().any(|end| end.attempts.1 > 0));
        }
        section(&mut text, fault, "compensation", &found, |outcome| outcome.attempts.1.to_string());
    }
    text.push_str("\n## Steps that fan out\n\nOne of two items, both called at a time.\n");
    for fault in OF_ITEMS.map(|name| named(&OF_ACTIONS, name)) {
        section(&mut text, fault, "item", &rows(&FAN_OUTS, fault, Side::Action, &[]), |outcome| outcome.attempts.0.to_string());
    }
    for fault in OF_ITEMS_UNDONE.map(|name| named(&OF_COMPENSATIONS, name)) {
        let undone: Vec<Kind> = FAN_OUTS.into_iter().filter(|kind| kind.frame == Frame::UpToPivot).collect();
        let found = rows(&undone, fault, Side::Undo, UNDONE_WITH_THE_SAGA);
        section(&mut text, fault, "compensation of an item", &found, |outcome| outcome.attempts.1.to_string());
    }
    text.push_str("\n## Steps that start a sub-saga\n");
    for fault in &OF_SUB_SAGAS {
        section(&mut text, fault, "sub-saga", &rows(&SUB_SAGAS, fault, Side::Action, &[]), |outcome| outcome.attempts.0.to_string());
    }
    for fault in &OF_SUB_SAGAS_UNDONE {
        let undone: Vec<Kind> = SUB_SAGAS.into_iter().filter(|kind| kind.frame == Frame::UpToPivot).collect();
        let mut found = rows(&undone, fault, Side::Undo, UNDONE_WITH_THE_SAGA);
        if !fault.acts.is_empty() {
            found.retain(|(_, ends)| ends.iter().any(|end| end.attempts.1 > 0));
        }
        section(&mut text, fault, "undoing a sub-saga", &found, |outcome| outcome.attempts.1.to_string());
    }
    text.push_str("\n## Steps that call nobody\n");
    for fault in &OF_WAITS {
        section(&mut text, fault, "wait", &rows(&WAITS, fault, Side::Action, &[]), |_| "none".to_owned());
    }
    text
}

fn named<'f>(faults: &'f [Fault], name: &str) -> &'f Fault {
    faults.iter().find(|fault| fault.name == name).expect("a fault of that name")
}

/// The ends of each kind under a fault; kinds that it cannot happen to are left out.
fn rows(kinds: &[Kind], fault: &Fault, side: Side, before: &[(&str, At, Act)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in kinds {
        let is_queue_bounded = fault.acts.iter().any(|(_, act)| *act == Act::QueueOver);
        let run = |reached| outcomes(&kind.definition(reached, is_queue_bounded), before, fault, side);
        let found = Reached::BOTH.map(run);
        if found[0] == found[1] {
            rows.extend(found.into_iter().next().flatten().map(|ends| (kind.name.to_owned(), ends)));
            continue;
        }
        for (ends, reached) in found.into_iter().zip(Reached::BOTH) {
            rows.extend(ends.map(|ends| (format!("{} {}", kind.name, reached.name()), ends)));
        }
    }
    rows
}

/// A table for a fault. Kinds that end alike share a row.
fn section(text: &mut String, fault: &Fault, of: &str, rows: &[Row], attempts: impl Fn(&Outcome) -> String) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(text, "\n### {} ({of})\n\n{}\n\n{HEAD}", fault.name, fault.says);
    let mut shared: Vec<(Vec<&str>, &BTreeSet<Outcome>)> = Vec::new();
    for (name, ends) in rows {
        match shared.iter_mut().find(|(_, known)| *known == ends) {
            Some((names, _)) => names.push(name),
            None => shared.push((vec![name], ends)),
        }
    }
    for (names, ends) in shared {
        for (at, end) in ends.iter().enumerate() {
            let name = if at == 0 { names.join("<br>") } else { "*or*".to_owned() };
            let [effect, before, behind] = [end.effect, end.before, end.behind].map(Effect::name);
            let effect = end.beside.map_or_else(|| effect.to_owned(), |beside| format!("{effect}; the other item {}", beside.name()));
            let (saga, step, attempts) = (saga(end), state(end.step), attempts(end));
            let _ = writeln!(text, "| {name} | {saga} | `{step}` | {effect} | {before} | {behind} | {} | {attempts} |", told(end));
        }
    }
}

/// The kinds that most steps are of, one line a fault.
fn glance(text: &mut String) {
    let names = ["compensatable", "optional", "pivot", "retriable", "optional behind the pivot"];
    let kinds = names.map(|name| CALLS.into_iter().find(|kind| kind.name == name).expect("a kind"));
    let _ = writeln!(text, "## At a glance\n\nThe action. How the saga ends, and what became of the step's effect.\n");
    let _ = writeln!(text, "| what goes wrong | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for fault in &OF_ACTIONS {
        let cells = kinds.map(|kind| cell(&rows(&[kind], fault, Side::Action, &[])));
        let _ = writeln!(text, "| {} | {} |", fault.name, cells.join(" | "));
    }
    let _ =
        writeln!(text, "\nThe compensation.\n\n| what goes wrong | compensatable | optional | optional, undone alone |\n|---|---|---|---|");
    for fault in &OF_COMPENSATIONS {
        let ways = [(kinds[0], UNDONE_WITH_THE_SAGA), (kinds[1], UNDONE_WITH_THE_SAGA), (kinds[1], UNDONE_ALONE)];
        let cells = ways.map(|(kind, before)| cell(&rows(&[kind], fault, Side::Undo, before)));
        let _ = writeln!(text, "| {} | {} |", fault.name, cells.join(" | "));
    }
}

fn cell(rows: &[Row]) -> String {
    let ends: BTreeSet<String> =
        rows.iter().flat_map(|(_, ends)| ends).map(|end| format!("`{}`, {}", end.saga, end.effect.name())).collect();
    if ends.is_empty() { "—".to_owned() } else { ends.into_iter().collect::<Vec<_>>().join("<br>or ") }
}

fn told(end: &Outcome) -> &'static str {
    match end.told {
        (false, false) => "nothing",
        (true, false) => "done",
        (false, true) => "undone",
        (true, true) => "done, undone",
    }
}

fn saga(end: &Outcome) -> String {
    end.why.as_ref().map_or_else(|| format!("`{}`", end.saga), |why| format!("`{}` ({why})", end.saga))
}

fn state(state: StepState) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(str::to_owned)).expect("a state is text")
}
