//! What was found, as tables of Markdown.

use super::super::super::call::Side;
use super::faults::{
    Act, At, Fault, OF_ACTIONS, OF_COMPENSATIONS, OF_ITEMS, OF_ITEMS_UNDONE, OF_LOCKS, OF_SUB_SAGAS, OF_SUB_SAGAS_UNDONE, OF_WAITS,
};
use super::kinds::{CALLS, FAN_OUTS, Frame, Kind, Reached, SUB_SAGAS, WAITS};
use super::run::{Effect, Lock, Outcome, outcomes};
use sagamq_api::saga::StepState;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// How a kind of step ends under a fault, by name: the same over HTTP and over a topic, or each.
type Row = (String, BTreeSet<Outcome>);

/// What makes the saga undo the step: what stands behind it is refused.
const UNDONE_WITH_THE_SAGA: &[(&str, At, Act)] = &[("behind", At::Queued, Act::Refuse)];

/// What makes the saga undo an optional step alone: nobody knows whether it was done.
const UNDONE_ALONE: &[(&str, At, Act)] = &[("step", At::Answered, Act::LoseReply), ("step", At::Answered, Act::LoseReply)];

/// Whether the step is under a lock.
const NO_LOCK: bool = false;
const UNDER_A_LOCK: bool = true;

/// The kinds that are looked at under a lock.
const LOCKED: [&str; 5] = ["compensatable", "`compensate: none`", "optional", "pivot", "retriable"];

const HEAD: &str =
    "| step | saga | its state | its effect | before it | behind it | told | attempts |\n|---|---|---|---|---|---|---|---|\n";

/// All that is generated.
pub(super) fn page() -> String {
    let mut text = String::new();
    glance(&mut text);
    text.push_str("\n## The action\n");
    Part::of_actions("action", &CALLS).write(&mut text, OF_ACTIONS.iter());
    text.push_str("\n## The compensation\n\nIt is called because the step behind it was refused; of an optional step also *alone*, because no attempt of its action was answered.\n");
    Part::of_undoing("compensation", &CALLS).write(&mut text, OF_COMPENSATIONS.iter());
    text.push_str("\n## Steps that fan out\n\nOne of two items, both called at a time.\n");
    Part::of_actions("item", &FAN_OUTS).write(&mut text, OF_ITEMS.iter().map(|name| named(&OF_ACTIONS, name)));
    Part::of_undoing("compensation of an item", &FAN_OUTS)
        .write(&mut text, OF_ITEMS_UNDONE.iter().map(|name| named(&OF_COMPENSATIONS, name)));
    locks(&mut text);
    text.push_str("\n## Steps that start a sub-saga\n");
    Part::of_actions("sub-saga", &SUB_SAGAS).write(&mut text, OF_SUB_SAGAS.iter());
    Part::of_undoing("undoing a sub-saga", &SUB_SAGAS).write(&mut text, OF_SUB_SAGAS_UNDONE.iter());
    text.push_str("\n## Steps that call nobody\n");
    Part { attempts: |_| "none".to_owned(), ..Part::of_actions("wait", &WAITS) }.write(&mut text, OF_WAITS.iter());
    text
}

/// The tables of what goes wrong with one side of some kinds.
struct Part {
    /// What it is, beside the fault's name.
    of: &'static str,
    kinds: Vec<Kind>,
    side: Side,
    attempts: fn(&Outcome) -> String,
}

impl Part {
    fn of_actions(of: &'static str, kinds: &[Kind]) -> Self {
        Self { of, kinds: kinds.to_vec(), side: Side::Action, attempts: |outcome| outcome.attempts.0.to_string() }
    }

    /// Nothing behind the pivot is undone.
    fn of_undoing(of: &'static str, kinds: &[Kind]) -> Self {
        let kinds = kinds.iter().copied().filter(|kind| kind.frame == Frame::UpToPivot).collect();
        Self { of, kinds, side: Side::Undo, attempts: |outcome| outcome.attempts.1.to_string() }
    }

    fn write<'f>(&self, text: &mut String, faults: impl Iterator<Item = &'f Fault>) {
        for fault in faults {
            section(text, fault, self.of, &self.rows(fault), self.attempts);
        }
    }

    fn rows(&self, fault: &Fault) -> Vec<Row> {
        if self.side == Side::Action {
            return rows(&self.kinds, fault, self.side, &[], NO_LOCK);
        }
        let mut found = rows(&self.kinds, fault, self.side, UNDONE_WITH_THE_SAGA, NO_LOCK);
        let optional: Vec<Kind> = self.kinds.iter().copied().filter(|kind| kind.name == "optional").collect();
        let alone = rows(&optional, fault, self.side, UNDONE_ALONE, NO_LOCK);
        found.extend(alone.into_iter().map(|(name, ends)| (format!("{name}, undone alone"), ends)));
        // What is not undone has no fault of that.
        found.retain(|(_, ends)| fault.acts.is_empty() || ends.iter().any(|end| end.attempts.1 > 0));
        found
    }
}

fn named<'f>(faults: &'f [Fault], name: &str) -> &'f Fault {
    faults.iter().find(|fault| fault.name == name).expect("a fault of that name")
}

/// The ends of each kind under a fault; kinds that it cannot happen to are left out.
fn rows(kinds: &[Kind], fault: &Fault, side: Side, before: &[(&str, At, Act)], is_locked: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in kinds {
        let is_queue_bounded = fault.acts.iter().any(|(_, act)| *act == Act::QueueOver);
        let run = |reached| outcomes(&kind.definition(reached, is_queue_bounded, is_locked), before, fault, side);
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
        let cells = kinds.map(|kind| cell(&rows(&[kind], fault, Side::Action, &[], NO_LOCK)));
        let _ = writeln!(text, "| {} | {} |", fault.name, cells.join(" | "));
    }
    let _ =
        writeln!(text, "\nThe compensation.\n\n| what goes wrong | compensatable | optional | optional, undone alone |\n|---|---|---|---|");
    for fault in &OF_COMPENSATIONS {
        let ways = [(kinds[0], UNDONE_WITH_THE_SAGA), (kinds[1], UNDONE_WITH_THE_SAGA), (kinds[1], UNDONE_ALONE)];
        let cells = ways.map(|(kind, before)| cell(&rows(&[kind], fault, Side::Undo, before, NO_LOCK)));
        let _ = writeln!(text, "| {} | {} |", fault.name, cells.join(" | "));
    }
}

/// Steps under a lock. What goes wrong with their calls ends as without one, which is asked of every run; so a line a fault says the rest.
fn locks(text: &mut String) {
    text.push_str("\n## Steps under a lock\n\nThe step has a `lock`, which it waits for first; one behind the pivot has the pivot's. What goes wrong with its calls ends as it does without a lock, in every run. \
                   The saga has the lock until its end, so also while it is undone, and has let go of it then; one that is `BLOCKED` keeps it.\n\n");
    let kinds = LOCKED.map(|name| CALLS.into_iter().find(|kind| kind.name == name).expect("a kind"));
    let _ = writeln!(text, "| what goes wrong with the action | {} |\n|---|{}", LOCKED.join(" | "), "---|".repeat(LOCKED.len()));
    for fault in &OF_ACTIONS {
        let cells = kinds.map(|kind| locked_cell(&as_without(&[kind], fault, Side::Action, &[])));
        let _ = writeln!(text, "| {} | {} |", fault.name, cells.join(" | "));
    }
    let undone = [kinds[0], kinds[2]];
    let _ = writeln!(text, "\n| what goes wrong with the compensation | {} | {} |\n|---|---|---|", undone[0].name, undone[1].name);
    for fault in &OF_COMPENSATIONS {
        let cells = undone.map(|kind| locked_cell(&as_without(&[kind], fault, Side::Undo, UNDONE_WITH_THE_SAGA)));
        let _ = writeln!(text, "| {} | {} |", fault.name, cells.join(" | "));
    }
    // Items are under the lock of their step.
    let items = [FAN_OUTS[0]];
    for fault in OF_ITEMS.map(|name| named(&OF_ACTIONS, name)) {
        as_without(&items, fault, Side::Action, &[]);
    }
    for fault in OF_ITEMS_UNDONE.map(|name| named(&OF_COMPENSATIONS, name)) {
        as_without(&items, fault, Side::Undo, UNDONE_WITH_THE_SAGA);
    }
    let waiting: Vec<Kind> = kinds.into_iter().chain(items).collect();
    for fault in &OF_LOCKS {
        let found = rows(&waiting, fault, Side::Action, &[], UNDER_A_LOCK);
        let has_lock = |outcome: &Outcome| format!("{}, lock {}", outcome.attempts.0, outcome.lock.name());
        section(text, fault, "lock", &found, has_lock);
    }
}

/// The ends under a lock, which are those without one.
fn as_without(kinds: &[Kind], fault: &Fault, side: Side, before: &[(&str, At, Act)]) -> Vec<Row> {
    let found = rows(kinds, fault, side, before, UNDER_A_LOCK);
    let of = |ends: &BTreeSet<Outcome>| ends.iter().map(|end| Outcome { lock: Lock::Never, ..end.clone() }).collect::<BTreeSet<_>>();
    let bare: Vec<Row> = found.iter().map(|(name, ends)| (name.clone(), of(ends))).collect();
    assert_eq!(bare, rows(kinds, fault, side, before, NO_LOCK), "{} under a lock", fault.name);
    found
}

fn locked_cell(rows: &[Row]) -> String {
    ends(rows, |end| end.lock.name())
}

fn cell(rows: &[Row]) -> String {
    ends(rows, |end| end.effect.name())
}

fn ends(rows: &[Row], of: impl Fn(&Outcome) -> &'static str) -> String {
    let ends: BTreeSet<String> = rows.iter().flat_map(|(_, ends)| ends).map(|end| format!("`{}`, {}", end.saga, of(end))).collect();
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
