//! The audit audited: what is sound passes, and each thing that is wrong is named.

use super::audit::{Case, Occurred, Told, between};
use super::books::{Books, Effect};
use super::order::{Order, When};
use super::traffic::{Run, Sent};
use sagamq_sdk::JsonText;
use sagamq_sdk::api::saga::{HistoryEvent, SagaDescription};
use serde_json::{Value, json};
use uuid::Uuid;

const SAGA: Uuid = Uuid::from_u128(7);

/// A saga of three of the steps, with all that is known about it.
struct World {
    run: Run,
    shown: Value,
    history: Vec<HistoryEvent>,
    books: Books,
    told: Told,
}

fn step(id: &str, state: &str) -> Value {
    json!({ "id": id, "state": state, "attempts": 1, "compensation_attempts": 0 })
}

fn event(sequence: u64, kind: &str, data: Value) -> HistoryEvent {
    HistoryEvent { sequence, at_ms: 0, r#type: kind.to_owned(), data: data.into() }
}

impl World {
    /// It is completed: `reserve` and the pivot were done and told, and `review` had its signal.
    fn completed() -> Self {
        let order = Order {
            key: "o-1".to_owned(),
            gift: false,
            pause_ms: 20,
            review: When::Early,
            review_by_key: true,
            seen: When::Never,
            cancel_ms: None,
        };
        let payload = JsonText::from(json!({ "by": "o-1/reviewed" }));
        let sent = Sent { id: "o-1/reviewed".to_owned(), step: "review", payload, is_taken: true, was_known: true };
        let mut review = step("review", "SUCCEEDED");
        review["output"] = json!({ "by": "o-1/reviewed" });
        let shown = json!({
            "id": SAGA, "saga": "kinds", "version": 1, "key": "o-1", "state": "COMPLETED", "started_at_ms": 1, "updated_at_ms": 2, "events": 9,
            "input": {}, "failures": [], "steps": [step("reserve", "SUCCEEDED"), review, step("capture", "SUCCEEDED")],
        });
        let history = vec![
            event(0, "signal_received", json!({ "signal": "reviewed", "number": 0, "id": "o-1/reviewed" })),
            event(1, "step_succeeded", json!({ "step": "reserve" })),
            event(2, "step_woke", json!({ "step": "review", "signal": 0 })),
            event(3, "step_succeeded", json!({ "step": "capture" })),
        ];
        let mut books = Books::default();
        let mut told = Told::new();
        for step in ["reserve", "capture"] {
            books.put(SAGA, step, Effect { done: 1, undone: 0 });
            told.insert((SAGA, step.to_owned(), "action".to_owned()), 1);
        }
        Self { run: Run { order, saga: SAGA, sent: vec![sent] }, shown, history, books, told }
    }

    fn wrong(&self) -> Vec<String> {
        let shown: SagaDescription = serde_json::from_value(self.shown.clone()).expect("a description");
        let Self { run, history, books, told, .. } = self;
        let (mut wrong, mut occurred) = (Vec::new(), Occurred::new());
        Case { run, shown: &shown, history, books, told }.look(&mut wrong, &mut occurred);
        wrong
    }

    /// The one thing that is wrong says this.
    fn is_wrong(&self, what: &str) {
        let wrong = self.wrong();
        assert!(wrong.len() == 1 && wrong[0].contains(what), "{what}: {wrong:?}");
    }
}

#[test]
fn what_is_sound_passes() {
    assert_eq!(World::completed().wrong(), Vec::<String>::new());
}

#[test]
fn what_the_books_do_not_say_is_wrong() {
    let mut world = World::completed();
    world.books.put(SAGA, "reserve", Effect { done: 2, undone: 0 });
    assert!(world.wrong().iter().any(|wrong| wrong.contains("did not happen once")));
    let mut world = World::completed();
    world.books.put(SAGA, "reserve", Effect { done: 1, undone: 1 });
    world.is_wrong("undone past the pivot");
    let mut world = World::completed();
    world.books.put(SAGA, "note", Effect { done: 1, undone: 0 });
    world.shown["steps"].as_array_mut().expect("steps").push(step("note", "SKIPPED"));
    world.is_wrong("its effect stands, and nobody says so");
    world.shown["standing"] = json!([{ "step": "note", "in_doubt": true }]);
    assert_eq!(world.wrong(), Vec::<String>::new());
}

#[test]
fn what_was_told_is_what_was_done_once() {
    for times in [0, 2] {
        let mut world = World::completed();
        world.told.insert((SAGA, "reserve".to_owned(), "action".to_owned()), times);
        world.is_wrong(&format!("was told {times} times"));
    }
    let mut world = World::completed();
    world.told.insert((SAGA, "reserve".to_owned(), "compensation".to_owned()), 1);
    world.history.push(event(4, "step_compensated", json!({ "step": "reserve" })));
    world.is_wrong("its compensation was told, and is not so in the books");
}

#[test]
fn a_signal_counts_once() {
    let mut world = World::completed();
    let again = world.history[0].clone();
    world.history.push(again);
    world.is_wrong("stands 2 times in the history");
    let mut world = World::completed();
    world.run.sent[0].was_known = false;
    world.is_wrong("was sent again, and was not known");
    let mut world = World::completed();
    let again = world.history[2].clone();
    world.history.push(again);
    world.is_wrong("woke 2 steps");
    let mut world = World::completed();
    world.shown["steps"][1]["output"] = Value::Null;
    world.is_wrong("returned");
}

#[test]
fn what_is_stuck_or_blocked_without_a_reason_is_wrong() {
    let mut world = World::completed();
    world.shown["state"] = json!("RUNNING");
    assert!(world.wrong().iter().any(|wrong| wrong.contains("it is stuck")), "{:?}", world.wrong());
    let mut world = World::completed();
    world.shown["state"] = json!("BLOCKED");
    world.shown["standing"] = json!([{ "step": "reserve", "in_doubt": false }, { "step": "capture", "in_doubt": false }]);
    world.is_wrong("does not say why");
}

#[test]
fn a_saga_and_its_sub_saga_agree() {
    let wrong = |saga: &str, step_state: &str, sub_saga: &str| {
        let mut world = World::completed();
        let mut parcel = step("parcel", step_state);
        parcel["child"] = json!({ "saga": "kinds-parcel", "key": "k", "id": Uuid::from_u128(8), "state": sub_saga });
        world.shown["steps"].as_array_mut().expect("steps").push(parcel);
        world.shown["state"] = json!(saga);
        let mut child = world.shown.clone();
        child["id"] = json!(Uuid::from_u128(8));
        child["state"] = json!(sub_saga);
        child["parent"] = json!({ "id": SAGA, "saga": "kinds", "step": "parcel", "attempt": 1 });
        if saga == "COMPENSATING" {
            world.shown["waits"] = json!({ "code": "SUB_SAGA", "message": "" });
        }
        let read = |shown: Value| -> SagaDescription { serde_json::from_value(shown).expect("a description") };
        between(&read(world.shown), &read(child))
    };
    for (saga, step, sub_saga) in [
        ("COMPLETED", "SUCCEEDED", "COMPLETED"),
        ("COMPENSATED", "COMPENSATED", "COMPENSATED"),
        ("COMPENSATED", "FAILED", "FAILED"),
        ("COMPENSATING", "COMPENSATING", "BLOCKED"),
        ("BLOCKED", "SUCCEEDED", "COMPLETED"),
    ] {
        assert_eq!(wrong(saga, step, sub_saga), None);
    }
    for (saga, step, sub_saga) in [
        ("COMPLETED", "SUCCEEDED", "COMPENSATED"),
        ("COMPENSATED", "COMPENSATED", "COMPLETED"),
        ("COMPENSATED", "SUCCEEDED", "COMPLETED"),
        ("COMPENSATING", "COMPENSATING", "COMPLETED"),
    ] {
        assert!(wrong(saga, step, sub_saga).is_some_and(|what| what.contains(sub_saga)), "{saga} {step} {sub_saga}");
    }
}
