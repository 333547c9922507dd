//! Every verb in every state.

use super::asleep::nap;
use super::fixture::*;
use super::signals::waiting;
use crate::definition::Definition;
use crate::expression::Template;
use crate::protocol::saga::SagaEvent;
use sagamq_api::saga::{CallOutcome, Operation, SagaState, SagaVerb, StepOutcome, VerbName};
use serde_json::json;

type Verbs = [(&'static str, SagaVerb); 20];

fn verbs() -> Verbs {
    let output = || json!({"ok": true}).into();
    let resolved = |step: &str, outcome| SagaVerb::Resolve { item: None, step: id(step), outcome };
    [
        ("cancel", SagaVerb::Cancel),
        ("pause", SagaVerb::Pause),
        ("resume", SagaVerb::Resume),
        ("terminate", SagaVerb::Terminate),
        ("retry", SagaVerb::Retry { item: None, step: None }),
        ("retry a", SagaVerb::Retry { item: None, step: Some(id("a")) }),
        ("skip a", SagaVerb::Skip { item: None, step: id("a") }),
        ("skip b", SagaVerb::Skip { item: None, step: id("b") }),
        ("skip c", SagaVerb::Skip { item: None, step: id("c") }),
        ("a succeeded", resolved("a", StepOutcome::Succeeded { output: output() })),
        ("a failed", resolved("a", StepOutcome::Failed)),
        ("a compensated", resolved("a", StepOutcome::Compensated)),
        ("b succeeded", resolved("b", StepOutcome::Succeeded { output: output() })),
        ("b failed", resolved("b", StepOutcome::Failed)),
        ("c succeeded", resolved("c", StepOutcome::Succeeded { output: output() })),
        ("c failed", resolved("c", StepOutcome::Failed)),
        ("edit-input", SagaVerb::EditInput { input: json!({"more": 1}).into() }),
        ("rerun from a", SagaVerb::Rerun { from: id("a"), input: None }),
        ("rerun from b", SagaVerb::Rerun { from: id("b"), input: None }),
        ("rerun from c", SagaVerb::Rerun { from: id("c"), input: None }),
    ]
}

fn forward() -> Run {
    Run::start(chain(Some(1)))
}

fn pivot() -> Run {
    let mut run = forward();
    run.reply("a", done());
    run
}

fn past() -> Run {
    let mut run = pivot();
    run.reply("b", done());
    run
}

fn past_blocked() -> Run {
    let mut definition = chain(Some(1));
    definition.steps[2].call_mut(Operation::Action).arguments = Template::compile(&json!("${ input.missing }")).expect("legal");
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", done());
    run
}

fn undoing() -> Run {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    run.reply("b", refused());
    run
}

pub(super) fn blocked_of(definition: Definition) -> Run {
    let mut run = Run::start(definition);
    run.reply("a", done());
    run.reply("b", refused());
    run.undo_reply("a", CallOutcome::Refused { failure: failure("HOPELESS") });
    run
}

fn blocked() -> Run {
    blocked_of(chain(None))
}

/// `a` stands, `b` was found never to have taken effect, and nobody goes on.
pub(super) fn ended_at_b() -> Run {
    let mut run = Run::start(chain(None));
    run.reply("a", done());
    let run = and(and(run, SagaVerb::Pause), SagaVerb::Resolve { item: None, step: id("b"), outcome: StepOutcome::Failed });
    and(run, SagaVerb::Terminate)
}

/// The pivot was called, and nobody knows what became of it.
fn ended_at_pivot() -> Run {
    and(pivot(), SagaVerb::Terminate)
}

fn optional(pivot: Option<usize>, step: usize) -> Definition {
    let mut definition = chain(pivot);
    definition.steps[step].optional = true;
    definition
}

/// `a` is optional, in doubt, and undone alone.
fn undone_alone() -> Run {
    said(Run::start(optional(Some(1), 0)), "a", hopeless())
}

/// A step is left out by its condition.
fn left_out(step: usize) -> Run {
    let mut definition = chain(Some(1));
    definition.steps[step].when = Some(Template::compile(&json!("${ has(input.wanted) }")).expect("legal"));
    Run::start(definition)
}

fn hopeless() -> CallOutcome {
    CallOutcome::Unknown { failure: failure("HOPELESS"), retry_after_ms: None }
}

fn never(step: &str) -> SagaVerb {
    SagaVerb::Resolve { item: None, step: id(step), outcome: StepOutcome::Failed }
}

fn and(mut run: Run, verb: SagaVerb) -> Run {
    assert_eq!(run.operate(verb), Ok(false));
    run
}

fn said(mut run: Run, step: &str, outcome: CallOutcome) -> Run {
    run.reply(step, outcome);
    run
}

fn undo_said(mut run: Run, step: &str, outcome: CallOutcome) -> Run {
    run.undo_reply(step, outcome);
    run
}

/// `+` it is done, `=` it was so already, `-` it is refused. In the order of [`verbs`]: cancel, pause, resume, terminate; retry, of `a`; skip
/// `a`, `b`, `c`; resolve `a` as succeeded, failed, compensated, `b` as succeeded, failed, `c` as succeeded, failed; edit-input; rerun from
/// `a`, `b`, `c`. Forward `b` is the pivot; backward it was refused.
#[test]
fn every_verb_in_every_state() {
    type Row = (&'static str, fn() -> Run, SagaState, &'static str);
    let rows: [Row; 39] = [
        ("a is called", forward, SagaState::Running, "++=+ -- --+ ++- -- -- + ---"),
        ("a waits", || said(forward(), "a", unknown()), SagaState::Waiting, "++=+ ++ +-+ ++- -- -- + ---"),
        ("the pivot is called", pivot, SagaState::Running, "++=+ -- --+ =-- ++ -- + ---"),
        ("the pivot waits", || said(pivot(), "b", unknown()), SagaState::Waiting, "++=+ +- --+ =-- ++ -- + ---"),
        ("the pivot is called, to be cancelled", || and(pivot(), SagaVerb::Cancel), SagaState::Running, "=+=+ -- --+ =-- ++ -- + ---"),
        ("past the pivot, c is called", past, SagaState::Running, "-+=+ -- --- =-- =- +- + ---"),
        ("past the pivot, c waits", || said(past(), "c", refused()), SagaState::Waiting, "-+=+ +- --+ =-- =- +- + ---"),
        ("past the pivot, c has no arguments", past_blocked, SagaState::Blocked, "-+=+ +- --+ =-- =- += + --+"),
        ("b sleeps", nap, SagaState::Waiting, "++=+ -- -++ =-- -- -- + ---"),
        ("paused, b sleeps", || and(nap(), SagaVerb::Pause), SagaState::Paused, "+=++ -- -++ =-- -- -- + ---"),
        ("b waits for a signal", waiting, SagaState::Waiting, "++=+ -- -++ =-- -- -- + ---"),
        ("terminated while b waited", || and(waiting(), SagaVerb::Terminate), SagaState::Terminated, "---= -- --- =-+ -= -- - -+-"),
        ("terminated while b slept", || and(nap(), SagaVerb::Terminate), SagaState::Terminated, "---= -- --- =-+ -= -- - -+-"),
        ("a is compensated", undoing, SagaState::Compensating, "=+=+ -- --- --+ -= -- + ---"),
        (
            "the compensation of a waits",
            || {
                let mut run = undoing();
                run.undo_reply("a", unknown());
                run
            },
            SagaState::Compensating,
            "=+=+ ++ +-- --+ -= -- + ---",
        ),
        ("the compensation of a failed for good", blocked, SagaState::Blocked, "-+=+ ++ +-- --+ -= -- + ---"),
        ("paused, a waits", || and(said(forward(), "a", unknown()), SagaVerb::Pause), SagaState::Paused, "+=++ ++ +-+ ++- -- -- + ---"),
        ("paused, the compensation failed for good", || and(blocked(), SagaVerb::Pause), SagaState::Paused, "-=++ ++ +-- --+ -= -- + ---"),
        ("paused, a is compensated", || and(undoing(), SagaVerb::Pause), SagaState::Paused, "==++ -- --- --+ -= -- + ---"),
        ("completed", || said(past(), "c", done()), SagaState::Completed, "---- -- --- =-- =- =- - ---"),
        (
            "compensated",
            || {
                let mut run = undoing();
                run.undo_reply("a", done());
                run
            },
            SagaState::Compensated,
            "---- -- --- --= -= -- - +--",
        ),
        ("failed", || said(forward(), "a", refused()), SagaState::Failed, "---- -- --- -=- -- -- - +--"),
        ("terminated", || and(pivot(), SagaVerb::Terminate), SagaState::Terminated, "---= -- --- =-+ ++ -- - ---"),
        (
            "terminated, the pivot was found not done",
            || and(ended_at_pivot(), never("b")),
            SagaState::Terminated,
            "---= -- --- =-+ += -- - -+-",
        ),
        (
            "terminated while a was compensated",
            || and(undoing(), SagaVerb::Terminate),
            SagaState::Terminated,
            "---= -- --- --+ += -- - ---",
        ),
        (
            "that, and a was found undone",
            || and(and(undoing(), SagaVerb::Terminate), SagaVerb::Resolve { item: None, step: id("a"), outcome: StepOutcome::Compensated }),
            SagaState::Terminated,
            "---= -- --- --= += -- - +--",
        ),
        ("terminated, nothing in doubt", ended_at_b, SagaState::Terminated, "---= -- --- =-+ += -- - -+-"),
        (
            "completed, c was left out",
            || said(and(pivot(), SagaVerb::Skip { item: None, step: id("c") }), "b", done()),
            SagaState::Completed,
            "---- -- --- =-- =- -= - --+",
        ),
        (
            "completed, a was left out in doubt",
            || {
                said(
                    said(and(said(Run::start(chain(None)), "a", unknown()), SagaVerb::Skip { item: None, step: id("a") }), "b", done()),
                    "c",
                    done(),
                )
            },
            SagaState::Completed,
            "---- -- --- ++- =- =- - ---",
        ),
        (
            "rerun from b",
            || and(ended_at_b(), SagaVerb::Rerun { from: id("b"), input: None }),
            SagaState::Terminated,
            "---- -- --- --- -- -- - -=-",
        ),
        ("a was left out by its condition", || left_out(0), SagaState::Running, "++=+ -- =-+ --- ++ -- + ---"),
        (
            "completed, c was left out by its condition",
            || said(said(left_out(2), "a", done()), "b", done()),
            SagaState::Completed,
            "---- -- --- =-- =- -= - --+",
        ),
        ("a is undone alone", undone_alone, SagaState::Running, "++=+ -- --+ --+ -- -- + ---"),
        ("a waits to be undone alone", || undo_said(undone_alone(), "a", unknown()), SagaState::Waiting, "++=+ ++ +-+ --+ -- -- + ---"),
        (
            "paused, a could not be undone alone",
            || undo_said(and(undone_alone(), SagaVerb::Pause), "a", hopeless()),
            SagaState::Paused,
            "+=++ ++ +-+ --+ -- -- + ---",
        ),
        (
            "it went on with the effect of a",
            || and(undo_said(undone_alone(), "a", unknown()), SagaVerb::Skip { item: None, step: id("a") }),
            SagaState::Running,
            "++=+ -- =-+ --+ ++ -- + ---",
        ),
        (
            "it went on without a",
            || said(Run::start(optional(Some(1), 0)), "a", refused()),
            SagaState::Running,
            "++=+ -- --+ +=- ++ -- + ---",
        ),
        (
            "past the pivot, optional c waits",
            || said(said(said(Run::start(optional(Some(1), 2)), "a", done()), "b", done()), "c", unknown()),
            SagaState::Waiting,
            "-+=+ +- --+ =-- =- ++ + ---",
        ),
        (
            "completed, what optional c did is not known",
            || said(said(said(Run::start(optional(Some(1), 2)), "a", done()), "b", done()), "c", hopeless()),
            SagaState::Completed,
            "---- -- --- =-- =- ++ - ---",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, make, state, expected) in rows {
        assert_eq!(make().saga_state(), state, "{name}");
        let expected: Vec<char> = expected.chars().filter(|cell| *cell != ' ').collect();
        assert_eq!(expected.len(), verbs().len(), "{name}");
        for ((verb_name, verb), expected) in verbs().into_iter().zip(expected) {
            let mut run = make();
            let before = run.state.clone();
            let events = run.history.len();
            let cell = match run.operate(verb) {
                Ok(true) => '=',
                Ok(false) => '+',
                Err(rejection) => {
                    assert!(!rejection.to_string().is_empty());
                    '-'
                }
            };
            if cell != expected {
                wrong.push(format!("{name}, {verb_name}: {cell}, and not {expected}"));
            }
            assert_eq!(cell == '+', run.history.len() > events, "{name}, {verb_name}: what is done is written down, and nothing else");
            if cell != '+' {
                assert_eq!(run.state, before, "{name}, {verb_name}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let named: Vec<VerbName> = verbs().iter().map(|(_, verb)| verb.name()).collect();
    assert!(VerbName::ALL.iter().all(|verb| named.contains(verb)), "no verb is left out");
}

#[test]
fn who_and_why_is_in_the_event_of_each_verb() {
    let runs: [fn() -> Run; 7] = [
        forward,
        || said(forward(), "a", unknown()),
        past_blocked,
        blocked,
        || and(forward(), SagaVerb::Pause),
        ended_at_b,
        ended_at_pivot,
    ];
    let mut seen = 0;
    for make in runs {
        for (name, verb) in verbs() {
            let mut run = make();
            let events = run.history.len();
            if run.operate(verb) != Ok(false) {
                continue;
            }
            let told = run.history[events..].iter().any(|recorded| match &recorded.event {
                SagaEvent::SagaCompensating { actor, failure } => actor.as_deref() == Some("ann") && failure.message == "she looked",
                event => {
                    let written = serde_json::to_string(event).expect("JSON");
                    written.contains(r#""actor":"ann""#) && written.contains(r#""reason":"she looked""#)
                }
            });
            assert!(told, "{name}: {:?}", &run.history[events..]);
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}
