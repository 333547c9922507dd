//! Command records of a lane that are not settled: where the record of each open attempt lies.
//!
//! An offset is known only after its commit was handed over, so it cannot stand in that same commit. Instead each commit that touches a
//! command topic also stores a floor: every command below it is settled. After a crash the records from there on are read
//! again, and their headers say which attempts they belong to.

use sagamq_api::saga::AttemptId;
use sagamq_api::{Offset, TopicName};
use std::collections::{BTreeSet, HashMap};
use uuid::Uuid;

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

    /// Attempts of an instance that have records.
    pub(super) fn of_instance(&self, instance: Uuid) -> Vec<AttemptId> {
        self.by_attempt.keys().filter(|attempt| attempt.instance == instance).cloned().collect()
    }

    /// Every command of the topic below this offset is settled.
    pub(super) fn floor(&self, topic: &TopicName) -> Offset {
        self.by_topic.get(topic).map_or(Offset(0), |commands| commands.open.first().copied().unwrap_or(commands.end))
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

    #[test]
    fn the_floor_is_the_oldest_open_command() {
        let topic: TopicName = "t".parse().expect("legal");
        let attempt =
            |epoch| AttemptId { instance: Uuid::nil(), step: "a".parse().expect("legal"), item: None, operation: Operation::Action, epoch };
        let mut commands = OpenCommands::default();
        assert_eq!(commands.floor(&topic), Offset(0));
        for epoch in 1..=3 {
            commands.insert(attempt(epoch), &topic, Offset(u64::from(epoch) + 10));
        }
        assert_eq!(commands.take(&attempt(1)), Some((topic.clone(), Offset(11))));
        assert_eq!(commands.take(&attempt(1)), None);
        assert_eq!(commands.floor(&topic), Offset(12));
        commands.take(&attempt(2));
        commands.take(&attempt(3));
        assert_eq!(commands.floor(&topic), Offset(14));
    }
}
