//! The audit audited: what is sound passes, and each thing that is planted is found.

use super::*;

fn place(offset: u64) -> Place {
    (PartitionId(0), Offset(offset))
}

/// `a` and `b` were acknowledged; of `c` nobody knows, and `d` was refused.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    ["a", "b", "c", "d"].into_iter().for_each(|value| ledger.sends(value));
    ledger.acknowledged("a", place(0));
    ledger.acknowledged("b", place(1));
    ledger.refused("d");
    ledger
}

fn topic(values: &[&str]) -> BTreeMap<Place, String> {
    (0..).map(place).zip(values.iter().map(|&value| value.to_owned())).collect()
}

#[test]
fn what_is_sound_passes() {
    for stored in [&["a", "b"][..], &["a", "b", "c"]] {
        assert_eq!(ledger().look("t", &topic(stored)), []);
    }
    assert_eq!(changed("t", &topic(&["a"]), &topic(&["a", "b"])), []);
}

#[test]
fn a_loss_and_a_double_and_what_must_not_be_there_are_found() {
    let look = |stored: &[&str]| ledger().look("t", &topic(stored));
    assert!(matches!(&look(&["a"])[..], [Wrong::Lost(what)] if what.contains("`b`")));
    assert!(matches!(&look(&["a", "b", "a"])[..], [Wrong::Doubled(what)] if what.contains("`a`")));
    assert!(matches!(&look(&["a", "c", "b"])[..], [Wrong::Other(what)] if what.contains("`b` was acknowledged at")));
    assert!(matches!(&look(&["a", "b", "d"])[..], [Wrong::Other(what)] if what.contains("it is not stored")));
    assert!(matches!(&look(&["a", "b", "x"])[..], [Wrong::Other(what)] if what.contains("nobody sent `x`")));
    assert!(matches!(&changed("t", &topic(&["a", "b"]), &topic(&["a"]))[..], [Wrong::Lost(_)]));
    assert!(matches!(&changed("t", &topic(&["a", "b"]), &topic(&["a", "c"]))[..], [Wrong::Lost(_)]));
}

#[test]
fn what_a_group_never_had_and_an_effect_that_is_missing_or_doubled_are_found() {
    let handled = |values: &[&str]| values.iter().map(|&value| (value.to_owned(), 1)).collect();
    let look = |had: &[&str], effects: &[&str]| look_at_group(ledger().values(), &handled(had), &topic(effects));
    assert_eq!(look(&["a", "b"], &["b", "a"]), []);
    assert!(matches!(&look(&["a"], &["b", "a"])[..], [Wrong::Lost(what)] if what.contains("never handed on")));
    assert!(matches!(&look(&["a", "b"], &["a"])[..], [Wrong::Lost(what)] if what.contains("effect of `b`")));
    assert!(matches!(&look(&["a", "b"], &["a", "b", "a"])[..], [Wrong::Doubled(what)] if what.contains("effect of `a`")));
}

#[test]
fn an_answer_that_does_not_know_what_was_acknowledged_before_is_stale() {
    let reading = |end: u64, found: Option<u64>| Reading { end, found: found.map(|at| (at, at.to_string())) };
    assert!(!is_stale(0, &reading(0, None)));
    assert!(!is_stale(5, &reading(5, Some(4))));
    assert!(!is_stale(5, &reading(9, Some(4))), "more may have come meanwhile");
    assert!(is_stale(5, &reading(4, None)));
    assert!(is_stale(5, &reading(5, None)));
    assert!(is_stale(5, &reading(5, Some(3))));
    assert!(is_stale(5, &Reading { end: 5, found: Some((4, "7".to_owned())) }));
}

/// One who has a ticket, and one who has none.
fn purchases() -> Vec<Purchase> {
    let has = Purchase { buyer: "1".to_owned(), is_completed: true, told: Some(0), holds: Some(0), paid: 1, refunded: 0 };
    let has_not = Purchase { buyer: "2".to_owned(), is_completed: false, told: None, holds: None, paid: 1, refunded: 1 };
    vec![has, has_not]
}

#[test]
fn a_ticket_that_is_sold_twice_and_money_that_is_lost_are_found() {
    assert_eq!(look_at_tickets(&purchases(), 1, true), []);
    let look = |change: fn(&mut Vec<Purchase>)| {
        let mut purchases = purchases();
        change(&mut purchases);
        look_at_tickets(&purchases, 1, true)
    };
    let twice = look(|all| all[1] = Purchase { buyer: "2".to_owned(), ..all[0].clone() });
    assert!(matches!(&twice[..], [Wrong::Doubled(what), ..] if what.contains("sold to 1 and to 2")), "{twice:?}");
    assert!(matches!(&look(|all| all[0].holds = None)[..], [Wrong::Lost(_)]));
    assert!(matches!(&look(|all| all[0].paid = 0)[..], [Wrong::Other(_)]));
    assert!(matches!(&look(|all| all[1].refunded = 0)[..], [Wrong::Other(_)]));
    assert!(matches!(&look(|all| (all[1].paid, all[1].refunded) = (2, 2))[..], [Wrong::Doubled(_)]));
    assert!(matches!(&look(|all| drop(all.remove(0)))[..], [Wrong::Other(what)] if what.contains("0 of 1")));
    assert_eq!(look_at_tickets(&[], 1, false), []);
}
