//! Command records of a lane that are not settled: where the record of each open attempt lies.
//!
//! An offset is known only after its commit was handed over, so it cannot stand in that same commit. Instead commits that touch a
//! command topic store a floor from time to time: every command below it is settled. After a crash the records from there on are read
//! again, and their headers say which attempts they belong to.

use sagamq_api::saga::AttemptId;
use sagamq_api::{Offset, TopicName};
use std::collections::{BTreeSet, HashMap};

/// How far a floor rises before it is stored again. One that lags costs a start so many records more of each topic, and a row less in almost
/// every commit.
const FLOOR_STEP: u64 = 64;

/// Open command records, by attempt.
#[derive(Debug, Default)]
pub(crate) struct OpenCommands {
    by_attempt: HashMap<AttemptId, (TopicName, Offset)>,
    by_topic: HashMap<TopicName, TopicCommands>,
}

#[derive(Debug, Default)]
struct TopicCommands {
    open: BTreeSet<Offset>,
    /// Offset after the newest command of the lane.
    end: Offset,
    /// The floor that was stored last.
    stored: Offset,
}

impl TopicCommands {
    fn floor(&self) -> Offset {
        self.open.first().copied().unwrap_or(self.end)
    }
}

impl OpenCommands {
    /// A command record was placed.
    pub(crate) fn insert(&mut self, attempt: AttemptId, topic: &TopicName, offset: Offset) {
        let commands = self.by_topic.entry(topic.clone()).or_default();
        commands.open.insert(offset);
        commands.end = commands.end.max(offset.next());
        self.by_attempt.insert(attempt, (topic.clone(), offset));
    }

    /// Takes the record of an attempt, to settle it.
    pub(super) fn take(&mut self, attempt: &AttemptId) -> Option<(TopicName, Offset)> {
        let (topic, offset) = self.by_attempt.remove(attempt)?;
        if let Some(commands) = self.by_topic.get_mut(&topic) {
            commands.open.remove(&offset);
        }
        Some((topic, offset))
    }

    /// Where the record of an attempt lies.
    pub(super) fn find(&self, attempt: &AttemptId) -> Option<&(TopicName, Offset)> {
        self.by_attempt.get(attempt)
    }

    /// The floor of the topic, if it is time to store it: every command below it is settled. From now on it counts as stored.
    pub(super) fn floor_to_store(&mut self, topic: &TopicName) -> Option<Offset> {
        let commands = self.by_topic.get_mut(topic)?;
        let floor = commands.floor();
        // Never back: what is open again below it, because a commit was not taken, was not stored as settled either.
        let is_due = floor.0 >= commands.stored.0.saturating_add(FLOOR_STEP);
        is_due.then(|| {
            commands.stored = floor;
            floor
        })
    }

    /// This floor was found stored.
    pub(crate) fn floor_is_stored(&mut self, topic: &TopicName, floor: Offset) {
        self.by_topic.entry(topic.clone()).or_default().stored = floor;
    }

    /// Records below this offset were read or need not be.
    pub(crate) fn raise_end(&mut self, topic: &TopicName, end: Offset) {
        let commands = self.by_topic.entry(topic.clone()).or_default();
        commands.end = commands.end.max(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::saga::Operation;
    use uuid::Uuid;

    #[test]
    fn the_floor_is_the_oldest_open_command_and_is_stored_when_it_has_risen_far_enough() {
        let topic: TopicName = "t".parse().expect("legal");
        let attempt =
            |epoch| AttemptId { instance: Uuid::nil(), step: "a".parse().expect("legal"), item: None, operation: Operation::Action, epoch };
        let mut commands = OpenCommands::default();
        assert_eq!(commands.floor_to_store(&topic), None);
        let last = u32::try_from(2 * FLOOR_STEP).expect("small");
        for epoch in 1..=last {
            commands.insert(attempt(epoch), &topic, Offset(u64::from(epoch) + 10));
        }
        commands.floor_is_stored(&topic, Offset(11));
        assert_eq!(commands.take(&attempt(1)), Some((topic.clone(), Offset(11))));
        assert_eq!(commands.take(&attempt(1)), None);
        assert_eq!(commands.floor_to_store(&topic), None, "it rose by one");
        for epoch in 3..=last {
            commands.take(&attempt(epoch));
        }
        assert_eq!(commands.floor_to_store(&topic), None, "an open command holds it down");
        commands.take(&attempt(2));
        assert_eq!(commands.floor_to_store(&topic), Some(Offset(11 + u64::from(last))), "nothing is open");
        assert_eq!(commands.floor_to_store(&topic), None, "it is stored");
    }
}
