//! What the order service does in the choreography: it takes orders itself, without a saga to start, and says what became of them.

use super::{Order, OrderState, complete, create, reject};
use crate::choreography::{Reactions, order_call};
use crate::domain::{Money, NewOrder};
use crate::events::{OrderEvent, Teller};
use crate::store::{Row, Rows, Told};
use sagamq_api::saga::Operation::{Action, Compensation};
use sagamq_sdk::CallError;
use serde_json::json;
use std::time::Duration;

pub(super) const REACTIONS: Reactions =
    Reactions { of: Teller::Orders, hears: &[Teller::Inventory, Teller::Shipping, Teller::Payments], concerns, react };

/// An order that is not paid after this time is undone: as long as in the saga.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What the customer sent, kept so that a repeated request is known from another one under the same id.
impl Row for NewOrder {
    const TABLE: &'static str = "placed";
}

/// What became of a request to take an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It is accepted.
    Now,
    /// It was accepted before.
    Before,
    /// Another order has its id.
    Taken,
}

/// What became of a request to cancel an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// It is passed on. Whether it is in time, the order's end says.
    Asked,
    /// The order is at its end.
    TooLate,
    /// There is no such order.
    Unknown,
}

/// Takes an order: it is in the book, everybody is told, and its time runs, or nothing of all that.
pub(super) fn place(rows: &Rows<'_>, order: &NewOrder, total: Money) -> Result<(Placed, Vec<Told>), CallError> {
    let id = order.order_id.as_str();
    if let Some(before) = rows.lock::<NewOrder>(id)? {
        return Ok((if before == *order { Placed::Before } else { Placed::Taken }, Vec::new()));
    }
    let entry = json!({ "order_id": id, "card": order.card, "lines": order.lines, "total": total });
    // An id that a saga has used before is taken too.
    if rows.attempt(create, &order_call(id, "create_order", Action, "create", entry))?.is_err() {
        return Ok((Placed::Taken, Vec::new()));
    }
    rows.put(id, order)?;
    let placed = OrderEvent::OrderPlaced { order: order.clone() }.told()?;
    let expires = OrderEvent::OrderExpired { order_id: id.to_owned() }.told_in(TIMEOUT)?;
    Ok((Placed::Now, vec![placed, expires]))
}

/// Passes a cancellation on. It is no decision: the payment service knows whether the money is taken, and says.
pub(super) fn cancel(rows: &Rows<'_>, order_id: &str) -> Result<(Cancelled, Vec<Told>), CallError> {
    Ok(match rows.lock::<Order>(order_id)?.map(|order| order.state) {
        Some(OrderState::Pending) => (Cancelled::Asked, vec![OrderEvent::CancelRequested { order_id: order_id.to_owned() }.told()?]),
        Some(OrderState::Completed | OrderState::Rejected) => (Cancelled::TooLate, Vec::new()),
        None => (Cancelled::Unknown, Vec::new()),
    })
}

/// Rejects an order at the first refusal, and completes it when all is done.
fn react(rows: &Rows<'_>, event: &OrderEvent) -> Result<Vec<OrderEvent>, CallError> {
    let order_id = event.order_id();
    let output = match event {
        OrderEvent::StockRefused { reason, .. }
        | OrderEvent::ShipmentRefused { reason, .. }
        | OrderEvent::PaymentRefused { reason, .. } => {
            // Two may refuse: there was no stock, and the customer had cancelled. The first one is the reason.
            if rows.lock::<Order>(order_id)?.is_some_and(|order| order.state == OrderState::Rejected) {
                return Ok(Vec::new());
            }
            let why = json!({ "order_id": order_id, "reason": reason });
            reject(rows, &order_call(order_id, "create_order", Compensation, "reject", why))?
        }
        OrderEvent::PostageCharged(parcel) => {
            let done = json!({ "order_id": order_id, "tracking": parcel.tracking });
            complete(rows, &order_call(order_id, "complete_order", Action, "complete", done))?
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![serde_json::from_value(output)?])
}

/// What it hears ends an order, and nothing else does.
pub(super) const fn concerns(event: &OrderEvent) -> bool {
    matches!(
        event,
        OrderEvent::StockRefused { .. }
            | OrderEvent::ShipmentRefused { .. }
            | OrderEvent::PaymentRefused { .. }
            | OrderEvent::PostageCharged(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choreography::testing::{Town, order, parcel};

    /// An order service with one order of two mugs.
    fn town() -> Town {
        let town = Town::new(&REACTIONS);
        assert_eq!(placed(&town, &order("o-1", 2)).0, Placed::Now);
        town
    }

    fn placed(town: &Town, order: &NewOrder) -> (Placed, Vec<Told>) {
        let told = std::cell::RefCell::new(Vec::new());
        let total = order.total().expect("good");
        let placed = town.database().change_and_tell(|rows| {
            let (placed, tells) = place(rows, order, total)?;
            told.borrow_mut().clone_from(&tells);
            Ok::<_, CallError>((placed, tells))
        });
        (placed.expect("stored"), told.into_inner())
    }

    fn state(town: &Town) -> (OrderState, Option<String>) {
        let order: Order = town.database().get("o-1").expect("readable").expect("placed");
        (order.state, order.reason)
    }

    fn refused(reason: &str) -> OrderEvent {
        OrderEvent::PaymentRefused { order_id: "o-1".into(), reason: reason.into() }
    }

    #[test]
    fn an_order_is_placed_and_its_time_begins_once_and_another_order_under_its_id_is_refused() {
        let town = Town::new(&REACTIONS);
        let (first, told) = placed(&town, &order("o-1", 2));
        assert_eq!(first, Placed::Now);
        let delays: Vec<_> = told.iter().map(|told| told.record.delay_ms).collect();
        assert_eq!(delays, [None, Some(20_000)]);
        assert_eq!(placed(&town, &order("o-1", 2)), (Placed::Before, Vec::new()));
        assert_eq!(placed(&town, &NewOrder { country: "FR".into(), ..order("o-1", 2) }), (Placed::Taken, Vec::new()));
    }

    #[test]
    fn the_first_refusal_rejects_an_order_and_a_second_one_changes_nothing() {
        let town = town();
        let rejected = OrderEvent::OrderRejected { order_id: "o-1".into(), card: "card".into(), reason: "CANCELLED".into() };
        assert_eq!(town.hears(1, &refused("CANCELLED")), [rejected]);
        assert_eq!(town.hears(1, &refused("CANCELLED")), []);
        let stock = OrderEvent::StockRefused { order_id: "o-1".into(), reason: "OUT_OF_STOCK".into() };
        assert_eq!(town.hears(2, &stock), []);
        assert_eq!(state(&town), (OrderState::Rejected, Some("CANCELLED".into())));
        assert!(town.fails(3, &OrderEvent::PostageCharged(parcel("o-1", 2))).contains("NO_PENDING_ORDER"), "somebody has to look");
    }

    #[test]
    fn an_order_is_completed_once_and_a_refusal_after_that_is_an_alarm() {
        let town = town();
        let done = OrderEvent::PostageCharged(parcel("o-1", 2));
        let completed = OrderEvent::OrderCompleted { order_id: "o-1".into(), card: "card".into(), total: Money(1_980) };
        assert_eq!(town.hears(1, &done), [completed]);
        assert_eq!(town.hears(1, &done), []);
        assert!(town.fails(2, &refused("TIMEOUT")).contains("NO_PENDING_ORDER"));
        assert_eq!(state(&town), (OrderState::Completed, None));
    }

    #[test]
    fn a_cancellation_is_passed_on_until_the_order_is_at_its_end() {
        let town = town();
        let cancelled =
            |id: &str| town.database().change_and_tell(|rows| cancel(rows, id).map(|(cancelled, tells)| ((cancelled, tells.len()), tells)));
        assert_eq!(cancelled("o-1"), Ok((Cancelled::Asked, 1)));
        assert_eq!(state(&town).0, OrderState::Pending, "nothing is decided here");
        town.hears(1, &refused("CANCELLED"));
        assert_eq!(cancelled("o-1"), Ok((Cancelled::TooLate, 0)));
        assert_eq!(cancelled("o-9"), Ok((Cancelled::Unknown, 0)));
    }
}
