//! Why a lock is not taken away from who holds it.

use sagamq_broker::WriteError;

/// Why a lock was not taken away.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotTaken {
    /// Nobody holds it.
    #[error("nobody holds the lock `{0}`")]
    NotHeld(String),
    /// It is held with another token.
    #[error("the lock `{key}` is not held with the token {wanted}: it has another holder since, with the token {token}")]
    OtherToken {
        /// The key.
        key: String,
        /// The token that was asked for.
        wanted: u64,
        /// The token with which it is held.
        token: u64,
    },
    /// The lane takes no inputs, or what it decided did not become durable, as far as it is known.
    #[error(transparent)]
    Write(#[from] WriteError),
}
