//! [`Role`].

use core::fmt;

/// What a key may do with what it is given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Store records, start sagas, signal them.
    Produce,
    /// Receive and settle records of a group, read by offset, reply to calls of sagas.
    Consume,
    /// Make, change and delete topics and groups; publish and activate saga definitions.
    Manage,
    /// An operator's verbs: pause, seek, purge and redrive groups; cancel, retry, resolve sagas; look at the metrics.
    Operate,
    /// All of it; and the keys themselves, if it is given for everything.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Produce, Self::Consume, Self::Manage, Self::Operate, Self::Admin];

    /// The role that is written so.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// The role as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Manage => "manage",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
