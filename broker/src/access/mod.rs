//! API keys: their secrets, what is stored of them, and all of them in memory; and signed tokens of an identity provider. Who may do what with one is decided in `sagamq_api::access`.

mod entry;
mod keys;
mod secret;
mod session;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use entry::{KeyEntry, PreviousSecret};
pub use keys::{ApiKeys, KeyRefused};
pub use secret::{MalformedSecret, Secret, SecretHash};
pub use session::Session;
pub use tokens::{TokenRefused, TokenRules, Tokens};
