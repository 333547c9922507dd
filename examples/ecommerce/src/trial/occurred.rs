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

/// What customers bring about who never confirm a payment.
const UNDONE_BY_TIMEOUT: &str = "sagas that were undone by their timeout";

/// What services refuse.
const REFUSALS: [&str; 5] = ["OUT_OF_STOCK", "ADDRESS_NOT_SERVED", "NOT_ENOUGH_MONEY", "CARD_REFUSED", "CARD_LOST"];

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
    let undone = outcome.ended.iter().filter(|ended| ended.saga().is_some_and(|saga| saga.state == SagaState::Compensated));
    let own = vec![
        repeated(books),
        occurrence("sagas that were undone", undone.count() as u64),
        occurrence("sagas that were undone because a step's attempts ran out in doubt", ended_by(outcome, &ATTEMPTS_RAN_OUT)),
        occurrence(UNDONE_BY_TIMEOUT, ended_by(outcome, &["SAGA_TIMEOUT"])),
        occurrence("sagas that were cancelled by the customer", ended_by(outcome, &["CANCELLED"])),
        occurrence("compensations of an action that never took effect", noticed(books, Oddity::EmptyCompensation)),
    ];
    [own, late_and_in_doubt(books)].concat()
}

/// The same day in four steps: nobody is waited for who has to confirm a payment.
pub(super) fn of_a_bad_day_in_four_steps(outcome: &Outcome, books: &Books) -> Vec<Occurrence> {
    let all = of_a_bad_day(outcome, books).into_iter().filter(|it| it.what != UNDONE_BY_TIMEOUT);
    let purposes = [Purpose::Deposit, Purpose::Refund].map(|purpose| moved(books, purpose));
    all.chain(purposes).collect()
}

/// The same day without an orchestrator.
pub(super) fn of_a_bad_day_without_sagas(outcome: &Outcome, books: &Books) -> Vec<Occurrence> {
    let own = vec![
        repeated(books),
        occurrence("orders that were completed", outcome.ended.iter().filter(|ended| ended.is_completed()).count() as u64),
        occurrence("orders that were given up because a service refused", ended_by(outcome, &REFUSALS)),
        occurrence("orders that were given up because their time was over", ended_by(outcome, &["TIMEOUT"])),
        occurrence("orders that were cancelled by the customer", ended_by(outcome, &["CANCELLED"])),
    ];
    [own, late_and_in_doubt(books)].concat()
}

/// What came late, and what nobody knew for a while: the same in all styles that undo.
fn late_and_in_doubt(books: &Books) -> Vec<Occurrence> {
    vec![
        occurrence("actions that came after their compensation", noticed(books, Oddity::LateAction)),
        occurrence("payments in doubt that a look-up cleared", noticed(books, Oddity::LookedUp)),
        occurrence("payments in doubt that stayed so for an attempt", noticed(books, Oddity::LeftInDoubt)),
    ]
}

/// Orders of which nothing came for one of these reasons.
fn ended_by(outcome: &Outcome, reasons: &[&str]) -> u64 {
    outcome.ended.iter().filter(|ended| ended.why().is_some_and(|why| reasons.contains(&why))).count() as u64
}

fn noticed(books: &Books, oddity: Oddity) -> u64 {
    books.calls.values().filter_map(|counts| counts.noticed.get(&oddity)).sum()
}

/// What transactions on an ordinary bad day have.
pub(super) fn of_transactions(ran: &Ran, books: &Books) -> Vec<Occurrence> {
    let ended =
        |holds: &dyn Fn(&SagaSummary) -> bool| ran.outcome.ended.iter().filter_map(Ended::saga).filter(|saga| holds(saga)).count() as u64;
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

/// What the loss of a node for good has.
pub(super) fn of_a_lost_node(ran: &Ran) -> Vec<Occurrence> {
    let lost = ran.kills.iter().filter(|kill| kill.takeover.is_some());
    let after = |ended: usize| ran.outcome.ended.len().saturating_sub(ended);
    vec![
        occurrence("nodes lost for good with their disks, and replaced by one with an empty disk", lost.clone().count() as u64),
        occurrence("orders that ended after that", lost.map(|kill| after(kill.ended)).sum::<usize>() as u64),
    ]
}

/// Calls that the services knew already.
pub(super) fn repeated(books: &Books) -> Occurrence {
    occurrence("calls that came again and changed nothing", books.calls.values().map(|counts| counts.repeated).sum())
}

/// Doubts at the provider, by what the money was for: requests that moved money and were not answered as they should.
pub(super) fn doubts_by_purpose(books: &Books) -> Vec<Occurrence> {
    Purpose::ALL.map(|purpose| moved(books, purpose)).into()
}

fn moved(books: &Books, purpose: Purpose) -> Occurrence {
    let times = doubts(books).iter().filter(|&(&(of, _), _)| of == purpose).map(|(_, struck)| struck.moved).sum();
    occurrence(format!("money moved and the answer astray: {purpose}"), times)
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
    use crate::domain::Money;
    use crate::orders::{Order, OrderState};
    use crate::provider::Planned;
    use crate::trial::cluster::{Successor, Takeover};
    use crate::trial::kills::Kill;
    use crate::trial::plan::Plan;
    use crate::trial::traffic::End;
    use std::time::Duration;

    fn some_orders(count: u64) -> Vec<Ended> {
        let end =
            Order { card: String::new(), lines: Vec::new(), total: Money(0), state: OrderState::Completed, reason: None, tracking: None };
        let ended = |order| Ended { order, end: End::Book(end.clone()), took: Duration::ZERO, stands: None };
        Plan::plain(7, count).orders.into_iter().map(ended).collect()
    }

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

    #[test]
    fn a_broker_that_was_only_restarted_has_lost_no_node() {
        let time = Duration::from_secs(1);
        let restarted =
            Kill { who: "broker", at: time, ended: 7, down: time, ready: time, next_order: time, in_doubt: None, takeover: None };
        let by = Successor { name: "b", silent: time };
        let lost = Kill { takeover: Some(Takeover { lost: "a", by, new: "c", joined: time }), ..restarted };
        let times = |kills: Vec<Kill>| {
            let ran = Ran { outcome: Outcome { ended: some_orders(10), ..Outcome::default() }, kills, took: time };
            of_a_lost_node(&ran).iter().map(|it| it.times).collect::<Vec<_>>()
        };
        assert_eq!(times(vec![restarted]), [0, 0]);
        assert_eq!(times(vec![restarted, lost]), [1, 3]);
    }
}
