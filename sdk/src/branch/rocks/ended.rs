//! What the owner still knows of branches that have ended: answers to repetitions, and a fence before calls that come late.

use super::row::RowKind;
use crate::branch::error::{BRANCH_COMMITTED, BRANCH_EXPIRED, BRANCH_ROLLED_BACK, BRANCH_UNKNOWN, BranchError};
use crate::branch::id::BranchId;
use std::collections::{HashMap, VecDeque};

/// Most ended branches in memory. What is forgotten is looked up on disk: only that a branch was read only, or expired, is lost, and both then
/// read as unknown.
const ENDED_MAX: usize = 16 * 1024;

/// How a branch has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Committed,
    /// It had changed nothing.
    ReadOnly,
    /// Why.
    RolledBack(String),
    Expired,
    /// Its commit in one phase was refused, and nothing more is known of it.
    Refused,
}

impl From<RowKind> for Ended {
    fn from(kind: RowKind) -> Self {
        match kind {
            RowKind::Committed => Self::Committed,
            RowKind::Refused => Self::Refused,
        }
    }
}

impl Ended {
    /// The refusal of what comes too late.
    pub(super) fn refusal(&self) -> BranchError {
        match self {
            Self::Committed => BranchError::refused(BRANCH_COMMITTED, "the branch is committed"),
            Self::ReadOnly => BranchError::refused(BRANCH_COMMITTED, "the branch has ended: it had changed nothing"),
            Self::RolledBack(why) => BranchError::refused(BRANCH_ROLLED_BACK, format!("the branch was rolled back: {why}")),
            Self::Expired => BranchError::refused(BRANCH_EXPIRED, "the branch was rolled back, because it heard nothing for too long"),
            Self::Refused => BranchError::refused(BRANCH_UNKNOWN, "the commit of the branch was refused before, and it was given up"),
        }
    }
}

/// The branches that ended last.
#[derive(Debug, Default)]
pub(super) struct EndedBranches {
    by_id: HashMap<BranchId, Ended>,
    in_order: VecDeque<BranchId>,
}

impl EndedBranches {
    pub(super) fn get(&self, id: &BranchId) -> Option<&Ended> {
        self.by_id.get(id)
    }

    /// Remembers an end. The first one that is known of a branch stands.
    pub(super) fn add(&mut self, id: &BranchId, ended: Ended) {
        if self.by_id.contains_key(id) {
            return;
        }
        self.by_id.insert(id.clone(), ended);
        self.in_order.push_back(id.clone());
        if self.in_order.len() > ENDED_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_oldest_are_forgotten_and_the_first_end_stands() {
        let id = |number: usize| BranchId { cluster: Uuid::nil(), instance: Uuid::from_u128(number as u128), branch: "b".into() };
        let mut ended = EndedBranches::default();
        for number in 0..=ENDED_MAX {
            ended.add(&id(number), Ended::Expired);
            ended.add(&id(number), Ended::Committed);
        }
        assert_eq!((ended.get(&id(0)), ended.get(&id(1))), (None, Some(&Ended::Expired)));
        assert_eq!((ended.by_id.len(), ended.in_order.len()), (ENDED_MAX, ENDED_MAX));
    }
}
