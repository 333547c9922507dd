//! The payment provider: another company's system, which the shop reaches over HTTP and which knows nothing of sagas.
//!
//! It is here to show an effect outside of a participant's database. No transaction of the payment service spans it: the provider may
//! have taken the money while the answer was lost, comes late, or never comes. What a provider offers against that is what the real
//! ones offer:
//!
//! - an **idempotency key** with every request: the same key again gets the first answer, and nothing happens twice;
//! - a **look-up by that key**: what became of a request whose answer was lost;
//! - **closing a key**: the look-up's answer, and if there is none, nothing will ever happen under the key any more. (Some call it a
//!   cancel by the merchant's reference. With a provider that has no such thing, repeat the request under the same key to learn its
//!   answer, then refund what it took.)
//!
//! | request | meaning | answer |
//! |---|---|---|
//! | `POST /requests`, header `idempotency-key` | charge, hold, capture, refund, release | [`Answer`] |
//! | `GET /requests?key=` | what became of it | [`Answer`], 404 when there was no such request |
//! | `POST /requests/close?key=` | the same, and it will not happen later | [`Answer`] |
//! | `PUT /cards`, `PUT /faults` | cards of customers; what goes wrong on purpose | |
//! | `GET /books` | the ledger, row by row | [`ProviderBooks`] |

mod api;
mod faults;
mod ledger;

#[cfg(test)]
pub(crate) use api::routes;
pub use api::{ProviderArgs, run};
pub use faults::{Fault, Planned};
pub use ledger::{Answer, Card, Charge, NewCard, Operation, ProviderBooks, Purpose, Request};

/// The header that carries a request's key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
