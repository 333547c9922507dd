//! The server: storage, broker, orchestrator and their HTTP interface, put together. A library, so that tests can start servers in
//! their own process.

mod config;
mod connections;
pub mod log;
mod refusals;
mod server;
pub(crate) mod signals;

pub use config::ServeConfig;
pub use server::{Server, StartError};
