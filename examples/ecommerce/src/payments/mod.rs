//! Payments: what the shop takes from its customers, through a payment provider that is no part of this database.
//!
//! Four rules make an effect outside of the database happen once, whatever is killed or lost in between:
//!
//! 1. **First write down that it is in doubt.** The barrier does, before it lets the code below ask the provider. So the compensation runs
//!    although nobody may be left who remembers the answer.
//! 2. **Ask under the call's own key**, which is the same for all attempts, then record what the provider said. A kill in between leaves
//!    the charge to the next attempt, which gets the provider's first answer.
//! 3. **In doubt, look it up; still in doubt, say so.** Only what the provider says is a success or a refusal. Anything else is
//!    `unknown`: the saga calls again, and when the attempts run out, it compensates the step.
//! 4. **A compensation asks the provider, not this database**, what the action came to: it closes the action's key, so that nothing
//!    can be taken under it later, and gives back what was really taken.

mod provider;
mod reactions;
mod wallet;

pub use wallet::{NewWallet, Wallet, WalletBooks};

use crate::choreography::Desk;
use crate::domain::Money;
use crate::events::{OrderEvent, Teller};
use crate::provider::{Answer, Charge, Operation, Purpose, Request};
use crate::service::{self, Participant, ServiceArgs, ServiceError};
use crate::store::{Database, Oddity, Row, Rows, Store, StoreError, arguments};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use provider::{Provider, Told, give_back};
use sagamq_api::saga::Call;
use sagamq_sdk::{CallError, HandlerError, JsonText};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::runtime::Handle;

/// When a hold that the customer has to confirm is asked for again.
const CONFIRM_AGAIN: Duration = Duration::from_millis(500);

/// The options of the payment service.
#[derive(Clone, Debug, clap::Args)]
pub struct PaymentArgs {
    /// Those of every service.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Address of the payment provider.
    #[arg(long)]
    pub provider: String,
}

/// The money of one order, as the shop knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The card that pays.
    pub card: String,
    /// Set aside, not taken.
    pub held: Money,
    /// Taken.
    pub taken: Money,
    /// Of that, given back.
    pub given_back: Money,
    /// Whether the rest of the price is taken: the point of no return, behind which nothing is given back by a compensation.
    pub captured: bool,
}

impl Row for Payment {
    const TABLE: &'static str = "payment";
}

/// Every payment, by order.
pub type PaymentBooks = BTreeMap<String, Payment>;

#[derive(Deserialize)]
struct OfCard {
    order_id: String,
    card: String,
    amount: Money,
}

#[derive(Deserialize)]
struct OfCharge {
    order_id: String,
    charge: String,
    amount: Money,
}

#[derive(Deserialize)]
struct OfOrder {
    order_id: String,
}

/// The payment service.
#[derive(Clone, Debug)]
struct Payments {
    store: Store,
    provider: Provider,
}

impl Participant for Payments {
    fn calls(&self) -> Vec<&'static str> {
        vec!["charge", "refund", "authorize", "void", "capture", "charge_postage"]
    }

    fn store(&self) -> &Store {
        &self.store
    }

    async fn serve(&self, call: Call) -> Result<JsonText, CallError> {
        let (payments, runtime) = (self.clone(), Handle::current());
        self.store.with(move |database| At { payments: &payments, database, runtime }.serve(&call)).await
    }

    fn hears(&self) -> (Teller, &'static [Teller]) {
        (Teller::Payments, &[Teller::Orders, Teller::Shipping])
    }

    fn react(&self, desk: &Desk<'_>, event: &OrderEvent) -> Result<(), HandlerError> {
        reactions::react(&At { payments: self, database: desk.database, runtime: Handle::current() }, desk, event)
    }
}

/// The payment service on a thread that may block, as the barrier needs it: it holds the call's row while the provider is asked, so that
/// no compensation runs beside its action.
struct At<'a> {
    payments: &'a Payments,
    database: &'a Database,
    runtime: Handle,
}

impl At<'_> {
    fn serve(&self, call: &Call) -> Result<JsonText, CallError> {
        match call.call.as_str() {
            "charge" | "authorize" => {
                let OfCard { order_id, card, amount } = arguments(call)?;
                let (purpose, operation) = match call.call.as_str() {
                    "charge" => (Purpose::Deposit, Operation::Charge { card, amount }),
                    _ => (Purpose::Hold, Operation::Hold { card, amount }),
                };
                self.pay(call, &Request { order_id, purpose, operation })
            }
            "capture" | "charge_postage" => {
                let OfCharge { order_id, charge, amount } = arguments(call)?;
                let purpose = if call.call == "capture" { Purpose::Capture } else { Purpose::Postage };
                self.pay(call, &Request { order_id, purpose, operation: Operation::Capture { charge, amount } })
            }
            "refund" | "void" => self.undo(call),
            other => Err(CallError::unknown("UNKNOWN_CALL", format!("there is no call `{other}`"))),
        }
    }

    /// Asks the provider under the call's key and records what it said.
    fn pay(&self, call: &Call, request: &Request) -> Result<JsonText, CallError> {
        self.database.once_outside(call, |rows, known| {
            let outcome = record(rows, request, self.ask(call, request)?);
            if matches!(outcome, Err(CallError::Refused(_))) {
                // The provider's no under this key is its answer to every earlier attempt too.
                known.clear_doubt();
            }
            outcome
        })
    }

    /// Gives back what the provider really took for the action of this compensation.
    fn undo(&self, call: &Call) -> Result<JsonText, CallError> {
        let OfOrder { order_id } = arguments(call)?;
        self.database.once_outside(call, |rows, _| {
            let payment = rows.lock::<Payment>(&order_id)?;
            // No saga undoes what it has captured, but a broker that was restored from an old backup may have forgotten that it did. Then
            // somebody has to look: the saga is `BLOCKED`, and no customer gets for nothing what was sent to him.
            if payment.as_ref().is_some_and(|payment| payment.captured) {
                return Err(CallError::unknown("CAPTURED", format!("order {order_id} is paid and on its way")));
            }
            let charge = self.runtime.block_on(self.payments.provider.close(&call.action_key()))?;
            if let Some((purpose, operation)) = charge.as_ref().and_then(give_back) {
                match self.ask(call, &Request { order_id: order_id.clone(), purpose, operation })? {
                    Answer::Done(_) => {}
                    other => return Err(CallError::unknown("NOT_GIVEN_BACK", format!("{purpose} of {order_id}: {other:?}"))),
                }
            }
            forget(rows, &order_id, payment, call)
        })
    }

    fn ask(&self, call: &Call, request: &Request) -> Result<Answer, CallError> {
        let told = self.runtime.block_on(self.payments.provider.ask(&call.idempotency_key, request));
        match &told {
            Ok(Told::Answered(_)) => {}
            Ok(Told::LookedUp(_)) => self.database.notice(call, Oddity::LookedUp)?,
            Err(_) => self.database.notice(call, Oddity::LeftInDoubt)?,
        }
        told.map(|(Told::Answered(answer) | Told::LookedUp(answer))| answer)
    }
}

/// What the provider said, as the outcome of the call, and the order's row after it.
fn record(rows: &Rows<'_>, request: &Request, answer: Answer) -> Result<Value, CallError> {
    let (order_id, purpose) = (&request.order_id, request.purpose);
    let charge = match answer {
        Answer::Done(charge) => charge,
        // Behind the pivot nothing can be refused: the money is held. Whoever is told so all the same has to look.
        Answer::Declined { code, message } if purpose == Purpose::Postage => return Err(CallError::unknown(code, message)),
        Answer::Declined { code, message } => return Err(CallError::refused(code, message)),
        Answer::Unconfirmed => return Err(CallError::ongoing(Some(CONFIRM_AGAIN))),
        // The compensation has closed the key; the barrier refuses the action from now on.
        Answer::Closed => return Err(CallError::refused("CLOSED", "the order was given up before it was paid")),
        Answer::KeyReused => return Err(CallError::unknown("KEY_REUSED", "the provider knows the key for another request")),
    };
    let Charge { card, held, id, .. } = charge;
    let payment = rows.lock::<Payment>(order_id)?.unwrap_or_default();
    let payment = match request.operation {
        Operation::Charge { amount, .. } => Payment { card, taken: plus(payment.taken, amount)?, ..payment },
        Operation::Hold { amount, .. } => Payment { card, held: plus(payment.held, amount)?, ..payment },
        Operation::Capture { amount, .. } => Payment { held, taken: plus(payment.taken, amount)?, captured: true, ..payment },
        Operation::Refund { .. } | Operation::Release { .. } => payment,
    };
    rows.put(order_id, &payment)?;
    Ok(json!({ "charge": id }))
}

/// The order's row after its money was given back. There is none if the action's outcome never became known here.
fn forget(rows: &Rows<'_>, order_id: &str, payment: Option<Payment>, call: &Call) -> Result<Value, CallError> {
    if let Some(payment) = payment {
        let payment = match call.call.as_str() {
            "refund" => Payment { given_back: payment.taken, ..payment },
            _ => Payment { held: Money::default(), ..payment },
        };
        rows.put(order_id, &payment)?;
    }
    Ok(Value::Null)
}

fn plus(a: Money, b: Money) -> Result<Money, CallError> {
    a.checked_add(b).ok_or_else(|| CallError::unknown("AMOUNT", "the amount is too large"))
}

/// Every payment.
///
/// # Errors
/// [`StoreError`].
pub fn books(database: &Database) -> Result<PaymentBooks, StoreError> {
    database.all()
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// [`ServiceError`] when it cannot start, or when the server refuses it for good.
pub async fn run(args: &PaymentArgs) -> Result<(), ServiceError> {
    let store = args.service.store("payments", &wallet::BRANCH_CALLS).await?;
    let provider = Provider::new(&args.provider)?;
    let admin = Router::new()
        .route("/books", get(|State(store): State<Store>| async move { service::answer(store.with(books).await) }))
        .merge(wallet::routes())
        .with_state(store.clone());
    Box::pin(service::run(&args.service, "payments.commands", Payments { store, provider }, admin)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{call, code, doubt, store};
    use sagamq_api::saga::Operation::{Action, Compensation};

    fn charge(held: u64, taken: u64) -> Charge {
        let (held, taken, given_back) = (Money(held), Money(taken), Money(0));
        Charge { id: "k".into(), order_id: "o-1".into(), purpose: Purpose::Deposit, card: "c-1".into(), held, taken, given_back }
    }

    fn request(purpose: Purpose, operation: Operation) -> Request {
        Request { order_id: "o-1".into(), purpose, operation }
    }

    fn deposit() -> Request {
        request(Purpose::Deposit, Operation::Charge { card: "c-1".into(), amount: Money(300) })
    }

    fn told(database: &Database, step: &str, request: &Request, answer: Answer) -> Result<JsonText, CallError> {
        database.once(&call(1, step, Action, step, Value::Null), |rows, _| record(rows, request, answer))
    }

    fn payment(database: &Database) -> Payment {
        database.get("o-1").expect("readable").expect("paid")
    }

    #[test]
    fn an_order_is_paid_in_parts_and_its_row_says_how_much_of_it_is_taken() {
        let (_directory, database) = store();
        told(&database, "deposit", &deposit(), Answer::Done(charge(0, 300))).expect("done");
        let hold = request(Purpose::Hold, Operation::Hold { card: "c-1".into(), amount: Money(1_000) });
        assert_eq!(told(&database, "authorize", &hold, Answer::Done(charge(1_000, 0))), Ok(json!({ "charge": "k" }).into()));
        let capture = request(Purpose::Capture, Operation::Capture { charge: "k".into(), amount: Money(700) });
        for _ in 0..2 {
            told(&database, "capture", &capture, Answer::Done(charge(300, 700))).expect("done");
        }
        assert_eq!(
            payment(&database),
            Payment { card: "c-1".into(), held: Money(300), taken: Money(1_000), given_back: Money(0), captured: true }
        );
    }

    #[test]
    fn only_the_provider_refuses_and_never_what_stands_behind_the_pivot() {
        let (_directory, database) = store();
        let declined = || Answer::Declined { code: "CARD_LOST".into(), message: String::new() };
        let capture = |purpose| request(purpose, Operation::Capture { charge: "k".into(), amount: Money(700) });
        assert_eq!(code(told(&database, "capture", &capture(Purpose::Capture), declined())), "CARD_LOST");
        assert_eq!(doubt(told(&database, "postage", &capture(Purpose::Postage), declined())), "CARD_LOST");
        assert_eq!(doubt(told(&database, "deposit", &deposit(), Answer::KeyReused)), "KEY_REUSED");
        let waits = told(&database, "authorize", &capture(Purpose::Hold), Answer::Unconfirmed);
        assert!(matches!(waits, Err(CallError::Ongoing { retry_after: Some(_) })));
    }

    #[test]
    fn a_refund_is_entered_once_and_one_of_a_payment_that_was_never_heard_of_enters_nothing() {
        let (_directory, database) = store();
        told(&database, "deposit", &deposit(), Answer::Done(charge(0, 300))).expect("done");
        let refund = call(1, "deposit", Compensation, "refund", json!({ "order_id": "o-1" }));
        for _ in 0..2 {
            database.once(&refund, |rows, call| forget(rows, "o-1", rows.lock("o-1")?, call)).expect("undone");
        }
        assert_eq!(
            payment(&database),
            Payment { card: "c-1".into(), taken: Money(300), given_back: Money(300), held: Money(0), captured: false }
        );
        let stranger = call(2, "deposit", Compensation, "refund", json!({ "order_id": "o-2" }));
        database.once(&stranger, |rows, call| forget(rows, "o-2", rows.lock("o-2")?, call)).expect("nothing to undo");
        assert_eq!(database.get::<Payment>("o-2").expect("readable"), None);
    }
}
