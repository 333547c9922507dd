//! The locks of a lane, against a model that is nothing but its rules.

use super::*;
use proptest::prelude::*;
use sagamq_api::limits::{LOCK_KEY_BYTES_MAX, LOCK_PROBE_HOPS_MAX, LOCK_WAITERS_MAX};
use sagamq_api::saga::Failure;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

fn by(instance: u64, number: u64) -> Claimant {
    Claimant { instance: Uuid::from_u128(u128::from(instance)), number }
}

/// Decides and applies; gives who is told what.
fn ask(locks: &mut Locks, key: &str, who: Claimant) -> LockDecision {
    let decision = locks.ask(key, who, false, 7);
    locks.apply(&decision);
    decision
}

fn leave(locks: &mut Locks, key: &str, who: Claimant) -> LockDecision {
    let decision = locks.leave(key, who, 107);
    locks.apply(&decision);
    decision
}

fn token(decision: &LockDecision, who: Claimant) -> Option<u64> {
    decision.said.iter().find_map(|(to, said)| match said {
        LockSaid::Granted { token } | LockSaid::Holds { token } if *to == who => Some(*token),
        _ => None,
    })
}

#[test]
fn who_comes_first_has_it_first_and_tokens_grow_over_what_was_forgotten() {
    let mut locks = Locks::default();
    let (a, b, c) = (by(1, 1), by(2, 1), by(3, 1));
    let first = token(&ask(&mut locks, "k", a), a).expect("it is free");
    let queued = ask(&mut locks, "k", b);
    assert_eq!((queued.said.len(), queued.look_at), (0, Some(a.instance)), "who holds it is looked at");
    ask(&mut locks, "k", c);
    assert_eq!(locks.counts(), (1, 2));
    let passed = leave(&mut locks, "k", a);
    let second = token(&passed, b).expect("it was the first to come");
    assert_eq!((passed.waited_ms, passed.look_at), (Some(100), Some(b.instance)), "the other waits for this one now");
    leave(&mut locks, "k", c);
    assert_eq!(leave(&mut locks, "k", b).changes, [Change::Free]);
    assert_eq!((locks.counts(), locks.get("k")), ((0, 0), None), "what nobody holds is forgotten");
    let third = token(&ask(&mut locks, "k", a), a).expect("it is free");
    assert!(first < second && second < third, "{first} {second} {third}");
}

#[test]
fn what_is_said_twice_and_what_is_of_another_claim_changes_nothing() {
    let mut locks = Locks::default();
    let (a, b) = (by(1, 1), by(2, 1));
    let held = token(&ask(&mut locks, "k", a), a);
    let again = ask(&mut locks, "k", a);
    assert_eq!((again.changes.len(), token(&again, a)), (0, held), "it is told once more what it has");
    ask(&mut locks, "k", b);
    assert!(ask(&mut locks, "k", b).is_nothing(), "it has its place");
    for other in [by(1, 2), by(3, 1)] {
        assert!(leave(&mut locks, "k", other).is_nothing());
        assert!(leave(&mut locks, "other", other).is_nothing());
    }
    assert_eq!(locks.counts(), (1, 1));
}

#[test]
fn a_queue_is_bounded_and_says_with_which_name() {
    let mut locks = Locks::default();
    ask(&mut locks, "k", by(0, 1));
    for number in 1..=u64::try_from(LOCK_WAITERS_MAX).expect("few") {
        assert_eq!(ask(&mut locks, "k", by(number, 1)).changes.len(), 1);
    }
    let refused = ask(&mut locks, "k", by(5_000, 1));
    let [(_, LockSaid::Refused { failure })] = refused.said.as_slice() else { panic!("it is refused: {refused:?}") };
    assert!(failure.code == "LOCK_QUEUE_FULL" && failure.message.contains("LOCK_WAITERS_MAX"), "{failure:?}");
    assert_eq!((refused.changes.len(), locks.counts()), (0, (1, LOCK_WAITERS_MAX)));
    // Who cannot fail would wait without a place for ever.
    let must = locks.ask("k", by(5_000, 1), true, 7);
    locks.apply(&must);
    assert!(locks.ask("k", by(5_000, 1), true, 7).is_nothing(), "it has its place");
    assert_eq!((must.said.len(), locks.counts()), (0, (1, LOCK_WAITERS_MAX + 1)));
    assert_eq!(locks.get("k").and_then(|lock| lock.queue.back()).map(|last| last.by), Some(by(5_000, 1)), "behind all others");
}

#[test]
fn a_lock_is_taken_from_who_holds_it_with_that_token_and_the_next_one_has_a_larger_one() {
    let mut locks = Locks::default();
    let (a, b) = (by(1, 1), by(2, 1));
    let held = token(&ask(&mut locks, "k", a), a).expect("it is free");
    ask(&mut locks, "k", b);
    let who = || (Some("ann".to_owned()), Some("counted".to_owned()));
    assert_eq!((locks.take_away("k", Some(held + 1), who(), 9), locks.take_away("x", None, who(), 9)), (None, None));
    let taken = locks.take_away("k", Some(held), who(), 9).expect("it is held so");
    locks.apply(&taken);
    let broken = LockSaid::Broken { token: held, actor: Some("ann".to_owned()), reason: Some("counted".to_owned()) };
    assert_eq!(taken.said[0], (a, broken));
    assert!(token(&taken, b).is_some_and(|token| token > held));
    assert!(leave(&mut locks, "k", a).is_nothing(), "what it lost it does not let go");
}

#[test]
fn keys_are_text_within_bounds_and_have_one_home() {
    assert!(is_lock_key("sku/1") && is_lock_key("ü ¶") && is_lock_key(&"k".repeat(LOCK_KEY_BYTES_MAX)));
    assert!(!is_lock_key("") && !is_lock_key("a\nb") && !is_lock_key("a\u{0}") && !is_lock_key(&"k".repeat(LOCK_KEY_BYTES_MAX + 1)));
    assert_eq!([lane_of_lock("sku/1", 16), lane_of_lock("sku/2", 16), lane_of_lock("sku/1", 1)], GOLDEN, "homes never move");
}

/// Of two keys over 16 lanes, and of one over one.
const GOLDEN: [u16; 3] = [7, 5, 0];

/// Sends out a probe and follows it to its end; `waits` are who waits for which key.
fn probe(locks: &Locks, from: Claimant, waits: &[(Claimant, &str, bool)]) -> Vec<Circle> {
    follow(locks, Probe::new(1, from.instance), waits)
}

/// A probe that has come back once.
fn first_round(locks: &Locks, from: Claimant, waits: &[(Claimant, &str, bool)]) -> Probe {
    let mut came_back = Vec::new();
    go(locks, Probe::new(1, from.instance), waits, &mut |next| match next {
        Next::Confirm(probe) => came_back.push(probe),
        Next::LookAt(..) | Next::Anew(_) | Next::Circle(_) => {}
    });
    let [probe] = came_back.as_slice() else { panic!("it comes back once: {came_back:?}") };
    assert!(probe.path.is_empty() && probe.confirms.len() == 3 && probe.id != 1, "{probe:?}");
    probe.clone()
}

fn follow(locks: &Locks, probe: Probe, waits: &[(Claimant, &str, bool)]) -> Vec<Circle> {
    let (mut circles, mut again) = (Vec::new(), Vec::new());
    go(locks, probe, waits, &mut |next| match next {
        Next::Circle(circle) => circles.push(circle),
        Next::Confirm(probe) => again.push(probe),
        Next::LookAt(..) | Next::Anew(_) => {}
    });
    circles.extend(again.into_iter().flat_map(|probe| follow(locks, probe, waits)));
    circles
}

/// Follows a probe until it has come back, or comes to nothing.
fn go(locks: &Locks, probe: Probe, waits: &[(Claimant, &str, bool)], found: &mut dyn FnMut(Next)) {
    let mut open = vec![(probe.from, probe)];
    while let Some((at, probe)) = open.pop() {
        let of = waits.iter().filter(|(who, _, _)| who.instance == at);
        let waits: Vec<Wait> =
            of.map(|(who, key, may_fail)| Wait { key: (*key).to_owned(), number: who.number, may_fail: *may_fail }).collect();
        let started_at_ms = u64::try_from(at.as_u128()).expect("small");
        for (_, probe) in probe.follow(at, started_at_ms, &waits) {
            match probe.at_key(locks) {
                None => {}
                Some(Next::LookAt(holder, probe)) => open.push((holder, probe)),
                Some(next) => found(next),
            }
        }
    }
}

#[test]
fn a_circle_is_found_from_each_of_its_members_and_the_youngest_that_can_gives_way() {
    let mut locks = Locks::default();
    let members = [by(1, 1), by(2, 1), by(3, 1)];
    let keys = ["a", "b", "c"];
    for (who, key) in members.iter().zip(keys) {
        ask(&mut locks, key, *who);
    }
    for (may_fail, expected) in [([true, true, true], Some(3)), ([true, true, false], Some(2)), ([false, false, false], None)] {
        let mut locks = locks.clone();
        let waits: Vec<(Claimant, &str, bool)> =
            (0..3).map(|at| (Claimant { number: 2, ..members[at] }, keys[(at + 1) % 3], may_fail[at])).collect();
        for (who, key, _) in &waits[..2] {
            ask(&mut locks, key, *who);
        }
        assert_eq!(probe(&locks, members[0], &waits[..2]), [], "there is none yet");
        ask(&mut locks, waits[2].1, waits[2].0);
        for member in members {
            let circles = probe(&locks, member, &waits);
            let [circle] = circles.as_slice() else { panic!("one circle: {circles:?}") };
            let victim = circle.gives_way.as_ref().map(|(who, _)| who.instance.as_u128());
            assert_eq!(victim, expected.map(|number: u32| u128::from(number)), "whoever looks for it");
            assert!(circle.failure.code == "LOCK_DEADLOCK" && circle.failure.message.contains("`b`"), "{}", circle.failure.message);
        }
        // Who waits no more ends the way.
        let left = |at: usize| {
            let mut locks = locks.clone();
            leave(&mut locks, waits[at].1, waits[at].0);
            locks
        };
        assert_eq!(probe(&left(1), members[0], &waits), []);
        // Also one that gave up behind the probe, on its first round.
        let came_back = first_round(&locks, members[0], &waits);
        assert_eq!(follow(&locks, came_back.clone(), &waits).len(), 1);
        for at in 0..3 {
            assert_eq!(follow(&left(at), came_back.clone(), &waits), [], "what closed was no circle");
            // Another claim to the same key is another wait: it was not there all the time.
            let mut again = left(at);
            let (who, key, may_fail) = waits[at];
            let newer = Claimant { number: 3, ..who };
            ask(&mut again, key, newer);
            let mut waits = waits.clone();
            waits[at] = (newer, key, may_fail);
            assert_eq!(follow(&again, came_back.clone(), &waits), [], "whoever waits now finds it with a probe of its own");
            assert_eq!(probe(&again, members[0], &waits).len(), 1);
        }
    }
}

#[test]
fn who_has_got_the_lock_between_the_rounds_is_no_part_of_what_closed() {
    let mut locks = Locks::default();
    let [a, b, c, d] = [by(1, 1), by(2, 1), by(3, 1), by(4, 1)];
    for (who, key) in [(b, "x"), (c, "y"), (d, "z"), (a, "w")] {
        ask(&mut locks, key, who);
    }
    let second = |of: Claimant| Claimant { number: 2, ..of };
    // C wants two things at a time, and is before A where both wait.
    let early = Claimant { number: 3, ..c };
    let waits = [(early, "x", true), (second(a), "x", true), (second(b), "y", true), (second(c), "z", true), (second(d), "w", true)];
    for (who, key, _) in waits {
        ask(&mut locks, key, who);
    }
    let mut came_back = Vec::new();
    go(&locks, Probe::new(1, a.instance), &waits, &mut |next| match next {
        Next::Confirm(probe) => came_back.push(probe),
        Next::LookAt(..) | Next::Anew(_) | Next::Circle(_) => {}
    });
    let [came_back] = <[Probe; 1]>::try_from(came_back).expect("it closes on one way");
    assert_eq!(came_back.confirms.len(), 4);
    // B gives up, and what A waits for is C's: all that is waited for on the shorter way was waited for on the first round, but not from C.
    leave(&mut locks, "y", second(b));
    let passed = leave(&mut locks, "x", b);
    let waits = [waits[1], waits[3], waits[4]];
    let mut next = Vec::new();
    go(&locks, came_back, &waits, &mut |found| next.push(found));
    assert_eq!(next, [Next::Anew(a.instance)], "it begins anew");
    assert_eq!(passed.look_at, Some(c.instance), "who has it now is looked at");
    let found = probe(&locks, c, &waits);
    assert_eq!(found.iter().map(|circle| circle.gives_way.clone()).collect::<Vec<_>>(), [Some((second(d), "w".to_owned()))]);
}

#[test]
fn each_way_on_which_a_probe_comes_back_is_followed_once_more_by_itself() {
    let mut locks = Locks::default();
    let [x, y, z] = [by(1, 1), by(2, 1), by(3, 1)];
    for (who, key) in [(x, "x"), (x, "xx"), (y, "y"), (z, "z")] {
        ask(&mut locks, key, who);
    }
    let claim = |of: Claimant, number| Claimant { number, ..of };
    let waits = [(claim(x, 2), "y", true), (claim(x, 3), "z", true), (claim(y, 2), "x", true), (claim(z, 2), "xx", true)];
    for (who, key, _) in waits {
        ask(&mut locks, key, who);
    }
    let mut again = Vec::new();
    go(&locks, Probe::new(1, x.instance), &waits, &mut |next| match next {
        Next::Confirm(probe) => again.push(probe),
        Next::LookAt(..) | Next::Anew(_) | Next::Circle(_) => {}
    });
    let [one, two] = again.as_slice() else { panic!("two circles: {again:?}") };
    assert!(one.id != two.id && one.id != 1 && two.id != 1, "an instance is looked at once for an id");
    // One of them was none: the other is found all the same.
    leave(&mut locks, "y", claim(x, 2));
    let mut found: Vec<usize> = again.into_iter().map(|probe| follow(&locks, probe, &waits[1..]).len()).collect();
    found.sort_unstable();
    assert_eq!(found, [0, 1]);
}

#[test]
fn of_a_family_it_is_said_that_it_shares_no_locks() {
    let mut locks = Locks::default();
    let (parent, child) = (by(1, 1), by(2, 1));
    ask(&mut locks, "k", parent);
    ask(&mut locks, "k", child);
    // The parent waits for no lock: the probe goes on to its sub-saga.
    let wait = [Wait { key: "k".to_owned(), number: 1, may_fail: true }];
    let at_child = |probe: Probe| {
        let [(_, probe)] = &probe.follow(child.instance, 9, &wait)[..] else { panic!("it waits for one thing") };
        probe.clone().at_key(&locks)
    };
    let Some(Next::Confirm(again)) = at_child(Probe::new(1, parent.instance)) else { panic!("it comes back") };
    let Some(Next::Circle(circle)) = at_child(again) else { panic!("it comes back twice") };
    assert_eq!(circle.gives_way, Some((child, "k".to_owned())));
    let Failure { code, message } = circle.failure;
    let names = [parent, child].map(|member| member.instance.to_string());
    assert!(code == "LOCK_DEADLOCK" && message.contains("sub-sagas") && names.iter().all(|name| message.contains(name)), "{message}");
}

#[test]
fn a_probe_comes_back_to_an_instance_by_way_of_its_sub_saga() {
    let mut locks = Locks::default();
    let (child, waits, parent) = (by(1, 1), by(2, 1), by(3, 1).instance);
    ask(&mut locks, "k", child);
    ask(&mut locks, "k", waits);
    let wait = [Wait { key: "k".to_owned(), number: 1, may_fail: true }];
    let come_back = |probe: Probe| {
        assert_eq!(probe.at_origin(parent), None, "it sets out");
        let [(_, probe)] = &probe.follow(waits.instance, 9, &wait)[..] else { panic!("it waits for one thing") };
        let Some(Next::LookAt(holder, probe)) = probe.clone().at_key(&locks) else { panic!("the sub-saga holds it") };
        assert_eq!(holder, child.instance, "which waits for its parent");
        assert_eq!(probe.at_origin(child.instance), None);
        probe.at_origin(parent)
    };
    let Some(Next::Confirm(again)) = come_back(Probe::new(1, parent)) else { panic!("it comes back") };
    let Some(Next::Circle(circle)) = come_back(again) else { panic!("it comes back twice") };
    assert_eq!(circle.gives_way, Some((waits, "k".to_owned())));
    assert!(circle.failure.message.contains(&format!("saga {parent} or a sub-saga of it")), "{}", circle.failure.message);
}

/// A parent waits for two sub-sagas; one of them waits for what the other holds, and that one for what the parent holds.
#[test]
fn who_is_come_to_before_his_turn_on_the_second_round_is_looked_at_again_when_it_is_his_turn() {
    let mut locks = Locks::default();
    let [parent, one, other] = [by(1, 1), by(2, 1), by(3, 1)];
    ask(&mut locks, "k", other);
    ask(&mut locks, "m", parent);
    let waits = [(Claimant { number: 2, ..one }, "k"), (Claimant { number: 2, ..other }, "m")];
    for (who, key) in waits {
        ask(&mut locks, key, who);
    }
    let (mut looks, mut circles, mut is_second) = (BTreeSet::new(), 0, false);
    let mut open = vec![(parent.instance, Probe::new(1, parent.instance))];
    while let Some((at, probe)) = open.pop() {
        if !looks.insert((probe.look(), at)) {
            continue;
        }
        if at == parent.instance {
            // The last one that is put here is taken first: on the first round the one that waits for the other, on the second the other.
            let sub_sagas = if is_second { [one, other] } else { [other, one] };
            open.extend(sub_sagas.map(|sub_saga| (sub_saga.instance, probe.clone())));
        }
        let of: Vec<Wait> = waits
            .iter()
            .filter(|(who, _)| who.instance == at)
            .map(|(who, key)| Wait { key: (*key).to_owned(), number: who.number, may_fail: true })
            .collect();
        for (_, probe) in probe.follow(at, 9, &of) {
            match probe.at_key(&locks) {
                Some(Next::LookAt(holder, probe)) => open.push((holder, probe)),
                Some(Next::Confirm(probe)) => {
                    is_second = true;
                    open.push((probe.from, probe));
                }
                Some(Next::Circle(_)) => circles += 1,
                Some(Next::Anew(_)) | None => {}
            }
        }
    }
    assert_eq!((is_second, circles), (true, 1), "it comes back twice");
}

#[test]
fn a_claim_that_is_not_in_the_queue_leads_nowhere() {
    let mut locks = Locks::default();
    ask(&mut locks, "k", by(1, 1));
    ask(&mut locks, "k", by(2, 1));
    let at_key = |by: Claimant| {
        let hop = Hop { by, key: "k".to_owned(), started_at_ms: 1, may_fail: true, token: None };
        Probe { path: vec![hop], ..Probe::new(1, Uuid::nil()) }.at_key(&locks)
    };
    let Some(Next::LookAt(holder, _)) = at_key(by(2, 1)) else { panic!("it waits for who holds it") };
    assert_eq!(holder, by(1, 1).instance);
    for gone in [by(2, 2), by(3, 1), by(1, 1)] {
        assert_eq!(at_key(gone), None, "{gone:?}");
    }
    assert_eq!(Probe::new(1, Uuid::nil()).at_key(&locks), None, "it has followed no wait");
}

#[test]
fn of_two_that_started_at_one_time_the_same_gives_way_whoever_looks_and_a_long_circle_is_named_in_part() {
    let mut locks = Locks::default();
    let count = 11_u64;
    let key = |number: u64| format!("k{number}");
    (1..=count).for_each(|number| _ = ask(&mut locks, &key(number), by(number, 1)));
    let next = |number: u64| number % count + 1;
    (1..=count).for_each(|number| _ = ask(&mut locks, &key(next(number)), by(number, 2)));
    let found = |from: u64| {
        let mut probe = Probe::new(1, by(from, 1).instance);
        loop {
            let at = (0..count).fold(from, |at, step| if step < probe.path.len() as u64 { next(at) } else { at });
            let wait = [Wait { key: key(next(at)), number: 2, may_fail: true }];
            let on = match &probe.follow(by(at, 1).instance, 7, &wait)[..] {
                [(_, on)] => on.clone(),
                other => panic!("it waits for one thing: {other:?}"),
            };
            match on.at_key(&locks) {
                Some(Next::LookAt(_, on)) => probe = on,
                Some(Next::Confirm(again)) => probe = again,
                Some(Next::Circle(circle)) => return circle,
                Some(Next::Anew(_)) | None => panic!("each waits, and nothing changes"),
            }
        }
    };
    for from in 1..=count {
        let circle = found(from);
        assert_eq!(circle.gives_way.map(|(who, _)| who), Some(by(count, 2)), "from {from}");
        assert!(circle.failure.message.contains("and 3 more"), "{}", circle.failure.message);
    }
}

#[test]
fn stored_rows_come_in_any_order_and_nobody_waits_for_what_is_free() {
    let holder = Holder { by: by(1, 1), token: 1, since_ms: 5 };
    let waiter = |instance: u64, ticket: u64| ("k".to_owned(), Waiter { by: by(instance, 1), ticket, since_ms: 6 });
    let stored = Locks::stored([("k".to_owned(), holder)], [waiter(4, 9), waiter(2, 3), waiter(3, 7)], 9).expect("it is held");
    let queue: Vec<u64> = stored.get("k").expect("it is held").queue.iter().map(|waiter| waiter.ticket).collect();
    assert_eq!((queue, stored.last()), (vec![3, 7, 9], 9));
    let damaged = Locks::stored([], [waiter(2, 3)], 3).expect_err("nobody holds it");
    assert!(damaged.contains("`k`"), "{damaged}");
}

#[test]
fn a_way_without_an_end_is_given_up() {
    let hop = |number: u64| Hop { by: by(number, 1), key: "k".to_owned(), started_at_ms: 1, may_fail: true, token: None };
    let most = u64::try_from(LOCK_PROBE_HOPS_MAX).expect("few");
    let wait = [Wait { key: "k".to_owned(), number: 1, may_fail: true }];
    let long = |hops: u64| Probe { path: (0..hops).map(hop).collect(), ..Probe::new(1, Uuid::nil()) };
    assert_eq!(long(most - 1).follow(Uuid::max(), 1, &wait).len(), 1);
    assert_eq!(long(most).follow(Uuid::max(), 1, &wait), []);
    assert_eq!(long(5).follow(by(3, 1).instance, 1, &wait), [], "it was here before");
}

/// What happens to the locks.
#[derive(Clone, Debug)]
enum Op {
    Ask(u8, u8),
    Leave(u8, u8),
    Break(u8),
    Restart,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..4_u8, 0..3_u8).prop_map(|(who, key)| Op::Ask(who, key)),
        4 => (0..4_u8, 0..3_u8).prop_map(|(who, key)| Op::Leave(who, key)),
        1 => (0..3_u8).prop_map(Op::Break),
        1 => Just(Op::Restart),
    ];
    proptest::collection::vec(op, 1..120)
}

/// What would be stored, as rows.
#[derive(Default)]
struct Rows {
    holders: BTreeMap<String, Holder>,
    waiters: BTreeMap<(String, u64), Waiter>,
    last: u64,
}

impl Rows {
    fn put(&mut self, decision: &LockDecision) {
        let key = &decision.key;
        for change in &decision.changes {
            match change {
                Change::Held(holder) => {
                    self.last = holder.token;
                    self.holders.insert(key.clone(), *holder);
                }
                Change::Free => _ = self.holders.remove(key),
                Change::Queued(waiter) => {
                    self.last = waiter.ticket;
                    self.waiters.insert((key.clone(), waiter.ticket), *waiter);
                }
                Change::Gone(ticket) => _ = self.waiters.remove(&(key.clone(), *ticket)),
            }
        }
    }

    fn fold(&self) -> Locks {
        let waiters = self.waiters.iter().map(|((key, _), waiter)| (key.clone(), *waiter));
        Locks::stored(self.holders.iter().map(|(key, holder)| (key.clone(), *holder)), waiters, self.last).expect("its own rows")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_holds_a_key_at_a_time_in_the_order_in_which_they_came(ops in ops()) {
        let (mut locks, mut rows) = (Locks::default(), Rows::default());
        // Of each key: those who want it, in their order; the first one holds it.
        let mut wanted: BTreeMap<String, Vec<Claimant>> = BTreeMap::new();
        let (mut tokens, mut number): (BTreeSet<u64>, u64) = (BTreeSet::new(), 0);
        for op in ops {
            let key = match &op { Op::Ask(_, key) | Op::Leave(_, key) | Op::Break(key) => key.to_string(), Op::Restart => String::new() };
            let line = wanted.entry(key.clone()).or_default();
            let before = line.first().copied();
            let place = |line: &[Claimant], who: u8| line.iter().position(|claim| claim.instance == by(u64::from(who), 0).instance);
            let decision = match op {
                Op::Ask(who, _) => {
                    // An instance has one claim to a key at a time.
                    let claim = place(line, who).map_or_else(|| { number += 1; by(u64::from(who), number) }, |at| line[at]);
                    if !line.contains(&claim) {
                        line.push(claim);
                    }
                    locks.ask(&key, claim, false, 1)
                }
                Op::Leave(who, _) => {
                    let claim = place(line, who).map_or(by(u64::from(who), 0), |at| line.remove(at));
                    locks.leave(&key, claim, 1)
                }
                Op::Break(_) => {
                    let Some(decision) = locks.take_away(&key, None, (None, None), 1) else {
                        prop_assert!(line.is_empty());
                        continue;
                    };
                    line.remove(0);
                    decision
                }
                Op::Restart => {
                    prop_assert_eq!(&rows.fold(), &locks);
                    locks = rows.fold();
                    continue;
                }
            };
            rows.put(&decision);
            locks.apply(&decision);
            let holds = locks.get(&key).map(|lock| lock.holder.by);
            prop_assert_eq!(holds, line.first().copied(), "the first who came");
            let queue: Vec<Claimant> = locks.get(&key).map(|lock| lock.queue.iter().map(|waiter| waiter.by).collect()).unwrap_or_default();
            prop_assert_eq!(&queue[..], line.get(1..).unwrap_or_default());
            for (to, said) in &decision.said {
                if let LockSaid::Granted { token } | LockSaid::Holds { token } = said {
                    prop_assert_eq!(Some(*to), holds, "nobody else is told that it has it");
                    prop_assert_eq!(before == holds, matches!(said, LockSaid::Holds { .. }), "what is new is said once");
                    prop_assert!(before == holds || tokens.last().is_none_or(|last| token > last), "each token is larger than all before");
                    tokens.insert(*token);
                }
            }
        }
    }
}
