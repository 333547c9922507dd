//! Every state of small worlds: the protocols as they are shipped, with small participants, messages that are lost, doubled and late,
//! crashes and timeouts, up to the bounds that each line says. `--nocapture` shows what was looked at.
//!
//! What must hold: no two participants decide differently; commit only if all voted for it, for all that they have done; a decision that
//! was heard never changes; from every state, once all are up and nothing is lost, everything ends and nobody stays prepared. Of sagas:
//! what rests on a step is undone before it, nothing is undone with the pivot in effect, what is unknown is not left behind, and of all reruns
//! one answers for each effect. And bugs
//! that are planted are found, each by a shortest trace. `SAGAMQ_EXPLORER_MORE=1` looks at larger worlds too, and each one more raises all
//! bounds by one.

mod coordinator;
mod participant;
mod plant;
mod saga;
mod search;
mod step;
mod transaction;

use plant::Plant;
use saga::Saga;
use search::{Model, Report, explore};
use transaction::Transaction;

type Bounds = transaction::Bounds;

fn more() -> u8 {
    std::env::var("SAGAMQ_EXPLORER_MORE").map_or(0, |more| more.parse().expect("SAGAMQ_EXPLORER_MORE is a number"))
}

fn look(name: &str, model: &impl Model, ends: bool) -> Report {
    let report = explore(model, ends);
    let Report { states, steps, depth, seconds, .. } = report;
    println!("{name}: {states} states, {steps} steps, depth {depth}, {seconds:.1} s");
    report
}

/// Nothing is wrong in any state.
fn holds(name: &str, model: &impl Model) {
    let found = look(name, model, true).found;
    assert!(found.is_none(), "{name}: {found:#?}");
}

/// A bug is found, and leads to what is wrong by a shortest trace of so many steps.
fn is_found(name: &str, model: &impl Model, wrong: &str, length: usize) {
    is_traced(name, look(name, model, false), wrong, length);
}

/// A bug is found in how the states at the end of the shortest traces end once nothing goes wrong any more.
fn is_found_in_ends(name: &str, model: &impl Model, wrong: &str, length: usize) {
    is_traced(name, look(name, model, true), wrong, length);
}

fn is_traced(name: &str, report: Report, wrong: &str, length: usize) {
    let (what, trace) = report.found.unwrap_or_else(|| panic!("{name} is not found"));
    println!("  {what}:");
    for (number, step) in trace.iter().enumerate() {
        println!("  {:>3}. {step}", number + 1);
    }
    assert!(what.contains(wrong), "{what}");
    assert_eq!(trace.len(), length, "the shortest trace");
}

fn transaction(branches: &[u32], readers: &[usize], bounds: Bounds) -> Transaction {
    let more = more().saturating_sub(1);
    let raised = |bound: u8| if bound == 0 { 0 } else { bound + more };
    let Bounds { unheard, restarts, crashes, refusals, timeout } = bounds;
    let bounds =
        Bounds { unheard: raised(unheard), restarts: raised(restarts), crashes: raised(crashes), refusals: raised(refusals), timeout };
    Transaction::new(branches, readers, bounds)
}

const CALM: Bounds = Bounds { unheard: 0, restarts: 0, crashes: 0, refusals: 0, timeout: 0 };

#[test]
fn without_failures_all_commit() {
    for (branches, readers) in [(&[1][..], &[][..]), (&[2], &[]), (&[1, 1], &[]), (&[2, 1], &[1]), (&[1, 1, 1], &[]), (&[1, 1], &[0, 1])] {
        let model = transaction(branches, readers, CALM);
        assert!(model.calm_end().is_committed(), "{branches:?}");
        holds(&format!("{branches:?}, nothing goes wrong but the network"), &model);
    }
}

#[test]
fn two_participants_agree_whatever_happens() {
    holds("[1, 1], lost", &transaction(&[1, 1], &[], Bounds { unheard: 1, ..CALM }));
    holds("[1, 1], refused", &transaction(&[1, 1], &[], Bounds { refusals: 1, ..CALM }));
    holds("[1, 1], one reads, timeout", &transaction(&[1, 1], &[1], Bounds { timeout: 1, ..CALM }));
    holds("[1, 1], one reads, restarts and crashes", &transaction(&[1, 1], &[1], Bounds { restarts: 1, crashes: 1, ..CALM }));
    if more() > 0 {
        holds("[1, 1], all", &transaction(&[1, 1], &[], Bounds { unheard: 1, restarts: 1, crashes: 1, refusals: 1, timeout: 1 }));
        holds("[2, 1], crashes", &transaction(&[2, 1], &[], Bounds { crashes: 1, ..CALM }));
    }
}

#[test]
fn three_participants_agree_whatever_happens() {
    holds("[1, 1, 1], lost", &transaction(&[1, 1, 1], &[], Bounds { unheard: 1, ..CALM }));
    if more() > 0 {
        holds("[1, 1, 1], one reads, lost", &transaction(&[1, 1, 1], &[0], Bounds { unheard: 1, ..CALM }));
        holds("[1, 1, 1], refused", &transaction(&[1, 1, 1], &[], Bounds { refusals: 1, ..CALM }));
        holds("[1, 1, 1], one reads, crashes", &transaction(&[1, 1, 1], &[2], Bounds { crashes: 1, ..CALM }));
        holds("[1, 1, 1], restarts", &transaction(&[1, 1, 1], &[], Bounds { restarts: 1, ..CALM }));
    }
}

#[test]
fn one_participant_decides_once() {
    let bounds = Bounds { unheard: 1, restarts: 1, crashes: 1, refusals: 1, timeout: 1 };
    holds("[1]", &transaction(&[1], &[], bounds));
    holds("[2]", &transaction(&[2], &[], bounds));
    holds("[1], lost and crashes", &transaction(&[1], &[], Bounds { unheard: 2, restarts: 2, crashes: 2, ..CALM }));
}

#[test]
fn planted_bugs_are_found_each_by_a_shortest_trace() {
    let restarts = Bounds { restarts: 1, ..CALM };
    let crashes = Bounds { crashes: 1, ..CALM };
    let lost = Bounds { unheard: 1, ..crashes };
    /// Its name, the bug, the actions of each branch, the bounds, what goes wrong, and the length of the shortest trace.
    type Planted<'a> = (&'a str, Plant, &'a [u32], Bounds, &'a str, usize);
    let plants: [Planted<'_>; 6] = [
        ("told before it is forced", Plant::ToldBeforeForced, &[1, 1], restarts, "heard one decision, and somebody another", 11),
        ("a vote forgotten after a crash", Plant::VoteForgotten, &[1, 1], crashes, "commit is decided, and participant 0 cannot", 9),
        ("commit presumed by mistake", Plant::PresumedCommit, &[1, 1], CALM, "participant 0 committed, and participant 1 cannot", 6),
        (
            "the decision given away unforced",
            Plant::DecisionGivenAwayUnforced,
            &[1],
            restarts,
            "heard one decision, and somebody another",
            5,
        ),
        ("half a branch", Plant::HalfABranch, &[2], crashes, "participant 0 committed half of its branch", 6),
        ("a refusal forgotten", Plant::RefusalForgotten, &[1], lost, "heard one decision, and somebody another", 6),
    ];
    for (name, plant, branches, bounds, wrong, length) in plants {
        let sound = Transaction::new(branches, &[], bounds);
        holds(&format!("{branches:?} without the planted bug"), &sound);
        is_found(name, &sound.with_plant(plant), wrong, length);
    }
}

#[test]
fn who_never_asks_stays_prepared_for_ever() {
    let model = Transaction::new(&[1, 1], &[], Bounds { crashes: 1, timeout: 1, ..CALM }).with_plant(Plant::NeverAsks);
    is_found_in_ends("a participant never asks", &model, "participant 0 stays prepared for ever", 9);
}

#[test]
fn sagas_keep_their_order_their_pivot_and_what_is_unknown() {
    let more = more().saturating_sub(1);
    let bounds = saga::Bounds { unheard: 1 + more, refusals: 1, timeout: 1, cancels: 1, verbs: 0, reruns: 0 };
    holds("saga of 2", &Saga::new(&[&[], &[0]], None, bounds));
    holds("saga of 3", &Saga::new(&[&[], &[0], &[1]], None, bounds));
    holds("saga of 3 with a pivot", &Saga::new(&[&[], &[0], &[1]], Some(1), bounds));
    let lost = saga::Bounds { unheard: 2 + more, refusals: 0, timeout: 0, cancels: 0, verbs: 0, reruns: 0 };
    holds("saga of 2, lost", &Saga::new(&[&[], &[0]], None, lost));
    let diamond: &[&[usize]] = &[&[], &[0], &[0], &[1, 2]];
    let calmer = saga::Bounds { timeout: 0, cancels: 0, ..bounds };
    holds("saga of 4, a diamond", &Saga::new(diamond, None, calmer));
    holds("saga of 4, a diamond with a pivot", &Saga::new(diamond, Some(3), calmer));
    holds("saga of 4 with a pivot at its middle", &Saga::new(&[&[], &[0], &[1], &[2]], Some(2), calmer));
}

#[test]
fn sagas_go_on_without_what_is_optional_and_leave_nothing_of_it() {
    let more = more().saturating_sub(1);
    let bounds = saga::Bounds { unheard: 2 + more, refusals: 1, timeout: 0, cancels: 1, verbs: 0, reruns: 0 };
    let three: &[&[usize]] = &[&[], &[0], &[1]];
    holds("saga of 2, the first optional", &Saga::new(&[&[], &[0]], None, bounds).with_optional(0));
    holds("saga of 2, the last optional behind the pivot", &Saga::new(&[&[], &[0]], Some(0), bounds).with_optional(1));
    let calmer = saga::Bounds { cancels: 0, timeout: 1, ..bounds };
    holds("saga of 3 with a pivot, the first optional", &Saga::new(three, Some(1), calmer).with_optional(0));
    let verbs = saga::Bounds { unheard: 2, refusals: 0, timeout: 0, cancels: 0, verbs: 1 + more, reruns: 0 };
    holds("saga of 2, the first optional, one verb", &Saga::new(&[&[], &[0]], None, verbs).with_optional(0));
    holds(
        "saga of 2, the first optional, blocked, one verb",
        &Saga::new(&[&[], &[0]], None, verbs).with_optional(0).with_one_attempt_to_undo(),
    );
    let reruns = saga::Bounds { unheard: 0, refusals: 1, timeout: 0, cancels: 0, verbs: 1 + more, reruns: 1 };
    holds("saga of 3, the first optional, rerun", &Saga::new(three, None, reruns).with_optional(0));
}

#[test]
fn whatever_operators_do_to_sagas_nothing_is_called_in_silence_and_nothing_is_forgotten() {
    let more = more().saturating_sub(1);
    let bounds = saga::Bounds { unheard: 1, refusals: 1, timeout: 0, cancels: 0, verbs: 2 + more, reruns: 0 };
    holds("saga of 2, two verbs", &Saga::new(&[&[], &[0]], None, bounds));
    holds("saga of 2, blocked, two verbs", &Saga::new(&[&[], &[0]], None, bounds).with_one_attempt_to_undo());
    let one = saga::Bounds { verbs: 1 + more, ..bounds };
    holds("saga of 3 with a pivot, one verb", &Saga::new(&[&[], &[0], &[1]], Some(1), one));
    holds("saga of 3, blocked, one verb", &Saga::new(&[&[], &[0], &[1]], None, one).with_one_attempt_to_undo());
    let cancelled = saga::Bounds { unheard: 0, refusals: 0, timeout: 1, cancels: 1, verbs: 2 + more, reruns: 0 };
    holds("saga of 2 with a pivot, cancelled or late, two verbs", &Saga::new(&[&[], &[0]], Some(1), cancelled));
}

#[test]
fn reruns_do_nothing_twice_and_leave_nothing_to_nobody() {
    let more = more().saturating_sub(1);
    let bounds = saga::Bounds { unheard: 0, refusals: 1, timeout: 0, cancels: 0, verbs: 1 + more, reruns: 1 };
    holds("saga of 2, rerun", &Saga::new(&[&[], &[0]], None, bounds));
    holds("saga of 2, rerun twice", &Saga::new(&[&[], &[0]], None, saga::Bounds { reruns: 2, ..bounds }));
    holds("saga of 2, lost and rerun", &Saga::new(&[&[], &[0]], None, saga::Bounds { unheard: 1, ..bounds }));
    holds("saga of 3 with a pivot, rerun", &Saga::new(&[&[], &[0], &[1]], Some(1), bounds));
    holds("saga of 3, two beside each other, rerun", &Saga::new(&[&[], &[], &[0, 1]], None, bounds));
    let ended = saga::Bounds { refusals: 0, verbs: 3 + more, ..bounds };
    holds("saga of 2, ended without doubt and rerun", &Saga::new(&[&[], &[0]], None, ended));
    let model = || Saga::new(&[&[], &[0]], None, bounds);
    is_found("undone in its own name", &model().with_plant(Plant::UndoneInItsOwnName), "over, and a step is in effect", 8);
}

#[test]
fn items_are_all_done_or_all_undone_whatever_happens() {
    let more = more().saturating_sub(1);
    let bounds = saga::Bounds { unheard: 1 + more, refusals: 1, timeout: 1, cancels: 1, verbs: 0, reruns: 0 };
    for parallel in [1, 2] {
        holds(
            &format!("saga of 2, the first over two items, {parallel} at a time"),
            &Saga::new(&[&[], &[0]], None, bounds).with_items(0, parallel),
        );
        holds(
            &format!("saga of 2, two items behind the pivot, {parallel} at a time"),
            &Saga::new(&[&[], &[0]], Some(0), bounds).with_items(1, parallel),
        );
    }
    let optional = saga::Bounds { unheard: 1 + more, timeout: 0, ..bounds };
    holds("saga of 2, two items optional", &Saga::new(&[&[], &[0]], None, optional).with_items(0, 2).with_optional(0));
    let verbs = saga::Bounds { unheard: 1, refusals: 1, timeout: 0, cancels: 0, verbs: 1 + more, reruns: 0 };
    holds("one step over two items, one verb", &Saga::new(&[&[]], None, verbs).with_items(0, 2));
    holds("one step over two items, blocked, one verb", &Saga::new(&[&[]], None, verbs).with_items(0, 2).with_one_attempt_to_undo());
    let reruns = saga::Bounds { unheard: 0, verbs: 1 + more, reruns: 1, ..verbs };
    holds("saga of 2, two items, rerun", &Saga::new(&[&[], &[0]], None, reruns).with_items(0, 1));
    let lost = saga::Bounds { unheard: 2, refusals: 0, timeout: 0, cancels: 0, verbs: 0, reruns: 0 };
    let model = || Saga::new(&[&[]], None, lost).with_items(0, 2);
    is_found("unknown of an item read as refused", &model().with_plant(Plant::UnknownIsRefused), "over, and a step is in effect", 3);
}

#[test]
fn what_is_planted_in_sagas_is_found() {
    let bounds = saga::Bounds { unheard: 2, refusals: 1, timeout: 0, cancels: 0, verbs: 0, reruns: 0 };
    let saga = || Saga::new(&[&[], &[0]], None, bounds);
    holds("saga of 2 without the planted bugs", &saga());
    is_found("unknown read as refused", &saga().with_plant(Plant::UnknownIsRefused), "over, and a step is in effect", 2);
    is_found("a hanging action", &saga().with_plant(Plant::HangingAction), "over, and a step is in effect", 6);
}
