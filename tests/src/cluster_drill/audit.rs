//! What must hold of everything that clients were told: pure, so that losses, doubles and stale answers can be planted in its tests.

use super::wrong::Wrong;
use sagamq_api::{Offset, PartitionId};
use std::collections::{BTreeMap, BTreeSet};

/// Where a record lies.
pub(super) type Place = (PartitionId, Offset);

/// What became of the values that clients sent to a topic.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// All that was ever sent.
    sent: BTreeSet<String>,
    acknowledged: BTreeMap<String, Place>,
    /// Refused, with the word that nothing was stored, and never sent again.
    void: BTreeSet<String>,
}

impl Ledger {
    /// It is about to be sent.
    pub(super) fn sends(&mut self, value: &str) {
        self.sent.insert(value.to_owned());
    }

    pub(super) fn acknowledged(&mut self, value: &str, place: Place) {
        self.acknowledged.insert(value.to_owned(), place);
    }

    pub(super) fn refused(&mut self, value: &str) {
        self.void.insert(value.to_owned());
    }

    /// The same answers, with all that was sent and refused by a later moment.
    pub(super) fn with_sent_of(self, later: &Self) -> Self {
        Self { acknowledged: self.acknowledged, sent: later.sent.clone(), void: later.void.clone() }
    }

    /// How many values were acknowledged.
    pub(super) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// The values that were acknowledged.
    pub(super) fn values(&self) -> impl Iterator<Item = &String> {
        self.acknowledged.keys()
    }

    /// Compares it with what the topic has.
    pub(super) fn look(&self, topic: &str, stored: &BTreeMap<Place, String>) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        let mut places: BTreeMap<&String, Vec<Place>> = BTreeMap::new();
        for (place, value) in stored {
            places.entry(value).or_default().push(*place);
        }
        for (value, places) in &places {
            if places.len() > 1 {
                wrong.push(Wrong::Doubled(format!("{topic}: `{value}` lies at {places:?}")));
            }
            if !self.sent.contains(*value) {
                wrong.push(Wrong::Other(format!("{topic}: nobody sent `{value}`, which lies at {places:?}")));
            }
            if self.void.contains(*value) {
                wrong.push(Wrong::Other(format!("{topic}: of `{value}` it was said that it is not stored, and it lies at {places:?}")));
            }
        }
        for (value, place) in &self.acknowledged {
            match places.get(value) {
                None => wrong.push(Wrong::Lost(format!("{topic}: `{value}` was acknowledged at {place:?}, and is nowhere"))),
                Some(found) if !found.contains(place) => {
                    wrong.push(Wrong::Other(format!("{topic}: `{value}` was acknowledged at {place:?}, and lies at {found:?}")));
                }
                Some(_) => {}
            }
        }
        wrong
    }
}

/// What lay somewhere once lies there for ever: compares an earlier look at a topic with a later one.
pub(super) fn changed(topic: &str, before: &BTreeMap<Place, String>, now: &BTreeMap<Place, String>) -> Vec<Wrong> {
    let changes = before.iter().filter_map(|(place, value)| match now.get(place) {
        Some(found) if found == value => None,
        found => Some(Wrong::Lost(format!("{topic}: `{value}` was read at {place:?}, where now is {found:?}"))),
    });
    changes.collect()
}

/// Each value that was acknowledged was handed on once at least, and had its effect once.
pub(super) fn look_at_group<'v>(
    acknowledged: impl Iterator<Item = &'v String>,
    handled: &BTreeMap<String, u32>,
    effects: &BTreeMap<Place, String>,
) -> Vec<Wrong> {
    let mut times: BTreeMap<&String, u32> = BTreeMap::new();
    for value in effects.values() {
        *times.entry(value).or_default() += 1;
    }
    let twice = times.iter().filter(|(_, times)| **times > 1);
    let mut wrong: Vec<_> = twice.map(|(value, times)| Wrong::Doubled(format!("the effect of `{value}` is there {times} times"))).collect();
    for value in acknowledged {
        if !handled.contains_key(value) {
            wrong.push(Wrong::Lost(format!("`{value}` was never handed on by its group")));
        }
        if !times.contains_key(value) {
            wrong.push(Wrong::Lost(format!("the effect of `{value}` is not there")));
        }
    }
    wrong
}

/// What a node answered who was asked for the last number of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// The first offset behind the end.
    pub(super) end: u64,
    /// The record that was asked for.
    pub(super) found: Option<(u64, String)>,
}

/// A counter has the number n at offset n. `floor` numbers were acknowledged before the request was sent, so an answer must know of them.
pub(super) fn is_stale(floor: u64, reading: &Reading) -> bool {
    let Some(last) = floor.checked_sub(1) else { return false };
    reading.end < floor || reading.found.as_ref() != Some(&(last, last.to_string()))
}

/// What came of one who wanted a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purchase {
    pub(super) buyer: String,
    /// Whether its saga is completed; else it is undone.
    pub(super) is_completed: bool,
    /// The ticket that the saga says it has.
    pub(super) told: Option<u32>,
    /// The ticket that the office says it has.
    pub(super) holds: Option<u32>,
    /// How often it paid, and how often it has that back.
    pub(super) paid: u32,
    pub(super) refunded: u32,
}

/// None is sold twice, who has one has paid once, and who has none has nothing paid that he has not back. `for_sale` are sold if `is_sold_out`.
pub(super) fn look_at_tickets(purchases: &[Purchase], for_sale: u32, is_sold_out: bool) -> Vec<Wrong> {
    let (mut wrong, mut sold) = (Vec::new(), BTreeMap::new());
    for purchase in purchases {
        let Purchase { buyer, is_completed, told, holds, paid, refunded } = purchase;
        if told != holds {
            let what = format!("{buyer}: the saga says ticket {told:?}, the office {holds:?}");
            wrong.push(if *is_completed { Wrong::Lost(what) } else { Wrong::Other(what) });
        }
        for ticket in [told, holds].into_iter().flatten() {
            match sold.insert(*ticket, buyer) {
                Some(other) if other != buyer => wrong.push(Wrong::Doubled(format!("ticket {ticket} is sold to {other} and to {buyer}"))),
                _ => {}
            }
            if *ticket >= for_sale {
                wrong.push(Wrong::Other(format!("{buyer} has ticket {ticket}, and there are {for_sale}")));
            }
        }
        if *paid > 1 || *refunded > 1 {
            wrong.push(Wrong::Doubled(format!("{buyer} paid {paid} times, and has {refunded} back")));
        }
        let expected = u32::from(*is_completed);
        if paid.checked_sub(*refunded) != Some(expected) {
            wrong.push(Wrong::Other(format!("{buyer} paid {paid} times and has {refunded} back; completed: {is_completed}")));
        }
    }
    let count = u32::try_from(sold.len()).unwrap_or(u32::MAX);
    if is_sold_out && count != for_sale {
        wrong.push(Wrong::Other(format!("{count} of {for_sale} tickets are sold, to twice as many who wanted one")));
    }
    wrong
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
