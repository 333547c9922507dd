//! The e-commerce example of SagaMQ: a shop of five services that sell things together without a shared database, and the payment
//! provider that one of them depends on.
//!
//! | module | what it is |
//! |---|---|
//! | [`domain`] | money, catalogue, orders: rules without I/O |
//! | [`orders`] | takes orders over HTTP, starts the checkout saga, keeps the order book, tells others what became of an order |
//! | [`inventory`] | stock: on hand, reserved, sold |
//! | [`payments`] | takes money through the provider: an effect outside of every database of the shop |
//! | [`provider`] | the payment provider: another company's system, which loses answers |
//! | [`shipping`] | shipments; called over HTTP, the others through their command topics |
//! | [`events`] | what services tell whoever wants to know |
//! | [`loyalty`], [`notifications`], [`status`] | points, mails, and how far each order is: services that only listen |
//! | [`store`] | the database of a service, RocksDB or PostgreSQL, with the barrier that makes each effect happen once |
//! | [`choreography`] | the same services without an orchestrator: what each needs to react to events alone |
//! | [`mode`] | by a saga, by events, or with two-phase commit |
//! | [`service`], [`mishaps`] | what the processes have in common, and what goes wrong with them on purpose |
//! | [`trial`] | runs them all against a real broker, breaks things, and audits the books order by order |
//!
//! The saga that ties them together is `sagas/checkout.yaml`; `sagas/checkout-2pc.yaml` does the same in one transaction, and the
//! [`choreography`] without anybody who orders it.

pub mod choreography;
pub mod domain;
pub mod events;
pub mod inventory;
pub mod loyalty;
pub mod mishaps;
pub mod mode;
pub mod notifications;
pub mod orders;
pub mod payments;
pub mod provider;
pub mod service;
pub mod shipping;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod trial;
