//! The server as it runs: storage, broker, orchestrator and their HTTP interface, put together, listening, and ended in the right order.

mod activity;
mod answers;
mod cluster_metrics;
mod config;
mod connection_metrics;
mod connections;
mod drain;
mod first_key;
mod front;
pub mod key_file;
mod node;
pub mod open_files;
mod parts;
mod peers;
mod places;
mod process;
mod provider;
mod refusals;
mod renewal;
mod server;
mod start_error;
mod telemetry;
mod tls;

pub use config::{AuditSettings, AuthenticationMode, ClusterSettings, ServeConfig};
pub use provider::KeySource;
pub use server::Server;
pub use start_error::StartError;
pub use tls::TlsFiles;
