//! A repair against random happenings: the fold of its events is its state, every saga that is begun gets one result, and none is begun
//! faster than the rate allows or after it was paused or cancelled.

use super::{PageWanted, Repair, RepairDecision, RepairRefused, RepairRequest, RepairVerb};
use crate::protocol::decision::By;
use proptest::prelude::*;
use sagamq_api::repair::{RepairFilter, RepairOutcome, RepairState, Repaired, StartRepair};
use sagamq_api::saga::{OperateSaga, SagaState, SagaVerb};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

const START_MS: u64 = 1_800_000_000_000;

fn start_repair() -> StartRepair {
    StartRepair {
        key: None,
        filter: Some(RepairFilter { state: Some(SagaState::Blocked), ..RepairFilter::default() }),
        ids: None,
        operate: SagaVerb::Retry { item: None, step: None }.ask(),
        rate: None,
        max_sagas: None,
        patience_ms: None,
    }
}

fn request(rate: u32, max_sagas: u64) -> RepairRequest {
    let request = StartRepair { rate: Some(rate), max_sagas: Some(max_sagas), ..start_repair() };
    RepairRequest::try_from(request).expect("it is one")
}

fn repaired(outcome: RepairOutcome) -> Repaired {
    Repaired { outcome, state: None, rerun_as: None, code: None, message: None }
}

fn page(from: u128, count: u128) -> Vec<Uuid> {
    (from..from + count).map(Uuid::from_u128).collect()
}

#[test]
fn it_finds_begins_hears_and_ends() {
    let started = RepairDecision::start(Uuid::nil(), request(1_000, 3), START_MS);
    assert_eq!(started.repair.page_wanted(), Some(PageWanted { after: None, limit: 3 }));
    let elsewhere = started.repair.found(Some("elsewhere"), page(0, 2), None, START_MS);
    assert!(elsewhere.events.is_empty(), "that is not what it looks for");
    let found = started.repair.found(None, page(0, 2), Some("a".to_owned()), START_MS);
    assert_eq!(found.begun.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(found.repair.page_wanted(), Some(PageWanted { after: Some("a".to_owned()), limit: 1 }));
    let found = found.repair.found(Some("a"), page(2, 1), Some("b".to_owned()), START_MS + 1_000);
    assert_eq!(found.repair.page_wanted(), None, "they are as many as it may be");
    let mut repair = found.repair;
    for (number, outcome) in [(1, RepairOutcome::Done), (0, RepairOutcome::Blocked), (2, RepairOutcome::Done)] {
        assert_eq!(repair.state(), RepairState::Running);
        repair = repair.repaired(number, repaired(outcome), START_MS + 2_000).repair;
        assert!(repair.repaired(number, repaired(outcome), START_MS).events.is_empty(), "it has its result");
    }
    let shown = repair.description();
    assert_eq!((shown.state, shown.found, shown.in_progress), (RepairState::Done, 3, 0));
    assert_eq!((shown.results.done, shown.results.blocked, shown.results.sum()), (2, 1, 3));
    for verb in [RepairVerb::Pause, RepairVerb::Resume, RepairVerb::Cancel] {
        assert_eq!(repair.operate(verb, By::default(), START_MS).err(), Some(RepairRefused(RepairState::Done)));
    }
}

#[test]
fn what_is_paused_begins_nothing_and_what_is_cancelled_ends_when_the_last_has_its_result() {
    let repair = RepairDecision::start(Uuid::nil(), request(10, 100), START_MS).repair;
    let repair = repair.found(None, page(0, 50), None, START_MS).repair;
    let begun = repair.description().in_progress;
    assert!((1..=2).contains(&begun), "ten in a second: {begun} at once");
    let paused = repair.operate(RepairVerb::Pause, By::default(), START_MS + 10_000).expect("it runs").repair;
    assert_eq!((paused.due_ms(), paused.time_passed(START_MS + 20_000).events.len()), (None, 0));
    assert!(paused.operate(RepairVerb::Pause, By::default(), START_MS).expect("it is so").events.is_empty());
    let resumed = paused.operate(RepairVerb::Resume, By::default(), START_MS + 20_000).expect("it is paused");
    assert!((1..=2).contains(&resumed.begun.len()), "what it could have begun meanwhile is not made up for: {}", resumed.begun.len());
    let mut repair = resumed.repair.operate(RepairVerb::Cancel, By::default(), START_MS + 20_000).expect("it runs").repair;
    assert_eq!(repair.state(), RepairState::Cancelling);
    assert_eq!(repair.operate(RepairVerb::Resume, By::default(), START_MS).err(), Some(RepairRefused(RepairState::Cancelling)));
    let numbers: Vec<u64> = repair.in_progress.keys().copied().collect();
    for number in numbers {
        repair = repair.repaired(number, repaired(RepairOutcome::Done), START_MS + 20_000).repair;
    }
    assert_eq!((repair.state(), repair.description().waiting), (RepairState::Cancelled, 0));
    assert!(repair.operate(RepairVerb::Cancel, By::default(), START_MS).expect("it is so").events.is_empty());
}

#[test]
fn a_request_that_is_no_repair_is_refused_with_its_reason() {
    let told = |change: &dyn Fn(&mut StartRepair)| {
        let mut request = start_repair();
        change(&mut request);
        RepairRequest::try_from(request).expect_err("it is none").to_string()
    };
    assert!(told(&|request| request.filter = None).contains("either a `filter` or `ids`"));
    assert!(told(&|request| request.ids = Some(vec![Uuid::nil()])).contains("either a `filter` or `ids`"));
    assert!(told(&|request| request.filter = Some(RepairFilter::default())).contains("`filter` is empty"));
    assert!(told(&|request| (request.filter, request.ids) = (None, Some(Vec::new()))).contains("`ids` has 0"));
    assert!(told(&|request| (request.filter, request.ids) = (None, Some(page(0, 1_001)))).contains("`ids` has 1001"));
    assert!(told(&|request| request.rate = Some(0)).contains("`rate` is 0"));
    assert!(told(&|request| request.max_sagas = Some(0)).contains("`max_sagas` is 0"));
    assert!(told(&|request| request.patience_ms = Some(u64::MAX)).contains("`patience_ms`"));
    assert!(told(&|request| request.key = Some(String::new())).contains("`key` has 0"));
    let version = RepairFilter { version: Some(1), ..RepairFilter::default() };
    assert!(told(&|request| request.filter = Some(version.clone())).contains("needs `filter.saga`"));
    let large = OperateSaga { reason: Some("x".repeat(65 * 1024)), ..start_repair().operate };
    assert!(told(&|request| request.operate = large.clone()).contains("every saga is sent them"));
    let twice = StartRepair { filter: None, ids: Some([page(0, 2), page(1, 2)].concat()), ..start_repair() };
    assert_eq!(RepairRequest::try_from(twice).expect("it is one").ids, page(0, 3), "each saga once");
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Page { count: u8, is_last: bool },
    Time { ms: u16 },
    Result { place: u8, outcome: RepairOutcome },
    Verb(RepairVerb),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (0..40_u8, prop::bool::weighted(0.2)).prop_map(|(count, is_last)| Happening::Page { count, is_last }),
        4 => (0..2_000_u16).prop_map(|ms| Happening::Time { ms }),
        8 => (any::<u8>(), prop::sample::select(RepairOutcome::ALL.to_vec())).prop_map(|(place, outcome)| Happening::Result { place, outcome }),
        1 => prop::sample::select(vec![RepairVerb::Pause, RepairVerb::Resume, RepairVerb::Cancel]).prop_map(Happening::Verb),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_saga_that_is_begun_gets_one_result_and_the_fold_is_the_state(
        rate in 1..200_u32, max in 1..200_u64, happenings in proptest::collection::vec(happening(), 1..120)
    ) {
        let (mut now_ms, mut found) = (START_MS, 0_u128);
        let started = RepairDecision::start(Uuid::nil(), request(rate, max), now_ms);
        let mut history = started.events.clone();
        let mut repair = started.repair;
        let (mut begun, mut answered) = (BTreeMap::<u64, Uuid>::new(), BTreeSet::<u64>::new());
        let mut begun_at: VecDeque<u64> = VecDeque::new();
        for happening in happenings {
            let before = repair.state();
            let decision = match happening {
                Happening::Page { count, is_last } => {
                    let Some(PageWanted { after, limit }) = repair.page_wanted() else { continue };
                    let count = u128::from(u64::from(count).min(limit));
                    found += count;
                    repair.found(after.as_deref(), page(found - count, count), (!is_last).then(|| found.to_string()), now_ms)
                }
                Happening::Time { ms } => {
                    now_ms += u64::from(ms);
                    repair.time_passed(now_ms)
                }
                Happening::Result { place, outcome } => {
                    let open: Vec<u64> = begun.keys().copied().filter(|number| !answered.contains(number)).collect();
                    let Some(&number) = open.get(usize::from(place) % open.len().max(1)) else { continue };
                    prop_assert!(answered.insert(number));
                    repair.repaired(number, repaired(outcome), now_ms)
                }
                Happening::Verb(verb) => match repair.operate(verb, By::default(), now_ms) {
                    Ok(decision) => decision,
                    Err(_) => continue,
                },
            };
            let may_begin = before == RepairState::Running || matches!(happening, Happening::Verb(RepairVerb::Resume));
            prop_assert!(may_begin || decision.begun.is_empty());
            for (number, saga) in decision.begun {
                prop_assert_eq!(begun.insert(number, saga), None, "each saga is begun once");
                begun_at.push_back(now_ms);
            }
            begun_at.retain(|&at_ms| at_ms + 1_000 > now_ms);
            let burst = u64::from(rate) / 10 + 2;
            prop_assert!(begun_at.len() as u64 <= u64::from(rate) + burst, "{} in a second", begun_at.len());
            history.extend(decision.events);
            repair = decision.repair;
            let shown = repair.description();
            prop_assert_eq!(shown.results.sum(), answered.len() as u64);
            prop_assert_eq!(shown.in_progress, (begun.len() - answered.len()) as u64);
            prop_assert!(repair.state() == RepairState::Cancelled || shown.waiting + begun.len() as u64 == shown.found);
            prop_assert!(shown.found <= max);
        }
        let mut folded = Repair::start(Uuid::nil(), &history[0]).expect("it begins with its start");
        for event in &history[1..] {
            folded.apply(event).expect("what happened can follow");
        }
        prop_assert_eq!(folded, repair);
    }
}
