//! The definition language: YAML in, a checked [`Definition`] or all faults out.
//!
//! ```yaml
//! saga: checkout                            # name
//! version: 1                                # a published version never changes
//! mode: saga                                # the default; `2pc`: two-phase commit
//! input:                                    # what a start must send; without it, any object
//!   schema: { required: [order_id], properties: { order_id: { type: string } } }
//! key: ${ input.order_id }                  # business key, from `input` alone: one instance a key
//! timeout: 15m                              # before the pivot: compensate; behind it the saga goes on
//! defaults:                                 # all optional, as is every field in them
//!   timeout: 30s                            # of one attempt
//!   retry:            { initial: 200ms, factor: 2, max: 30s, attempts: 10, never_on: [CARD_REFUSED] }
//!   compensate_retry: { initial: 500ms, factor: 2, max: 60s, attempts: 70 }
//! services:
//!   orders:   { topic: orders.commands }    # through the broker
//!   payments: { http: "http://payments:8080" }   # unless another address is set for its name
//!   mails:    {}                            # over HTTP, at the address that is set for its name
//! steps:
//!   - id: create
//!     call: orders.create                   # service.operation
//!     with: { order_id: "${ input.order_id }" }
//!     compensate: orders.reject             # with the same arguments; the call holds the action's output, too
//!   - id: cool_off
//!     after: [create]
//!     sleep: 10m                            # calls nobody; `${ }` gives a duration, `{ until: "${ }" }` a time
//!   - id: capture
//!     after: [cool_off]                     # without any `after`, steps run in the order of the list
//!     call: payments.capture
//!     timeout: 5s
//!     retry: { attempts: 3 }
//!     pivot: true                           # the point of no return
//! output: { receipt: "${ steps.capture.output.receipt }" }
//! verify: [ "steps.capture.done implies steps.create.done" ]   # what `sagamq saga verify` looks for, see [`crate::verify`]
//! ```
//!
//! - **Order.** Without any `after`, each step waits for the one above it. Once one step uses `after`, all dependencies are explicit,
//!   and a step without it starts at once (`after: []` says so and is not warned about).
//! - **Undo.** `compensate` is a call, a mapping `{ call, with, timeout, retry }`, or `none`. Without `with` it has the arguments of its
//!   action. Before a pivot each step must say one of these; in a saga without a pivot it is a warning, because then the author
//!   has not said that what was done must be undoable. A pivot and what stands behind it have none.
//! - **Conditions.** `when` is one expression that says whether the step is done at all. `optional: true`: the saga goes on without the step if
//!   it has no effect. Whatever reads the output of such a step must guard it. A pivot has neither.
//! - **Fan-out.** `for_each` is one expression that gives a list, or a list: the step is called once for each item, `max_parallel` (10) of them
//!   at a time, and its output is the list of what they returned. Its arguments see `item` and `index`. A pivot has none.
//! - **Input.** `schema` is a JSON Schema (draft 2020-12) that refers to nothing outside and does not contain itself. What expressions read of
//!   `input` is checked against it.
//! - **Mode.** In `2pc` all services are called over HTTP, and what undoes, the pivot, and attempts of actions have no effect. They are
//!   kept, so that one text can be run both ways.
//! - **Sleep and wait.** A step with `sleep` or `wait_for` has no effect and no attempts: whatever belongs to a call is refused in it. Its
//!   time counts within the saga's timeout. Not in two phases. `wait_for` is the name of a signal or `{ signal, timeout, on_timeout: fail
//!   | continue }`.
//! - **Sub-sagas.** `saga` is the name of another saga or `{ name, version }`; `with` is its input, and what it returns the step's output.
//!   Without `compensate` it is undone as a whole. It has no `timeout` but its own, and no `retry` where it need not succeed. Not in two
//!   phases.
//! - **Lock.** `lock` is a key, or `{ key, timeout }`: the step begins when the instance has the lock of that key, which it keeps until it is at its
//!   end. A step behind the pivot locks only what one before it has locked. Not in two phases.
//! - **Pivot.** Each other step is before or behind it. Steps behind it are retried like compensations.
//! - **Timeouts.** A step's `timeout` is for one attempt: its own, else `defaults.timeout`, else 30 s or the saga's, whichever is shorter.
//! - **Durations** are `200ms`, `15m`, `1h30m`, `7d`, or ISO 8601: see [`crate::duration`].
//! - **Numbers** are kept as they are written, and are written as JSON writes them. Tags are refused, keys hold no expressions.
//! - **Expressions** stand in `${ }`: see [`crate::expression`]. `$${` is a literal `${`. An expression that holds ` : `, ` #` or, within
//!   braces, `}` must be quoted, or YAML takes it apart.
//!
//! A run reports all faults, not the first: the text is read into a tree that accepts anything, which is then walked. [`Rule`] lists
//! the codes. Only a text that is no YAML ends the run early, because there is nothing to walk.

mod asleep;
mod budget;
mod check;
mod child_input;
mod declared;
mod draft;
mod each;
mod emit;
mod fields;
mod given;
mod graph;
mod inputs;
mod invariants;
mod lock;
mod lower;
mod node;
mod place;
mod read;
mod references;
mod render;
mod report;
mod rule;
mod scalar;
mod schema;
mod span;
mod sub_saga;
mod syntax;
mod together;
mod two_phase;
mod values;
mod yaml;

pub use fields::nearest;
pub use render::{render, render_coloured};
pub use rule::Rule;
pub(crate) use scalar::base_url;
pub use sub_saga::{Catalogue, Published};
pub use syntax::schema;
pub use together::Together;

use crate::definition::{Definition, Invariant};
use report::Report;
use sagamq_api::Fault;
use sagamq_api::saga::Mode;
use std::borrow::Cow;
use std::sync::Arc;

/// A definition that can be published.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The definition.
    pub definition: Definition,
    /// What its author says must hold whatever goes wrong; what runs does not look at it.
    pub invariants: Vec<Invariant>,
    /// What may be meant, in the order of the text.
    pub warnings: Vec<Fault>,
}

/// Compiles the text of a definition.
///
/// # Errors
/// All faults, in the order of the text, when one of them is an error; warnings are among them.
pub fn compile(source: &str) -> Result<Compiled, Vec<Fault>> {
    compile_with(source, None)
}

/// As [`compile`], with what is known of the sagas that are published.
///
/// # Errors
/// As [`compile`].
pub fn compile_with(source: &str, catalogue: Option<&dyn Catalogue>) -> Result<Compiled, Vec<Fault>> {
    let (definition, faults, has_errors) = analyse(source, catalogue);
    match definition {
        Some((definition, invariants)) if !has_errors => Ok(Compiled { definition, invariants, warnings: faults }),
        _ => Err(faults),
    }
}

/// The text with what editors and transfers change evened out: no byte order mark, line ends of one byte, one line end at the end. Two
/// texts are the same definition if they are the same by this; it is what is compiled and stored.
#[must_use]
pub fn canonical(source: &str) -> Cow<'_, str> {
    let text = source.strip_prefix('\u{feff}').unwrap_or(source);
    let body = text.trim_end_matches(['\n', '\r']);
    let end = &text[body.len()..];
    if text.len() == source.len() && !body.contains('\r') && (end == "\n" || source.is_empty()) {
        return Cow::Borrowed(source);
    }
    Cow::Owned(body.replace("\r\n", "\n").replace('\r', "\n") + "\n")
}

/// All faults of the text, errors and warnings, in the order of the text. None: it can be published.
#[must_use]
pub fn lint(source: &str) -> Vec<Fault> {
    lint_with(source, None)
}

/// As [`lint`], with what is known of the sagas that are published.
#[must_use]
pub fn lint_with(source: &str, catalogue: Option<&dyn Catalogue>) -> Vec<Fault> {
    analyse(source, catalogue).1
}

/// What is odd about the locks of a text beside these definitions; the text has no errors.
pub(crate) fn lock_orders(source: &str, others: &[Arc<Definition>]) -> Vec<Fault> {
    let mut report = Report::new(source);
    let draft = yaml::read(&mut report).and_then(|node| read::definition(&node, &mut report));
    let Some(draft) = draft else { return Vec::new() };
    let graph = graph::Graph::build(&draft.steps, &mut report);
    // What is odd about the text alone is known.
    let mut report = Report::new(source);
    lock::beside(&draft, &graph, others, &mut report);
    report.finish()
}

/// What a text says, if it can be published, with what must hold of it.
type Said = Option<(Definition, Vec<Invariant>)>;

fn analyse(source: &str, catalogue: Option<&dyn Catalogue>) -> (Said, Vec<Fault>, bool) {
    let mut report = Report::new(source);
    let draft = yaml::read(&mut report).and_then(|node| read::definition(&node, &mut report));
    let definition = draft.and_then(|draft| {
        let graph = graph::Graph::build(&draft.steps, &mut report);
        check::services(&draft, &mut report);
        match draft.mode {
            Some(Mode::Saga) => {
                check::pivots(&draft, &graph, &mut report);
                check::never_on(&draft, &graph, &mut report);
                lock::waits(&draft, &graph, &mut report);
                lock::order(&draft, &graph, &mut report);
            }
            Some(Mode::TwoPhase) => two_phase::check(&draft, &graph, &mut report),
            None => {}
        }
        check::emissions(&draft, &mut report);
        check::timeouts(&draft, &graph, &mut report);
        asleep::sleeps(&draft, &graph, &mut report);
        asleep::waits(&draft, &graph, &mut report);
        sub_saga::check(&draft, &graph, &mut report);
        if let Some(catalogue) = catalogue {
            sub_saga::check_published(&draft, &graph, catalogue, &mut report);
        }
        budget::check(&draft, &graph, &mut report);
        lower::check_policies(&draft, &graph, &mut report);
        references::check(&draft, &graph, &mut report);
        inputs::check(&draft, &mut report);
        each::check(&draft, &mut report);
        invariants::check(&draft, &graph, &mut report);
        let lowered = if report.has_errors() { None } else { lower::definition(&draft, &graph) };
        lowered.map(|definition| (definition, draft.verify.into_iter().map(|invariant| invariant.value).collect()))
    });
    let has_errors = report.has_errors();
    (definition, report.finish(), has_errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_make_no_other_text() {
        for text in ["a: 1\nb: 2\n", "a: 1\r\nb: 2\r\n", "a: 1\rb: 2", "\u{feff}a: 1\nb: 2\n\n\r\n", "a: 1\nb: 2"] {
            assert_eq!(canonical(text), "a: 1\nb: 2\n", "{text:?}");
        }
        assert_eq!(canonical("a: 1 \n"), "a: 1 \n", "all else counts");
        assert_eq!((canonical(""), canonical("\n")), ("".into(), "\n".into()));
    }
}
