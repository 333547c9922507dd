//! What the inventory does in the choreography.

use super::{release, reserve, sell};
use crate::choreography::{Reactions, Taken, give_back, order_call, take};
use crate::events::{OrderEvent, Teller};
use crate::store::Rows;
use sagamq_api::saga::Operation::{Action, Compensation};
use sagamq_sdk::CallError;
use serde_json::json;

pub(super) const REACTIONS: Reactions = Reactions { of: Teller::Inventory, hears: &[Teller::Orders, Teller::Payments], concerns, react };

const fn concerns(event: &OrderEvent) -> bool {
    matches!(event, OrderEvent::OrderPlaced { .. } | OrderEvent::OrderPaid(_) | OrderEvent::OrderRejected { .. })
}

/// Holds pieces for an order that is placed, sells them when it is paid, and gives them back when nothing came of it.
fn react(rows: &Rows<'_>, event: &OrderEvent) -> Result<Vec<OrderEvent>, CallError> {
    let order_id = event.order_id();
    match event {
        OrderEvent::OrderPlaced { order } => {
            let lines = json!({ "order_id": order_id, "lines": order.lines });
            Ok(match take(rows, &order_call(order_id, "reserve_stock", Action, "reserve", lines), reserve)? {
                Taken::Now(_) => vec![OrderEvent::StockReserved { order: order.clone() }],
                Taken::Refused(failure) => vec![OrderEvent::StockRefused { order_id: order_id.to_owned(), reason: failure.code }],
                Taken::TooLate => Vec::new(),
            })
        }
        OrderEvent::OrderPaid(parcel) => {
            sell(rows, &order_call(order_id, "sell_stock", Action, "sell", json!({ "order_id": order_id })))?;
            Ok(vec![OrderEvent::StockSold(parcel.clone())])
        }
        OrderEvent::OrderRejected { .. } => {
            let undo = order_call(order_id, "reserve_stock", Compensation, "release", json!({ "order_id": order_id }));
            give_back(rows, &undo, release)?;
            Ok(Vec::new())
        }
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choreography::testing::{Town, order, parcel};
    use crate::inventory::{Reservation, ReservationState, Stock, receive};

    /// An inventory with five mugs.
    fn town() -> Town {
        let town = Town::new(&REACTIONS);
        receive(town.database(), &[("mug".to_owned(), 5)].into()).expect("stored");
        town
    }

    fn mugs(town: &Town) -> (u64, u64, u64) {
        let Stock { on_hand, reserved, sold, .. } = town.database().get("mug").expect("readable").expect("received");
        (on_hand, reserved, sold)
    }

    #[test]
    fn pieces_are_held_sold_and_told_of_once_however_often_an_event_is_delivered() {
        let town = town();
        let placed = OrderEvent::OrderPlaced { order: order("o-1", 3) };
        assert_eq!(town.hears(1, &placed), [OrderEvent::StockReserved { order: order("o-1", 3) }]);
        assert_eq!(town.hears(1, &placed), [], "the same delivery");
        assert_eq!(town.hears(2, &placed), [], "the same event, stored twice");
        assert_eq!(mugs(&town), (2, 3, 0));
        let paid = OrderEvent::OrderPaid(parcel("o-1", 3));
        assert_eq!(town.hears(3, &paid), [OrderEvent::StockSold(parcel("o-1", 3))]);
        assert_eq!(town.hears(3, &paid), []);
        assert_eq!(mugs(&town), (2, 0, 3));
        assert_eq!(town.database().counts(), (5, 2));
    }

    #[test]
    fn a_refusal_is_told_and_leaves_nothing_held_although_the_first_line_was_there() {
        let town = town();
        let mut wanted = order("o-1", 3);
        wanted.lines.push(crate::domain::Line { sku: "poster".into(), quantity: 1 });
        let refused = OrderEvent::StockRefused { order_id: "o-1".into(), reason: "OUT_OF_STOCK".into() };
        assert_eq!(town.hears(1, &OrderEvent::OrderPlaced { order: wanted }), [refused]);
        assert_eq!(mugs(&town), (5, 0, 0));
        assert_eq!(
            town.hears(2, &OrderEvent::OrderRejected { order_id: "o-1".into(), card: "card".into(), reason: "OUT_OF_STOCK".into() }),
            []
        );
        assert_eq!(mugs(&town), (5, 0, 0), "what was never held is not given back");
    }

    #[test]
    fn what_is_held_is_given_back_once_and_an_order_that_was_given_up_holds_nothing_however_late_it_comes() {
        let town = town();
        let rejected = OrderEvent::OrderRejected { order_id: "o-1".into(), card: "card".into(), reason: "CARD_REFUSED".into() };
        town.hears(1, &OrderEvent::OrderPlaced { order: order("o-1", 3) });
        for record in [2, 2, 3] {
            assert_eq!(town.hears(record, &rejected), []);
        }
        assert_eq!(mugs(&town), (5, 0, 0));
        let row: Reservation = town.database().get("o-1").expect("readable").expect("held once");
        assert_eq!(row.state, ReservationState::Released);
        town.hears(4, &OrderEvent::OrderRejected { order_id: "o-2".into(), card: "card".into(), reason: "CANCELLED".into() });
        assert_eq!(town.hears(5, &OrderEvent::OrderPlaced { order: order("o-2", 3) }), [], "nobody is told to go on");
        assert_eq!(mugs(&town), (5, 0, 0));
    }

    #[test]
    fn a_sale_of_nothing_is_no_event_but_an_alarm() {
        let town = town();
        assert!(town.fails(1, &OrderEvent::OrderPaid(parcel("o-1", 3))).contains("NO_RESERVATION"));
        assert!(town.told().is_empty());
    }
}
