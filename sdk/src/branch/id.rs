//! Which branch of which transaction, and the name under which a resource manager keeps it when it is prepared.

use sagamq_api::saga::Call;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// What every name of a prepared transaction of ours begins with.
const PREFIX: &str = "sagamq";

/// Most bytes of the name of a branch: the whole text stays below the 200 bytes that PostgreSQL takes.
pub const BRANCH_NAME_BYTES_MAX: usize = 120;

/// One branch of a transaction: all that the transaction does at one service.
///
/// Its text is `sagamq/{cluster}/{instance}/{branch}`, the ids as 32 hexadecimal digits: the name of the prepared transaction, so that whoever
/// finds it after a crash knows whom to ask for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchId {
    /// The data of the coordinator: only it may decide.
    pub cluster: Uuid,
    /// Id of the transaction.
    pub instance: Uuid,
    /// Name of the branch: that of the service.
    pub branch: String,
}

/// Why a text or a name is not that of a branch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BranchIdError {
    /// The text does not begin as ours do: it is the name of somebody else's prepared transaction.
    #[error("`{0}` is not the name of a branch: those are `sagamq/{{cluster}}/{{instance}}/{{branch}}`")]
    Foreign(String),
    /// It begins as ours do, and an id in it cannot be read.
    #[error("`{text}` is not the name of a branch: its {part} is not 32 hexadecimal digits")]
    Id {
        /// The whole text.
        text: String,
        /// Which of the two ids.
        part: &'static str,
    },
    /// The branch has a name that none may have.
    #[error("`{0}` cannot be the name of a branch: 1 to {BRANCH_NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`")]
    Name(String),
}

impl BranchId {
    /// The branch of this name.
    ///
    /// # Errors
    /// When the name is empty, too long, or has other characters than names have.
    pub fn new(cluster: Uuid, instance: Uuid, branch: impl Into<String>) -> Result<Self, BranchIdError> {
        let branch = branch.into();
        let is_legal = branch.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if branch.is_empty() || branch.len() > BRANCH_NAME_BYTES_MAX || !is_legal {
            return Err(BranchIdError::Name(branch));
        }
        Ok(Self { cluster, instance, branch })
    }

    /// The branch that a call is of; none if it belongs to no transaction.
    #[must_use]
    pub fn of(call: &Call) -> Option<Result<Self, BranchIdError>> {
        let transaction = call.transaction.as_ref()?;
        Some(Self::new(transaction.cluster, call.attempt.instance, transaction.branch.clone()))
    }
}

impl fmt::Display for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}/{}/{}/{}", self.cluster.simple(), self.instance.simple(), self.branch)
    }
}

impl FromStr for BranchId {
    type Err = BranchIdError;

    fn from_str(text: &str) -> Result<Self, BranchIdError> {
        let mut parts = text.splitn(4, '/');
        let (Some(PREFIX), Some(cluster), Some(instance), Some(branch)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(BranchIdError::Foreign(text.to_owned()));
        };
        let id = |digits: &str, part| {
            // The one form that is written: another text of the same id would be another name.
            let is_simple = digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let id = Uuid::try_parse(digits).ok().filter(|_| is_simple);
            id.ok_or_else(|| BranchIdError::Id { text: text.to_owned(), part })
        };
        Self::new(id(cluster, "cluster")?, id(instance, "instance")?, branch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_text_is_the_documented_one() {
        let id = BranchId::new(Uuid::from_u128(1), Uuid::from_u128(0xabc), "inventory").expect("legal");
        assert_eq!(id.to_string(), "sagamq/00000000000000000000000000000001/00000000000000000000000000000abc/inventory");
        assert_eq!(id.to_string().parse(), Ok(id));
        let longest = BranchId::new(Uuid::max(), Uuid::max(), "x".repeat(BRANCH_NAME_BYTES_MAX)).expect("legal");
        assert!(longest.to_string().len() < 200);
    }

    #[test]
    fn what_is_none_says_why() {
        let parse = |text: &str| text.parse::<BranchId>().expect_err("not legal");
        for foreign in ["", "mine", "sagamq/1", "other/1/2/3", "sagamq_/1/2/3"] {
            assert!(matches!(parse(foreign), BranchIdError::Foreign(_)), "{foreign}");
        }
        let id = Uuid::from_u128(10).simple().to_string();
        assert!(matches!(parse(&format!("sagamq/1/{id}/b")), BranchIdError::Id { part: "cluster", .. }));
        assert!(matches!(parse(&format!("sagamq/{id}/{}/b", id.to_uppercase())), BranchIdError::Id { part: "instance", .. }));
        for name in ["", "a/b", "ü", &"x".repeat(BRANCH_NAME_BYTES_MAX + 1)] {
            assert!(matches!(parse(&format!("sagamq/{id}/{id}/{name}")), BranchIdError::Name(_)), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_read_back_and_any_other_is_refused_without_a_panic(cluster: u128, instance: u128, branch in "[a-zA-Z0-9._-]{1,120}", any in ".{0,120}") {
            let id = BranchId::new(Uuid::from_u128(cluster), Uuid::from_u128(instance), branch).expect("legal");
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            if let Ok(id) = any.parse::<BranchId>() {
                prop_assert_eq!(id.to_string(), any);
            }
        }
    }
}
