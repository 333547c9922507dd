//! What the payment service does in the choreography: it takes the money of an order, or decides that nobody ever will.
//!
//! An order that is to be paid may meet a customer who cancels it, or the end of its time. Only one of them can be right, and only the
//! service that takes the money can say which: the first word on an order stands in its row ([`Verdict`]), and the others give way to it.
//! That row is what the pivot is in the saga.
//!
//! The provider is no part of the transaction that remembers an event. So each request to it goes through the barrier, as it does for a saga,
//! and may be made again; what came of them all is told in one transaction with the inbox, at the end.

use super::At;
use crate::choreography::{Desk, again, order_call};
use crate::domain::deposit;
use crate::events::{OrderEvent, Parcel};
use crate::store::Row;
use sagamq_api::saga::Operation::{self, Action, Compensation};
use sagamq_api::saga::{Call, Failure};
use sagamq_sdk::{CallError, HandlerError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What stands about an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
enum Verdict {
    /// It is paid, unless the bank refuses: it is too late to cancel it.
    Capture {
        /// The charge that holds the rest of the price.
        charge: String,
    },
    /// Nothing is taken for it.
    Refuse {
        /// Why.
        reason: String,
    },
}

impl Row for Verdict {
    const TABLE: &'static str = "verdict";
}

#[derive(Deserialize)]
struct Charged {
    charge: String,
}

/// Handles one event.
pub(super) fn react(at: &At<'_>, desk: &Desk<'_>, event: &OrderEvent) -> Result<(), HandlerError> {
    match at.told_of(event).map_err(|error| again(&error))? {
        Some(told) => desk.once(|_| Ok(told)).map(drop),
        None => Ok(()),
    }
}

impl At<'_> {
    /// Does what this event asks for, which may have been done before, and says what there is to tell. Nothing if it asks for nothing.
    fn told_of(&self, event: &OrderEvent) -> Result<Option<Vec<OrderEvent>>, CallError> {
        match event {
            OrderEvent::ShipmentReserved(parcel) => self.take(parcel).map(Some),
            OrderEvent::CancelRequested { order_id } => self.refuse(order_id, "CANCELLED").map(Some),
            OrderEvent::OrderExpired { order_id } => self.refuse(order_id, "TIMEOUT").map(Some),
            OrderEvent::ParcelDispatched(parcel) => self.take_postage(parcel).map(Some),
            _ => Ok(None),
        }
    }

    /// Takes the deposit, holds the rest and captures it. From the verdict on, only the bank can still say no.
    fn take(&self, parcel: &Parcel) -> Result<Vec<OrderEvent>, CallError> {
        let order = &parcel.order;
        let id = order.order_id.as_str();
        let total = order.total().map_err(|fault| CallError::unknown("ORDER", fault.to_string()))?;
        let (first, rest) = (deposit(total), total.0 - deposit(total).0);
        let of_card = |amount: u64| json!({ "order_id": id, "card": order.card, "amount": amount });
        let held = self
            .step(id, "deposit", Action, "charge", of_card(first.0))
            .and_then(|_| self.step(id, "authorize", Action, "authorize", of_card(rest + parcel.postage.0)));
        let charge = match held {
            Ok(output) => serde_json::from_value::<Charged>(output)?.charge,
            // By the provider, or because the order was given up meanwhile: then its verdict says why.
            Err(CallError::Refused(Failure { code, .. })) => return self.refuse(id, &code),
            Err(open) => return Err(open),
        };
        let Verdict::Capture { charge } = self.decide(id, Verdict::Capture { charge }, false)? else { return self.refuse(id, "REFUSED") };
        match self.step(id, "capture", Action, "capture", json!({ "order_id": id, "charge": charge, "amount": rest })) {
            Ok(_) => Ok(vec![OrderEvent::OrderPaid(parcel.clone())]),
            Err(CallError::Refused(Failure { code: reason, .. })) => {
                self.decide(id, Verdict::Refuse { reason: reason.clone() }, true)?;
                self.refuse(id, &reason)
            }
            Err(open) => Err(open),
        }
    }

    /// Decides that the order is not paid, if nothing else is decided, and gives back what was taken for it.
    fn refuse(&self, order_id: &str, reason: &str) -> Result<Vec<OrderEvent>, CallError> {
        match self.decide(order_id, Verdict::Refuse { reason: reason.to_owned() }, false)? {
            // Whoever cancels is too late.
            Verdict::Capture { .. } => Ok(Vec::new()),
            Verdict::Refuse { reason } => {
                self.step(order_id, "authorize", Compensation, "void", json!({ "order_id": order_id }))?;
                self.step(order_id, "deposit", Compensation, "refund", json!({ "order_id": order_id }))?;
                Ok(vec![OrderEvent::PaymentRefused { order_id: order_id.to_owned(), reason }])
            }
        }
    }

    /// Takes the postage, of what is held.
    fn take_postage(&self, parcel: &Parcel) -> Result<Vec<OrderEvent>, CallError> {
        let id = parcel.order.order_id.as_str();
        let Some(Verdict::Capture { charge }) = self.database.get(id)? else {
            return Err(CallError::unknown("NOT_PAID", format!("order {id} was sent and is not paid")));
        };
        let postage = json!({ "order_id": id, "charge": charge, "amount": parcel.postage });
        self.step(id, "charge_postage", Action, "charge_postage", postage)?;
        Ok(vec![OrderEvent::PostageCharged(parcel.clone())])
    }

    /// The verdict that stands: this one, if it is the first or may `overrule` another.
    fn decide(&self, order_id: &str, verdict: Verdict, overrule: bool) -> Result<Verdict, CallError> {
        self.database.change(|rows| {
            if let Some(stands) = rows.lock(order_id)?.filter(|_| !overrule) {
                return Ok(stands);
            }
            rows.put(order_id, &verdict)?;
            Ok(verdict)
        })
    }

    fn step(&self, order_id: &str, step: &str, operation: Operation, call: &str, arguments: Value) -> Result<Value, CallError> {
        let call: Call = order_call(order_id, step, operation, call, arguments);
        Ok(self.serve(&call)?.to_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choreography::testing::{delivery, parcel};
    use crate::domain::Money;
    use crate::events::Teller;
    use crate::payments::provider::Provider;
    use crate::payments::{Payment, Payments};
    use crate::provider::{self, ProviderBooks};
    use crate::store::{Inbox, Store};
    use std::future::IntoFuture as _;
    use tokio::runtime::Handle;

    /// The payment service with a provider of its own, whose card `card` is good for 100.00.
    struct Bank {
        _directories: [tempfile::TempDir; 2],
        url: String,
        http: reqwest::Client,
        payments: Payments,
    }

    impl Bank {
        async fn open(card: Value) -> Self {
            let directories = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
            let open = |n: usize| Store::open(directories[n].path(), &[]).expect("a new database");
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("bound"));
            tokio::spawn(axum::serve(listener, provider::routes(open(1))).into_future());
            let payments = Payments { store: open(0), provider: Provider::new(&url).expect("an address") };
            let bank =
                Self { _directories: directories, http: reqwest::Client::builder().no_proxy().build().expect("a client"), url, payments };
            bank.put("cards", json!({ "card": card })).await;
            bank
        }

        async fn put(&self, path: &str, body: Value) {
            let put = self.http.put(format!("{}/{path}", self.url)).json(&body).send().await.expect("an answer");
            assert!(put.status().is_success());
        }

        /// What is told because of the event at this offset; an error: it has to come again.
        async fn hears(&self, offset: u64, event: OrderEvent) -> Result<Vec<OrderEvent>, String> {
            let payments = self.payments.clone();
            let heard = self.payments.store.with(move |database| {
                let inbox = Inbox::new(&event.teller().topic(), &Teller::Payments.group());
                let desk = Desk { database, inbox: &inbox, delivery: &delivery(offset, &event) };
                let at = At { payments: &payments, database, runtime: Handle::current() };
                let told = at.told_of(&event).map_err(|error| again(&error))?.expect("it asks for something");
                let mut first = Vec::new();
                desk.once(|_| {
                    first.clone_from(&told);
                    Ok(told)
                })?;
                Ok(first)
            });
            heard.await.map_err(|error: HandlerError| error.to_string())
        }

        /// Held and taken, less what was given back, at the provider and in the shop's own book.
        async fn money(&self) -> [(u64, u64); 2] {
            let books = self.http.get(format!("{}/books", self.url)).send().await.expect("an answer");
            let books: ProviderBooks = books.json().await.expect("books");
            let card = books.cards["card"];
            let row = self.payments.store.with(|database| database.get::<Payment>("o-1")).await.expect("readable").unwrap_or_default();
            let net = |taken: Money, given_back: Money| taken.0 - given_back.0;
            [(card.held.0, net(card.taken, card.given_back)), (row.held.0, net(row.taken, row.given_back))]
        }
    }

    const NOTHING: [(u64, u64); 2] = [(0, 0); 2];

    fn good() -> Value {
        json!({ "limit": 10_000 })
    }

    fn reserved() -> OrderEvent {
        OrderEvent::ShipmentReserved(parcel("o-1", 2))
    }

    fn cancel() -> OrderEvent {
        OrderEvent::CancelRequested { order_id: "o-1".into() }
    }

    fn refused(reason: &str) -> Vec<OrderEvent> {
        vec![OrderEvent::PaymentRefused { order_id: "o-1".into(), reason: reason.into() }]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_order_is_paid_once_and_its_postage_after_it_was_sent() {
        let bank = Bank::open(good()).await;
        assert_eq!(bank.hears(1, reserved()).await, Ok(vec![OrderEvent::OrderPaid(parcel("o-1", 2))]));
        assert_eq!(bank.hears(1, reserved()).await, Ok(Vec::new()), "the same delivery");
        assert_eq!(bank.money().await, [(490, 1_980); 2]);
        let sent = || OrderEvent::ParcelDispatched(parcel("o-1", 2));
        assert_eq!(bank.hears(2, sent()).await, Ok(vec![OrderEvent::PostageCharged(parcel("o-1", 2))]));
        assert_eq!(bank.hears(2, sent()).await, Ok(Vec::new()));
        assert_eq!(bank.money().await, [(0, 2_470); 2]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cancellation_that_comes_behind_the_payment_is_too_late() {
        let bank = Bank::open(good()).await;
        bank.hears(1, reserved()).await.expect("paid");
        assert_eq!(bank.hears(2, cancel()).await, Ok(Vec::new()));
        assert_eq!(bank.hears(3, OrderEvent::OrderExpired { order_id: "o-1".into() }).await, Ok(Vec::new()));
        assert_eq!(bank.money().await, [(490, 1_980); 2], "what is paid stays paid");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_order_that_was_cancelled_before_is_never_paid() {
        let bank = Bank::open(good()).await;
        for told in [refused("CANCELLED"), Vec::new()] {
            assert_eq!(bank.hears(1, cancel()).await, Ok(told));
        }
        assert_eq!(bank.hears(2, reserved()).await, Ok(refused("CANCELLED")), "the first word stands");
        assert_eq!(bank.money().await, NOTHING);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_order_that_nobody_confirms_is_given_up_when_its_time_is_over_and_the_deposit_comes_back() {
        let bank = Bank::open(json!({ "limit": 10_000, "unconfirmed": true })).await;
        assert!(bank.hears(1, reserved()).await.is_err(), "the bank waits for the customer");
        assert_eq!(bank.money().await, [(0, 396); 2], "the deposit is taken meanwhile");
        assert_eq!(bank.hears(2, OrderEvent::OrderExpired { order_id: "o-1".into() }).await, Ok(refused("TIMEOUT")));
        assert_eq!(bank.money().await, NOTHING);
        assert_eq!(bank.hears(1, reserved()).await, Ok(refused("TIMEOUT")), "the next attempt finds the verdict");
        assert_eq!(bank.money().await, NOTHING);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_bank_refuses_gives_the_deposit_back_even_behind_the_verdict() {
        let poor = Bank::open(json!({ "limit": 1_000 })).await;
        assert_eq!(poor.hears(1, reserved()).await, Ok(refused("CARD_REFUSED")));
        assert_eq!(poor.money().await, NOTHING);
        let stolen = Bank::open(json!({ "limit": 10_000, "reported_lost": true })).await;
        assert_eq!(stolen.hears(1, reserved()).await, Ok(refused("CARD_LOST")));
        assert_eq!(stolen.money().await, NOTHING);
        assert_eq!(stolen.hears(2, cancel()).await, Ok(refused("CARD_LOST")), "told again, which changes nothing");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_payment_that_was_killed_on_the_way_is_finished_by_the_next_delivery() {
        let bank = Bank::open(good()).await;
        // Silent for so long that the first delivery knows nothing: the money may be taken, and is.
        bank.put("faults", json!({ "o-1/capture": "silent" })).await;
        let mut attempts = 0;
        let told = loop {
            attempts += 1;
            assert!(attempts < 20, "the provider speaks again after some requests");
            // Whoever cancels meanwhile is too late: the verdict is written before the bank is asked.
            if let Ok(told) = bank.hears(1, reserved()).await {
                break told;
            }
            assert_eq!(bank.hears(10 + attempts, cancel()).await, Ok(Vec::new()));
        };
        assert!(attempts > 1, "there was a doubt");
        assert_eq!(told, [OrderEvent::OrderPaid(parcel("o-1", 2))]);
        assert_eq!(bank.money().await, [(490, 1_980); 2]);
    }
}
