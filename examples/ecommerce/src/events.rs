//! What services tell whoever wants to know: domain events, each service's on a topic of its own.
//!
//! In every style the order service says what became of an order, and does not know who listens: what happens *because* an order is finished
//! (points for the customer) is nobody's step. In the [choreography](crate::choreography) there is nothing else: each service says what it
//! did, and the next one goes on from there.

use crate::domain::{Money, NewOrder};
use crate::store::Told;
use sagamq_api::json::JsonTextError;
use sagamq_api::record::ProduceRecord;
use sagamq_api::topic::TopicConfig;
use sagamq_api::{GroupName, TopicName};
use sagamq_sdk::{Delivery, HandlerError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Who tells something, and who listens. The names of topics and groups come from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Teller {
    /// The order service.
    Orders,
    /// The inventory.
    Inventory,
    /// Shipping.
    Shipping,
    /// The payment service.
    Payments,
}

impl Teller {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Orders, Self::Inventory, Self::Shipping, Self::Payments];

    const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Inventory => "inventory",
            Self::Shipping => "shipping",
            Self::Payments => "payments",
        }
    }

    /// The topic of its events.
    ///
    /// # Panics
    /// Never: the name is legal.
    #[must_use]
    pub fn topic(self) -> TopicName {
        format!("{}.events", self.name()).parse().expect("a legal name")
    }

    /// The queue group by which it hears others.
    ///
    /// # Panics
    /// Never: the name is legal.
    #[must_use]
    pub fn group(self) -> GroupName {
        self.name().parse().expect("a legal name")
    }
}

/// How topics of events are kept. An event that cannot be handled now is handled later, however long a service is down: nothing becomes a
/// dead letter by being delivered often.
#[must_use]
pub fn topic_config() -> TopicConfig {
    TopicConfig { delivery_limit: 0, backoff_initial_ms: 100, backoff_max_ms: 2_000, ..TopicConfig::default() }
}

/// An order that has a place on a truck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// What is sent to whom. It goes along with each event, so that nobody has to ask for it.
    pub order: NewOrder,
    /// What it costs to send it.
    pub postage: Money,
    /// Where it can be followed.
    pub tracking: String,
}

/// Something that happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum OrderEvent {
    /// Orders: it is paid and sent.
    OrderCompleted {
        /// The order.
        order_id: String,
        /// The card that paid.
        card: String,
        /// What the goods cost.
        total: Money,
    },
    /// Orders: nothing came of it. Whoever holds something for it gives it back.
    OrderRejected {
        /// The order.
        order_id: String,
        /// The card that pays nothing.
        card: String,
        /// Why.
        reason: String,
    },
    /// Orders: it is wanted. What follows is only told in the choreography.
    OrderPlaced {
        /// The order.
        order: NewOrder,
    },
    /// Orders: its customer does not want it any more. Whether that is in time, the payment service decides.
    CancelRequested {
        /// The order.
        order_id: String,
    },
    /// Orders: it should have been paid by now. Told in advance, to be delivered when the time is over.
    OrderExpired {
        /// The order.
        order_id: String,
    },
    /// Inventory: its pieces are held.
    StockReserved {
        /// The order.
        order: NewOrder,
    },
    /// Inventory: there are too few.
    StockRefused {
        /// The order.
        order_id: String,
        /// Why.
        reason: String,
    },
    /// Inventory: its pieces are sold.
    StockSold(Parcel),
    /// Shipping: it has a place.
    ShipmentReserved(Parcel),
    /// Shipping: it cannot be sent there.
    ShipmentRefused {
        /// The order.
        order_id: String,
        /// Why.
        reason: String,
    },
    /// Shipping: it is on its way.
    ParcelDispatched(Parcel),
    /// Payments: the price is taken. From here on it only goes forward.
    OrderPaid(Parcel),
    /// Payments: nothing is taken, and nothing will be.
    PaymentRefused {
        /// The order.
        order_id: String,
        /// Why.
        reason: String,
    },
    /// Payments: the postage is taken as well.
    PostageCharged(Parcel),
}

impl OrderEvent {
    /// The order: events of one order keep their order.
    #[must_use]
    pub fn order_id(&self) -> &str {
        match self {
            Self::OrderCompleted { order_id, .. }
            | Self::OrderRejected { order_id, .. }
            | Self::CancelRequested { order_id }
            | Self::OrderExpired { order_id }
            | Self::StockRefused { order_id, .. }
            | Self::ShipmentRefused { order_id, .. }
            | Self::PaymentRefused { order_id, .. } => order_id,
            Self::OrderPlaced { order } | Self::StockReserved { order } => &order.order_id,
            Self::ShipmentReserved(parcel)
            | Self::OrderPaid(parcel)
            | Self::StockSold(parcel)
            | Self::ParcelDispatched(parcel)
            | Self::PostageCharged(parcel) => &parcel.order.order_id,
        }
    }

    /// Who says so.
    #[must_use]
    pub const fn teller(&self) -> Teller {
        match self {
            Self::OrderCompleted { .. }
            | Self::OrderRejected { .. }
            | Self::OrderPlaced { .. }
            | Self::CancelRequested { .. }
            | Self::OrderExpired { .. } => Teller::Orders,
            Self::StockReserved { .. } | Self::StockRefused { .. } | Self::StockSold(_) => Teller::Inventory,
            Self::ShipmentReserved(_) | Self::ShipmentRefused { .. } | Self::ParcelDispatched(_) => Teller::Shipping,
            Self::OrderPaid(_) | Self::PaymentRefused { .. } | Self::PostageCharged(_) => Teller::Payments,
        }
    }

    /// The event of a delivery.
    ///
    /// # Errors
    /// That the record becomes a dead letter, for somebody to look at: no later delivery could read it either.
    pub fn of(delivery: &Delivery) -> Result<Self, HandlerError> {
        delivery.record.json().map_err(|reason| HandlerError::terminate(format!("no event of an order: {reason}")))
    }

    /// As a record under the order's key.
    ///
    /// # Errors
    /// Never in practice: an event is JSON.
    pub fn record(&self) -> Result<ProduceRecord, JsonTextError> {
        Ok(ProduceRecord::json(self)?.with_key(self.order_id()))
    }

    /// As something that a transaction tells.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn told(&self) -> Result<Told, JsonTextError> {
        Ok(Told { topic: self.teller().topic(), record: self.record()? })
    }

    /// As something that a transaction tells in advance.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub fn told_in(&self, delay: Duration) -> Result<Told, JsonTextError> {
        Ok(Told { topic: self.teller().topic(), record: self.record()?.delayed(delay) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_told_and_bears_its_order() {
        let order = NewOrder { order_id: "o-1".into(), card: "c".into(), country: "DE".into(), lines: Vec::new() };
        let parcel = Parcel { order: order.clone(), postage: Money(490), tracking: "T".into() };
        for event in [
            OrderEvent::OrderPlaced { order },
            OrderEvent::OrderPaid(parcel),
            OrderEvent::StockRefused { order_id: "o-1".into(), reason: "OUT_OF_STOCK".into() },
        ] {
            let Told { topic, record } = event.told_in(Duration::from_secs(20)).expect("JSON");
            assert_eq!((record.key.as_deref(), record.delay_ms), (Some("o-1"), Some(20_000)));
            assert_eq!(topic, event.teller().topic());
            let read: OrderEvent = record.value.expect("a value").read().expect("an event");
            assert_eq!(read, event);
        }
    }
}
