//! What the participants have on disk: a row for each effect, and one for each that is undone, with how often; and what was done under locks, in its order.

use super::fence::{self, Worked};
use sagamq_sdk::api::saga::Operation;
use sagamq_sdk::barrier::rocksdb::{Error, IteratorMode, MultiThreaded, TransactionDB};
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;

/// What the rows begin with; those of the barrier begin otherwise.
const PREFIX: &str = "effect/";

/// How often the action of a step took effect, and how often that was undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) done: u8,
    pub(super) undone: u8,
}

impl Effect {
    /// Whether it is there.
    pub(super) const fn stands(self) -> bool {
        self.done > self.undone
    }
}

/// All effects, by saga and place (a step, or an item of one), and what was done under locks.
#[derive(Debug, Default)]
pub(super) struct Books {
    effects: BTreeMap<(Uuid, String), Effect>,
    /// By service and key, in the order in which it was done.
    pub(super) worked: BTreeMap<(&'static str, String), Vec<Worked>>,
    /// Calls that came with a token that was too small, by service.
    pub(super) fenced: Vec<(&'static str, Worked)>,
}

impl Books {
    pub(super) fn open(folder: &Path) -> Result<TransactionDB<MultiThreaded>, Error> {
        TransactionDB::open_default(folder)
    }

    /// Adds those of a service that does not run any more.
    pub(super) fn read(&mut self, service: &'static str, folder: &Path) -> Result<(), Error> {
        let db = Self::open(folder)?;
        for row in db.iterator(IteratorMode::Start) {
            let (key, value) = row?;
            match fence::read(&key, &value) {
                Some(fence::Row::Worked(worked)) => self.worked.entry((service, worked.key.clone())).or_default().push(worked),
                Some(fence::Row::Fenced(worked)) => self.fenced.push((service, worked)),
                None => {}
            }
            let Some(place) = std::str::from_utf8(&key).ok().and_then(|key| key.strip_prefix(PREFIX)) else { continue };
            let mut parts = place.split('/');
            let (saga, step, operation) = (parts.next(), parts.next(), parts.next());
            let saga = saga.and_then(|id| id.parse().ok()).expect("the services write ids");
            let effect = self.effects.entry((saga, step.expect("and steps").to_owned())).or_default();
            if operation == Some(Operation::Compensation.as_str()) {
                effect.undone += value[0];
            } else {
                effect.done += value[0];
            }
        }
        Ok(())
    }

    pub(super) fn effect(&self, saga: Uuid, place: &str) -> Effect {
        self.effects.get(&(saga, place.to_owned())).copied().unwrap_or_default()
    }

    /// The places of a saga at which anything was done.
    pub(super) fn places(&self, saga: Uuid) -> impl Iterator<Item = &str> {
        self.effects.range((saga, String::new())..).take_while(move |((of, _), _)| *of == saga).map(|((_, place), _)| place.as_str())
    }

    /// The sagas that left anything.
    pub(super) fn sagas(&self) -> impl Iterator<Item = Uuid> {
        self.effects.keys().map(|(saga, _)| *saga)
    }

    #[cfg(test)]
    pub(super) fn put(&mut self, saga: Uuid, place: &str, effect: Effect) {
        self.effects.insert((saga, place.to_owned()), effect);
    }
}

/// The key of a row: its end is the text of the call, `{saga}/{step}/{operation}` or `{saga}/{step}[{item}]/{operation}`.
pub(super) fn row(call: &str) -> String {
    format!("{PREFIX}{call}")
}
