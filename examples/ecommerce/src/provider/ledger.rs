//! The provider's ledger: cards, charges, and every request with its answer.

use super::faults::Planned;
use crate::domain::Money;
use crate::store::{Database, Row, Rows, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A card as its bank knows it. `held + taken - given_back <= limit`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// What its bank lets it spend.
    pub limit: Money,
    /// Whether its owner misses it: money can still be held on it, but the bank does not pay that out.
    pub reported_lost: bool,
    /// Whether its owner never confirms a hold on the phone: the bank waits for ever.
    pub unconfirmed: bool,
    /// Set aside, not taken.
    pub held: Money,
    /// Taken, ever.
    pub taken: Money,
    /// Of that, given back.
    pub given_back: Money,
}

impl Row for Card {
    const TABLE: &'static str = "card";
}

/// What `PUT /cards` says about a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCard {
    /// What its bank lets it spend.
    pub limit: Money,
    /// Whether its owner misses it.
    #[serde(default)]
    pub reported_lost: bool,
    /// Whether its owner never confirms a hold.
    #[serde(default)]
    pub unconfirmed: bool,
}

/// Money of one card for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Its id: the key of the request that made it.
    pub id: String,
    /// The merchant's order.
    pub order_id: String,
    /// What the merchant charged it for.
    pub purpose: Purpose,
    /// The card.
    pub card: String,
    /// Set aside, not taken.
    pub held: Money,
    /// Taken.
    pub taken: Money,
    /// Of that, given back.
    pub given_back: Money,
}

impl Row for Charge {
    const TABLE: &'static str = "charge";
}

/// What the merchant says a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A first part of the price, taken at once; can be refunded.
    Deposit,
    /// The rest, held; can be released.
    Hold,
    /// The rest, taken: the saga's point of no return.
    Capture,
    /// The postage, taken behind the point of no return.
    Postage,
    /// A deposit, given back.
    Refund,
    /// A hold, let go.
    Release,
}

impl Purpose {
    /// Every purpose, in the order of an order's life.
    pub const ALL: [Self; 6] = [Self::Deposit, Self::Hold, Self::Capture, Self::Postage, Self::Refund, Self::Release];
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Deposit => "deposit",
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Postage => "postage",
            Self::Refund => "refund",
            Self::Release => "release",
        })
    }
}

/// What is asked of the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The merchant's order.
    pub order_id: String,
    /// What it is for.
    pub purpose: Purpose,
    /// What to do.
    #[serde(flatten)]
    pub operation: Operation,
}

/// What can be done with money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum Operation {
    /// Take money from a card.
    Charge {
        /// The card.
        card: String,
        /// How much.
        amount: Money,
    },
    /// Set money aside, to be captured in parts.
    Hold {
        /// The card.
        card: String,
        /// How much.
        amount: Money,
    },
    /// Take some of the money that is held.
    Capture {
        /// The charge that holds it.
        charge: String,
        /// How much.
        amount: Money,
    },
    /// Give money back that was taken.
    Refund {
        /// The charge that took it.
        charge: String,
        /// How much.
        amount: Money,
    },
    /// Let go what is still held.
    Release {
        /// The charge that holds it.
        charge: String,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Answer {
    /// Done; the charge afterwards.
    Done(Charge),
    /// Not done, and never will be under this key.
    Declined {
        /// Why, for programs.
        code: String,
        /// Why, for people.
        message: String,
    },
    /// Waits for the owner of the card. Nothing is done yet; ask again under the same key.
    Unconfirmed,
    /// The key was closed before the request came: nothing was done, and nothing will be.
    Closed,
    /// The key was used for something else.
    KeyReused,
}

/// A key that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    /// For what; nothing if it was closed before it was used.
    request: Option<Request>,
    answer: Answer,
    /// How often the same request came again.
    repeated: u32,
}

impl Row for Used {
    const TABLE: &'static str = "request";
}

/// Every row of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderBooks {
    /// Cards by number.
    pub cards: BTreeMap<String, Card>,
    /// Charges by id.
    pub charges: BTreeMap<String, Charge>,
    /// What was to go wrong, by `{order}/{purpose}`, and how often it did.
    pub faults: BTreeMap<String, Planned>,
    /// Requests that came again although nothing was planned to go wrong with them: somebody was killed before the answer was kept.
    pub forgotten: u64,
    /// Keys that were closed before they were used.
    pub closed_unused: u64,
}

/// Does what is asked, unless it was done before under this key; then the first answer is given again.
pub(super) fn ask(rows: &Rows<'_>, key: &str, request: &Request) -> Result<Answer, StoreError> {
    if let Some(used) = rows.lock::<Used>(key)? {
        return match &used.request {
            None => Ok(Answer::Closed),
            Some(first) if first != request => Ok(Answer::KeyReused),
            Some(_) => {
                let answer = used.answer.clone();
                rows.put(key, &Used { repeated: used.repeated.saturating_add(1), ..used })?;
                Ok(answer)
            }
        };
    }
    let answer = perform(rows, key, request)?;
    // A wait is no answer yet: the key stays free to be asked again.
    if answer != Answer::Unconfirmed {
        rows.put(key, &Used { request: Some(request.clone()), answer: answer.clone(), repeated: 0 })?;
    }
    Ok(answer)
}

/// What became of the request with this key, and for what it was.
pub(super) fn look_up(database: &Database, key: &str) -> Result<Option<(Option<Request>, Answer)>, StoreError> {
    let Some(used) = database.get::<Used>(key)? else { return Ok(None) };
    Ok(Some((used.request, current(used.answer, |id| database.get(id))?)))
}

/// [`look_up`], and what was not asked for yet will never happen.
pub(super) fn close(rows: &Rows<'_>, key: &str) -> Result<Answer, StoreError> {
    if let Some(used) = rows.lock::<Used>(key)? {
        return current(used.answer, |id| rows.lock(id));
    }
    rows.put(key, &Used { request: None, answer: Answer::Closed, repeated: 0 })?;
    Ok(Answer::Closed)
}

/// An answer with its charge as it is now, which is what somebody needs who wants to give back what is left of it.
fn current(answer: Answer, charge: impl FnOnce(&str) -> Result<Option<Charge>, StoreError>) -> Result<Answer, StoreError> {
    match answer {
        Answer::Done(then) => Ok(Answer::Done(charge(&then.id)?.unwrap_or(then))),
        other => Ok(other),
    }
}

fn perform(rows: &Rows<'_>, key: &str, request: &Request) -> Result<Answer, StoreError> {
    let (charge, card) = match &request.operation {
        Operation::Charge { card, .. } | Operation::Hold { card, .. } => {
            let Request { order_id, purpose, .. } = request.clone();
            let none = Money::default();
            (Charge { id: key.to_owned(), order_id, purpose, card: card.clone(), held: none, taken: none, given_back: none }, card.clone())
        }
        Operation::Capture { charge, .. } | Operation::Refund { charge, .. } | Operation::Release { charge } => {
            let Some(charge) = rows.lock::<Charge>(charge)? else { return Ok(declined("NO_CHARGE", "there is no such charge")) };
            let card = charge.card.clone();
            (charge, card)
        }
    };
    let Some(bank) = rows.lock::<Card>(&card)? else { return Ok(declined("CARD_REFUSED", "the card is not known")) };
    match moved(&request.operation, charge, bank) {
        Ok((charge, bank)) => {
            rows.put(&charge.id, &charge)?;
            rows.put(&card, &bank)?;
            Ok(Answer::Done(charge))
        }
        Err(answer) => Ok(answer),
    }
}

/// Charge and card after an operation, or why it is not done.
fn moved(operation: &Operation, mut charge: Charge, mut card: Card) -> Result<(Charge, Card), Answer> {
    let sum = |a: Money, b: Money| a.checked_add(b).ok_or_else(|| declined("AMOUNT", "the amount is too large"));
    let spent = card.held.0.saturating_add(card.taken.0).saturating_sub(card.given_back.0);
    let left = Money(card.limit.0.saturating_sub(spent));
    match *operation {
        Operation::Charge { amount, .. } | Operation::Hold { amount, .. } if amount > left => {
            Err(declined("CARD_REFUSED", &format!("{amount} is more than the card has left")))
        }
        Operation::Hold { .. } if card.unconfirmed => Err(Answer::Unconfirmed),
        Operation::Charge { amount, .. } => {
            (charge.taken, card.taken) = (amount, sum(card.taken, amount)?);
            Ok((charge, card))
        }
        Operation::Hold { amount, .. } => {
            (charge.held, card.held) = (amount, sum(card.held, amount)?);
            Ok((charge, card))
        }
        Operation::Capture { .. } if card.reported_lost => Err(declined("CARD_LOST", "the card was reported lost; its bank does not pay")),
        Operation::Capture { amount, .. } => {
            let (Some(left), Some(held)) = (charge.held.checked_sub(amount), card.held.checked_sub(amount)) else {
                return Err(declined("NOT_HELD", &format!("{} is held, not {amount}", charge.held)));
            };
            (charge.held, charge.taken) = (left, sum(charge.taken, amount)?);
            (card.held, card.taken) = (held, sum(card.taken, amount)?);
            Ok((charge, card))
        }
        Operation::Refund { amount, .. } => {
            let given_back = sum(charge.given_back, amount)?;
            if given_back > charge.taken {
                return Err(declined("NOT_TAKEN", "more would be given back than was taken"));
            }
            (charge.given_back, card.given_back) = (given_back, sum(card.given_back, amount)?);
            Ok((charge, card))
        }
        Operation::Release { .. } => {
            card.held = Money(card.held.0.saturating_sub(charge.held.0));
            charge.held = Money::default();
            Ok((charge, card))
        }
    }
}

fn declined(code: &str, message: &str) -> Answer {
    Answer::Declined { code: code.to_owned(), message: message.to_owned() }
}

/// Makes cards known, with nothing on them. Saying it twice changes nothing.
pub(super) fn issue(database: &Database, cards: &BTreeMap<String, NewCard>) -> Result<(), StoreError> {
    database.change(|rows| {
        for (number, &NewCard { limit, reported_lost, unconfirmed }) in cards {
            if rows.lock::<Card>(number)?.is_none() {
                rows.put(number, &Card { limit, reported_lost, unconfirmed, ..Card::default() })?;
            }
        }
        Ok(())
    })
}

/// The whole ledger.
pub(super) fn books(database: &Database) -> Result<ProviderBooks, StoreError> {
    let faults: BTreeMap<String, Planned> = database.all()?;
    let used: Vec<(String, Used)> = database.all()?;
    let forgotten = used.iter().filter(|(_, used)| {
        let planned = |request: &Request| faults.contains_key(&Planned::id(&request.order_id, request.purpose));
        used.repeated > 0 && used.request.as_ref().is_some_and(|request| !planned(request))
    });
    Ok(ProviderBooks {
        forgotten: forgotten.count() as u64,
        closed_unused: used.iter().filter(|(_, used)| used.request.is_none()).count() as u64,
        cards: database.all()?,
        charges: database.all()?,
        faults,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::store;

    fn provider(card: NewCard) -> (tempfile::TempDir, Database) {
        let (directory, database) = store();
        issue(&database, &[("c-1".to_owned(), card)].into()).expect("stored");
        (directory, database)
    }

    fn good(limit: u64) -> NewCard {
        NewCard { limit: Money(limit), ..NewCard::default() }
    }

    fn request(purpose: Purpose, operation: Operation) -> Request {
        Request { order_id: "o-1".to_owned(), purpose, operation }
    }

    fn charge(amount: u64) -> Request {
        request(Purpose::Deposit, Operation::Charge { card: "c-1".to_owned(), amount: Money(amount) })
    }

    fn hold(amount: u64) -> Request {
        request(Purpose::Hold, Operation::Hold { card: "c-1".to_owned(), amount: Money(amount) })
    }

    fn capture(amount: u64) -> Request {
        request(Purpose::Capture, Operation::Capture { charge: "hold".to_owned(), amount: Money(amount) })
    }

    fn send(database: &Database, key: &str, request: &Request) -> Answer {
        database.change(|rows| ask(rows, key, request)).expect("stored")
    }

    fn code(answer: Answer) -> String {
        match answer {
            Answer::Declined { code, .. } => code,
            other => panic!("{other:?} is not declined"),
        }
    }

    fn card(database: &Database) -> (Money, Money, Money) {
        let card: Card = database.get("c-1").expect("readable").expect("issued");
        (card.held, card.taken, card.given_back)
    }

    #[test]
    fn a_request_that_comes_twice_takes_money_once_and_gets_the_same_answer() {
        let (_directory, database) = provider(good(1_000));
        let first = send(&database, "k", &charge(300));
        assert!(matches!(first, Answer::Done(_)));
        assert_eq!(send(&database, "k", &charge(300)), first);
        assert_eq!(send(&database, "k", &charge(301)), Answer::KeyReused);
        assert_eq!(card(&database), (Money(0), Money(300), Money(0)));
        assert_eq!(books(&database).expect("readable").forgotten, 1, "nothing was planned to go wrong");
    }

    #[test]
    fn a_closed_key_tells_what_was_taken_and_lets_nothing_happen_later() {
        let (_directory, database) = provider(good(1_000));
        let close = |key: &str| database.change(|rows| close(rows, key)).expect("stored");
        assert_eq!(close("never"), Answer::Closed);
        assert_eq!(send(&database, "never", &charge(300)), Answer::Closed, "it came too late");
        send(&database, "taken", &charge(300));
        assert!(matches!(close("taken"), Answer::Done(charge) if charge.taken == Money(300)));
        assert_eq!(card(&database), (Money(0), Money(300), Money(0)));
        assert_eq!(look_up(&database, "unheard of").expect("readable"), None);
    }

    #[test]
    fn a_hold_is_captured_in_parts_and_never_beyond() {
        let (_directory, database) = provider(good(1_000));
        send(&database, "hold", &hold(800));
        assert_eq!(code(send(&database, "more", &charge(300))), "CARD_REFUSED", "what is held counts against the limit");
        send(&database, "part", &capture(500));
        assert_eq!(code(send(&database, "beyond", &capture(301))), "NOT_HELD");
        send(&database, "rest", &capture(300));
        assert_eq!(card(&database), (Money(0), Money(800), Money(0)));
    }

    #[test]
    fn what_is_given_back_can_be_spent_again_and_is_not_given_twice() {
        let (_directory, database) = provider(good(1_000));
        send(&database, "k", &charge(1_000));
        let refund = request(Purpose::Refund, Operation::Refund { charge: "k".to_owned(), amount: Money(1_000) });
        send(&database, "r", &refund);
        assert_eq!(code(send(&database, "r2", &refund)), "NOT_TAKEN");
        send(&database, "hold", &hold(1_000));
        send(&database, "release", &request(Purpose::Release, Operation::Release { charge: "hold".to_owned() }));
        assert_eq!(card(&database), (Money(0), Money(1_000), Money(1_000)));
    }

    #[test]
    fn a_lost_card_is_held_but_not_captured_and_an_unconfirmed_one_is_waited_for() {
        let (_directory, database) = provider(NewCard { reported_lost: true, ..good(1_000) });
        send(&database, "hold", &hold(800));
        assert_eq!(code(send(&database, "capture", &capture(800))), "CARD_LOST");
        let (_directory, database) = provider(NewCard { unconfirmed: true, ..good(1_000) });
        assert_eq!(send(&database, "hold", &hold(800)), Answer::Unconfirmed);
        assert_eq!(look_up(&database, "hold").expect("readable"), None, "a wait is no answer");
        assert_eq!(code(send(&database, "huge", &charge(u64::MAX))), "CARD_REFUSED");
    }
}
