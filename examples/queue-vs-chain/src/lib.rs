//! What the queue buys: four services in a row, once calling each other and once over the queue, with the same work, the same capacity and the
//! same trouble, and what becomes of the orders.

pub mod chain;
pub mod queue;
pub mod run;
pub mod scenario;
pub mod server;
pub mod service;
