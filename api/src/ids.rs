//! Numeric identities. No bare integer passes this file.

use core::fmt;
#[cfg(feature = "json-schema")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
#[cfg(feature = "openapi")]
use utoipa::ToSchema;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(ToSchema))]
        #[cfg_attr(feature = "json-schema", derive(JsonSchema))]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A partition of a topic, counted from 0.
    PartitionId(u32)
}

id! {
    /// The place of a record in its partition: the first is 0, each next one is one higher, none is used twice.
    Offset(u64)
}

id! {
    /// One item of a step that fans out, counted from 0.
    ItemIndex(u32)
}

impl Offset {
    /// The offset `count` places later.
    ///
    /// # Panics
    /// When the sum passes `u64::MAX`: a partition cannot hold that many records.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("offsets never reach u64::MAX"))
    }

    /// The offset of the next record.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }
}
