//! The shop without an orchestrator: each service hears what others tell, does its part in its own transaction, and tells what it did.
//!
//! ```text
//! orders       OrderPlaced ─┐                                    OrderRejected ◄─ StockRefused, ShipmentRefused, PaymentRefused
//! inventory                 └► StockReserved ─┐                        └► inventory and shipping give back what they hold
//! shipping                                    └► ShipmentReserved ─┐
//! payments     OrderPaid ◄── deposit, hold, capture ◄──────────────┘   CancelRequested, OrderExpired ─► PaymentRefused, or too late
//!                  └► StockSold ─► ParcelDispatched ─► PostageCharged ─► OrderCompleted
//! ```
//!
//! The services' effects are those that sagas call. What an orchestrator did for them is theirs now:
//!
//! - **What was heard before** is known by the inbox, and **what is told** lies in the outbox, both in the transaction of the effect
//!   ([`Desk::once`]).
//! - **What comes too late**, because the order was given up meanwhile, takes nothing: each service remembers its [`Part`] in each order.
//! - **Whether an order may still be cancelled** is decided where the money is, in the payment service: nobody else knows.
//! - **The order's time** is an event that the order service tells in advance.
//!
//! What no file here says is how an order goes on as a whole: that is spread over the `reactions` of four services.

mod desk;
mod part;
#[cfg(test)]
pub(crate) mod testing;

pub use desk::{Desk, again};
pub use part::{Part, Taken, give_back, take};

use crate::events::{OrderEvent, Teller};
use crate::store::Rows;
use sagamq_api::PartitionId;
use sagamq_api::saga::{AttemptId, Call, Operation};
use sagamq_sdk::CallError;
use serde_json::Value;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

/// What a service does because of an event, in the transaction that remembers it, and what it tells then.
pub type React = fn(&Rows<'_>, &OrderEvent) -> Result<Vec<OrderEvent>, CallError>;

/// A service's side of the choreography, if all that it does is in its own database.
#[derive(Clone, Copy, Debug)]
pub struct Reactions {
    /// Which service it is.
    pub of: Teller,
    /// Whom it hears.
    pub hears: &'static [Teller],
    /// Whether it does anything because of this event. All others are acknowledged, and leave no row and no sync behind.
    pub concerns: fn(&OrderEvent) -> bool,
    /// What it does.
    pub react: React,
}

/// What an orchestrator would have sent: the call of a step of this order, with a key that is the same whenever it is made again.
///
/// # Panics
/// If `step` is no step's name.
#[must_use]
pub fn order_call(order_id: &str, step: &str, operation: Operation, call: &str, arguments: Value) -> Call {
    let instance = Uuid::from_u128(xxh3_128(order_id.as_bytes()));
    let attempt = AttemptId { instance, step: step.parse().expect("a legal name"), item: None, operation, epoch: 1 };
    Call {
        idempotency_key: attempt.call().to_string(),
        attempt,
        saga: "choreography".parse().expect("a legal name"),
        version: 1,
        key: order_id.to_owned(),
        call: call.to_owned(),
        must_succeed: operation == Operation::Compensation,
        started_at_ms: 0,
        deadline_ms: u64::MAX,
        timeout_ms: u64::MAX,
        arguments: arguments.into(),
        action_output: None,
        lock: None,
        transaction: None,
        reply_partition: PartitionId(0),
    }
}
