//! What must have occurred: a trial whose faults did not happen has shown nothing.

use super::books::Books;
use super::run::Ran;
use super::traffic::{Ended, Outcome};
use crate::provider::{Fault, Purpose};
use crate::service::BranchCounts;
use crate::store::Oddity;
use sagamq_api::saga::{SagaState, SagaSummary};
use std::collections::BTreeMap;

/// The failure codes of steps whose attempts ran out without an answer.
const ATTEMPTS_RAN_OUT: [&str; 4] = ["PROVIDER_DOUBT", "TIMEOUT", "NO_ANSWER", "LOST"];

/// What services refuse in a transaction.
const REFUSALS: [&str; 4] = ["OUT_OF_STOCK", "ADDRESS_NOT_SERVED", "NOT_ENOUGH_MONEY", "CARD_LOST"];

/// Something that must have occurred, and how often it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occurrence {
    /// What.
    pub(super) what: String,
    /// How often.
    pub(super) times: u64,
}

fn occurrence(what: impl Into<String>, times: u64) -> Occurrence {
    Occurrence { what: what.into(), times }
}

/// What an ordinary bad day has.
pub(super) fn of_a_bad_day(outcome: &Outcome, books: &Books) -> Vec<Occurrence> {
    let sagas = |holds: &dyn Fn(&Ended) -> bool| outcome.ended.iter().filter(|ended| holds(ended)).count() as u64;
    let undone_by =
        |codes: &[&str]| sagas(&|ended| ended.saga.summary.failure.as_ref().is_some_and(|failure| codes.contains(&failure.code.as_str())));
    let noticed = |oddity| books.calls.values().filter_map(|counts| counts.noticed.get(&oddity)).sum();
    vec![
        repeated(books),
        occurrence("sagas that were undone", sagas(&|ended| ended.saga.summary.state == SagaState::Compensated)),
        occurrence("sagas that were undone because a step's attempts ran out in doubt", undone_by(&ATTEMPTS_RAN_OUT)),
        occurrence("sagas that were undone by their timeout", undone_by(&["SAGA_TIMEOUT"])),
        occurrence("sagas that were cancelled by the customer", undone_by(&["CANCELLED"])),
        occurrence("compensations of an action that never took effect", noticed(Oddity::EmptyCompensation)),
        occurrence("actions that came after their compensation", noticed(Oddity::LateAction)),
        occurrence("payments in doubt that a look-up cleared", noticed(Oddity::LookedUp)),
        occurrence("payments in doubt that stayed so for an attempt", noticed(Oddity::LeftInDoubt)),
    ]
}

/// What transactions on an ordinary bad day have.
pub(super) fn of_transactions(ran: &Ran, books: &Books) -> Vec<Occurrence> {
    let ended = |holds: &dyn Fn(&SagaSummary) -> bool| ran.outcome.ended.iter().filter(|ended| holds(&ended.saga.summary)).count() as u64;
    let is_refused = |it: &SagaSummary| it.failure.as_ref().is_some_and(|failure| REFUSALS.contains(&failure.code.as_str()));
    let counted = |count: fn(&BranchCounts) -> u64| books.calls.values().map(|counts| count(&counts.branches)).sum();
    vec![
        occurrence("transactions that committed", ended(&|it| it.state == SagaState::Completed)),
        occurrence("transactions that were rolled back because a service refused", ended(&is_refused)),
        occurrence("transactions that were rolled back for another reason", ended(&|it| it.state == SagaState::Failed && !is_refused(it))),
        occurrence("answers that were lost", counted(|counts| counts.lost)),
        occurrence("branches in doubt while the broker was dead", ran.kills.iter().filter_map(|kill| kill.in_doubt).sum::<usize>() as u64),
        occurrence("branches in doubt that ended by asking", counted(|counts| counts.resolved)),
    ]
}

/// Calls that the services knew already.
pub(super) fn repeated(books: &Books) -> Occurrence {
    occurrence("calls that came again and changed nothing", books.calls.values().map(|counts| counts.repeated).sum())
}

/// Doubts at the provider, by what the money was for: requests that moved money and were not answered as they should.
pub(super) fn doubts_by_purpose(books: &Books) -> Vec<Occurrence> {
    let doubts = doubts(books);
    let of = |purpose| doubts.iter().filter(|&(&(of, _), _)| of == purpose).map(|(_, struck)| struck.moved).sum();
    Purpose::ALL.map(|purpose| occurrence(format!("money moved and the answer astray: {purpose}"), of(purpose))).into()
}

/// Every kind of doubt, by purpose and fault. `Down` moves nothing; of it, the requests that it struck are counted.
pub(super) fn doubts_by_kind(books: &Books) -> Vec<Occurrence> {
    let doubts = doubts(books);
    let mut kinds = Vec::new();
    for purpose in Purpose::ALL {
        for fault in Fault::ALL {
            let struck = doubts.get(&(purpose, fault)).copied().unwrap_or_default();
            let times = if fault == Fault::Down { struck.requests } else { struck.moved };
            kinds.push(occurrence(format!("{} ({purpose}), {fault}", kind_of_step(purpose)), times));
        }
    }
    kinds
}

/// What kind of step money is moved in for this purpose.
const fn kind_of_step(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Deposit | Purpose::Hold => "compensatable",
        Purpose::Capture => "pivot",
        Purpose::Postage => "behind the pivot",
        Purpose::Refund | Purpose::Release => "compensation",
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Struck {
    /// Orders of which a request was struck.
    requests: u64,
    /// Those of which the request moved money.
    moved: u64,
}

fn doubts(books: &Books) -> BTreeMap<(Purpose, Fault), Struck> {
    let mut doubts: BTreeMap<(Purpose, Fault), Struck> = BTreeMap::new();
    for (id, planned) in books.provider.faults.iter().filter(|(_, planned)| planned.struck > 0) {
        let purpose = Purpose::ALL.into_iter().find(|purpose| id.rsplit('/').next() == Some(&purpose.to_string()));
        if let Some(purpose) = purpose {
            let struck = doubts.entry((purpose, planned.fault)).or_default();
            struck.requests += 1;
            struck.moved += u64::from(planned.moved);
        }
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Planned;

    #[test]
    fn what_did_not_occur_is_counted_as_zero() {
        let nothing = of_a_bad_day(&Outcome::default(), &Books::default());
        assert!(nothing.iter().all(|it| it.times == 0), "{nothing:?}");
        let mut books = Books::default();
        books.provider.faults.insert("o-1/capture".into(), Planned { struck: 1, moved: true, ..Planned::new(Fault::Late) });
        books.provider.faults.insert("o-2/capture".into(), Planned::new(Fault::Late));
        books.provider.faults.insert("o-3/refund".into(), Planned { struck: 1, ..Planned::new(Fault::Down) });
        let occurred: Vec<_> = doubts_by_kind(&books).into_iter().filter(|it| it.times > 0).collect();
        let expected = [occurrence("pivot (capture), done late", 1), occurrence("compensation (refund), down", 1)];
        assert_eq!(occurred, expected);
        assert_eq!(doubts_by_purpose(&books).iter().map(|it| it.times).sum::<u64>(), 1);
    }
}
