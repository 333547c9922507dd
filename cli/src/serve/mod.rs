//! The server: storage, broker, orchestrator and their HTTP interface, put together. A library, so that tests can start servers in
//! their own process.

mod config;
mod connections;
mod first_key;
pub(crate) mod key_file;
pub mod log;
pub(crate) mod open_files;
mod provider;
mod refusals;
mod server;
pub(crate) mod signals;
mod tls;

pub use config::{AuthenticationMode, ServeConfig};
pub use provider::KeySource;
pub use server::{Server, StartError};
pub use tls::TlsFiles;
