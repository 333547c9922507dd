//! The audit audited: what is sound passes, and each thing that is wrong is named.

use super::audit::{Case, Occurred, Told, between};
use super::books::{Books, Effect};
use super::fence::Worked;
use super::locks::Holds;
use super::order::{Loses, Order, When};
use super::traffic::{Run, Sent};
use sagamq_sdk::JsonText;
use sagamq_sdk::api::saga::{HistoryEvent, SagaDescription, SagaState};
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
            lines: 2,
            locks: ["a", "b"].map(str::to_owned),
            is_broken: false,
            loses: Loses::Nothing,
            late_ms: 0,
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
        Self { run: Run { order, saga: SAGA, sent: vec![sent], has_lost_locks: false, given_up: None }, shown, history, books, told }
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

/// Else nothing comes late to a service.
#[test]
fn whoever_loses_a_lock_has_others_that_want_it() {
    let mut random = sagamq_broker::env::Random::from_seed(1);
    let orders: Vec<Order> = (0..64).map(|number| Order::draw(number, &mut random)).collect();
    for loser in orders.iter().filter(|order| order.loses != Loses::Nothing) {
        let of_lock = |order: &&Order| order.locks[0] == loser.locks[0];
        let family: Vec<&Order> = orders.iter().filter(of_lock).collect();
        assert_eq!(family.len(), 3, "{family:?}");
        assert!(family.iter().all(|order| (order.late_ms == 0) == (order.key == loser.key)), "the others come later: {family:?}");
    }
    assert_eq!(orders.iter().filter(|order| order.loses != Loses::Nothing).count(), 12);
}

#[test]
fn what_did_not_come_to_rest_in_time_is_wrong_even_if_it_did_later() {
    let mut world = World::completed();
    world.run.given_up = Some("RUNNING: CALLED: action of `ship`".to_owned());
    world.is_wrong("it had not come to rest in 240 s, and was RUNNING: CALLED");
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

impl World {
    /// The same with a step that fans out over two items, which were called side by side.
    fn fanned_out() -> Self {
        let mut world = Self::completed();
        let mut pick = step("pick", "SUCCEEDED");
        pick["items"] =
            (0..2).map(|item| json!({ "item": item, "state": "SUCCEEDED", "attempts": 1, "compensation_attempts": 0 })).collect();
        world.shown["steps"].as_array_mut().expect("steps").push(pick);
        world.history.push(event(4, "step_fanned_out", json!({ "step": "pick", "operation": "action", "epoch": 0, "items": [7, 8] })));
        for (sequence, kind, item) in [(5, "step_called", 0), (6, "step_called", 1), (7, "step_succeeded", 1), (8, "step_succeeded", 0)] {
            world.history.push(event(sequence, kind, json!({ "step": "pick", "item": item, "operation": "action", "epoch": 1 })));
        }
        for item in 0..2 {
            world.books.put(SAGA, &format!("pick[{item}]"), Effect { done: 1, undone: 0 });
        }
        world.told.insert((SAGA, "pick".to_owned(), "action".to_owned()), 1);
        world
    }

    /// The same, undone.
    fn undone() -> Self {
        let mut world = Self::fanned_out();
        world.shown["state"] = json!("COMPENSATED");
        world.shown["steps"].as_array_mut().expect("steps").retain(|step| step["id"] == "pick");
        world.shown["steps"][0]["state"] = json!("COMPENSATED");
        world.run.sent.clear();
        world.books = Books::default();
        for item in 0..2 {
            world.shown["steps"][0]["items"][item]["state"] = json!("COMPENSATED");
            world.books.put(SAGA, &format!("pick[{item}]"), Effect { done: 1, undone: 1 });
        }
        world.told.retain(|(_, step, _), _| step == "pick");
        world.told.insert((SAGA, "pick".to_owned(), "compensation".to_owned()), 1);
        world
    }
}

#[test]
fn each_item_is_looked_at_as_a_step_is() {
    assert_eq!(World::fanned_out().wrong(), Vec::<String>::new());
    assert_eq!(World::undone().wrong(), Vec::<String>::new());
    let mut world = World::fanned_out();
    world.books.put(SAGA, "pick[1]", Effect { done: 2, undone: 0 });
    assert!(world.wrong().iter().any(|wrong| wrong.contains("`pick[1]` is SUCCEEDED, and its effect did not happen once")));
    let mut world = World::fanned_out();
    world.books.put(SAGA, "pick[1]", Effect { done: 0, undone: 0 });
    assert!(world.wrong().iter().any(|wrong| wrong.contains("`pick[1]` is SUCCEEDED, and its effect is not there")));
    let mut world = World::fanned_out();
    world.books.put(SAGA, "pick[0]", Effect { done: 1, undone: 1 });
    assert!(world.wrong().iter().any(|wrong| wrong.contains("`pick[0]` is SUCCEEDED, and it was undone past the pivot")));
    let mut world = World::undone();
    world.books.put(SAGA, "pick[0]", Effect { done: 1, undone: 0 });
    let wrong = world.wrong();
    assert!(wrong.iter().any(|wrong| wrong.contains("`pick[0]` is COMPENSATED, and its effect stands")), "{wrong:?}");
    assert!(wrong.iter().any(|wrong| wrong.contains("`pick[0]`: its compensation was told, and is not so")), "{wrong:?}");
    // One that could not be undone, of a saga that is blocked: it is listed, and its neighbour is not.
    let mut world = World::undone();
    world.shown["state"] = json!("BLOCKED");
    world.shown["failure"] = json!({ "code": "REFUSED", "message": "" });
    world.shown["failures"] = json!([{ "step": "pick", "item": 0, "operation": "compensation", "epoch": 3, "failure": { "code": "NO", "message": "" }, "at_ms": 0 }]);
    world.shown["steps"][0]["state"] = json!("COMPENSATION_FAILED");
    world.shown["steps"][0]["items"][0]["state"] = json!("COMPENSATION_FAILED");
    world.books.put(SAGA, "pick[0]", Effect { done: 1, undone: 0 });
    world.told.remove(&(SAGA, "pick".to_owned(), "compensation".to_owned()));
    world.shown["standing"] = json!([{ "step": "pick", "item": 1, "in_doubt": true }]);
    world.is_wrong("`pick[0]` is COMPENSATION_FAILED, and its effect stands, and nobody says so");
    world.shown["standing"] = json!([{ "step": "pick", "item": 0, "in_doubt": true }]);
    assert_eq!(world.wrong(), Vec::<String>::new());
    let mut world = World::fanned_out();
    world.books.put(SAGA, "pick[2]", Effect { done: 1, undone: 0 });
    world.is_wrong("`pick[2]` is in the books, and the saga does not show it");
}

#[test]
fn a_step_that_fans_out_tells_once_of_all_its_items() {
    for (times, operation) in [(0, "action"), (2, "action"), (1, "compensation")] {
        let mut world = World::fanned_out();
        world.told.insert((SAGA, "pick".to_owned(), operation.to_owned()), times);
        assert!(world.wrong()[0].contains(&format!("was told {times} times")), "{:?}", world.wrong());
    }
    // One of them did not succeed: there is nothing to tell.
    let mut world = World::fanned_out();
    world.history.pop();
    world.is_wrong("step_succeeded stands 0 times in the history, and was told 1 times");
    let mut world = World::undone();
    world.told.remove(&(SAGA, "pick".to_owned(), "compensation".to_owned()));
    world.is_wrong("step_compensated stands 1 times in the history, and was told 0 times");
}

#[test]
fn items_begin_in_their_order_and_no_more_at_a_time_than_is_said() {
    let mut world = World::fanned_out();
    world.history.swap(5, 6);
    world.is_wrong("the items of `pick` began in the order [1, 0]");
    let mut world = World::fanned_out();
    let called = event(6, "step_called", json!({ "step": "pick", "item": 2, "operation": "action", "epoch": 1 }));
    world.history.insert(7, called);
    world.is_wrong("3 items of `pick` were called at a time, and 2 may be");
    let mut world = World::fanned_out();
    world.history.push(world.history[7].clone());
    world.is_wrong("`pick[1]` succeeded twice in the history");
}

/// A second saga.
const NEXT: Uuid = Uuid::from_u128(9);

/// Two sagas that had one lock, one after the other, with what a service did for each.
struct Pair {
    histories: [Vec<HistoryEvent>; 2],
    states: [SagaState; 2],
    books: Books,
}

fn at(at_ms: u64, kind: &str, data: Value) -> HistoryEvent {
    HistoryEvent { sequence: at_ms, at_ms, r#type: kind.to_owned(), data: data.into() }
}

fn worked(saga: Uuid, token: u64, call: &str) -> Worked {
    Worked { key: "k".to_owned(), token, saga, call: format!("{saga}/{call}/action") }
}

impl Pair {
    /// The second waits while the first has it.
    fn sound() -> Self {
        let key = "k";
        let of = |times: [u64; 3], token: u64| {
            let asked = at(times[0], "lock_asked", json!({ "step": "allot", "key": key }));
            vec![asked, at(times[1], "lock_granted", json!({ "key": key, "token": token })), at(times[2], "saga_completed", json!({}))]
        };
        let mut books = Books::default();
        let done = vec![worked(SAGA, 4, "allot"), worked(SAGA, 4, "label[0]"), worked(NEXT, 7, "allot")];
        books.worked.insert(("stock", key.to_owned()), done);
        Self { histories: [of([1_000, 2_000, 30_000], 4), of([5_000, 31_000, 40_000], 7)], states: [SagaState::Completed; 2], books }
    }

    fn look(&self) -> (Holds, Vec<String>, Occurred) {
        let (mut holds, mut wrong, mut occurred) = (Holds::default(), Vec::new(), Occurred::new());
        for ((saga, state), history) in [SAGA, NEXT].into_iter().zip(self.states).zip(&self.histories) {
            holds.add(saga, state, history);
        }
        holds.look(&self.books, &mut wrong, &mut occurred);
        (holds, wrong, occurred)
    }

    fn is_wrong(&self, what: &str) {
        let (_, wrong, _) = self.look();
        assert!(wrong.iter().any(|wrong| wrong.contains(what)), "{what}: {wrong:?}");
    }

    fn with_token(mut self, token: u64) -> Self {
        self.histories[1][1].data = json!({ "key": "k", "token": token }).into();
        self.books.worked.get_mut(&("stock", "k".to_owned())).expect("there").last_mut().expect("one").token = token;
        self
    }

    fn done(&mut self) -> &mut Vec<Worked> {
        self.books.worked.get_mut(&("stock", "k".to_owned())).expect("it is there")
    }
}

#[test]
fn a_lock_that_is_passed_on_is_no_fault_and_is_counted() {
    let (holds, wrong, occurred) = Pair::sound().look();
    assert_eq!((wrong, holds.left().len()), (Vec::new(), 0));
    assert_eq!((occurred["lock waited for"], occurred["key passed on at a service"], occurred["lock broken"]), (1, 1, 0));
}

#[test]
fn two_sagas_that_have_a_key_at_a_time_are_found() {
    let mut pair = Pair::sound();
    pair.histories[1][1].at_ms = 29_000;
    pair.is_wrong("it was given before whoever had it was at its end");
    let mut pair = Pair::sound();
    pair.states[0] = SagaState::Blocked;
    pair.histories[0].pop();
    pair.is_wrong("it was given although somebody has it");
    // By the books alone: the first comes again behind the second.
    let mut pair = Pair::sound();
    pair.done().push(worked(SAGA, 4, "label[1]"));
    pair.is_wrong("`stock` worked for two sagas under one lock");
}

#[test]
fn tokens_that_do_not_rise_are_found() {
    Pair::sound().with_token(3).is_wrong("its tokens do not rise");
    Pair::sound().with_token(3).is_wrong("`stock` worked for two sagas under one lock");
    Pair::sound().with_token(4).is_wrong("two have one token");
    let mut pair = Pair::sound();
    pair.done().push(worked(NEXT, 8, "label[1]"));
    pair.is_wrong("`stock` was called under a lock that the saga never had");
}

#[test]
fn who_is_turned_away_has_lost_its_lock() {
    let mut pair = Pair::sound();
    pair.books.fenced.push(("stock", worked(SAGA, 4, "label[2]")));
    pair.is_wrong("a call was turned away although nobody took the lock from its saga");
    let mut pair = Pair::sound();
    pair.states[0] = SagaState::Blocked;
    pair.histories[0][2] = at(28_000, "lock_broken", json!({ "key": "k", "token": 4, "reason": "the drill" }));
    pair.books.fenced.push(("stock", worked(SAGA, 4, "label[2]")));
    let (holds, wrong, occurred) = pair.look();
    assert_eq!((wrong, holds.left().len()), (Vec::new(), 0), "somebody took it away");
    assert_eq!((occurred["lock broken"], occurred["action fenced"]), (1, 1));
    // At the other service nobody came since.
    pair.books.fenced[0].0 = "bank";
    pair.is_wrong("nobody had worked there under the key since");
}

#[test]
fn what_a_blocked_saga_has_is_told() {
    let mut pair = Pair::sound();
    pair.states[1] = SagaState::Blocked;
    pair.histories[1].pop();
    let (holds, wrong, _) = pair.look();
    assert_eq!((wrong, holds.left().into_iter().collect::<Vec<_>>()), (Vec::new(), vec![("k".to_owned(), (NEXT, 7))]));
}

#[test]
fn a_call_without_its_lock_is_found_and_so_are_two_tokens_for_one_key() {
    let mut world = World::completed();
    world.shown["failures"] =
        json!([{ "step": "reserve", "operation": "action", "epoch": 1, "failure": { "code": "NO_LOCK", "message": "" }, "at_ms": 0 }]);
    world.is_wrong("`reserve` was called without its lock");
    let mut world = World::completed();
    for (step, token) in [(0, 4), (2, 4)] {
        world.shown["steps"][step]["lock"] = json!({ "key": "k", "token": token });
    }
    assert_eq!(world.wrong(), Vec::<String>::new());
    world.shown["steps"][2]["lock"] = json!({ "key": "k", "token": 5 });
    world.is_wrong("it had `k` under two tokens");
    // Another one was taken away, and then this one.
    world.history.push(event(4, "lock_broken", json!({ "key": "k", "token": 3, "reason": "the drill" })));
    world.is_wrong("it had `k` under two tokens");
    world.history.push(event(5, "lock_broken", json!({ "key": "k", "token": 4, "reason": "the drill" })));
    assert_eq!(world.wrong(), Vec::<String>::new());
}
