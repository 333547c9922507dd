//! [`Session`]: who was found out to ask, for as long as that holds.

use super::keys::{ApiKeys, KeyRefused, KeySession, pause};
use super::secret::Secret;
use super::tokens::{Identity, TokenRefused, Tokens};
use crate::env::Clock;
use sagamq_api::access::{KeyQuota, Rights};
use std::sync::Arc;

/// Who asks: with a key, or with a token of the identity provider.
#[derive(Clone, Debug)]
pub struct Session(Shown);

#[derive(Clone, Debug)]
enum Shown {
    Key(KeySession),
    Token(Arc<TokenSession>),
}

#[derive(Debug)]
struct TokenSession {
    principal: String,
    rights: Rights,
    quota: KeyQuota,
    until_ms: u64,
}

impl Session {
    /// Who shows this secret, if it is that of a key that is valid now.
    ///
    /// # Errors
    /// [`KeyRefused`].
    pub fn by_key(keys: &ApiKeys, secret: &Secret, now_ms: u64) -> Result<Self, KeyRefused> {
        Ok(Self(Shown::Key(keys.verify(secret, now_ms)?)))
    }

    /// Who shows this token, if it is valid now.
    ///
    /// # Errors
    /// [`TokenRefused`].
    pub fn by_token(tokens: &Tokens, token: &str, now_ms: u64) -> Result<Self, TokenRefused> {
        let Identity { subject, rights, quota, until_ms } = tokens.verify(token, now_ms)?;
        Ok(Self(Shown::Token(Arc::new(TokenSession { principal: format!("token:{subject}"), rights, quota, until_ms }))))
    }

    /// What logs and histories call who asks: `key:NAME` or `token:SUBJECT`.
    #[must_use]
    pub fn principal(&self) -> &str {
        match &self.0 {
            Shown::Key(key) => key.principal(),
            Shown::Token(token) => &token.principal,
        }
    }

    /// What he may do.
    #[must_use]
    pub fn rights(&self) -> &Rights {
        match &self.0 {
            Shown::Key(key) => key.rights(),
            Shown::Token(token) => &token.rights,
        }
    }

    /// How much he may have, where his key or his token says.
    #[must_use]
    pub fn quota(&self) -> KeyQuota {
        match &self.0 {
            Shown::Key(key) => key.quota(),
            Shown::Token(token) => token.quota,
        }
    }

    /// Waits until it does not hold any more.
    pub async fn ended(self, clock: Arc<dyn Clock>) {
        match self.0 {
            Shown::Key(key) => key.ended(clock).await,
            Shown::Token(token) => {
                while clock.now_ms() < token.until_ms {
                    tokio::time::sleep(pause(token.until_ms, clock.now_ms())).await;
                }
            }
        }
    }
}
