//! What members of a stream group saw and did, and whether that can be: the checker of the churn.

use std::collections::{BTreeMap, BTreeSet};

/// Something that a member saw or did. The place in the history is its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member has a partition from here on.
    Held {
        /// Who.
        member: String,
        /// What.
        partition: u32,
        /// Under which epoch it was given.
        epoch: u64,
        /// The first record to read.
        start: u64,
    },
    /// It has processed a record.
    Processed {
        /// Of which partition.
        partition: u32,
        /// Under which epoch it was given.
        epoch: u64,
        /// The record.
        offset: u64,
    },
    /// It begins to commit.
    CommitBegan {
        /// Number of the commit.
        number: u64,
        /// Of which partition.
        partition: u32,
        /// Under which epoch it was given.
        epoch: u64,
        /// How far.
        offset: u64,
    },
    /// The commit was accepted.
    Accepted {
        /// Its number.
        number: u64,
    },
}

/// A commit, as far as the check needs it.
#[derive(Clone, Copy, Debug)]
struct Commit {
    began: usize,
    partition: u32,
    epoch: u64,
    offset: u64,
}

/// A time in which one member has a partition.
#[derive(Clone, Debug)]
struct Holding {
    member: String,
    /// When it was first seen.
    seen: usize,
    start: u64,
    /// The next record.
    next: u64,
}

/// Everything that cannot be in a history of these partitions, each of which has so many records.
#[must_use]
pub fn violations(history: &[Event], records: &BTreeMap<u32, u64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut holdings: BTreeMap<(u32, u64), Holding> = BTreeMap::new();
    let mut begun: BTreeMap<u64, Commit> = BTreeMap::new();
    let mut accepted: Vec<Commit> = Vec::new();
    let mut processed: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
    for (time, event) in history.iter().enumerate() {
        match event {
            Event::Held { member, partition, epoch, start } => {
                let new = Holding { member: member.clone(), seen: time, start: *start, next: *start };
                match holdings.insert((*partition, *epoch), new) {
                    Some(before) if before.member != *member => {
                        found.push(format!("partition {partition} was given to {} and to {member} under epoch {epoch}", before.member));
                    }
                    _ => {}
                }
            }
            Event::Processed { partition, epoch, offset } => {
                processed.entry(*partition).or_default().insert(*offset);
                match holdings.get_mut(&(*partition, *epoch)) {
                    Some(holding) if holding.next == *offset => holding.next += 1,
                    Some(holding) => {
                        found.push(format!("partition {partition}: {offset} came where {} is next, under epoch {epoch}", holding.next))
                    }
                    None => found.push(format!("partition {partition}: {offset} was processed by nobody who had it")),
                }
            }
            Event::CommitBegan { number, partition, epoch, offset } => {
                begun.insert(*number, Commit { began: time, partition: *partition, epoch: *epoch, offset: *offset });
            }
            Event::Accepted { number } => accepted.extend(begun.get(number)),
        }
    }
    for commit in &accepted {
        let of_partition = holdings.range((commit.partition, 0)..(commit.partition + 1, 0));
        let later = of_partition.clone().find(|((_, epoch), holding)| *epoch > commit.epoch && holding.seen < commit.began);
        if let Some(((partition, epoch), holding)) = later {
            let (asked, offset) = (commit.epoch, commit.offset);
            found.push(format!(
                "partition {partition}: {offset} was committed under epoch {asked} after {} had it under {epoch}",
                holding.member
            ));
        }
        match holdings.get(&(commit.partition, commit.epoch)) {
            None => found.push(format!("partition {}: a commit under epoch {}, which nobody had", commit.partition, commit.epoch)),
            Some(holding) if commit.offset > holding.next => {
                found.push(format!("partition {}: {} was committed, but only {} processed", commit.partition, commit.offset, holding.next));
            }
            Some(_) => {}
        }
    }
    // Each holding begins where the commits of those before ended: at the highest that was accepted, and not beyond what was processed.
    for ((partition, epoch), holding) in &holdings {
        let before = |commit: &&Commit| commit.partition == *partition && commit.epoch < *epoch;
        let least = accepted.iter().filter(before).map(|commit| commit.offset).max().unwrap_or(0);
        let most = holdings.range((*partition, 0)..(*partition, *epoch)).map(|(_, holding)| holding.next).max().unwrap_or(0).max(least);
        if holding.start < least {
            found.push(format!(
                "partition {partition}: {} began at {} under epoch {epoch}, but {least} was committed",
                holding.member, holding.start
            ));
        }
        if holding.start > most {
            found.push(format!(
                "partition {partition}: {} began at {} under epoch {epoch}, but nobody came beyond {most}",
                holding.member, holding.start
            ));
        }
    }
    for (partition, count) in records {
        let done = processed.get(partition);
        let missing: Vec<u64> = (0..*count).filter(|offset| done.is_none_or(|done| !done.contains(offset))).collect();
        if let Some(first) = missing.first() {
            found.push(format!("partition {partition}: {} of {count} records were never processed, the first is {first}", missing.len()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(member: &str, epoch: u64, start: u64) -> Event {
        Event::Held { member: member.to_owned(), partition: 0, epoch, start }
    }

    fn processed(epoch: u64, offset: u64) -> Event {
        Event::Processed { partition: 0, epoch, offset }
    }

    fn commit(number: u64, epoch: u64, offset: u64) -> Event {
        Event::CommitBegan { number, partition: 0, epoch, offset }
    }

    fn accepted(number: u64) -> Event {
        Event::Accepted { number }
    }

    /// One member reads two records and commits, another goes on; the first one's late commit is refused.
    fn sound() -> Vec<Event> {
        vec![
            held("a", 3, 0),
            processed(3, 0),
            processed(3, 1),
            commit(1, 3, 2),
            accepted(1),
            held("b", 5, 2),
            commit(2, 3, 1),
            processed(5, 2),
            commit(3, 5, 3),
            accepted(3),
        ]
    }

    fn check(history: &[Event]) -> Vec<String> {
        violations(history, &[(0, 3)].into())
    }

    #[test]
    fn a_sound_history_is_sound() {
        assert_eq!(check(&sound()), Vec::<String>::new());
        let again = [held("c", 7, 2), processed(7, 2)];
        let mut unknown = sound();
        unknown.pop();
        unknown.extend(again);
        assert_eq!(check(&unknown), Vec::<String>::new(), "a commit without an answer may count or not");
    }

    #[test]
    fn planted_violations_are_found() {
        let with = |place: usize, event: Event| {
            let mut history = sound();
            history.insert(place, event);
            history
        };
        let without = |place: usize| {
            let mut history = sound();
            history.remove(place);
            history
        };
        for (history, words) in [
            (with(7, accepted(2)), "was committed under epoch 3 after b had it"),
            (with(6, held("c", 5, 2)), "was given to b and to c"),
            (without(7), "were never processed, the first is 2"),
            (without(2), "2 was committed, but only 1 processed"),
            (with(3, processed(3, 5)), "5 came where 2 is next"),
            (with(0, processed(9, 0)), "was processed by nobody who had it"),
            (with(10, held("d", 8, 2)), "began at 2 under epoch 8, but 3 was committed"),
            (with(10, held("d", 8, 4)), "nobody came beyond 3"),
        ] {
            let found = check(&history);
            assert!(found.iter().any(|found| found.contains(words)), "{words}: {found:?}");
        }
        let mut nobody = sound();
        nobody.extend([commit(9, 4, 2), accepted(9)]);
        assert!(check(&nobody).iter().any(|found| found.contains("which nobody had")));
    }
}
