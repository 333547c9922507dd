//! The locks of a lane, against a model that is nothing but its rules.

mod circles;

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
