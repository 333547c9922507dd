//! The leases that this process holds, as bookkeeping without a clock: every moment is given. It says when each lease is extended, when it
//! is over, and tells the handler whose lease is lost.

use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Leases of one length, by receipt.
#[derive(Debug)]
pub(super) struct LeaseBook {
    length: Duration,
    held: HashMap<String, Lease>,
}

#[derive(Debug)]
struct Lease {
    /// When it is to be extended.
    due: Instant,
    /// When it is over, by this machine's clock.
    ends: Instant,
    tokens: LeaseTokens,
    /// Whether its handler has begun.
    is_begun: bool,
}

/// What tells a handler of the end of its lease.
#[derive(Clone, Debug)]
pub(crate) struct LeaseTokens {
    /// It is lost: the record will be delivered again.
    pub(crate) lost: CancellationToken,
    /// It is over, lost or because the record was settled by somebody else.
    pub(crate) over: CancellationToken,
}

impl Default for LeaseTokens {
    fn default() -> Self {
        let lost = CancellationToken::new();
        Self { over: lost.child_token(), lost }
    }
}

impl LeaseBook {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, held: HashMap::new() }
    }

    /// Records were delivered. Whether the first of them may be due sooner than whatever was held before: no lease is due later than half of
    /// its length from now on, so only where nothing was.
    pub(super) fn take<'a>(&mut self, receipts: impl Iterator<Item = &'a str>, now: Instant) -> bool {
        let was_empty = self.held.is_empty();
        let (due, ends) = (now + self.length / 2, now + self.length);
        self.held
            .extend(receipts.map(|receipt| (receipt.to_owned(), Lease { due, ends, tokens: LeaseTokens::default(), is_begun: false })));
        was_empty
    }

    /// The record is settled or given up.
    pub(super) fn release(&mut self, receipt: &str) {
        self.held.remove(receipt);
    }

    /// A handler begins with the record, if it is still leased to this process, as far as it knows: what tells that it is not any more.
    pub(super) fn begin(&mut self, receipt: &str, now: Instant) -> Option<LeaseTokens> {
        let lease = self.held.get_mut(receipt).filter(|lease| lease.ends > now)?;
        lease.is_begun = true;
        Some(lease.tokens.clone())
    }

    /// Whether a handler has begun with the record.
    pub(super) fn is_begun(&self, receipt: &str) -> bool {
        self.held.get(receipt).is_some_and(|lease| lease.is_begun)
    }

    /// When the next lease is to be extended.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.held.values().map(|lease| lease.due).min()
    }

    /// Receipts to extend now; those just ahead come along, so that one request serves a whole delivery. Forgets what is over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<String> {
        self.held.retain(|receipt, lease| {
            let is_held = lease.ends > now;
            if !is_held {
                lease.tokens.lost.cancel();
                tracing::warn!(receipt, "a lease ran out while the record was held; it will be delivered again");
            }
            is_held
        });
        let horizon = now + self.length / 16;
        self.held.iter().filter(|(_, lease)| lease.due <= horizon).map(|(receipt, _)| receipt.clone()).collect()
    }

    /// The server was asked: whatever it did not extend is tried again soon. A record that was settled meanwhile is not held any more.
    pub(super) fn asked(&mut self, receipts: &[String], now: Instant) {
        let again = now + self.length / 8;
        for receipt in receipts {
            self.held.entry(receipt.clone()).and_modify(|lease| lease.due = again);
        }
    }

    /// The lease was extended: it begins anew no earlier than when that was asked for, wherever the clock of the server stands.
    pub(super) fn extended(&mut self, receipt: &str, asked: Instant) {
        if let Some(lease) = self.held.get_mut(receipt) {
            (lease.due, lease.ends) = (asked + self.length / 2, asked + self.length);
        }
    }

    /// The server says that the record is settled. Its handler, if it is not the one that has settled it, works for nobody.
    pub(super) fn settled(&mut self, receipt: &str) {
        if let Some(lease) = self.held.remove(receipt) {
            lease.tokens.over.cancel();
        }
    }

    /// The server says that the lease is over.
    pub(super) fn lose(&mut self, receipt: &str) {
        if let Some(lease) = self.held.remove(receipt) {
            lease.tokens.lost.cancel();
            tracing::warn!(receipt, "the lease is lost; the record will be delivered again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(16);

    /// A book with these leases, taken at the moment that is given with it.
    fn book<const N: usize>(receipts: [&str; N]) -> (LeaseBook, impl Fn(u64) -> Instant) {
        let (begin, mut book) = (Instant::now(), LeaseBook::new(LENGTH));
        book.take(receipts.into_iter(), begin);
        (book, move |seconds| begin + Duration::from_secs(seconds))
    }

    #[test]
    fn a_lease_is_extended_at_half_its_time_again_and_again_and_lasts_from_when_that_was_asked_for() {
        let (mut book, at) = book(["a"]);
        for round in 0..3 {
            let half = 8 * (round + 1);
            assert_eq!(book.next_due(), Some(at(half)));
            assert!(book.due(at(half - 2)).is_empty(), "not long before");
            assert_eq!(book.due(at(half - 1)), ["a"], "just ahead comes along");
            // The answer takes a second; the lease may have begun when the server was asked.
            book.asked(&["a".to_owned()], at(half + 1));
            book.extended("a", at(half));
        }
        assert!(book.begin("a", at(39)).is_some_and(|lease| !lease.over.is_cancelled()));
        assert!(book.begin("a", at(40)).is_none(), "over");
    }

    #[test]
    fn what_is_settled_is_not_extended_any_more_whatever_is_on_its_way() {
        let (mut book, at) = book(["a", "b"]);
        book.release("a");
        assert_eq!(book.due(at(8)), ["b"]);
        book.release("b");
        book.asked(&["b".to_owned()], at(9));
        book.extended("b", at(8));
        assert_eq!((book.next_due(), book.due(at(100))), (None, vec![]));
        assert!(book.begin("b", at(9)).is_none());
    }

    #[test]
    fn an_extension_without_an_answer_is_tried_again_while_the_lease_lasts() {
        let (mut book, at) = book(["a"]);
        for now in [8, 10, 12, 14] {
            assert_eq!((book.next_due(), book.due(at(now))), (Some(at(now)), vec!["a".to_owned()]));
            book.asked(&["a".to_owned()], at(now));
        }
        let lease = book.begin("a", at(15)).expect("held");
        assert!(book.due(at(16)).is_empty(), "it ran out");
        assert!(lease.lost.is_cancelled() && lease.over.is_cancelled(), "and its handler is told");
        assert_eq!(book.next_due(), None);
    }

    #[test]
    fn a_lease_that_the_server_calls_over_is_lost_at_once_and_no_other() {
        let (mut book, at) = book(["a", "b"]);
        let [a, b] = ["a", "b"].map(|receipt| book.begin(receipt, at(1)).expect("held").lost);
        book.lose("a");
        book.lose("a stranger");
        assert_eq!((a.is_cancelled(), b.is_cancelled()), (true, false));
        assert!(book.begin("a", at(1)).is_none());
        assert_eq!(book.due(at(8)), ["b"]);
    }

    #[test]
    fn whose_record_is_settled_is_told_and_has_lost_nothing() {
        let (mut book, at) = book(["a"]);
        assert!(!book.is_begun("a"));
        let lease = book.begin("a", at(1)).expect("held");
        assert!(book.is_begun("a"));
        book.settled("a");
        assert_eq!((lease.lost.is_cancelled(), lease.over.is_cancelled()), (false, true));
        assert_eq!(book.next_due(), None);
    }
}
