//! A participant in two-phase commit, as small as it can be: what it keeps in memory, what on disk, and what it says.

use super::plant::Plant;
use sagamq_api::saga::Operation;
use sagamq_api::transaction::Outcome;

/// A service with its branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Participant {
    /// How many actions the branch of the definition has.
    pub(crate) all: u32,
    /// Whether it changes nothing.
    pub(crate) is_reader: bool,
    /// In memory: how many actions the open branch has done.
    pub(crate) open: Option<u32>,
    /// In memory: it has rolled back what it prepared, and not written so. After a crash it has it prepared again.
    pub(crate) is_lazy: bool,
    /// On disk: how many actions the prepared branch has done.
    pub(crate) prepared: Option<u32>,
    /// On disk: how many actions were committed, in the row that the branch's own transaction wrote.
    pub(crate) committed: Option<u32>,
    /// On disk: it has refused to commit in one phase.
    pub(crate) is_refused: bool,
    /// It has voted that it changed nothing.
    pub(crate) has_read: bool,
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Said {
    Done,
    Yes,
    ReadOnly,
    Refused(&'static str),
}

impl Participant {
    /// Serves a call. `before` is how many actions of the branch were done before it, `refuses` whether the business says no.
    pub(crate) fn serve(&mut self, operation: Operation, before: u32, refuses: bool, plant: Option<Plant>) -> Said {
        let counts = plant != Some(Plant::HalfABranch);
        match operation {
            _ if self.committed.is_some() => match operation {
                Operation::Rollback => Said::Refused("BRANCH_COMMITTED"),
                Operation::Prepare => Said::Yes,
                _ => Said::Done,
            },
            Operation::Action if self.prepared.is_some() || self.is_refused => Said::Refused("BRANCH_PREPARED"),
            Operation::Action if refuses => self.drop_open("NO"),
            Operation::Action => match self.open {
                Some(done) if done > before => Said::Done,
                Some(done) if done == before || !counts => self.act(done),
                None if before == 0 || !counts => self.act(0),
                Some(_) | None => self.drop_open("BRANCH_UNKNOWN"),
            },
            Operation::Prepare if self.prepared.is_some() => Said::Yes,
            Operation::Prepare => match self.open.filter(|&done| (done == before || !counts) && !refuses) {
                Some(_) if self.is_reader => {
                    (self.open, self.has_read) = (None, true);
                    Said::ReadOnly
                }
                Some(done) => {
                    (self.open, self.prepared, self.is_lazy) = (None, Some(done), false);
                    Said::Yes
                }
                None => self.drop_open("BRANCH_UNKNOWN"),
            },
            Operation::Commit => match self.prepared {
                Some(_) => self.hear(Outcome::Committed),
                None => Said::Refused("BRANCH_UNKNOWN"),
            },
            Operation::Rollback => self.hear(Outcome::RolledBack),
            Operation::CommitOnePhase => match self.open.filter(|&done| (done == before || !counts) && !refuses && !self.is_refused) {
                Some(done) => {
                    (self.open, self.committed) = (None, Some(done));
                    Said::Done
                }
                None => {
                    self.is_refused = plant != Some(Plant::RefusalForgotten);
                    self.drop_open("BRANCH_UNKNOWN")
                }
            },
            Operation::Compensation => unreachable!("nothing is compensated"),
        }
    }

    /// Hears what was decided.
    pub(crate) fn hear(&mut self, outcome: Outcome) -> Said {
        let prepared = self.prepared.take();
        match outcome {
            Outcome::Committed => self.committed = prepared,
            Outcome::RolledBack => (self.open, self.is_lazy) = (None, self.is_lazy || prepared.is_some()),
            Outcome::Undecided => self.prepared = prepared,
        }
        Said::Done
    }

    /// Loses what it has in memory.
    pub(crate) fn crash(&mut self, plant: Option<Plant>) {
        self.open = None;
        if core::mem::take(&mut self.is_lazy) {
            self.prepared = Some(self.all);
        }
        if plant == Some(Plant::VoteForgotten) {
            self.prepared = None;
        }
    }

    /// Whether it has committed, can commit, or need not.
    pub(crate) fn can_commit(&self) -> bool {
        self.committed.is_some() || self.prepared.is_some() || self.has_read
    }

    pub(crate) fn canonical(&self, form: &mut Vec<u8>) {
        let count = |done: Option<u32>| done.map_or(0, |done| done.to_le_bytes()[0] + 1);
        let flags = u8::from(self.is_lazy) | u8::from(self.is_refused) << 1 | u8::from(self.has_read) << 2;
        form.extend([count(self.open), count(self.prepared), count(self.committed), flags]);
    }

    fn act(&mut self, done: u32) -> Said {
        self.open = Some(done + 1);
        Said::Done
    }

    fn drop_open(&mut self, code: &'static str) -> Said {
        self.open = None;
        Said::Refused(code)
    }
}
