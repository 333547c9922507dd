//! [`Session`]: who was found out to ask, for as long as that holds.

use super::keys::{KeySession, pause};
use super::tokens::Identity;
use crate::env::Clock;
use sagamq_api::access::Rights;
use std::sync::Arc;

/// Who asks: with a key, or with a token of the identity provider.
#[derive(Clone, Debug)]
pub(crate) struct Session(Shown);

#[derive(Clone, Debug)]
enum Shown {
    Key(KeySession),
    Token(Arc<TokenSession>),
}

#[derive(Debug)]
struct TokenSession {
    principal: String,
    rights: Rights,
    until_ms: u64,
}

impl From<KeySession> for Session {
    fn from(session: KeySession) -> Self {
        Self(Shown::Key(session))
    }
}

impl From<Identity> for Session {
    fn from(Identity { subject, rights, until_ms }: Identity) -> Self {
        Self(Shown::Token(Arc::new(TokenSession { principal: format!("token:{subject}"), rights, until_ms })))
    }
}

impl Session {
    /// What logs and histories call who asks: `key:NAME` or `token:SUBJECT`.
    pub(crate) fn principal(&self) -> &str {
        match &self.0 {
            Shown::Key(key) => key.principal(),
            Shown::Token(token) => &token.principal,
        }
    }

    /// What he may do.
    pub(crate) fn rights(&self) -> &Rights {
        match &self.0 {
            Shown::Key(key) => key.rights(),
            Shown::Token(token) => &token.rights,
        }
    }

    /// Waits until it does not hold any more.
    pub(crate) async fn ended(self, clock: Arc<dyn Clock>) {
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
