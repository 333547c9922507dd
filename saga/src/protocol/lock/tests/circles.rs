//! Circles of those who wait for each other: how they are found, and who gives way.

use super::*;

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
fn a_way_without_an_end_is_given_up() {
    let hop = |number: u64| Hop { by: by(number, 1), key: "k".to_owned(), started_at_ms: 1, may_fail: true, token: None };
    let most = u64::try_from(LOCK_PROBE_HOPS_MAX).expect("few");
    let wait = [Wait { key: "k".to_owned(), number: 1, may_fail: true }];
    let long = |hops: u64| Probe { path: (0..hops).map(hop).collect(), ..Probe::new(1, Uuid::nil()) };
    assert_eq!(long(most - 1).follow(Uuid::max(), 1, &wait).len(), 1);
    assert_eq!(long(most).follow(Uuid::max(), 1, &wait), []);
    assert_eq!(long(5).follow(by(3, 1).instance, 1, &wait), [], "it was here before");
}
