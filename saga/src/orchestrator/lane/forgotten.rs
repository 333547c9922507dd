//! Instances that a lane has removed with commits that are not durable yet: the disk has them still, and nobody else may.

use std::collections::{HashSet, VecDeque};
use uuid::Uuid;

/// Instances that are on their way out.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    ids: HashSet<Uuid>,
    /// Each with the commit that removes it.
    leaving: VecDeque<(u64, Uuid)>,
}

impl Forgotten {
    /// It is removed with this commit.
    pub(super) fn add(&mut self, commit: u64, id: Uuid) {
        if self.ids.insert(id) {
            self.leaving.push_back((commit, id));
        }
    }

    /// Whether it is removed, whatever the disk says.
    pub(super) fn contains(&self, id: Uuid) -> bool {
        self.ids.contains(&id)
    }

    /// What was removed with these commits is gone from the disk as well.
    pub(super) fn durable(&mut self, commit: u64) {
        while let Some((_, id)) = self.leaving.pop_front_if(|(removes, _)| *removes <= commit) {
            self.ids.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_known_until_that_is_durable() {
        let [a, b] = [1, 2].map(Uuid::from_u128);
        let mut forgotten = Forgotten::default();
        forgotten.add(3, a);
        forgotten.add(4, a);
        forgotten.add(4, b);
        forgotten.durable(2);
        assert!(forgotten.contains(a) && forgotten.contains(b));
        forgotten.durable(3);
        assert!(!forgotten.contains(a) && forgotten.contains(b));
        forgotten.durable(9);
        assert!(!forgotten.contains(b) && forgotten.leaving.is_empty());
    }
}
