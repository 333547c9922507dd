//! What the order service tells whoever wants to know: domain events on a topic.
//!
//! Orchestration and choreography stand beside each other here. The saga calls whom it needs to finish an order; what happens *because*
//! an order is finished (points for the customer) is nobody's step. The order service says that it happened, and does not know who
//! listens.

use crate::domain::Money;
use sagamq_api::TopicName;
use serde::{Deserialize, Serialize};

/// The topic of the events.
///
/// # Panics
/// Never: the name is legal.
#[must_use]
pub fn topic() -> TopicName {
    "orders.events".parse().expect("a legal name")
}

/// Something that happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum OrderEvent {
    /// It is paid and sent.
    OrderCompleted {
        /// The order.
        order_id: String,
        /// The card that paid.
        card: String,
        /// What the goods cost.
        total: Money,
    },
    /// Nothing came of it.
    OrderRejected {
        /// The order.
        order_id: String,
        /// Why.
        reason: String,
    },
}

impl OrderEvent {
    /// The order: events of one order keep their order.
    #[must_use]
    pub fn order_id(&self) -> &str {
        match self {
            Self::OrderCompleted { order_id, .. } | Self::OrderRejected { order_id, .. } => order_id,
        }
    }
}
