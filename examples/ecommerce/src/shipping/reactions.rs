//! What shipping does in the choreography.

use super::{cancel, dispatch, reserve};
use crate::choreography::{Reactions, Taken, give_back, order_call, take};
use crate::domain::Money;
use crate::events::{OrderEvent, Parcel, Teller};
use crate::store::Rows;
use sagamq_api::saga::Operation::{Action, Compensation};
use sagamq_sdk::CallError;
use serde::Deserialize;
use serde_json::json;

pub(super) const REACTIONS: Reactions = Reactions { of: Teller::Shipping, hears: &[Teller::Orders, Teller::Inventory], concerns, react };

const fn concerns(event: &OrderEvent) -> bool {
    matches!(event, OrderEvent::StockReserved { .. } | OrderEvent::StockSold(_) | OrderEvent::OrderRejected { .. })
}

/// What a place on a truck comes with.
#[derive(Deserialize)]
struct Place {
    postage: Money,
    tracking: String,
}

/// Reserves a place when the pieces are held, sends the parcel when they are sold, and gives the place back when nothing came of the order.
fn react(rows: &Rows<'_>, event: &OrderEvent) -> Result<Vec<OrderEvent>, CallError> {
    let order_id = event.order_id();
    match event {
        OrderEvent::StockReserved { order } => {
            let to = json!({ "order_id": order_id, "country": order.country });
            Ok(match take(rows, &order_call(order_id, "reserve_shipment", Action, "reserve", to), reserve)? {
                Taken::Now(output) => {
                    let Place { postage, tracking } = serde_json::from_value(output)?;
                    vec![OrderEvent::ShipmentReserved(Parcel { order: order.clone(), postage, tracking })]
                }
                Taken::Refused(failure) => vec![OrderEvent::ShipmentRefused { order_id: order_id.to_owned(), reason: failure.code }],
                Taken::TooLate => Vec::new(),
            })
        }
        OrderEvent::StockSold(parcel) => {
            dispatch(rows, &order_call(order_id, "dispatch", Action, "dispatch", json!({ "order_id": order_id })))?;
            Ok(vec![OrderEvent::ParcelDispatched(parcel.clone())])
        }
        OrderEvent::OrderRejected { .. } => {
            let undo = order_call(order_id, "reserve_shipment", Compensation, "cancel", json!({ "order_id": order_id }));
            give_back(rows, &undo, cancel)?;
            Ok(Vec::new())
        }
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choreography::testing::{Town, order, parcel};
    use crate::shipping::{Shipment, ShipmentState};
    use crate::store::{Noticed, Oddity};
    use std::collections::BTreeMap;

    fn state(town: &Town) -> Option<ShipmentState> {
        town.database().get::<Shipment>("o-1").expect("readable").map(|shipment| shipment.state)
    }

    #[test]
    fn a_place_is_reserved_used_and_told_of_once() {
        let town = Town::new(&REACTIONS);
        for told in [vec![OrderEvent::ShipmentReserved(parcel("o-1", 1))], Vec::new()] {
            assert_eq!(town.hears(1, &OrderEvent::StockReserved { order: order("o-1", 1) }), told);
        }
        assert_eq!(state(&town), Some(ShipmentState::Reserved));
        for told in [vec![OrderEvent::ParcelDispatched(parcel("o-1", 1))], Vec::new()] {
            assert_eq!(town.hears(2, &OrderEvent::StockSold(parcel("o-1", 1))), told);
        }
        assert_eq!(state(&town), Some(ShipmentState::Dispatched));
    }

    #[test]
    fn an_address_that_is_not_served_is_an_event() {
        let town = Town::new(&REACTIONS);
        let mut far = order("o-1", 1);
        far.country = "AQ".into();
        let refused = OrderEvent::ShipmentRefused { order_id: "o-1".into(), reason: "ADDRESS_NOT_SERVED".into() };
        assert_eq!(town.hears(1, &OrderEvent::StockReserved { order: far }), [refused]);
        assert_eq!(state(&town), None);
    }

    #[test]
    fn an_order_that_was_given_up_gets_no_place_and_the_books_say_that_it_came_late() {
        let town = Town::new(&REACTIONS);
        assert_eq!(town.hears(1, &OrderEvent::OrderRejected { order_id: "o-1".into(), card: "card".into(), reason: "TIMEOUT".into() }), []);
        assert_eq!(town.hears(2, &OrderEvent::StockReserved { order: order("o-1", 1) }), []);
        assert_eq!(state(&town), None);
        let noticed: BTreeMap<String, Noticed> = town.database().all().expect("readable");
        assert_eq!(noticed.into_values().map(|noticed| noticed.oddity).collect::<Vec<_>>(), [Oddity::LateAction]);
    }

    #[test]
    fn a_place_is_given_back_once() {
        let town = Town::new(&REACTIONS);
        town.hears(1, &OrderEvent::StockReserved { order: order("o-1", 1) });
        for record in [2, 2, 3] {
            town.hears(record, &OrderEvent::OrderRejected { order_id: "o-1".into(), card: "card".into(), reason: "CARD_LOST".into() });
        }
        assert_eq!(state(&town), Some(ShipmentState::Cancelled));
    }
}
