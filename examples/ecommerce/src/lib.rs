//! The e-commerce example of SagaMQ: a shop of four services that sell things together without a shared database.
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | money, catalogue, orders: rules without I/O |
//! | [`orders`] | takes orders over HTTP, starts the checkout saga, keeps the order book |
//! | [`inventory`] | stock: on hand, reserved, sold |
//! | [`payments`] | cards: authorised, captured |
//! | [`shipping`] | shipments; called over HTTP, the others through their command topics |
//! | [`store`] | the embedded database of a service, with the barrier that makes each effect happen once |
//! | [`service`] | what the four processes have in common |
//! | [`demo`] | runs them all against a real broker, breaks things, and checks the books |
//!
//! The saga that ties them together is `sagas/checkout.yaml`.

pub mod demo;
pub mod domain;
pub mod inventory;
pub mod lost_replies;
pub mod orders;
pub mod payments;
pub mod service;
pub mod shipping;
pub mod store;
