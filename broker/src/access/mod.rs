//! API keys: their secrets, what is stored of them, and all of them in memory. Who may do what with one is decided in `sagamq_api::access`.

mod entry;
mod keys;
mod secret;
#[cfg(test)]
mod tests;

pub(crate) use entry::{KeyEntry, PreviousSecret};
pub use keys::{ApiKeys, KeyRefused, Session};
pub use secret::{MalformedSecret, Secret, SecretHash};
