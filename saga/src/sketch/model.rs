//! What is to be seen of a definition.

use crate::definition::{Action, Call, Definition, Sleep, Step, StepKind, WaitFor};
use crate::expression::Template;
use core::time::Duration;
use jiff::fmt::friendly::{Designator, SpanPrinter};
use sagamq_api::saga::Mode;

/// Longest expression that is shown whole, in characters.
const EXPRESSION_CHARS_MAX: usize = 40;

/// Boxes and arrows.
#[derive(Debug)]
pub struct Sketch {
    pub(super) title: String,
    pub(super) nodes: Vec<Node>,
    pub(super) arrows: Vec<Arrow>,
}

/// A box.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) lines: Vec<String>,
    pub(super) look: Look,
    /// Whether it is another saga, and no participant, that does it.
    pub(super) is_saga: bool,
}

/// What a box stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A step that can be undone, or has nothing to undo.
    Step,
    /// The point of no return.
    Pivot,
    /// A step behind it.
    Behind,
    /// A compensation.
    Undo,
}

/// An arrow.
#[derive(Debug)]
pub(super) struct Arrow {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) goes: Way,
}

/// What an arrow says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Forward: when the one is done, the other begins.
    On,
    /// From a step to what undoes it.
    Undone,
    /// Backward: when the one is undone, the other is.
    Back,
}

impl Sketch {
    /// The picture of a definition.
    #[must_use]
    pub fn of(definition: &Definition) -> Self {
        let Definition { name, version, mode, steps, .. } = definition;
        // In two phases nothing is undone step by step.
        let has_undo = |step: &Step| step.compensation.is_some() && *mode == Mode::Saga;
        let mut sketch = Self { title: format!("{name} version {version}"), nodes: Vec::new(), arrows: Vec::new() };
        for step in steps {
            sketch.nodes.push(Node {
                id: action_id(step),
                lines: action_lines(step),
                look: look(step.kind),
                is_saga: step.action.call().is_some_and(is_saga),
            });
            for &before in &step.after {
                sketch.arrow(action_id(&steps[before]), action_id(step), Way::On);
            }
        }
        for (at, step) in steps.iter().enumerate().filter(|(_, step)| has_undo(step)) {
            let call = step.compensation.as_ref().map(called).unwrap_or_default();
            let (lines, is_saga) = (vec![format!("undo {}", step.id), call], step.compensation.as_ref().is_some_and(is_saga));
            sketch.nodes.push(Node { id: undo_id(step), lines, look: Look::Undo, is_saga });
            sketch.arrow(action_id(step), undo_id(step), Way::Undone);
            for before in nearest_before(steps, at, &has_undo) {
                sketch.arrow(undo_id(step), undo_id(&steps[before]), Way::Back);
            }
        }
        sketch
    }

    fn arrow(&mut self, from: String, to: String, goes: Way) {
        self.arrows.push(Arrow { from, to, goes });
    }
}

/// Letters in front keep an id from being a word of a language of pictures.
fn action_id(step: &Step) -> String {
    format!("do_{}", step.id)
}

fn undo_id(step: &Step) -> String {
    format!("undo_{}", step.id)
}

const fn look(kind: StepKind) -> Look {
    match kind {
        StepKind::Compensatable => Look::Step,
        StepKind::Pivot => Look::Pivot,
        StepKind::Retriable => Look::Behind,
    }
}

fn action_lines(step: &Step) -> Vec<String> {
    let mut lines = vec![step.id.to_string()];
    lines.push(match &step.action {
        Action::Call(call) => called(call),
        Action::Sleep(Sleep::For(time)) => format!("sleep {}", shown(*time)),
        Action::Sleep(Sleep::Given(time)) => format!("sleep {}", cut(time.source().unwrap_or("as given"))),
        Action::Sleep(Sleep::Until(time)) => format!("sleep until {}", cut(time.source().unwrap_or("as given"))),
        Action::WaitFor(WaitFor { signal, timeout, .. }) => {
            let longest = timeout.map(|timeout| format!(", at most {}", shown(timeout))).unwrap_or_default();
            format!("wait for {signal}{longest}")
        }
    });
    if let Some(each) = &step.for_each {
        let list = each.items.source().map_or_else(|| "item of a list".to_owned(), cut);
        lines.push(format!("for each {list}, {} at a time", each.max_parallel));
    }
    if let Some(condition) = step.when.as_ref().and_then(Template::source) {
        lines.push(format!("when {}", cut(condition)));
    }
    if let Some(lock) = &step.lock {
        lines.push(format!("lock {}", cut(&lock.key.shown())));
    }
    if let Some(emission) = &step.emit {
        lines.push(format!("tells {}", emission.topic));
    }
    match step.kind {
        StepKind::Compensatable | StepKind::Retriable if step.optional => lines.push("optional".to_owned()),
        StepKind::Compensatable => {}
        StepKind::Pivot => lines.push("pivot".to_owned()),
        StepKind::Retriable => lines.push("until it succeeds".to_owned()),
    }
    lines
}

fn shown(time: Duration) -> String {
    SpanPrinter::new().designator(Designator::Compact).unsigned_duration_to_string(&time)
}

fn cut(expression: &str) -> String {
    let line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= EXPRESSION_CHARS_MAX { line } else { line.chars().take(EXPRESSION_CHARS_MAX).chain(['…']).collect() }
}

fn is_saga(call: &Call) -> bool {
    call.sub_saga().is_some()
}

fn called(call: &Call) -> String {
    if let Some(saga) = call.sub_saga() {
        let version = saga.version.map(|version| format!(" version {version}")).unwrap_or_default();
        return format!("saga {}{version}", saga.name);
    }
    format!("{}.{}", call.service, call.name)
}

/// The nearest steps before this one that are undone.
fn nearest_before(steps: &[Step], at: usize, has_undo: &impl Fn(&Step) -> bool) -> Vec<usize> {
    let mut found = Vec::new();
    let mut seen = vec![false; steps.len()];
    let mut open = steps[at].after.clone();
    while let Some(before) = open.pop() {
        if core::mem::replace(&mut seen[before], true) {
            continue;
        }
        if has_undo(&steps[before]) {
            found.push(before);
        } else {
            open.extend(&steps[before].after);
        }
    }
    found.sort_unstable();
    found
}
