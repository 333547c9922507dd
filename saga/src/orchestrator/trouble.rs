//! Instances in trouble, grouped by what is wrong: the same trouble is one incident, however many instances are in it.

use crate::protocol::{Head, Trouble};
use sagamq_api::saga::{Incident, Operation};
use sagamq_api::{SagaName, StepId};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Ids that an incident shows.
const EXAMPLES_MAX: usize = 5;

/// What makes two troubles the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    saga: SagaName,
    version: u32,
    step: Option<StepId>,
    operation: Option<Operation>,
    code: String,
}

#[derive(Debug, Default)]
struct Cases {
    count: u64,
    blocked: u64,
    /// What the first of them says.
    message: String,
    oldest_ms: u64,
    newest_ms: u64,
    /// Since when, and who: those that are in it for the longest time.
    examples: BTreeSet<(u64, Uuid)>,
}

/// The incidents of some instances.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Kind, Cases>);

impl Troubles {
    /// Counts an instance.
    pub(super) fn add(&mut self, head: &Head, trouble: Trouble) {
        let Trouble { step, operation, failure, since_ms, is_blocked } = trouble;
        let kind = Kind { saga: head.saga.clone(), version: head.version, step, operation, code: failure.code };
        let examples = BTreeSet::from([(since_ms, head.id)]);
        let case =
            Cases { count: 1, blocked: is_blocked.into(), message: failure.message, oldest_ms: since_ms, newest_ms: since_ms, examples };
        self.0.entry(kind).or_default().merge(case);
    }

    /// Adds those of other instances.
    pub(super) fn merge(&mut self, other: Self) {
        for (kind, cases) in other.0 {
            self.0.entry(kind).or_default().merge(cases);
        }
    }

    /// How many instances there are.
    pub(super) fn instances(&self) -> u64 {
        self.0.values().map(|cases| cases.count).sum()
    }

    /// The incidents, that of most instances first.
    pub(super) fn incidents(self, now_ms: u64) -> Vec<Incident> {
        let mut incidents: Vec<Incident> = self.0.into_iter().map(|(kind, cases)| cases.incident(kind, now_ms)).collect();
        incidents.sort_by_key(|incident| (core::cmp::Reverse(incident.count), incident.oldest_since_ms));
        incidents
    }
}

impl Cases {
    fn merge(&mut self, other: Self) {
        let is_older = self.count == 0 || other.oldest_ms < self.oldest_ms;
        if is_older {
            (self.message, self.oldest_ms) = (other.message, other.oldest_ms);
        }
        self.count += other.count;
        self.blocked += other.blocked;
        self.newest_ms = self.newest_ms.max(other.newest_ms);
        self.examples.extend(other.examples);
        while self.examples.len() > EXAMPLES_MAX {
            self.examples.pop_last();
        }
    }

    fn incident(self, kind: Kind, now_ms: u64) -> Incident {
        let Kind { saga, version, step, operation, code } = kind;
        let age_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
        Incident {
            saga,
            version,
            step,
            operation,
            code,
            message: self.message,
            count: self.count,
            blocked: self.blocked,
            oldest_since_ms: self.oldest_ms,
            newest_since_ms: self.newest_ms,
            oldest_age_ms: age_ms(self.oldest_ms),
            newest_age_ms: age_ms(self.newest_ms),
            examples: self.examples.into_iter().map(|(_, id)| id).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sagamq_api::JsonText;
    use sagamq_api::saga::Failure;

    fn add(troubles: &mut Troubles, id: u128, code: &str, since_ms: u64, is_blocked: bool) {
        let saga: SagaName = "order".parse().expect("legal");
        let (id, key, input) = (Uuid::from_u128(id), "k".to_owned(), JsonText::null());
        let head = Head {
            id,
            saga,
            version: 2,
            key,
            generation: 1,
            input,
            started_with: None,
            trace: None,
            started_at_ms: 0,
            updated_at_ms: 0,
            events: 1,
            has_completed: false,
        };
        let failure = Failure { code: code.to_owned(), message: format!("of {since_ms}") };
        let (step, operation) = (Some("pay".parse().expect("legal")), Some(Operation::Action));
        troubles.add(&head, Trouble { step, operation, failure, since_ms, is_blocked });
    }

    #[test]
    fn the_same_trouble_is_one_incident_of_all_lanes_together() {
        let (mut first, mut second) = (Troubles::default(), Troubles::default());
        for id in 0..7 {
            add(if id % 2 == 0 { &mut first } else { &mut second }, id, "TIMEOUT", 100 + u64::try_from(id).expect("small"), id == 3);
        }
        add(&mut second, 9, "NO", 50, false);
        first.merge(second);
        assert_eq!(first.instances(), 8);
        let incidents = first.incidents(1_000);
        assert_eq!(
            incidents.iter().map(|one| (one.code.as_str(), one.count, one.blocked)).collect::<Vec<_>>(),
            [("TIMEOUT", 7, 1), ("NO", 1, 0)]
        );
        let timeouts = &incidents[0];
        assert_eq!(
            (timeouts.oldest_since_ms, timeouts.newest_since_ms, timeouts.oldest_age_ms, timeouts.newest_age_ms),
            (100, 106, 900, 894)
        );
        assert_eq!((timeouts.version, timeouts.message.as_str()), (2, "of 100"));
        assert_eq!(timeouts.examples, [0, 1, 2, 3, 4].map(Uuid::from_u128), "those that are in trouble for the longest time");
        assert!(Troubles::default().incidents(1).is_empty());
    }
}
